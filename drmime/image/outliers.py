"""Find and replace values that do not belong to the scene: no-data values such as -9999, hot and dead pixels.

A few per cent of such pixels would take up most of the intensity range and compress the scene into a narrow band. A no-data
value is a single number, the lowest or highest of the image and far from all others. Patches of it are masked. Small clusters
of it, and hot and dead pixels, are replaced by the median of their neighbours.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import label
from torch import Tensor

from drmime.image.image import Image

SAMPLE_PIXELS = 2**18  # pixels from which the distribution of values is estimated, at most
NO_DATA_SHARE = 0.0005  # smallest share of the pixels that have a no-data value
DISTINCT_VALUES = 16  # fewest distinct other values; excludes label maps, whose values are all content
NO_DATA_GAP = 2.0  # smallest gap between a no-data value and the other values, in units of their range
NEGATIVE_GAP = 0.5  # likewise, for a negative value if no other value is negative
RARE_GAP = 1.0  # likewise, for a rare value
RARE_SHARE = 0.05  # share of the pixels below which a value is rare
SCENE_QUANTILES = (0.05, 0.95)  # quantiles that bound most of the scene's values
HOT_DISTANCE = 2.0  # smallest distance of a hot or dead pixel from these quantiles, in units of the distance between them
HOT_SHARE = 0.0005  # smallest share of hot and dead pixels that are replaced: fewer do not change the intensity range
MAX_CLUSTER = 4  # pixels; largest cluster: at 3 % random outliers hardly any is larger, while spots blurred by optics are
CORRELATED = 0.2  # least correlation of neighbours without the outliers; if less, as for points on noise, these are content


@dataclass(frozen=True)
class Mended:
    """An image without outliers, and sentences that describe what was changed."""

    image: Image
    notes: tuple[str, ...] = ()


def mended(image: Image, role: str) -> Mended:
    """Mask no-data values of `image` and replace hot and dead pixels by the median of their neighbours.

    `role`, "fixed" or "moving", is the name of the image in the notes.
    """
    data, mask, notes = image.data, image.mask, []
    for b, c in np.ndindex(*data.shape[:2]):
        values = _sample(image, b, c)
        if (no_data := _no_data_value(values)) is not None:
            mask = torch.ones_like(image.data[:, :1]) if mask is None else mask.clone() if mask is image.mask else mask
            here = image.data[b, c] == no_data
            single = _in_small_clusters(here)
            mask[b, 0][here & ~single] = 0
            notes.append(_note(role, here, f"hold {no_data:g}, far from all other values, and are left out"))
            values = values[values != no_data]
            data = _repaired(data, image.data is data, b, c, single) if single.any() else data
        if (hot := _hot_pixels(data[b, c], values)) is not None:
            data = _repaired(data, image.data is data, b, c, hot)
            notes.append(_note(role, hot, "are far brighter or darker than their neighbours, whose median replaces them"))
    if mask is not None and not mask.flatten(1).any(1).all():  # the channels lack different parts, and no pixel would be left
        mask, notes = image.mask, []
    return Mended(replace(image, data=data, mask=mask), tuple(dict.fromkeys(notes)))


def _note(role: str, where: Tensor, what: str) -> str:
    return f"{int(where.sum())} pixels of the {role} image ({float(where.float().mean()):.2%}) {what}."


def _sample(image: Image, b: int, c: int) -> np.ndarray:
    """Values of channel `c` of image `b` inside the mask, at regular intervals."""
    values = image.data[b, c].flatten() if image.mask is None else image.data[b, c][image.mask[b, 0] > 0]
    return values[:: max(1, len(values) // SAMPLE_PIXELS)].cpu().numpy()


def _no_data_value(values: np.ndarray) -> float | None:
    """The no-data value among `values`: the lowest or highest, if it is repeated and far from all others; else None."""
    for end in (values.min(), values.max()):
        others = values[values != end]
        share = 1 - len(others) / len(values)
        if share < NO_DATA_SHARE or len(others) < DISTINCT_VALUES or len(np.unique(others[:4096])) < DISTINCT_VALUES:
            continue
        low, high = np.quantile(others, [0.001, 0.999])
        gap = (others.min() - end if end < others.min() else end - others.max()) / max(high - low, 1e-30)
        far = NEGATIVE_GAP if end < 0 <= others.min() else RARE_GAP if share < RARE_SHARE else NO_DATA_GAP
        if gap > far:
            return float(end)
    return None


def _hot_pixels(channel: Tensor, values: np.ndarray) -> Tensor | None:
    """Mask (*shape) of small clusters whose values are far from those of the scene; None if there are few of them."""
    low, high = np.quantile(values, SCENE_QUANTILES)
    away = HOT_DISTANCE * (high - low)
    if away <= 0 or ((values < low - away) | (values > high + away)).mean() < HOT_SHARE:
        return None
    places = _in_small_clusters((channel < low - away) | (channel > high + away))
    if places.float().mean() < HOT_SHARE or _correlation(torch.where(places, float(np.median(values)), channel)) < CORRELATED:
        return None
    return places


def _in_small_clusters(places: Tensor) -> Tensor:
    """The pixels of `places` in clusters of at most `MAX_CLUSTER`; larger ones are scene or no-data patches."""
    clusters, _ = label(places.cpu().numpy(), np.ones((3,) * places.ndim))
    small = np.bincount(clusters.ravel()) <= MAX_CLUSTER
    return places & torch.as_tensor(small[clusters]).to(places.device)


def _repaired(data: Tensor, shared: bool, b: int, c: int, places: Tensor) -> Tensor:
    """Replace pixels `places` (*shape) of a channel by the neighbours' median, in a copy of `data` if it is `shared`."""
    data = data.clone() if shared else data
    data[b, c][places] = _medians(data[b, c], places)
    return data


def _medians(channel: Tensor, places: Tensor) -> Tensor:
    """Medians of the neighbours of each of `places`, edge pixels replicated. (*shape), bool (*shape) -> (number of places,)"""
    padded = F.pad(channel[None, None], [1, 1] * channel.ndim, mode="replicate")[0, 0]
    index = places.nonzero()
    steps = torch.cartesian_prod(*[torch.arange(3, device=channel.device)] * channel.ndim)
    steps = steps[(steps != 1).any(1)]
    around = index[:, None] + steps  # shape: (places, 3**D - 1, D)
    return padded[tuple(around.unbind(-1))].median(1).values


def _correlation(channel: Tensor) -> float:
    """Correlation of each pixel with the next along the last axis."""
    one, other = (part.flatten().double() for part in (channel[..., :-1], channel[..., 1:]))
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (one.square().sum() * other.square().sum()).sqrt().clamp(min=1e-30))
