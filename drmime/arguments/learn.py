"""The arguments of `drmime train` and `drmime represent`."""

from pathlib import Path
from typing import Any

from drmime.arguments.values import UNSET, axes, command, setting


def add_train(commands: Any) -> None:
    example = """\
  drmime train configs/comir.yaml --out runs/comir
  drmime register mr.png ct.png --out out/ --representation runs/comir/model.safetensors

To continue a training that was stopped, give the same command again."""
    parser = command(commands, "train", "train a representation in which two modalities look alike (CoMIR)", example)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML: pairs, training, folder")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for model and curves (default: as in CONFIG)")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE", help="value of a dotted key")


def add_represent(commands: Any) -> None:
    example = "  drmime represent runs/comir/model.safetensors ct.png --modality ct --out ct_representation.png"
    parser = command(commands, "represent", "write the representation of an image, to look at", example)
    parser.add_argument("model", metavar="MODEL", type=Path, help="model.safetensors of 'drmime train'")
    parser.add_argument("image", metavar="IMAGE", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write; pictures are scaled to 8 bits")
    parser.add_argument("--modality", default=None, metavar="NAME", help="a modality of the model (its first)")
    parser.add_argument("--channel-axis", type=axes, default=UNSET, metavar="AXIS", help="as in 'drmime register'")
