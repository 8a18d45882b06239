"""Maps of points: the models that are optimised, the transforms that result, and the warping of images by them."""
