"""Register and warp slides larger than memory: seconds for a gigapixel, peak memory, error.

    pip install 'drmime[demo,slides]'
    python benchmarks/slides.py --side 40000 --folder slides/

The pair is made once in the folder: a real picture (scikit-image's immunohistochemistry) enlarged to the side, with the detail
of another one (its retina) at four times its size; the moving image is moved by a known affine map, inverted and recoloured.
Each command runs in a process of its own, whose peak memory is told.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from drmime import Registration
from drmime.geometry.grid import Grid
from drmime.image.source import Source
from drmime.tiled.job import Job
from drmime.tiled.run import warp_tiles
from drmime.transform.linear import MatrixTransform

DETAIL = 4  # pixels of a slide in one of the picture that gives the detail
TURN, SCALE, SHIFT = 12.0, 1.04, (0.03, -0.05)  # degrees, factor, shares of the side


@dataclass(frozen=True, eq=False)
class Painted(Job):
    """A slide that is made from pictures: read at the places of `transform`, and recoloured or not."""

    recoloured: bool = False
    pictures: list[Tensor] = field(default_factory=list)

    def tile(self, first: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        rows, columns = (torch.arange(n, dtype=torch.float64) + start for start, n in zip(first, shape, strict=True))
        index = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flip(-1)
        points = self.transform(index.view(-1, 2)).view(*shape, 2)
        side = self.target.shape[0]
        unit = (2 * points + 1) / side - 1
        large = _read(self.pictures[0], unit)
        small = _read(self.pictures[1], unit * side / (DETAIL * self.pictures[1].shape[-1]))
        values = 0.75 * large + 0.25 * small
        values = 1 - values.flip(0) ** 1.5 if self.recoloured else values
        outside = (unit.abs() > 1).any(-1)
        return torch.where(outside, 0.0, 255 * values).round().clamp(0, 255).byte().numpy()


def _read(picture: Tensor, unit: Tensor) -> Tensor:
    return F.grid_sample(picture[None], unit[None].float(), padding_mode="reflection", align_corners=False)[0]


def truth(side: int) -> Tensor:
    """moving_from_fixed in pixels."""
    turn, middle = math.radians(TURN), (side - 1) / 2
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[:2, :2] = SCALE * torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    shift = torch.tensor([share * side for share in SHIFT], dtype=torch.float64)
    matrix[:2, 2] = shift + middle - matrix[:2, :2] @ torch.full((2,), middle, dtype=torch.float64)
    return matrix


def paint(path: Path, side: int, transform: Tensor, recoloured: bool) -> None:
    grid = Grid.regular((side, side), (0.25, 0.25), "µm")
    blank = Source("", (np.zeros((3, 8, 8), np.uint8),), "CYX", Grid.regular((8, 8)))
    shown = data.immunohistochemistry(), data.retina()
    pictures = [torch.as_tensor(picture.copy()).movedim(-1, 0).float() / 255 for picture in shown]
    job = Painted(MatrixTransform(transform), grid, blank, blank.grid, "linear", 0, True, "auto", recoloured, pictures)
    warp_tiles(job, path, progress=True)


def measured(name: str, words: Sequence[str], gigapixels: float) -> None:
    """Run a command and print its seconds and the peak memory of its process."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "drmime", *words], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{name}: exit status {process.returncode}")
    print(f"| {name} | {seconds:.0f} | {seconds / gigapixels:.0f} | {peak / 2**20:.2f} |", flush=True)


def _peak(process: int) -> int:
    """The most memory that a process has had, in KiB, on Linux; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=40000)
    parser.add_argument("--folder", type=Path, default=Path("slides"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", type=float, default=1.0, help="GiB, of drmime warp --tiles")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    fixed, moving, matrix = args.folder / "fixed.zarr", args.folder / "moving.zarr", truth(args.side)
    if not fixed.exists():
        paint(fixed, args.side, torch.eye(3, dtype=torch.float64), recoloured=False)
    if not moving.exists():
        paint(moving, args.side, torch.linalg.inv(matrix), recoloured=True)
    giga = args.side**2 / 1e9
    options = ["--tiles", "--workers", str(args.workers), "--memory", str(args.memory), "--out"]
    print(f"{args.side} x {args.side} RGB\n\n| | seconds | seconds per gigapixel | peak GiB |\n|---|---|---|---|")
    out = args.folder / "out"
    measured("register", ["register", str(fixed), str(moving), "--out", str(out), "--set", "device.threads=2"], giga)
    measured("warp to OME-Zarr", ["warp", str(out / "transform.json"), str(moving), *options, str(out / "w.zarr")], giga)
    measured("warp to OME-TIFF", ["warp", str(out / "transform.json"), str(moving), *options, str(out / "w.tif")], giga)
    tiff = out / "w.tif"
    back = ["warp", str(out / "transform.json"), str(tiff), "--inverse", *options, str(out / "b.zarr")]
    measured("warp from OME-TIFF to OME-Zarr, inverse", back, giga)
    result = Registration.load(out / "transform.json")
    corners = result.fixed_grid.corners().numpy()
    pixels = (corners / 0.25) @ matrix[:2, :2].numpy().T + matrix[:2, 2].numpy()
    errors = np.linalg.norm(result.to_moving(corners) / 0.25 - pixels, axis=1)
    verdict = json.loads((out / "transform.json").read_text(encoding="utf-8"))["verdict"]["status"]
    share = errors.mean() / (args.side * 2**0.5)
    print(f"\nverdict {verdict}; error of the corners {errors.mean():.1f} pixels, {share:.3%} of the diagonal")


if __name__ == "__main__":
    main()
