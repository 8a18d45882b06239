"""What looks wrong with the axes and the geometry of an image, or with two images together: `Fault`s, as in `faults`."""

from collections.abc import Iterator
from pathlib import Path

from drmime.geometry.grid import Grid
from drmime.image.faults import Fault
from drmime.image.image import few_slices
from drmime.image.pixels import MOST_CHANNELS
from drmime.image.readers import NIFTI
from drmime.image.summary import Summary, row

LARGEST_ANISOTROPY = 10.0  # ratio of pixel lengths; scans of thick slices have up to 6
SCREEN_RESOLUTIONS = (72, 96)  # pixels in an inch that programs write where they know none
INCH = 25400.0  # micrometres
LARGEST_RATIO = 4.0  # of two diagonals, in physical units; beyond, under 1/16 of the larger area overlaps: starts need 1/10
MICROMETRES = {"m": 1e6, "mm": 1e3, "µm": 1.0}


def geometry_faults(image: Summary, path: Path | None = None) -> tuple[Fault, ...]:
    """What looks wrong with the axes and the geometry of an image; `path` is its file, if it is one.

    Example:
        >>> from drmime.image.summary import summary
        >>> [fault.code for fault in geometry_faults(summary(np.zeros((3, 20, 30))))]
        ['axis_may_be_channels']
    """
    return (*_shape(image), *_geometry(image, path))


def _shape(image: Summary) -> Iterator[Fault]:
    """Spatial axes that may be channels."""
    sides = [axis.size for axis in image.axes if axis.role == "space"]
    if len(sides) < 3:
        return
    few = min(sides)
    number = next(at for at, axis in enumerate(image.axes) if axis.role == "space" and axis.size == few)
    if 2 <= few <= MOST_CHANNELS:
        yield Fault(
            "axis_may_be_channels",
            f"Axis {number} has {few} entries and is taken for space. If these are channels: channel_axis={number}, "
            f"--channel-axis {number}.",
        )
    elif slices := few_slices(sides):
        yield Fault(
            "few_slices",
            f"It is taken for a volume of {slices} slices. If these are channels: channel_axis={number}, "
            f"--channel-axis {number}; if not, a slice by itself may do.",
        )


def _geometry(image: Summary, path: Path | None) -> Iterator[Fault]:
    if image.grid is None:
        return
    lengths = image.grid.spacing.flip(0).tolist()
    if max(lengths) > LARGEST_ANISOTROPY * min(lengths):
        yield Fault(
            "anisotropic",
            f"Pixel lengths {row(lengths)} differ more than {LARGEST_ANISOTROPY:g}-fold. Check them; "
            "fixed_spacing, moving_spacing (--fixed-spacing, --moving-spacing) replace them.",
        )
    unlikely = [dots for dots in SCREEN_RESOLUTIONS for length in lengths[-2:] if abs(length * dots / INCH - 1) < 0.01]
    if image.unit == "µm" and unlikely:
        yield Fault(
            "screen_resolution",
            f"The spacing {row(lengths)} µm is that of {unlikely[0]} pixels in an inch, which programs write where they know "
            "none. Give the true one: fixed_spacing, moving_spacing (--fixed-spacing, --moving-spacing).",
        )
    # half of all NIfTI volumes are stored mirrored (radiological order), which their affine states and `register` obeys; the
    # rows of georeferenced images go south
    if image.mirrored and not image.grid.crs and not (path and path.name.lower().endswith(NIFTI)):
        yield Fault(
            "mirrored",
            "Its direction has a negative determinant: the pixels are stored mirrored. World coordinates account for it; "
            "check left and right if a program has written it that drops directions.",
        )


def pair_faults(fixed: Summary, moving: Summary) -> Iterator[Fault]:
    """What does not fit together in two images of the same dimension."""
    one, other = fixed.grid, moving.grid
    georeferenced = any(grid is not None and grid.crs for grid in (one, other))
    if (one is None) != (other is None):
        role = "moving" if other is None else "fixed"
        yield Fault(
            "spacing_of_one",
            f"Only the {'fixed' if other is None else 'moving'} image states pixel lengths; those of the {role} one "
            f"{'are taken to be as long' if georeferenced else 'count as 1'}. Give {role}_spacing (--{role}-spacing).",
        )
    if fixed.mirrored != moving.mirrored and not (fixed.placed and moving.placed) and not georeferenced:
        yield Fault(
            "mirrored_one",
            f"The {'fixed' if fixed.mirrored else 'moving'} image is stored mirrored, as its direction states, and the other "
            "states none: if both were made from the same array, one appears mirrored. Mirror images are not searched for.",
        )
    if one is None or other is None:
        return
    if fixed.unit != moving.unit:
        yield Fault(
            "units",
            f"Lengths are in {fixed.unit or 'no unit'} and {moving.unit or 'no unit'}, which are compared as "
            "numbers. Give fixed_spacing and moving_spacing in one unit.",
        )
    ratio = _diagonal(one, fixed) / _diagonal(other, moving)
    if max(ratio, 1 / ratio) > LARGEST_RATIO:
        yield Fault(
            "extents",
            f"The {'fixed' if ratio > 1 else 'moving'} image is {max(ratio, 1 / ratio):.3g} times as large as the other, by "
            "their diagonals. Check the pixel lengths; if they are right, crop the larger one.",
        )
    if fixed.placed and moving.placed:
        (first, last), (start, end) = ((g.corners().amin(0), g.corners().amax(0)) for g in (one, other))
        if bool(((last < start) | (end < first)).any()):
            yield Fault(
                "no_overlap",
                "The places that the files state do not overlap. `register` begins with centre on centre and searches every "
                "shift; check that these are images of the same thing.",
            )


def _diagonal(grid: Grid, image: Summary) -> float:
    """World length of the diagonal, in micrometres if the unit is known."""
    return float(grid.extent.norm()) * MICROMETRES.get(image.unit, 1.0)
