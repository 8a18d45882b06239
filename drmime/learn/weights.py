"""`Representation`: trained encoders of several modalities, in a safetensors file with a JSON header."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drmime import saved
from drmime.errors import InputError, existing_file, package, shown
from drmime.image.image import Image
from drmime.image.io import write_atomically
from drmime.learn.encoder import Encoder, encode
from drmime.registry import known
from drmime.version import __version__

FORMAT = "drmime representation 1"
HEADER = "drmime"  # key of the JSON text among the metadata of the file
MOST = 2**30  # bytes of a file that is read
NORMALISATION = "0.1 and 99.9 % quantiles of each channel are mapped to 0 and 1, and clipped"
KINDS: dict[str, Any] = {
    **{"format": str, "version": str, "ndim": int, "outputs": int, "normalisation": str},
    **{"modalities": {str: int}, "encoder": {"width": int, "depth": int, "dense": bool}, "spacing": (None, [float])},
    **{"training": {str: object}, "data": {str: str}},
}


@dataclass(frozen=True, eq=False)
class Representation:
    """Encoders by modality; the representations of all modalities have the same channels and look alike."""

    encoders: Mapping[str, Encoder]
    spacing: tuple[float, ...] | None = None  # mean pixel lengths of the training images, array order; None if not stated
    training: Mapping[str, Any] = field(default_factory=dict)  # settings and results
    data: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of the training files, by name

    @property
    def modalities(self) -> list[str]:
        return list(self.encoders)

    def __call__(self, image: Image, modality: str) -> Image:
        """The representation of a normalised image, on its grid and with its mask. (B, C, *shape) -> (B, outputs, *shape)

        An encoder of one channel sees the mean of the channels.

        Raises:
            InputError: an unknown modality, an image of another dimension or another number of channels.
        """
        encoder = self.encoders[known("modality", modality, self.encoders)]
        if encoder.inputs == 1:
            image = replace(image, data=image.data.mean(1, keepdim=True))
        if image.grid.ndim != encoder.ndim or image.data.shape[1] != encoder.inputs:
            raise InputError(
                f"representation: expected images of {encoder.ndim} dimensions and {encoder.inputs} channels for modality "
                f"{modality!r}, got {image.grid.ndim} dimensions and {image.data.shape[1]} channels"
            )
        made = encoder.to(image.data)
        data = image.data if image.mask is None else image.data * image.mask  # what is masked has no content
        return replace(image, data=encode(made, data))

    def header(self) -> dict[str, Any]:
        """What the file says besides the weights."""
        first = next(iter(self.encoders.values()))
        return {
            **{"format": FORMAT, "version": __version__, "ndim": first.ndim, "outputs": first.outputs},
            **{"normalisation": NORMALISATION, "spacing": None if self.spacing is None else list(self.spacing)},
            "modalities": {name: one.inputs for name, one in self.encoders.items()},
            "encoder": {"width": first.width, "depth": first.depth, "dense": first.dense},
            **{"training": dict(self.training), "data": dict(self.data)},
        }

    def save(self, path: str | Path) -> None:
        """Write a safetensors file. Raises: InputError: it cannot be written."""
        write_tensors(Path(path), named(self.encoders), self.header())

    @classmethod
    def load(cls, path: str | Path) -> "Representation":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, a file that is no whole safetensors file, of another version, or whose weights do not fit
                its header.
        """
        tensors, header = read_tensors(path, KINDS, FORMAT)
        sizes = header["modalities"]
        try:
            made = {
                name: Encoder(header["ndim"], inputs, header["outputs"], **header["encoder"]) for name, inputs in sizes.items()
            }
            for name, one in made.items():
                one.load_state_dict({key: tensors.pop(f"{name}/{key}") for key in one.state_dict()})
                one.eval().requires_grad_(False)
        except (InputError, KeyError, RuntimeError) as error:
            raise InputError(f"{path}: its weights do not fit its header ({shown(str(error))})") from error
        if tensors or not made:
            raise InputError(f"{path}: expected weights of {list(sizes)} alone, got also {shown(list(tensors))}")
        spacing = None if header["spacing"] is None else tuple(header["spacing"])
        return cls(made, spacing=spacing, training=header["training"], data=header["data"])


def named(encoders: Mapping[str, Encoder], prefix: str = "") -> dict[str, Tensor]:
    """The weights of encoders by name."""
    return {f"{prefix}{name}/{key}": value for name, one in encoders.items() for key, value in one.state_dict().items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a header to a safetensors file, whole or not at all. Raises: InputError: it cannot be written."""
    torch_files = package("safetensors.torch", "representations", "learn")
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps(header, allow_nan=False)
    write_atomically(path, lambda file: torch_files.save_file(plain, file, {HEADER: text}), ".safetensors")


def read_tensors(path: str | Path, kinds: Mapping[str, Any], form: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, finite, and the header of a safetensors file; `form` is the format that the header must name.

    Raises:
        InputError: as `Representation.load`.
    """
    file = existing_file(path, "a safetensors file")
    if (size := os.path.getsize(file)) > MOST:
        raise InputError(f"{file}: expected a safetensors file, got {size} bytes")
    try:
        with package("safetensors", "representations", "learn").safe_open(str(file), "pt") as opened:
            text = (opened.metadata() or {}).get(HEADER, "")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises errors of its own for what is damaged
        raise InputError(f"{file}: not a safetensors file, or not a whole one ({shown(str(error))})") from error
    try:
        state = json.loads(text)
        found = saved.fields(state, {"format": str})["format"]
        if found != form:
            raise InputError(f"expected the format {form!r}, got {shown(found)}")
        header = saved.fields(state, kinds)
    except (ValueError, RecursionError) as error:  # InputError is a ValueError
        raise InputError(f"{file}: not {form}: {error}") from error
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise InputError(f"{file}: expected finite weights, got others in {shown(bad[0])}")
    return tensors, header
