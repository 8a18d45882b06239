"""How near is equal, for each dtype, in one place.

Absolute, for values of about 1: intensities in [0, 1], coordinates in the frame of an image, matrix entries. Multiply
by the size of what is compared where that is another.
"""

import torch

TOLERANCE = {
    torch.float32: 1e-5,  # some tens of roundings at images of about 64 pixels a side
    torch.float64: 1e-12,
}
EXACT = TOLERANCE[torch.float64]  # of matrices and grids, which are float64 always
FLOW = 1e-5  # of the flow of a velocity field in few steps of Runge-Kutta
MIDPOINT = 5e-4  # of that in a fit, by one step of the midpoint rule
