"""Values that are none of the scene: no-data values such as -9999, hot and dead pixels.

A few per cent of them would take most of the range of intensities, and leave the scene a narrow band of it. A no-data value is
one number, at an end of all values and far from the next; where it fills a patch, nothing is known, and the mask says so.
Single pixels of it, and hot and dead ones, become the median of their neighbours.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import label
from torch import Tensor

from drmime.image.image import Image

SAMPLE = 2**18  # pixels from which the distribution of values is told
REPEATS = 0.0005  # share of the pixels that a no-data value has at least
VALUES = 16  # distinct other values at least: those of a label map are all content
FAR = 2.0  # from the other values to a no-data value, in ranges of them
FAR_NEGATIVE = 0.5  # likewise, below 0 where all others are not
RARE = (0.05, 1.0)  # a value with a smaller share of the pixels is none of the scene from this distance on
BULK = (0.05, 0.95)  # quantiles between which the scene's values are taken to be
AWAY = 2.0  # from these quantiles to a hot or dead pixel, in distances between them
FEWEST = 0.0005  # share of the pixels: fewer do not change the range of the image
CLUSTER = 4  # pixels that touch each other; with 3 % of all spoilt at random hardly one has more, spots of any optics do
SMOOTH = 0.2  # correlation of neighbours from which the rest shows a scene; points on noise are themselves the content


@dataclass(frozen=True)
class Mended:
    """An image without outliers, and what was done, in sentences."""

    image: Image
    notes: tuple[str, ...] = ()


def mended(image: Image, role: str) -> Mended:
    """`image` with no-data values masked and hot or dead pixels replaced by the median of their neighbours."""
    data, mask, notes = image.data, image.mask, []
    for b, c in np.ndindex(*data.shape[:2]):
        values = _sample(image, b, c)
        if (nothing := _no_data(values)) is not None:
            mask = torch.ones_like(image.data[:, :1]) if mask is None else mask.clone() if mask is image.mask else mask
            here = image.data[b, c] == nothing
            single = _in_small_clusters(here)
            mask[b, 0][here & ~single] = 0
            notes.append(_note(role, here, f"hold {nothing:g}, far from all other values, and are left out"))
            values = values[values != nothing]
            data = _repaired(data, image.data is data, b, c, single) if single.any() else data
        if (hot := _hot(data[b, c], values)) is not None:
            data = _repaired(data, image.data is data, b, c, hot)
            notes.append(_note(role, hot, "are far brighter or darker than their neighbours, whose median replaces them"))
    if mask is not None and not mask.flatten(1).any(1).all():  # a channel each without its own part: nothing would be left
        mask, notes = image.mask, []
    return Mended(replace(image, data=data, mask=mask), tuple(dict.fromkeys(notes)))


def _note(role: str, where: Tensor, what: str) -> str:
    return f"{int(where.sum())} pixels of the {role} image ({float(where.float().mean()):.2%}) {what}."


def _sample(image: Image, b: int, c: int) -> np.ndarray:
    """Values of one channel inside the mask, evenly taken from all of it."""
    values = image.data[b, c].flatten() if image.mask is None else image.data[b, c][image.mask[b, 0] > 0]
    return values[:: max(1, len(values) // SAMPLE)].cpu().numpy()


def _no_data(values: np.ndarray) -> float | None:
    """The lowest or highest value if it is repeated and far from all others."""
    for end in (values.min(), values.max()):
        others = values[values != end]
        share = 1 - len(others) / len(values)
        if share < REPEATS or len(others) < VALUES or len(np.unique(others[:4096])) < VALUES:
            continue
        low, high = np.quantile(others, [0.001, 0.999])
        gap = (others.min() - end if end < others.min() else end - others.max()) / max(high - low, 1e-30)
        far = FAR_NEGATIVE if end < 0 <= others.min() else RARE[1] if share < RARE[0] else FAR
        if gap > far:
            return float(end)
    return None


def _hot(channel: Tensor, values: np.ndarray) -> Tensor | None:
    """Which pixels (*shape), alone or nearly so, are far from all values of the scene; None where few are."""
    low, high = np.quantile(values, BULK)
    away = AWAY * (high - low)
    if away <= 0 or ((values < low - away) | (values > high + away)).mean() < FEWEST:
        return None
    places = _in_small_clusters((channel < low - away) | (channel > high + away))
    if places.float().mean() < FEWEST or _correlation(torch.where(places, float(np.median(values)), channel)) < SMOOTH:
        return None
    return places


def _in_small_clusters(places: Tensor) -> Tensor:
    """Those of some pixels (*shape) that have at most `CLUSTER` of them together: more are part of the scene, or a patch."""
    clusters, _ = label(places.cpu().numpy(), np.ones((3,) * places.ndim))
    small = np.bincount(clusters.ravel()) <= CLUSTER
    return places & torch.as_tensor(small[clusters]).to(places.device)


def _repaired(data: Tensor, shared: bool, b: int, c: int, places: Tensor) -> Tensor:
    """`data`, or a copy where it is `shared`, with some pixels (*shape) of a channel replaced by their neighbours' median."""
    data = data.clone() if shared else data
    data[b, c][places] = _medians(data[b, c], places)
    return data


def _medians(channel: Tensor, places: Tensor) -> Tensor:
    """Of the pixels around some, edges continued. (*shape), bool (*shape) -> (number of places,)"""
    padded = F.pad(channel[None, None], [1, 1] * channel.ndim, mode="replicate")[0, 0]
    index = places.nonzero()
    steps = torch.cartesian_prod(*[torch.arange(3, device=channel.device)] * channel.ndim)
    steps = steps[(steps != 1).any(1)]
    around = index[:, None] + steps  # shape: (places, 3**D - 1, D)
    return padded[tuple(around.unbind(-1))].median(1).values


def _correlation(channel: Tensor) -> float:
    """Of each pixel with the next along the last axis."""
    one, other = (part.flatten().double() for part in (channel[..., :-1], channel[..., 1:]))
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.square().sum() * other.square().sum()).sqrt().clamp(min=1e-30))
