"""Movies of pictures: animated GIF, and MP4."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np

from drmime.errors import InputError, number, package
from drmime.image.io import write_atomically

MOVIES = (".gif", ".mp4")  # endings of movies
LEAST = 0.009  # seconds of an image; GIF counts hundredths
SECONDS = 0.2  # for which a movie shows an image


def write_movie(path: str | Path, frames: Iterable[np.ndarray], seconds: float = SECONDS) -> None:
    """Write pictures of equal size (H, W, 3) as a movie: an animated GIF, or MP4 (H.264), by the path's ending.

    H.264 holds even numbers of rows and columns: an odd last one is repeated.

    Raises:
        InputError: a path with another ending or that cannot be written, or no PyAV for MP4.
    """
    ending = check_movie(path)
    seconds = number("seconds", seconds, LEAST)
    every = list(frames)
    options: dict[str, Any] = {"duration": 1000 * seconds, "loop": 0}
    if ending == ".mp4":
        every = [np.pad(one, ((0, one.shape[0] % 2), (0, one.shape[1] % 2), (0, 0)), "edge") for one in every]
        options = {"plugin": "pyav", "codec": "libx264", "fps": 1 / seconds}
    write_atomically(Path(path), lambda draft: imageio.imwrite(draft, every, **options), ending)


def check_movie(path: str | Path) -> str:
    """The ending of the path of a movie.

    Raises:
        InputError: another ending than that of a movie, or no PyAV for MP4.
    """
    ending = f"{path}"[-4:].lower()
    if ending not in MOVIES:
        raise InputError(f"movie: expected a path that ends with {' or '.join(MOVIES)}, got {str(path)!r}")
    if ending == ".mp4":
        package("av", "MP4 movies", "movie")
    return ending
