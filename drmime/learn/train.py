"""Training of a representation: contrastive, resumable, with early stopping by retrieval on validation images."""

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drmime.adam import Adam
from drmime.errors import InputError, number, switch, whole
from drmime.learn.contrastive import CRITICS, info_nce, l1, retrieval
from drmime.learn.encoder import Encoder
from drmime.learn.patches import Overlaid, draw, quarter_turns
from drmime.learn.weights import Representation, named, read_tensors, write_tensors
from drmime.registry import known

FORMAT = "drmime training 1"
STATE: dict[str, Any] = {"format": str, "settings": {str: object}, "data": {str: str}, "modalities": {str: int}}
STATE |= {"step": int, "best": float, "waited": int, "losses": [float], "scores": [float]}
TOGETHER = 32  # validation patches encoded at once


@dataclass(frozen=True)
class Training:
    """Options of a training.

    Raises:
        InputError: an option out of its range.
    """

    steps: int = 500
    batch: int = 8  # places in each step
    patch: int = 64  # pixels along each side
    shifts: int = 16  # pixels around a patch, within which it is told from itself at other places; 0: as CoMIR
    rate: float = 1e-3
    temperature: float = 0.1  # 0.05 learns as well, more slowly
    critic: str = "correlation"  # a name of `drmime.learn.contrastive.CRITICS`
    outputs: int = 1  # channels of the representation
    width: int = 8  # see `drmime.learn.encoder.Encoder`
    depth: int = 3
    dense: bool = False
    turns: bool = True  # encode each modality under a quarter turn of its own, so that representations turn with the image
    every: int = 50  # steps between validations and checkpoints
    validation: int = 200  # patches
    patience: int = 6  # validations without improvement after which training stops
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("patch", 8), ("every", 1), ("validation", 2), ("patience", 1)):
            whole(f"training.{name}", getattr(self, name), least)
        for name in ("rate", "temperature"):
            number(f"training.{name}", getattr(self, name), 0)
        whole("training.seed", self.seed, 0)
        whole("training.shifts", self.shifts, 0)
        whole("training.depth", self.depth, 0, 6)
        switch("training.turns", self.turns)
        known("training.critic", self.critic, CRITICS)
        if self.shifts and CRITICS[self.critic] is l1:
            raise InputError(
                f"training.shifts: expected 0 with the critic 'l1', which compares whole patches, got {self.shifts}"
            )
        if self.side % 2**self.depth:
            raise InputError(
                f"training.patch: expected patch + 2 * shifts to be a multiple of 2**depth = {2**self.depth}, got {self.side}"
            )

    @property
    def side(self) -> int:
        """Pixels along each side of what is cut from an image."""
        return self.patch + 2 * self.shifts


@dataclass
class Progress:
    """What an observer receives after each validation."""

    step: int
    loss: float  # mean since the last validation
    retrieval: float  # share of validation patches whose place is found
    encoded: Sequence[Tensor] = field(default_factory=list)  # representations of a few validation patches, by modality
    patches: Sequence[Tensor] = field(default_factory=list)  # these patches


class Trainer:
    """One training of an encoder for each modality of `scenes`; a scene has two or more of them."""

    def __init__(
        self, scenes: Sequence[Overlaid], validation: Sequence[Overlaid], options: Training, data: Mapping[str, str]
    ) -> None:
        """`data`: SHA-256 of the training files by name.

        Raises:
            InputError: no scenes, or images of one modality with unequal channels or dimensions.
        """
        if not scenes or not validation:
            raise InputError("training: expected at least one pair to train with and one to validate with")
        self.options, self.data, self.modalities = options, dict(data), _channels([*scenes, *validation])
        ndim = scenes[0].images[0].grid.ndim
        self.scenes, self.alike = scenes, _alike(scenes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.encoders = {
                name: Encoder(ndim, inputs, options.outputs, options.width, options.depth, options.dense)
                for name, inputs in self.modalities.items()
            }
        self.best_encoders = copy.deepcopy(self.encoders)
        parameters = [one for encoder in self.encoders.values() for one in encoder.parameters()]
        self.optimiser = Adam([(parameters, options.rate)])
        self.generator = torch.Generator().manual_seed(options.seed)
        self.critic = CRITICS[options.critic]
        fixed = torch.Generator().manual_seed(options.seed + 1)
        self.held = [
            (names, draw(some, options.validation, options.side, fixed, plain=True))
            for names, some in _alike(validation).items()
        ]  # patches of each set of modalities
        self.turns = quarter_turns(ndim)
        self.step, self.waited, self.best = 0, 0, -math.inf
        self.losses: list[float] = []  # mean between validations
        self.scores: list[float] = []  # retrieval at each validation

    @property
    def done(self) -> bool:
        return self.step >= self.options.steps or self.waited >= self.options.patience

    def run(self, checkpoint: Path | None, tell: Callable[[Progress], None], tick: Callable[[], object]) -> Representation:
        """Train to the end, or until validation does not improve; `tick` is called after each step.

        `checkpoint`: a file that is written after each validation, and from which a training that has not begun goes on if it
            exists.

        Raises:
            InputError: a checkpoint of other settings or data, or one that cannot be read or written.
        """
        if checkpoint is not None and not self.step and checkpoint.exists():
            self.resume(checkpoint)
        while not self.done:
            losses = list[float]()
            while len(losses) < self.options.every and self.step < self.options.steps:
                losses.append(self.take_step())
                tick()
            found = self.validated(sum(losses) / len(losses))
            if checkpoint is not None:
                self.save(checkpoint)
            tell(found)
        return self.result()

    def take_step(self) -> float:
        """One step of the optimiser; returns the loss."""
        options = self.options
        chosen = tuple(self.scenes[int(torch.randint(len(self.scenes), (1,), generator=self.generator))].modalities)
        patches = draw(self.alike[chosen], options.batch, options.side, self.generator)
        encoded = [self._encoded(self.encoders[name], part) for name, part in zip(chosen, patches, strict=True)]
        pairs = itertools.combinations(encoded, 2)
        losses = [info_nce(one, other, options.temperature, self.critic, options.shifts) for one, other in pairs]
        loss = torch.stack(losses).mean()
        self.optimiser.step(torch.autograd.grad(loss, self.optimiser.groups[0], allow_unused=True))
        self.step += 1
        return float(loss.detach())

    def _encoded(self, encoder: Encoder, patches: Tensor) -> Tensor:
        """Representations of patches, encoded under a random quarter turn and turned back."""
        if not self.options.turns:
            return encoder(patches)
        count, plane = self.turns[int(torch.randint(len(self.turns), (1,), generator=self.generator))]
        return torch.rot90(encoder(torch.rot90(patches, count, plane)), -count, plane)

    def validated(self, loss: float) -> Progress:
        """Retrieval of the validation patches; the best encoders so far are kept."""
        with torch.no_grad():
            encoded = [
                [
                    torch.cat([self.encoders[name](part) for part in held.split(TOGETHER)])
                    for name, held in zip(*some, strict=True)
                ]
                for some in self.held
            ]
        found = [retrieval(*two, self.critic) for some in encoded for two in itertools.combinations(some, 2)]
        score = sum(found) / len(found)
        self.losses.append(loss)
        self.scores.append(score)
        if score > self.best:
            self.best, self.waited = score, 0
            self.best_encoders = copy.deepcopy(self.encoders)
        else:
            self.waited += 1
        shown = [[one[:4] for one in patches] for patches in (encoded[0], self.held[0][1])]
        return Progress(self.step, loss, score, *shown)

    def result(self) -> Representation:
        """The encoders that found most validation patches."""
        results = {"steps_taken": self.step, "retrieval": self.best if self.scores else None}
        made = {name: encoder.eval().requires_grad_(False) for name, encoder in copy.deepcopy(self.best_encoders).items()}
        grids = [scene.images[0].grid for scene in self.scenes]
        spacing = torch.stack([grid.spacing.flip(0) for grid in grids]).mean(0).tolist()
        return Representation(made, spacing=tuple(spacing), training=asdict(self.options) | results, data=self.data)

    def save(self, path: Path) -> None:
        """Write everything from which `resume` goes on, bit for bit on one thread."""
        state = {f"adam/{number}": value for number, value in enumerate(self.optimiser.state)}
        tensors = named(self.encoders, "now/") | named(self.best_encoders, "best/") | state
        tensors["generator"] = self.generator.get_state()
        header: dict[str, Any] = {"format": FORMAT, "settings": asdict(self.options), "data": self.data}
        header |= {
            "modalities": self.modalities,
            "step": self.step,
            "best": self.best,
            "waited": self.waited,
            "losses": self.losses,
            "scores": self.scores,
        }
        write_tensors(path, tensors, header)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            InputError: it is of other settings or data, or cannot be read.
        """
        tensors, header = read_tensors(path, STATE, FORMAT)
        for name, own in (("settings", asdict(self.options)), ("data", self.data), ("modalities", self.modalities)):
            if list(header[name].items()) != list(own.items()):  # in order, as the optimiser's state is
                raise InputError(f"{path}: a checkpoint of other {name}; give another folder, or delete it to begin anew")
        try:
            for prefix, encoders in (("now/", self.encoders), ("best/", self.best_encoders)):
                for name, encoder in encoders.items():
                    encoder.load_state_dict({key: tensors[f"{prefix}{name}/{key}"] for key in encoder.state_dict()})
            for number_, value in enumerate(self.optimiser.state):
                value.copy_(tensors[f"adam/{number_}"])
            self.generator.set_state(tensors["generator"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise InputError(f"{path}: a checkpoint that does not fit these encoders ({error})") from error
        self.step, self.waited, self.best = header["step"], header["waited"], header["best"]
        self.losses, self.scores = header["losses"], header["scores"]


def _alike(scenes: Sequence[Overlaid]) -> dict[tuple[str, ...], list[Overlaid]]:
    """The scenes by their modalities, in the order in which these come first."""
    found: dict[tuple[str, ...], list[Overlaid]] = {}
    for scene in scenes:
        found.setdefault(tuple(scene.modalities), []).append(scene)
    return found


def _channels(scenes: Sequence[Overlaid]) -> dict[str, int]:
    """The channels of each modality. Raises: InputError: they differ between scenes, or the dimensions do."""
    found: dict[str, int] = {}
    ndim = scenes[0].images[0].grid.ndim
    for scene in scenes:
        for name, image in zip(scene.modalities, scene.images, strict=True):
            channels = image.data.shape[1]
            expected = found.setdefault(name, channels)
            if (channels, image.grid.ndim) != (expected, ndim):
                raise InputError(
                    f"pair {scene.name!r}: expected {ndim} dimensions and {expected} channels for modality {name!r}, "
                    f"as before, got {image.grid.ndim} dimensions and {channels} channels"
                )
    return found
