"""Observers of a run: a history of similarities, a progress bar, curves and pictures in TensorBoard.

An observer receives `Run` before the first step, then each `Step`, then the `Outcome`. Steps hold tensors on the device, and
reading one waits for the device, so most observers read only every few steps. If `register` is given lists, each batch is a run
of its own, one after the other; its `Run` says which pairs it holds (`drmime.part.part_of`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from drmime.errors import InputError, whole
from drmime.geometry.grid import Grid
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid, possible_levels
from drmime.optimise import LAST_STEPS, Observer, Outcome, Run, Step
from drmime.part import part_of
from drmime.pictures import blend
from drmime.transform.base import Transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import in_pixels

LONGEST = 256  # pixels of a picture's long side in TensorBoard; it stores many pictures
CURVES = {  # names of a metric's curves; those of other metrics have the name of the metric
    "mine": "MI",
    "mattes": "MI",
    "jhmi": "MI",
    "nmi": "NMI",
    "ncc": "NCC",
    "mse": "MSE",
    "MINE": "MI",
    "MattesMI": "MI",
    "JointHistogramMI": "MI",
    "NormalisedMI": "NMI",
}


class History(Observer):
    """Keeps the similarity of every step of the last run; of lists in several batches, of the last batch."""

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def begin(self, run: Run) -> None:
        self._steps = []

    def __call__(self, step: Step) -> None:
        self._steps.append(step.similarity)

    @property
    def values(self) -> list[np.ndarray]:
        """One array (levels, B) for each step, finest level first; copied from the device only here."""
        return [] if not self._steps else list(torch.stack(self._steps).cpu().numpy())


class Progress(Observer):
    """A progress bar on stderr: the stages of the search for starts, then steps and similarity.

    Nothing is shown if stderr is not a terminal.
    """

    def __init__(self, every: int = 10) -> None:
        """`every`: steps between updates of the similarity."""
        self.every = whole("progress every", every, 1)
        self.bar: Any = None
        self.what = ""

    def starting(self, what: str, share: float) -> None:
        if self.bar is None or what != self.what:
            self._open(desc=what, total=100, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed}")
            self.what = what
        self.bar.update(max(0, int(100 * share) - self.bar.n))

    def begin(self, run: Run) -> None:
        part = part_of(run)
        which = f"pairs {part.done + 1} to {part.done + len(part.pairs)} of {part.count}" if not part.whole else None
        self._open(total=run.steps, unit="step", desc=which)

    def __call__(self, step: Step) -> None:
        if not self.bar.disable and step.index % self.every == 0:
            self.bar.set_postfix_str(f"similarity {float(step.similarity.mean()):.4f}", refresh=False)
        self.bar.update()

    def end(self, outcome: Outcome) -> None:
        self.bar.close()
        self.bar = None

    def _open(self, **options: Any) -> None:
        if self.bar is not None:
            self.bar.close()
        self.bar = tqdm(file=sys.stderr, disable=not sys.stderr.isatty(), leave=False, **options)


class TensorBoard(Observer):
    """Writes curves, pictures, settings and the reason why a run ended; `tensorboard --logdir FOLDER` shows them.

    Curves: the similarity of each level and the weighted mean, the coefficients, and the displacement of the corners of the
    fixed image since the first step. Each pair of a list has its own, under `pair0/`, `pair1/`, ... A folder holds one run; a
    second run with the same folder replaces the first. Of lists in several batches each has a folder in it, such as `batch3`,
    with the number of its first pair.
    """

    def __init__(
        self,
        folder: str | Path,
        images_every: int = 100,
        scalars_every: int = 10,
        scores: Callable[[Transform], Mapping[str, float]] | None = None,
    ) -> None:
        """
        Args:
            folder: where the event file is written.
            images_every, scalars_every: steps between pictures and between points of the curves.
            scores: computes scores of the final transform, such as errors of landmarks; written with the settings.

        Raises:
            InputError: a number out of its range.
        """
        self.folder, self.scores = Path(folder), scores
        self.images_every = whole("tensorboard images_every", images_every, 1)
        self.scalars_every = whole("tensorboard scalars_every", scalars_every, 1)

    def begin(self, run: Run) -> None:
        """Open the folder, delete the event files of the call before, and write the settings; nothing is done before.

        Raises:
            InputError: the folder cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter  # on demand: its import takes a while

        try:
            part = part_of(run)
            folder = self.folder if part.whole else self.folder / f"batch{part.pairs[0]}"
            for place in [folder, self.folder, *self.folder.glob("batch*")] if part.done == 0 else [folder]:
                for old in place.glob("events.out.tfevents.*"):
                    old.unlink()
            self.writer = SummaryWriter(str(folder), flush_secs=10)
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror or error}. Choose another place.") from error
        self.run, self.taken = run, 0
        self.prefixes = [f"pair{pair}/" for pair in part.pairs] if part.count > 1 else [""]
        self.curve = curve_name(run.settings["metric"])
        self.corners = run.fixed.grid.corners()
        self.first: Tensor | None = None  # corners mapped at the first step. shape: (B, 2**D, D)
        self.view = _View(run.fixed, run.moving)
        rows = "".join(f"| {name} | {value} |\n" for name, value in flat(run.settings).items())
        self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)

    def __call__(self, step: Step) -> None:
        self.taken = step.index + 1
        if step.index % self.scalars_every == 0:
            self._scalars(step)
        if step.index % self.images_every == 0:
            self._overlays(step.transforms, step.index)

    def end(self, outcome: Outcome) -> None:
        """Write the last picture, the reason why each pair stopped, and settings and results as hyperparameters."""
        steps = self.taken
        results: dict[str, float] = {}
        for pair, prefix in enumerate(self.prefixes):
            history = outcome.history[pair]
            self.writer.add_text(f"{prefix}stop", outcome.stops[pair].value, steps)
            if len(history):
                results[f"{prefix}final/similarity"] = float(outcome.totals[pair][-LAST_STEPS:].mean())
            results[f"{prefix}final/overlap"] = float(outcome.overlap[pair])
            results[f"{prefix}final/steps"] = len(history)
            scores = self.scores(outcome.transforms[pair]) if self.scores else {}
            results |= {f"{prefix}final/{name}": value for name, value in scores.items()}
        self._overlays(outcome.transforms, steps)
        self._hyperparameters(results, steps)
        self.writer.close()

    def _scalars(self, step: Step) -> None:
        similarity = step.similarity.cpu()
        total = step.total.cpu()
        drift = self._drift(step.transforms)
        curves = {name: value.cpu() for name, value in step.model.curves().items()}
        for pair, prefix in enumerate(self.prefixes):
            values = {f"{self.curve}/level{level}": values[pair] for level, values in enumerate(similarity)}
            values[f"{self.curve}/total"] = total[pair]
            values |= {name: value[pair] for name, value in curves.items()}
            values["drift/pixels"] = drift[pair]
            for tag, value in values.items():
                self.writer.add_scalar(prefix + tag, float(value), step.index)

    def _drift(self, transforms: Sequence[Transform]) -> Tensor:
        """The largest displacement of the fixed corners since the first step, in pixels of the moving image. shape: (B,)"""
        pixels = MatrixTransform(self.run.moving.grid.index_from_world)
        corners = torch.stack([(pixels @ transform)(self.corners) for transform in transforms])
        self.first = corners if self.first is None else self.first
        return (corners - self.first).norm(dim=-1).amax(-1)

    def _overlays(self, transforms: Sequence[Transform], index: int) -> None:
        for prefix, picture in zip(self.prefixes, self.view.pictures(transforms), strict=True):
            self.writer.add_image(f"{prefix}overlay", picture, index, dataformats="HWC")

    def _hyperparameters(self, results: Mapping[str, float], index: int) -> None:
        """Write settings and results into this run; `SummaryWriter.add_hparams` would create a second one."""
        from torch.utils.tensorboard.summary import hparams

        for tag, value in results.items():
            self.writer.add_scalar(tag, value, index)
        if (file := self.writer.file_writer) is not None:
            for summary in hparams(flat(self.run.settings), dict(results)):
                file.add_summary(summary)


class _View:
    """Blends of both images on a coarse grid of square pixels: the whole of a 2-D image, the middle slice of a volume."""

    def __init__(self, fixed: Image, moving: Image) -> None:
        self.grid = _picture_grid(fixed.grid)
        self.moving = _coarse(moving)
        identity = MatrixTransform(torch.eye(fixed.grid.ndim + 1))
        self.fixed = self._read(_coarse(fixed), [identity] * len(fixed.data))

    def pictures(self, transforms: Sequence[Transform]) -> list[np.ndarray]:
        """Blends of the fixed image and the moving image warped by each pair's transform; for each (H, W, 3) uint8."""
        moving = self._read(self.moving, transforms)
        return [blend(still, mover) for still, mover in zip(self.fixed, moving, strict=True)]

    def _read(self, image: Image, transforms: Sequence[Transform]) -> np.ndarray:
        """The image warped to the picture's grid: mean of the channels, black outside. -> (B, H, W) uint8"""
        points = self.grid.index_points()
        places = torch.stack([in_pixels(transform, self.grid, image.grid)(points) for transform in transforms])
        values, inside = image.at(places.to(image.data), image.grid.world_from_index[None].to(image.data.device))
        values = values.mean(-1) * inside * 255
        return values.round().to(torch.uint8).cpu().numpy().reshape(-1, *self.grid.shape[-2:])


def _coarse(image: Image) -> Image:
    """The coarsest pyramid level of at least `LONGEST` pixels along its longest side, so that pictures do not alias."""
    halvings = int(np.log2(max(1, max(image.grid.shape) / LONGEST)))
    return Pyramid.of(image, min(1 + halvings, possible_levels(image.grid))).levels[-1]


def _picture_grid(grid: Grid) -> Grid:
    """A grid of square pixels over the x and y axes of `grid`, at most `LONGEST` along each, in the middle of the third."""
    extent = grid.extent[:2]
    size = (extent / max(grid.spacing[:2].min(), extent.max() / LONGEST)).round().clamp(min=1)
    size = torch.cat([size, size.new_ones(grid.ndim - 2)])
    return grid.resized([int(n) for n in size.flip(0)])


def curve_name(metric: Any) -> str:
    """The name of the curves of a metric, which is given as in the settings."""
    name = str(metric.get("name") if isinstance(metric, Mapping) else metric).rpartition(":")[-1]
    return CURVES.get(name, name)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings as one level of simple values: `{"metric": {"name": "mine"}}` to `{"metric/name": "mine"}`."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}/")
        else:
            values[prefix + name] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return values
