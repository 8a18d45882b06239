"""Datasets that are a CSV with one row per pair. Only the table is read here; missing files are reported by `Pair.load`."""

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drmime.errors import InputError, existing_file
from drmime.lab.datasets.base import IDENTITY, Pair, checked, spread
from drmime.registry import known

Row = dict[str, str]

FILES = ("fixed", "moving", "fixed_landmarks", "moving_landmarks", "fixed_labels", "moving_labels")
BIRL = {  # their columns for the fields of `Pair`; the fixed image is their target
    "fixed": "Target image",
    "moving": "Source image",
    "fixed_landmarks": "Target landmarks",
    "moving_landmarks": "Source landmarks",
}
ALIGNED = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
LISTED = 20  # largest number of values listed in a message


def pairs(
    file: str,
    *,
    root: str | None = None,
    where: Mapping[str, Any] | None = None,
    skip: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> tuple[Pair, ...]:
    """Pairs from a CSV with the columns fixed and moving, and any of pair, dataset, domain, fixed_landmarks,
    moving_landmarks, fixed_labels, moving_labels, fixed_to_moving (a file with the truth) and already_aligned (1 if the
    images are aligned).

    A pair is named dataset/pair, or pair without a dataset; without a value for pair, it is named after its files.

    Args:
        file: the table.
        root: the folder that paths are relative to; that of the table if None.
        where: rows to use: {column: value or [values]}.
        skip: rows to omit, likewise; "" is an empty cell.
        limit: the largest number of pairs, evenly spaced over all; all if None.

    Raises:
        InputError: no such table or columns, a filter that leaves no row, or two pairs of one name.
    """
    rows, folder = read_table(file, ("fixed", "moving"), root)
    rows = filtered(rows, {"where": where, "skip": skip}, file)
    return spread(checked((_pair(row, folder, file) for row in rows), str(file)), limit)


def birl(
    file: str, *, root: str | None = None, status: str | list[str] | None = None, limit: int | None = None
) -> tuple[Pair, ...]:
    """Pairs from a CSV in the format of BIRL (Borovec et al. 2018, DOI 10.1109/IPTA.2018.8608619): columns Target image
    (fixed), Source image (moving), Target landmarks, Source landmarks.

    Pairs are named after their files, with the first folder of the path if there is one: COAD_01/S1-S2. That folder without
    its number is the domain. Landmarks (columns X and Y) are assumed to be 0-based pixel centres.

    Args:
        file: the table.
        root: the folder that paths are relative to; that of the table if None.
        status: values of the column status to use, such as "training"; all if None.
        limit: the largest number of pairs, evenly spaced over all; all if None.

    Raises:
        InputError: as `pairs`.
    """
    folder = Path(file).parent if root is None else existing_folder(root)
    return _birl(file, folder, folder, status, limit)


def anhir(
    folder: str,
    *,
    file: str = "dataset_medium.csv",
    images: str | None = None,
    landmarks: str | None = None,
    status: str | list[str] | None = "training",
    limit: int | None = None,
) -> tuple[Pair, ...]:
    """ANHIR as it is distributed (Borovec et al. 2020, DOI 10.1109/TMI.2020.2986331): a table in the format of BIRL beside
    the unpacked images and landmarks. The domain is the tissue.

    Args:
        folder: the folder with the table.
        file: the name of the table.
        images: the folder with the tissue folders of the images; `folder`/images if it exists, else `folder`.
        landmarks: likewise, of the landmarks; `folder`/landmarks if it exists, else `folder`.
        status: rows to use; only those of "training" have landmarks of both images. All if None.
        limit: the largest number of pairs, evenly spaced over all; all if None.

    Raises:
        InputError: as `pairs`.
    """
    base = existing_folder(folder)
    roots = []
    for given, name in ((images, "images"), (landmarks, "landmarks")):
        usual = base / name if (base / name).is_dir() else base
        roots.append(usual if given is None else existing_folder(given))
    return _birl(str(base / file), roots[0], roots[1], status, limit)


def _birl(file: str, images: Path, landmarks: Path, status: str | list[str] | None, limit: int | None) -> tuple[Pair, ...]:
    rows, _ = read_table(file, tuple(BIRL.values()), None)
    rows = filtered(rows, {"status": None if status is None else {"status": status}}, file)

    def pair(row: Row) -> Pair:
        fixed, moving = (_filled(row, BIRL[side], file) for side in ("fixed", "moving"))
        subject = _subject(fixed)
        return Pair(
            name="/".join(filter(None, (subject, pair_name(fixed, moving)))),
            domain=re.sub(r"_\d*$", "", subject),
            fixed=located(fixed, images),
            moving=located(moving, images),
            fixed_landmarks=located(row[BIRL["fixed_landmarks"]], landmarks),
            moving_landmarks=located(row[BIRL["moving_landmarks"]], landmarks),
        )

    return spread(checked(map(pair, rows), str(file)), limit)


def _subject(path: str) -> str:
    """The first folder of a relative path, which in these tables is the tissue with its number; "" for none."""
    parts = [part for part in Path(path).parent.parts if part not in (".", "..")]
    return parts[0] if parts and not Path(path).is_absolute() else ""


def _pair(row: Row, folder: Path, file: str) -> Pair:
    files: dict[str, Any] = {name: located(row.get(name, ""), folder) for name in FILES}
    name = row.get("pair", "") or pair_name(*(_filled(row, side, file) for side in ("fixed", "moving")))
    word = row.get("already_aligned", "").lower()
    if word not in ALIGNED:
        raise InputError(f"{file}: expected 0 or 1 in column already_aligned, got {word!r} for {name!r}")
    truth = located(row.get("fixed_to_moving", ""), folder) or (IDENTITY if ALIGNED[word] else "")
    return Pair(name="/".join(filter(None, (row.get("dataset"), name))), domain=row.get("domain", ""), truth=truth, **files)


# ---- shared by all tables


def read_table(file: str, required: tuple[str, ...], root: str | None) -> tuple[list[Row], Path]:
    """The rows of a CSV, with stripped text in every cell, and the folder that its paths are relative to.

    Raises:
        InputError: no such table or folder, not a CSV, missing columns, or no rows.
    """
    path = existing_file(file, "a CSV with a row for each pair")
    folder = path.parent if root is None else existing_folder(root)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey="", restval="")
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [{key: value.strip() for key, value in row.items() if isinstance(value, str)} for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a CSV with a row for each pair ({error})") from error
    missing = [name for name in required if name not in columns]
    if missing:
        raise InputError(f"{path}: expected the columns {', '.join(missing)} as well, got {', '.join(columns) or 'none'}")
    if not rows:
        raise InputError(f"{path}: no rows, so no pairs")
    return rows, folder


def filtered(rows: list[Row], filters: Mapping[str, Mapping[str, Any] | None], file: str) -> list[Row]:
    """The rows that pass all filters: {"where": …, "skip": …}, each {column: value or [values]}; "skip" omits rows.

    Raises:
        InputError: an unknown column, a value to use that no row has, or a filter, which is named, that leaves no row.
    """
    left = rows
    for option, columns in filters.items():
        if not isinstance(columns or {}, Mapping):
            raise InputError(f"{option}: expected {{column: value or [values]}}, got {columns!r}")
        for column, wanted in (columns or {}).items():
            known(f"column of {file} in {option}", column, rows[0])
            values = {_text(value) for value in (wanted if isinstance(wanted, (list, tuple)) else [wanted])}
            if option != "skip":  # values to omit need not be present: there may be no row without landmarks, for example
                _expect_values(values, {row[column] for row in rows}, f"{file}: {option}: {column}")
            left = [row for row in left if (row[column] in values) != (option == "skip")]
            if not left:
                raise InputError(
                    f"{file}: no pair left after {option}: {column} = {', '.join(sorted(values))}. Take fewer filters."
                )
    return left


def _expect_values(values: set[str], present: set[str], where: str) -> None:
    absent = sorted(values - present)
    if absent or not values:
        some = ", ".join(map(repr, sorted(present)[:LISTED])) + (", …" if len(present) > LISTED else "")
        raise InputError(f"{where}: no row has {', '.join(map(repr, absent)) or 'one of no values'}. Known: {some}.")


def _text(value: Any) -> str:
    """A value of a configuration as text of a table: true is 1."""
    return str(int(value) if isinstance(value, bool) else value)


def _filled(row: Row, column: str, file: str) -> str:
    if not row[column]:
        given = {key: value for key, value in row.items() if value}
        raise InputError(f"{file}: expected a path in column {column!r} of every row, got none in {given}")
    return row[column]


def existing_folder(path: str | Path) -> Path:
    """`path`. Raises: InputError: it is not a folder."""
    if not os.path.isdir(path):
        found = "is a file" if os.path.isfile(path) else "does not exist"
        raise InputError(f"expected a folder, got {str(path)!r}, which {found}")
    return Path(path)


def located(cell: str, folder: Path) -> str:
    """The absolute path of a cell, valid in processes with another working folder; "" for an empty cell."""
    return os.path.abspath(folder / cell) if cell else ""


def pair_name(fixed: str, moving: str) -> str:
    """The name of a pair from its files: both names without endings."""
    return f"{stem(fixed)}-{stem(moving)}"


def stem(path: str | Path) -> str:
    """A file's name without its ending; .nii.gz counts as one ending."""
    return Path(Path(path).name.removesuffix(".gz")).stem
