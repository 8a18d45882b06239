"""FreeSurfer's linear transform arrays (.lta), as of mri_robust_register, mri_coreg and lta_convert. Volumes only.

The matrix takes points of the moving image (src, the --mov of FreeSurfer's programs) to points of the fixed image (dst), in
millimetres of RAS (type 1, LINEAR_RAS_TO_RAS; written) or in voxels, x first (type 0, LINEAR_VOX_TO_VOX; read with the two
volumes that the file describes). `cras` is the place of the voxel at half the number of voxels. Source: FreeSurfer's wiki,
FsTutorial/LtaFormat and CoordinateSystems (surfer.nmr.mgh.harvard.edu/fswiki).

The package nitransforms is not used: it reads matrices in single precision, and writes the fixed image as src.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import affine
from drmime.image.io import write_text
from drmime.image.readers import LPS
from drmime.transform.base import Transform
from drmime.transform.formats.files import PERSPECTIVE, Format, affine_matrix, both_grids, from_matrix, text_of

COMMENT = re.compile(r"#.*")
FIELD = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
VOXELS, RAS = 0, 1  # types
FLIP = np.pad(LPS, (0, 1)) + np.diag([0, 0, 0, 1.0])  # LPS from RAS, and back, homogeneous


class FreeSurfer(Format):
    """Affine transforms between volumes."""

    endings = (".lta",)

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        try:
            kind, matrix, volumes = _parts(COMMENT.sub("", text_of(path, "an LTA file")).splitlines())
            if kind == VOXELS:
                matrix = _ras_from_index(volumes["dst"]) @ matrix @ np.linalg.inv(_ras_from_index(volumes["src"]))
        except (KeyError, ValueError, IndexError) as error:  # LinAlgError is a ValueError
            raise InputError(f"{path}: expected an LTA file of one linear transform ({shown(str(error))})") from error
        return from_matrix(FLIP @ matrix @ FLIP, path).inverse()

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        matrix = affine_matrix(transform, "FreeSurfer", 3)
        fixed, moving = both_grids("FreeSurfer", 3, fixed, moving)
        rows = FLIP @ torch.linalg.inv(matrix).numpy() @ FLIP
        rows[3] = [0, 0, 0, 1]
        lines = [
            f"type      = {RAS} # LINEAR_RAS_TO_RAS",
            "nxforms   = 1",
            "mean      = 0.0 0.0 0.0",
            "sigma     = 1.0",
            "1 4 4",
        ]
        lines += [_words(row) for row in rows]
        lines += ["src volume info", *_volume(moving, "moving"), "dst volume info", *_volume(fixed, "fixed")]
        write_text(path, "\n".join([*lines, ""]))


def _volume(grid: Grid, name: str) -> list[str]:
    """The lines that describe a volume; its voxel-to-RAS matrix is that of NIfTI."""
    linear = LPS @ grid.world_from_index[:3, :3].numpy()
    size, spacing = grid.size.numpy(), grid.spacing.numpy()
    centre = LPS @ grid.world_from_index[:3, 3].numpy() + linear @ (size / 2)
    axes = zip(("xras  ", "yras  ", "zras  "), (linear / spacing).T, strict=True)
    return [
        "valid = 1  # volume info valid",
        f"filename = {name}",
        f"volume = {' '.join(str(int(count)) for count in size)}",
        f"voxelsize = {_words(spacing)}",
        *(f"{key} = {_words(axis)}" for key, axis in axes),
        f"cras   = {_words(centre)}",
    ]


def _words(values: np.ndarray) -> str:
    return " ".join(map(repr, values.tolist()))


def _parts(lines: Sequence[str]) -> tuple[int, np.ndarray, dict[str, dict[str, str]]]:
    """The type, the matrix (4, 4) and the fields of the volumes "src" and "dst"; KeyError or ValueError if some are missing."""
    fields: dict[str, str] = {}
    volumes: dict[str, dict[str, str]] = {}
    matrix = np.zeros((0, 4))
    place = fields
    for number, line in enumerate(lines):
        words = line.split()
        match = FIELD.fullmatch(line)
        if words == ["1", "4", "4"]:
            matrix = np.array([[float(word) for word in row.split()] for row in lines[number + 1 : number + 5]])
        elif len(words) == 3 and words[0] in ("src", "dst") and words[1:] == ["volume", "info"]:
            place = volumes.setdefault(words[0], {})
        elif match:
            place[match[1]] = match[2]
    kind = int(fields["type"])
    if kind not in (VOXELS, RAS) or int(fields["nxforms"]) != 1:
        raise ValueError(f"type {kind}, {fields['nxforms']} transforms: expected one of type 0 (voxels) or 1 (RAS)")
    if matrix.shape != (4, 4) or np.abs(matrix[3] - [0, 0, 0, 1]).max() > PERSPECTIVE:
        raise ValueError("no 4 rows of 4 numbers after 1 4 4, or another last row than 0 0 0 1")
    return kind, matrix, volumes


def _ras_from_index(fields: dict[str, str]) -> np.ndarray:
    """The voxel-to-RAS matrix of a volume (4, 4); KeyError or ValueError if it is not described."""
    if fields["valid"] != "1":
        raise ValueError("a volume whose geometry is not valid")
    vectors = [np.array(fields[key].split(), dtype=float) for key in ("xras", "yras", "zras", "voxelsize", "volume", "cras")]
    linear = np.stack(vectors[:3], 1) * vectors[3]
    return affine(linear, vectors[5] - linear @ (vectors[4] / 2))
