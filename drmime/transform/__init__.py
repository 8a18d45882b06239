"""Maps of points: the model that is optimised, the transform that is its result, and images warped by it."""
