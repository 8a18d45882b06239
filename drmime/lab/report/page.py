"""The report as one HTML page: tables, plots, and a viewer that compares the images of every run.

The page is one file that refers to no other. It is text and SVG; the pictures, landmarks, curves and settings of each run are
stored as data, which the script of the page reads when the run is opened.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drmime.errors import InputError
from drmime.image.io import write_text
from drmime.lab.experiment.rows import Row
from drmime.lab.report import plots
from drmime.lab.report.summary import measure
from drmime.lab.report.tables import MEASURES, best, domains, largest_batch, ordered, printed, summary

HERE = Path(__file__).parent
TYPES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}
DIGITS = 5  # significant digits of curves and landmarks; finer than a screen


@dataclass(frozen=True)
class Column:
    """A column of the table of all runs."""

    key: str  # key in the script's data; for a score, its name in `Row.scores`
    label: str
    hint: str
    number: bool = False


COLUMNS = (
    Column("status", "Status", "aligned: median rTRE below the threshold; unknown: no landmarks"),
    Column("verdict", "Verdict", "what the method says of its result: aligned, doubtful or failed"),
    Column("pair", "Pair", "the two images"),
    Column("method", "Method", "the registration method"),
    Column("seed", "Seed", "the seed of random numbers", number=True),
    Column("domain", "Domain", "the kind of images"),
    Column("rtre_median", "Median rTRE", "median landmark error as a share of the moving image's diagonal", number=True),
    Column("probability", "Probability", "that the median rTRE is below 0.01, as the method says", number=True),
    Column("expected_rtre", "Expected rTRE", "the median rTRE that the method expects", number=True),
    Column("naed", "NAED", "mean landmark error where every side of the image is 1", number=True),
    Column("tre_median", "Median TRE", "median landmark error in units of the moving image's spacing", number=True),
    Column("dice", "Dice", "Dice overlap of label maps, mean over labels", number=True),
    Column("seconds", "Seconds", "time of the registration alone", number=True),
    Column("remark", "Remark", "the error, or why the run ended and what it noted"),
)
SCORES = tuple(column.key for column in COLUMNS if column.number and column.key != "seed")
OVERVIEW = (
    "Summary",
    "One line per method. NAED is the mean landmark error where every side of the image is 1; rTRE is the landmark error as a "
    "share of the moving image's diagonal; a run is aligned if the median rTRE of its landmarks is below {threshold:g}; failed "
    "runs count as not aligned. Intervals are bootstrapped; the best value of a column is bold.{compared}",
)
COMPARED = " Differences and p-values are of {measure} against {reference}, pair by pair, each the mean over its seeds."
BY_DOMAIN = ("Aligned by domain", "Runs whose median rTRE is below {threshold:g}, of all runs on pairs with landmarks.")
BOXES = (
    "Median rTRE of every run. Boxes span the quartiles, with a line at the median; whiskers reach to the last run within 1.5 "
    "times the interquartile range. Failed runs are not in the boxes; their number is given beside them."
)
TIMES = "Time against error: a small mark for every run, a large mark at the medians of each method."


def write(
    rows: Sequence[Row], folder: Path, title: str, reference: str | None, threshold: float, methods: Sequence[str] = ()
) -> Path:
    """Write `folder`/report.html and return its path. The same rows, in any order, give the same bytes.

    Args:
        rows: their pictures are files below `folder`; missing pictures are omitted.
        title: the heading of the page.
        reference: the method that the others are compared with, or None.
        threshold: a run is aligned if the median rTRE of its landmarks is below it.
        methods: the order of methods; others follow by name.

    Raises:
        InputError: a package is missing, no row is of the method `reference`, or the page cannot be written.
    """
    html = _page(ordered(rows, methods), folder, title, reference, threshold, methods)
    path = folder / "report.html"
    write_text(path, html)
    return path


def _page(rows: list[Row], folder: Path, title: str, reference: str | None, threshold: float, methods: Sequence[str]) -> str:
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise InputError("the report's page needs Jinja: pip install 'drmime[report]'") from error
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    groups = plots.by_method(rows)
    lines = [_line(row, threshold) for row in rows]
    pictures: dict[str, int] = {}  # data URI of a picture: its number; methods share the fixed picture
    return environment.get_template("page.html").render(
        title=title,
        facts=_facts(rows),
        tables=_tables(rows, reference, threshold, methods),
        plots=[
            (caption, Markup(plot))  # noqa: S704 - drawn here, with names escaped
            for caption, plot in ((BOXES, plots.boxes(groups, threshold)), (TIMES, plots.times(groups, threshold)))
            if plot
        ],
        choices={name: sorted({line[name] for line in lines} - {""}) for name in ("method", "domain", "status", "verdict")},
        columns=[column for column in COLUMNS if any(line[column.key] not in (None, "") for line in lines)],
        rows=lines,
        details=[_details(row, folder, pictures) for row in rows],
        pictures=pictures,  # filled by `_details` above
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - a file of this package
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),  # noqa: S704 - likewise
    )


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    """Facts on all rows, as texts by name."""
    versions: dict[str, set[str]] = {}
    for row in rows:
        for name, version in row.versions.items():
            versions.setdefault(name, set()).add(str(version))
    batch = largest_batch(rows)
    facts = {
        "runs": str(len(rows)),
        "failed": str(sum(bool(row.error) for row in rows)),
        "pairs": str(len({row.pair for row in rows})),
        "seconds": f"of pairs registered together, the time of up to {batch} pairs, divided by their number"
        if batch > 1
        else "",
        "device": ", ".join(sorted({row.device for row in rows} - {""})),
        **{name: ", ".join(sorted(found)) for name, found in sorted(versions.items())},
    }
    return {name: value for name, value in facts.items() if value}


def _tables(rows: Sequence[Row], reference: str | None, threshold: float, methods: Sequence[str]) -> list[dict[str, Any]]:
    """All tables that have lines, for the template: heading, remark, columns, and lines of texts, each with a flag whether it
    is the best of its column."""
    overview = summary(rows, reference, threshold, methods)
    titles, *texts = (list(map(_on_two_lines, line)) for line in printed(overview))
    by_domain = domains(rows, threshold, methods)
    compared = COMPARED.format(reference=reference, measure=MEASURES[measure(rows)]) if reference is not None else ""
    tables = [
        (OVERVIEW, titles, [list(zip(*line, strict=True)) for line in zip(texts, best(overview), strict=True)]),
        (BY_DOMAIN, by_domain.columns, [[(text, False) for text in line] for line in by_domain.lines]),
    ]
    return [
        {
            "heading": heading,
            "remark": remark.format(threshold=threshold, compared=compared),
            "columns": columns,
            "lines": lines,
        }
        for (heading, remark), columns, lines in tables
        if lines
    ]


def _on_two_lines(text: str) -> str:
    """Break the line between a mean and its deviation or interval, to keep the table narrow."""
    return text.replace(" [", "\n[").replace(" ±", "\n±")


def _line(row: Row, threshold: float) -> dict[str, Any]:
    """The line of a row in the table of all runs."""
    return {
        "status": status(row, threshold),
        "verdict": row.verdict,
        "pair": row.pair,
        "method": row.method,
        "seed": row.seed,
        "domain": row.domain,
        "remark": row.error or " ".join([row.stop, *row.notes]).strip(),
        **{name: _plain(row.scores.get(name)) for name in SCORES},
    }


def status(row: Row, threshold: float) -> str:
    """The status of a run: failed, aligned, not aligned, or unknown without landmarks."""
    if row.error:
        return "failed"
    if "rtre_median" not in row.scores:
        return "unknown"
    return "aligned" if row.scores["rtre_median"] < threshold else "not aligned"


def _details(row: Row, folder: Path, pictures: dict[str, int]) -> dict[str, Any]:
    """The data of a row for the viewer; new pictures are added to `pictures`."""
    found = {name: _picture(folder, str(file)) for name, file in row.pictures.items()}
    return {
        "error": row.error,
        "stop": row.stop,
        "notes": [str(note) for note in row.notes],
        "scores": _plain(row.scores),
        "settings": _plain(row.settings),
        "curves": _plain(row.curves, DIGITS),
        "points": _plain(row.points, DIGITS),
        "pictures": {name: pictures.setdefault(text, len(pictures)) for name, text in found.items() if text},
    }


def _picture(folder: Path, file: str) -> str:
    """A picture as a data URI; "" if there is none of that name below `folder`."""
    try:
        path = (folder / file).resolve()
        if path.suffix.lower() not in TYPES or not path.is_relative_to(folder.resolve()):
            return ""
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except (OSError, ValueError):  # the file does not exist, or its name is invalid
        return ""
    return f"data:image/{TYPES[path.suffix.lower()]};base64,{data}"


def _plain(value: Any, digits: int | None = None) -> Any:
    """Convert a value for JSON: infinity becomes the text that JavaScript's Number() reads, NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item, digits) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, digits) for item in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if not isinstance(value, float):
        return str(value)
    if math.isfinite(value):
        return value if digits is None else float(f"{value:.{digits}g}")
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
