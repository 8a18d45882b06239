"""The commands of learned representations: `train`, `represent`."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from drmime.commands.base import Report, check_kept, writable
from drmime.image.door import as_image
from drmime.image.io import sweep, write_image
from drmime.image.readers import PICTURES
from drmime.lab import learning
from drmime.learn.train import Progress
from drmime.learn.weights import Representation

MODEL, CHECKPOINT = "model.safetensors", "checkpoint.safetensors"


def train(args: Namespace) -> Report:
    """Train a representation; a run that was stopped goes on from its checkpoint."""
    plan = learning.load(args.config, args.set)
    plan = plan if args.out is None else replace(plan, folder=args.out)
    writable(plan.folder)
    sweep(plan.folder)
    trainer = plan.trainer()
    checkpoint = plan.folder / CHECKPOINT
    if checkpoint.exists():
        trainer.resume(checkpoint)
    curves = _Curves(plan.folder / "tensorboard")
    options: dict[str, Any] = {"initial": trainer.step, "unit": "step", "disable": not sys.stderr.isatty(), "leave": False}
    with tqdm(total=plan.training.steps, file=sys.stderr, **options) as bar:

        def tell(found: Progress) -> None:
            bar.set_postfix(loss=f"{found.loss:.3f}", retrieval=f"{found.retrieval:.1%}")
            curves(found)

        model = trainer.run(checkpoint, tell, lambda: bar.update())
    model.save(plan.folder / MODEL)
    unsure = [f"left out, since their registration is not sure: {', '.join(plan.left_out)}"] if plan.left_out else []
    lines = [
        *unsure,
        f"{trainer.step} steps; of {plan.training.validation} validation patches the right one is found in {trainer.best:.1%}",
        f"model: {plan.folder / MODEL}",
        f"curves: tensorboard --logdir {plan.folder / 'tensorboard'}",
    ]
    return Report("\n".join(lines))


class _Curves:
    """TensorBoard: loss, retrieval, and patches beside their representations."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # on demand: its import takes a while

        self.writer = SummaryWriter(str(folder), flush_secs=10)

    def __call__(self, found: Progress) -> None:
        self.writer.add_scalar("loss", found.loss, found.step)
        self.writer.add_scalar("retrieval", found.retrieval, found.step)
        rows = [_row(part) for part in (*found.patches, *found.encoded)]
        self.writer.add_image("patches and representations", np.concatenate(rows), found.step, dataformats="HW")
        self.writer.flush()


def _row(patches: Tensor) -> np.ndarray:
    """Patches (N, C, *shape) side by side as gray values of 8 bits: the first channel, of volumes the middle slice."""
    planes = patches.detach()[:, 0]
    planes = planes[:, planes.shape[1] // 2] if planes.ndim == 4 else planes
    low, high = planes.min(), planes.max()
    row = ((planes - low) / (high - low).clamp(min=1e-6) * 255).round()
    return np.hstack(list(row.byte().cpu().numpy()))


def represent(args: Namespace) -> Report:
    """Write the representation of an image."""
    check_kept([args.out], [args.model, args.image])
    writable(args.out.parent)
    model = Representation.load(args.model)
    options: dict[str, Any] = {} if "channel_axis" not in args else {"channel_axis": args.channel_axis}
    image = as_image(args.image, nan="mask", **options).normalised()
    modality = args.modality or model.modalities[0]
    found = model(image, modality)
    if args.out.suffix.lower() in PICTURES:
        values = (found.normalised().data[0] * 255).round().byte().numpy()
    else:
        values = found.data[0].numpy()
    write_image(args.out, values[0] if len(values) == 1 else np.moveaxis(values, 0, -1), image.grid)
    return Report(f"wrote {args.out}, modality {modality!r} of {', '.join(model.modalities)}")
