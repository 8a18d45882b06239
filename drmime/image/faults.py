"""What looks wrong with the values of an image: a code that stays the same, and a sentence with what to do.

Thresholds were chosen on the images of 229 real pairs of 26 sources (microscopy, satellites, heads, retinas, …), so that they
keep a distance from the values of images that are as they should be; comments give these values.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_propagation

from drmime.geometry.grid import border
from drmime.image.image import QUANTILES
from drmime.image.summary import Summary, row

SAMPLE_PIXELS = 2**20  # pixels of a channel, in whole rows, that are looked at, at most
COARSE_SIDE = 256  # pixels; longest side of the picture in which regions at the border are found
ONE_VALUE_SHARE = 0.98  # share of the pixels that have one value in a nearly constant image; real images have 0.91 at most
FEW_GRAY_LEVELS = 8  # whole-number values between the quantiles of a nearly constant image; real images have 65 and more
RELATIVE_RANGE = 1e-4  # range of real values by the largest, in a nearly constant image: less than 16 steps of float16
CLIPPED_SHARE = 0.25  # share of pixels at an end of the range, not connected to the border; real images have 0.24 at most
PADDED_SIDE = 0.7  # sides of the content by those of the image, geometric mean: in 2-D half of the area is padding
OPAQUE_SHARE = 0.999  # share of the pixels that have one opacity where it says nothing
FEW_LABELS = 16  # distinct whole numbers of a label map; real images have 32 and more, label maps here 2 to 5
MORE_LABELS = 256  # likewise, if almost all neighbours are equal
FLAT, VERY_FLAT = 0.5, 0.9  # share of pixels off the background that equal the next; label maps 0.84 and more, images to 0.79


@dataclass(frozen=True)
class Fault:
    """Something that looks wrong: its code and, in a sentence or two, what was seen and what to do."""

    code: str
    text: str


def value_faults(image: Summary) -> tuple[Fault, ...]:
    """What looks wrong with the values of an image.

    Example:
        >>> from drmime.image.summary import summary
        >>> [fault.code for fault in value_faults(summary(np.ones((20, 30))))]
        ['constant']
    """
    found = [*_values(image)]
    if image.channels is not None and not found:  # the values of others are no content yet
        found += _content(image.channels, image.opaque)
    return tuple(found)


def _values(image: Summary) -> Iterator[Fault]:
    low, high = image.values["min"], image.values["max"]
    if low is None:
        yield Fault("empty", "No value is finite and inside the mask. Is this the right file?")
    elif count := image.nan + image.infinite:
        yield Fault(
            "not_finite", f"{count} values are NaN or infinite. Repair them, or leave them out: nan='mask', --nan mask."
        )
    if low is not None and low == high:
        yield Fault("constant", f"All values are {low:g}. Is this the right file, channel or slice?")


def _content(channels: np.ndarray, opacity: int) -> Iterator[Fault]:
    """Faults of channels (C, *shape) that are finite and not all constant; the number `opacity` may be of opacity."""
    samples = [_rows(channel) for channel in channels]
    shares = [_commonest(sample) for sample in samples]
    bare = opacity >= 0 and shares[opacity] >= OPAQUE_SHARE
    if bare:
        yield Fault(
            "alpha",
            f"The last of {len(channels)} channels holds one value in {shares[opacity]:.1%} of the pixels. If it is opacity, "
            "save the image without it, or compare one other channel: channel=0, --channel 0.",
        )
    seen = [number for number in range(len(channels)) if not (bare and number == opacity)]
    gray = [number for number in seen if number != opacity] if len(channels) == 4 else seen
    if constant := [number for number in seen if channels[number].min() == channels[number].max()]:
        yield Fault(
            "constant_channels",
            f"Channels {row(constant)} (counted from 0) are constant. Save the image without them, or compare one channel: "
            "channel=0, --channel 0.",
        )
    if len(gray) > 1 and all(np.array_equal(channels[gray[0]], channels[number]) for number in gray[1:]):
        yield Fault(
            "equal_channels",
            f"{len(gray)} channels are equal: a gray image saved in colour. One is enough: channel=0, --channel 0.",
        )
    if len(gray) == 1 and (labels := _labels(samples[0])):
        yield Fault(
            "labels",
            f"It has {labels} values, whole numbers in flat areas, as a label map has. Register the images instead, and carry "
            "the labels along: Registration.warp_labels, drmime warp --labels.",
        )
    elif all(shares[number] >= ONE_VALUE_SHARE or _narrow(samples[number]) for number in seen):
        low, high = _ends(samples[seen[0]])
        yield Fault(
            "nearly_constant",
            f"Nearly all pixels of every channel have one value, or values in a narrow range ({low:g} to {high:g}). Is this "
            "the right file, channel or slice?",
        )
    else:
        yield from _clipped(channels[seen])
    yield from _padding(channels[seen])


def _rows(channel: np.ndarray) -> np.ndarray:
    """Rows (N, width) of a channel (*shape) at regular intervals."""
    rows = channel.reshape(-1, channel.shape[-1])
    return rows[:: -(-rows.size // SAMPLE_PIXELS)]


def _commonest(rows: np.ndarray) -> float:
    """The share of the pixels that have the most frequent value."""
    return float(np.unique(rows, return_counts=True)[1].max() / rows.size)


def _ends(rows: np.ndarray) -> Sequence[float]:
    return np.quantile(rows.astype(np.float64), QUANTILES).tolist()


def _narrow(rows: np.ndarray) -> bool:
    """Whether the values have too narrow a range for their kind of number; never of values that are true or false."""
    low, high = _ends(rows)
    if rows.dtype.kind == "f":
        return high - low < RELATIVE_RANGE * max(abs(low), abs(high))
    return rows.dtype.kind != "b" and high - low < FEW_GRAY_LEVELS


def _labels(rows: np.ndarray) -> int:
    """The number of labels if the pixels look like a label map, else 0."""
    values, counts = np.unique(rows, return_counts=True)
    if len(values) > MORE_LABELS or (rows.dtype.kind == "f" and not (values == np.round(values)).all()):
        return 0
    inside = rows[:, 1:] != values[counts.argmax()]
    flat = float((rows[:, 1:] == rows[:, :-1])[inside].mean()) if inside.any() else 0.0
    return len(values) if flat > (FLAT if len(values) <= FEW_LABELS else VERY_FLAT) else 0


def _clipped(channels: np.ndarray) -> Iterator[Fault]:
    """Many pixels at an end of the range. Regions that reach the border are not counted: most are padding or background."""
    step = max(1, max(channels.shape[1:]) // COARSE_SIDE)
    worst, which = 0.0, ""
    for channel in channels:
        small = channel[(slice(None, None, step),) * channel.ndim]
        for what, end in (("lowest", channel.min()), ("highest", channel.max())):
            region = small == end
            outer = binary_propagation(region & border(region.shape).numpy(), mask=region)
            share = float((region & ~outer).mean())
            worst, which = max((worst, which), (share, f"{what} value ({end:g})"))
    if worst > CLIPPED_SHARE:
        yield Fault(
            "clipped",
            f"{worst:.0%} of the pixels, apart from a background at the border, have the {which}. If they are saturated or "
            "thresholded, use the image before that.",
        )


def _padding(channels: np.ndarray) -> Iterator[Fault]:
    """Rows, columns and slices along the border that hold the corner's value alone, in every channel."""
    ndim = channels.ndim - 1
    box = []
    for corner in (0, -1):
        value = channels[(slice(None), *(corner,) * ndim)].reshape(-1, *[1] * ndim)
        box.append(_sides((channels != value).any(0)))
    sides = min(box, key=lambda one: float(np.prod(one)))
    share = float(np.prod(sides) / np.prod(channels.shape[1:]))
    if 0 < share < PADDED_SIDE**ndim:
        size = " x ".join(map(str, sides))
        yield Fault("padding", f"{1 - share:.0%} of the image is padding of one value around {size} pixels. Crop it to these.")


def _sides(content: np.ndarray) -> list[int]:
    """The sides of the smallest box around the set pixels; 0 if there are none."""
    sides = []
    for axis in range(content.ndim):
        places = np.flatnonzero(content.any(tuple(other for other in range(content.ndim) if other != axis)))
        sides.append(int(places[-1] - places[0] + 1) if len(places) else 0)
    return sides
