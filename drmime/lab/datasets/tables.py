"""Datasets that are a CSV with one row for each pair. Only the table is read here; a file that is absent is told by `load`."""

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
BIRL = {  # their word for each of our fields; they call the fixed image the target
    "fixed": "Target image",
    "moving": "Source image",
    "fixed_landmarks": "Target landmarks",
    "moving_landmarks": "Source landmarks",
}
ALIGNED = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
LISTED = 20  # values of a column in a message


def pairs(
    file: str,
    *,
    root: str | None = None,
    where: Mapping[str, Any] | None = None,
    skip: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> tuple[Pair, ...]:
    """A CSV with the columns fixed and moving, and any of pair, dataset, domain, fixed_landmarks, moving_landmarks,
    fixed_labels, moving_labels, fixed_to_moving (a file with the truth) and already_aligned (1 where the images overlay).

    A pair is called dataset/pair, as far as it has these; without a pair column, after its files.

    Args:
        file: the table.
        root: the folder that its paths start from; that of the table if None.
        where: rows to take: {column: value or [values]}.
        skip: rows to leave out, likewise; "" stands for an empty cell.
        limit: at most so many pairs, evenly taken from all; all if None.

    Raises:
        InputError: no such table or columns, a filter that fits no row, two pairs of one name.
    """
    rows, folder = read_table(file, ("fixed", "moving"), root)
    rows = filtered(rows, {"where": where, "skip": skip}, file)
    return spread(checked((_pair(row, folder, file) for row in rows), str(file)), limit)


def birl(
    file: str, *, root: str | None = None, status: str | list[str] | None = None, limit: int | None = None
) -> tuple[Pair, ...]:
    """A CSV in the style of BIRL (Borovec et al. 2018, DOI 10.1109/IPTA.2018.8608619): columns Target image (fixed), Source
    image (moving), Target landmarks, Source landmarks.

    Pairs are called after their files, below the first folder if there is one: COAD_01/S1-S2; that folder without its number
    is the domain. Landmarks, columns X and Y, are taken as 0-based and of pixel centres.

    Args:
        file: the table.
        root: the folder that its paths start from; that of the table if None.
        status: values of the column status to take, such as "training"; all if None.
        limit: at most so many pairs, evenly taken from all; all if None.

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
    """ANHIR as it is distributed (Borovec et al. 2020, DOI 10.1109/TMI.2020.2986331): a table in the style of BIRL beside
    the unpacked images and landmarks. The domain is the tissue.

    Args:
        folder: where the table lies.
        file: its name.
        images: the folder with the images' tissue folders; `folder`/images if there is one, else `folder`.
        landmarks: that of the landmarks, likewise.
        status: rows to take; only those of "training" have the landmarks of both images. All if None.
        limit: at most so many pairs, evenly taken from all; all if None.

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
    """The first folder of a relative path, which in these tables is the tissue and its number."""
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


# ---- what all tables share


def read_table(file: str, required: tuple[str, ...], root: str | None) -> tuple[list[Row], Path]:
    """The rows of a CSV, every cell a stripped text, and the folder that its paths start from.

    Raises:
        InputError: no such table or folder, no CSV, columns missing, no row.
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
    """The rows that every filter leaves, {"where": …, "skip": …} of {column: value or [values]}; only "skip" leaves out.

    Raises:
        InputError: an unknown column, a value to take that no row has, or no row left, with the filter that took the last.
    """
    left = rows
    for option, columns in filters.items():
        if not isinstance(columns or {}, Mapping):
            raise InputError(f"{option}: expected {{column: value or [values]}}, got {columns!r}")
        for column, wanted in (columns or {}).items():
            known(f"column of {file} in {option}", column, rows[0])
            values = {_text(value) for value in (wanted if isinstance(wanted, (list, tuple)) else [wanted])}
            if option != "skip":  # what is not there is left out already: "those without landmarks" may be none
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
    """A value of a config as a table has it: true is 1."""
    return str(int(value) if isinstance(value, bool) else value)


def _filled(row: Row, column: str, file: str) -> str:
    if not row[column]:
        told = {key: value for key, value in row.items() if value}
        raise InputError(f"{file}: expected a path in column {column!r} of every row, got none in {told}")
    return row[column]


def existing_folder(path: str | Path) -> Path:
    """`path` if a folder is there, else an InputError."""
    if not os.path.isdir(path):
        found = "is a file" if os.path.isfile(path) else "does not exist"
        raise InputError(f"expected a folder, got {str(path)!r}, which {found}")
    return Path(path)


def located(cell: str, folder: Path) -> str:
    """The absolute path of a cell, "" for an empty one: another process may work in another folder."""
    return os.path.abspath(folder / cell) if cell else ""


def pair_name(fixed: str, moving: str) -> str:
    """A name of two files, of theirs without endings."""
    return f"{stem(fixed)}-{stem(moving)}"


def stem(path: str | Path) -> str:
    """A file's name without its ending, of which .nii.gz is one."""
    return Path(Path(path).name.removesuffix(".gz")).stem
