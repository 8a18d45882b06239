"""Names that the command line knows before torch is imported, so that a misspelt one is told at once.

The parts themselves are in one dict for each kind; `tests/test_names.py` holds this table against them.
"""

NAMES: dict[str, tuple[str, ...]] = {
    "transform": ("translation", "rigid", "similarity", "affine", "projective", "lie"),
    "metric": ("mine", "mattes", "nmi", "jhmi", "ncc", "mse", "angle"),
    "sampler": ("uniform", "jittered", "all", "edges"),
    "start": (
        "auto",
        "none",
        "identity",
        "centre",
        "mass",
        "moments",
        "search",
        "phase",
        "fourier_mellin",
        "features",
        "sift",
        "landmarks",
    ),
    "interpolation": ("nearest", "linear", "cubic"),
}
