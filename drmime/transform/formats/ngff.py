"""Coordinate transformations of OME-NGFF 0.6 (RFC-5) in JSON: `coordinateSystems` and `coordinateTransformations`.

They are written as a scene (the attributes of a Zarr group); also read alone, and from the zarr.json of a scene.
A transformation takes points of its `input` to points of its `output`, here of the fixed to the moving image, in world
coordinates. Coordinates are in the order of the axes of their coordinate system: y, x or z, y, x as written, and where a
document does not name the axes x, y[, z]. If the input's name begins with "moving" and the output's with "fixed", the inverse
is read. Source: ngff.openmicroscopy.org/0.6, "coordinateTransformations" and "scene" metadata; ngff.openmicroscopy.org/rfc/5.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drmime import saved
from drmime.errors import InputError, shown
from drmime.geometry.grid import Grid
from drmime.image.io import write_text
from drmime.saved import fields
from drmime.transform.base import Transform
from drmime.transform.formats.files import Format, affine_matrix, from_matrix

WHAT = "a document of NGFF coordinate transformations"
KINDS = {"coordinateTransformations": [{str: object}], "coordinateSystems": [{str: object}]}
SPACE = ("space", "array", None)  # types of axes that are not time or channels
DEPTH = 20  # most sequences within sequences


class Ngff(Format):
    """Read: identity, scale, translation, rotation, affine, mapAxis, and sequences of them. Written: affine."""

    endings = (".ngff.json", ".json")

    def recognises(self, head: str) -> bool:
        return '"coordinateTransformations"' in head

    def read(self, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        state = saved.read(path, WHAT, {}, {**KINDS, "attributes": {str: object}, "ome": {str: object}})
        try:
            matrix, backwards = _transformation(_scene(state))
        except InputError as error:
            raise InputError(f"{path}: not {WHAT} that can be read: {error}") from error
        except (ValueError, TypeError) as error:  # rows of unequal length
            raise InputError(f"{path}: not {WHAT} that can be read ({shown(str(error))})") from error
        made = from_matrix(matrix, path)
        return made.inverse() if backwards else made

    def write(self, transform: Transform, path: Path, fixed: Grid | None = None, moving: Grid | None = None) -> None:
        order = [*range(transform.ndim - 1, -1, -1), transform.ndim]
        rows = affine_matrix(transform, "NGFF").numpy()[np.ix_(order, order)][:-1].tolist()
        axes = [{"name": name, "type": "space"} for name in "zyx"[-transform.ndim :]]
        step = {"type": "affine", "affine": rows, "input": {"name": "fixed"}, "output": {"name": "moving"}}
        systems = [{"name": name, "axes": axes} for name in ("fixed", "moving")]
        scene = {"coordinateSystems": systems, "coordinateTransformations": [step]}
        write_text(path, json.dumps({"ome": {"version": "0.6", "scene": scene}}, indent=1) + "\n")


def _scene(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """What holds the transformations in a document: itself, or the scene of a group (its attributes, or its zarr.json)."""
    if "coordinateTransformations" in state:
        return state
    ome = fields(state.get("attributes", state), {"ome": {str: object}})["ome"]
    return fields(fields(ome, {"scene": {str: object}})["scene"], {"coordinateTransformations": object}, KINDS)


def _transformation(state: Mapping[str, Any]) -> tuple[np.ndarray, bool]:
    """The matrix, x first, of the one transformation in a document, and whether it goes from the moving to the fixed image."""
    if len(state["coordinateTransformations"]) != 1:
        raise InputError(f"expected one transformation, got {len(state['coordinateTransformations'])}")
    step = state["coordinateTransformations"][0]
    names = [_name(step.get(end)) for end in ("input", "output")]
    axes = [_axes(state.get("coordinateSystems", []), name) for name in names]
    sizes = {len(one) for one in axes if one} or {_size(step)}
    ndim = min(sizes)
    if len(sizes) != 1 or ndim not in (2, 3):
        raise InputError(f"expected coordinate systems of 2 or 3 axes each, got {sorted(sizes)}")
    matrix = _matrix(step, ndim)
    orders = [_order(one, ndim) for one in axes]
    return matrix[np.ix_(orders[1], orders[0])], names[0].startswith("moving") and names[1].startswith("fixed")


def _name(end: Any) -> str:
    """The name of an input or output: text in some drafts, else a mapping."""
    name = end.get("name", "") if isinstance(end, Mapping) else end
    return name if isinstance(name, str) else ""


def _axes(systems: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Names of the axes of the coordinate system `name`; empty if it is not described."""
    for system in systems:
        if system.get("name") == name:
            axes = fields(system, {"axes": [{str: object}]})["axes"]
            if other := [axis for axis in axes if axis.get("type") not in SPACE]:
                raise InputError(f"expected axes of space alone, got {shown(other[0])}")
            return [fields(axis, {"name": str})["name"] for axis in axes]
    return []


def _order(axes: Sequence[str], ndim: int) -> list[int]:
    """Where x, y[, z] and the constant stand in vectors of a coordinate system; array order if axes have other names."""
    names = "xyz"[:ndim]
    if sorted(axes) == list(names):
        return [*map(list(axes).index, names), ndim]
    return [*range(ndim - 1, -1, -1), ndim]


def _size(step: Mapping[str, Any], depth: int = 0) -> int:
    """The number of axes that the parameters of a transformation are for; 0 if it has none."""
    for key in ("scale", "translation", "affine", "rotation", "mapAxis"):
        if isinstance(step.get(key), list):
            return len(step[key])
    inner = step.get("transformations")
    sizes = [_size(one, depth + 1) for one in inner] if isinstance(inner, list) and depth < DEPTH else []
    return max(sizes, default=0)


def _matrix(step: Any, ndim: int, depth: int = 0) -> np.ndarray:
    """The homogeneous matrix of a transformation, in the order of its axes. shape: (D+1, D+1)"""
    kind = fields(step, {"type": str})["type"]
    matrix = np.eye(ndim + 1)
    if kind == "sequence" and depth < DEPTH:
        for one in fields(step, {"transformations": [object]})["transformations"]:
            matrix = _matrix(one, ndim, depth + 1) @ matrix
    elif kind in ("scale", "translation"):
        vector = np.array(fields(step, {kind: [float]})[kind], dtype=float)
        if vector.shape != (ndim,):
            raise InputError(f"{kind}: expected {ndim} numbers, got {len(vector)}")
        matrix[:-1] = np.column_stack([np.diag(vector), np.zeros(ndim)] if kind == "scale" else [np.eye(ndim), vector])
    elif kind in ("affine", "rotation"):
        if kind not in step:
            raise InputError(f"{kind}: expected the numbers in the document, got {shown(step)}; arrays beside it are not read")
        rows = np.array(fields(step, {kind: [[float]]})[kind], dtype=float)
        if rows.shape != (ndim, ndim + (kind == "affine")):
            raise InputError(f"{kind}: expected {ndim} rows and {ndim + (kind == 'affine')} columns, got {rows.shape}")
        matrix[:-1, : rows.shape[1]] = rows
    elif kind == "mapAxis":
        places = fields(step, {"mapAxis": [int]})["mapAxis"]
        if sorted(places) != list(range(ndim)):
            raise InputError(f"mapAxis: expected a permutation of the axes, got {shown(places)}")
        matrix = matrix[[*places, ndim]]
    elif kind != "identity":
        known = "identity, scale, translation, rotation, affine, mapAxis or a sequence of them"
        raise InputError(f"type: expected {known}, got {shown(kind)}, which is not one matrix")
    return matrix
