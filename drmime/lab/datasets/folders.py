"""Datasets that are a folder of images, paired by their file names."""

import re
from pathlib import Path
from typing import Any

from drmime.errors import InputError
from drmime.image.readers import PICTURES, READERS
from drmime.lab.datasets.base import Pair, checked, spread
from drmime.lab.datasets.tables import existing_folder, located, pair_name, stem
from drmime.registry import known

ENDINGS = (*PICTURES, *READERS)
CLASSES = {"A": "anatomical change", "P": "small overlap", "S": "large overlap"}  # of FIRE
FIRE_IMAGE = re.compile(r"(([A-Z])\d+)_[12]\.(?:jpg|jpeg|png|tif|tiff)", re.IGNORECASE)
FIRE_POINTS = re.compile(r"control_points_(([A-Z])\d+)_1_2\.txt", re.IGNORECASE)


def folder(folder: str, *, fixed: str | None = None, pattern: str | None = None) -> tuple[Pair, ...]:
    """Pairs of one fixed image with every other image of a folder.

    Landmarks are CSV files of the same name beside the images, used if both images have one.

    Args:
        folder: the folder with the images.
        fixed: the file name of the fixed image; if None, the first in natural order (image 2 before image 10).
        pattern: a glob, such as "*.tif"; every image that can be read if None.

    Raises:
        InputError: no such folder or image, fewer than two images, or two of one name.
    """
    paths = images(folder, pattern)
    names = [path.name for path in paths]
    first = paths[names.index(known(f"image of {folder}", fixed, names))] if fixed is not None else paths[0]
    return checked((_pair(first, path) for path in paths if path != first), str(folder))


def stack(
    folder: str, *, to: str = "neighbour", reference: int | str | None = None, pattern: str | None = None
) -> tuple[Pair, ...]:
    """Pairs of serial sections in natural order (slice 2 before slice 10): each with the slice before it, or all with one.

    Args:
        folder: the folder with the slices; landmarks as for `folder`.
        to: what is fixed: "neighbour", the slice before, or "reference", one slice for all.
        reference: the number of the reference slice, from 0, or its file name; the middle slice if None.
        pattern: a glob, such as "*.tif"; every image that can be read if None.

    Raises:
        InputError: no such folder or image, an unknown `to`, fewer than two images, or two of one name.
    """
    paths = images(folder, pattern)
    if known("way to align a stack", to, ("neighbour", "reference")) == "neighbour":
        if reference is not None:
            raise InputError(
                f"reference: expected none where slices go to their neighbour, got {reference!r}. Set to: reference."
            )
        return checked(map(_pair, paths, paths[1:]), str(folder))
    one = paths[_number(reference, [path.name for path in paths])]
    return checked((_pair(one, path) for path in paths if path != one), str(folder))


def _number(reference: Any, names: list[str]) -> int:
    if reference is None:
        return len(names) // 2
    if isinstance(reference, str):
        return names.index(known("slice", reference, names))
    if isinstance(reference, int) and not isinstance(reference, bool) and 0 <= reference < len(names):
        return reference
    raise InputError(f"reference: expected a number from 0 to {len(names) - 1} or the name of a slice, got {reference!r}")


def fire(folder: str, *, classes: str | list[str] | None = None, limit: int | None = None) -> tuple[Pair, ...]:
    """FIRE as it is distributed (Hernandez-Matas et al. 2017, DOI 10.35119/maio.v1i4.42): Images/A01_1.jpg (fixed),
    Images/A01_2.jpg (moving), "Ground Truth"/control_points_A01_1_2.txt with rows x1 y1 x2 y2.

    The authors do not state the origin of pixel coordinates; 0-based pixel centres are assumed. If they are 1-based, points of
    both images are off by the same pixel, which causes an error only under rotation or scaling: below 0.1 pixel at 5 degrees.

    Args:
        folder: the folder that holds Images and Ground Truth.
        classes: classes to use: A (anatomical change), P (small overlap), S (large overlap); all if None. The letter is the
            domain.
        limit: the largest number of pairs, evenly spaced over all; all if None.

    Raises:
        InputError: no such folders or classes, or no pairs.
    """
    root = existing_folder(folder)
    pictures, truths = existing_folder(root / "Images"), existing_folder(root / "Ground Truth")
    wanted = [classes] if isinstance(classes, str) else list(CLASSES) if classes is None else classes
    if not isinstance(wanted, (list, tuple)):
        raise InputError(f"classes: expected letters of {', '.join(CLASSES)}, got {classes!r}")
    letters = {known("class of FIRE", letter, CLASSES) for letter in wanted}
    files = {path.name.lower(): path for path in sorted(pictures.iterdir())}
    found = [FIRE_IMAGE.fullmatch(path.name) for path in pictures.iterdir()]
    found += [FIRE_POINTS.fullmatch(path.name) for path in truths.iterdir()]
    eyes = sorted({(match[1].upper(), match[2].upper()) for match in found if match and match[2].upper() in letters})

    def pair(eye: str, letter: str) -> Pair:
        sides = [next((str(files[n]) for e in ENDINGS if (n := f"{eye}_{side}{e}".lower()) in files), "") for side in (1, 2)]
        fixed, moving = (path or str(pictures / f"{eye}_{side}.jpg") for side, path in enumerate(sides, 1))
        points = located(f"control_points_{eye}_1_2.txt", truths)
        return Pair(eye, located(fixed, pictures), located(moving, pictures), letter, points, points)

    what = f"{folder}: classes {', '.join(sorted(letters))}"
    return spread(checked((pair(*eye) for eye in eyes), what), limit)


# ---- shared by all folders


def images(folder: str, pattern: str | None) -> list[Path]:
    """The images of a folder in natural order: image 2 before image 10.

    Raises:
        InputError: no such folder, fewer than two images, or an invalid pattern.
    """
    root = existing_folder(folder)
    try:
        found = [path for path in root.glob("*" if pattern is None else pattern) if _is_image(path)]
    except (ValueError, NotImplementedError, TypeError, AttributeError) as error:
        raise InputError(f"pattern: expected a glob below the folder, such as '*.tif', got {pattern!r} ({error})") from error
    if len(found) < 2:
        what = "images" if pattern is None else f"images that fit the pattern {pattern!r}"
        raise InputError(f"{folder}: expected at least two {what}, got {len(found)}. Known endings: {', '.join(ENDINGS)}")
    return sorted(found, key=lambda path: _natural(str(path.relative_to(root))))


def _is_image(path: Path) -> bool:
    pixels_of_a_header = path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists()
    hidden = path.name.startswith(".")
    return path.is_file() and path.name.lower().endswith(ENDINGS) and not hidden and not pixels_of_a_header


def _natural(name: str) -> tuple[list[Any], str]:
    """A sort key for natural order: text and numbers in turn, then the name itself, for names such as 1 and 01."""
    return [int(part) if at % 2 else part.lower() for at, part in enumerate(re.split(r"(\d+)", name))], name


def _pair(fixed: Path, moving: Path) -> Pair:
    points = [path.with_name(f"{stem(path)}.csv") for path in (fixed, moving)]
    landmarks = [located(path.name, path.parent) for path in points] if all(path.is_file() for path in points) else ["", ""]
    return Pair(
        name=pair_name(fixed.name, moving.name),
        fixed=located(fixed.name, fixed.parent),
        moving=located(moving.name, moving.parent),
        fixed_landmarks=landmarks[0],
        moving_landmarks=landmarks[1],
    )
