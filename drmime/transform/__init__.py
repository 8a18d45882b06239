"""Maps from the fixed to the moving image, and images warped by them."""
