"""GeoJSON (RFC 7946) as QuPath uses it: coordinates are pixels, counted from the outer corner of the first pixel."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drmime.errors import LARGEST, InputError, shown
from drmime.points.files import Move, PointFormat

CORNER = 0.5  # coordinate of the first pixel's centre in the file; 0 in this library
KINDS = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
OUTLINES = ("geometry", "nucleusGeometry")  # of a feature; the second is QuPath's, of a cell
ELLIPSE = "isEllipse"  # QuPath's mark of a polygon that it draws as the ellipse in its upright box: wrong after a rotation


class GeoJson(PointFormat):
    """Features, a list of features, or a geometry; holes and multi-polygons, properties, classification and colour are kept."""

    def fits(self, text: str) -> bool:
        return text.lstrip()[:1] in ("{", "[")

    def points(self, text: str, ndim: int | None = None) -> np.ndarray:
        _check_planar(ndim)
        return _pixels([position for part in _geometries(_parsed(text)) for position in _positions(part)])

    def moved(self, text: str, move: Move, ndim: int) -> str:
        _check_planar(ndim)
        state = _parsed(text)
        parts = list(_geometries(state))
        positions = [position for part in parts for position in _positions(part)]
        found = move(_pixels(positions)) + CORNER
        if not np.isfinite(found).all():
            raise InputError("expected points that have a place in the other image; one is behind the horizon of the transform")
        for position, place in zip(positions, found.tolist(), strict=True):
            position[:2] = (round(value, 6) for value in place)
        for part in parts:
            part.pop(ELLIPSE, None)
        _drop_boxes(state)
        indent = 2 if "\n" in text.strip() else None
        return json.dumps(state, ensure_ascii=False, indent=indent) + "\n"  # measurements that are NaN stay so


def _check_planar(ndim: int | None) -> None:
    if ndim not in (None, 2):
        raise InputError(f"expected points of {ndim} dimensions, got GeoJSON, which has 2")


def _pixels(positions: Sequence[Sequence[float]]) -> np.ndarray:
    """Positions as pixels of this library. (N, 2)"""
    return np.array([position[:2] for position in positions], float).reshape(-1, 2) - CORNER


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected GeoJSON ({shown(str(error))})") from error


def _geometries(state: Any) -> Iterator[dict[str, Any]]:
    """Every geometry with coordinates in features, lists, collections or a geometry alone; InputError for anything else."""
    if isinstance(state, list):
        for part in state:
            yield from _geometries(part)
        return
    kind = state.get("type") if isinstance(state, dict) else None
    if kind == "FeatureCollection" and isinstance(state.get("features"), list):
        yield from _geometries(state["features"])
    elif kind == "Feature":
        yield from _geometries([state[name] for name in OUTLINES if state.get(name) is not None])
    elif kind == "GeometryCollection" and isinstance(state.get("geometries"), list):
        yield from _geometries(state["geometries"])
    elif kind in KINDS and isinstance(state.get("coordinates"), list):
        yield state
    else:
        raise InputError(f"expected GeoJSON of features and geometries, got {shown(state)}")


def _positions(geometry: dict[str, Any]) -> Iterator[list[float]]:
    """The positions of a geometry, as the lists that hold them."""
    left = [geometry["coordinates"]]
    while left:
        part = left.pop()
        if part and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in part):
            if len(part) < 2 or not all(abs(value) <= LARGEST for value in part):  # false of NaN
                raise InputError(f"expected positions of two finite numbers, got {shown(part)}")
            yield part
        elif all(isinstance(value, list) for value in part):
            left.extend(reversed(part))  # so that positions come in the order of the file
        else:
            raise InputError(f"expected positions of two numbers in {geometry['type']}, got {shown(part)}")


def _drop_boxes(state: Any) -> None:
    """Remove the bounding boxes of features and geometries, which no longer hold."""
    for part in state if isinstance(state, list) else [state]:
        if isinstance(part, dict):
            part.pop("bbox", None)
            for name in ("features", "geometries", *OUTLINES):
                _drop_boxes(part.get(name))
