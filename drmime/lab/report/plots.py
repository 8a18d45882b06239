"""Plots of errors as SVG, for a page that sets background and text colour.

Colours are those of Okabe and Ito, which colour-blind people can distinguish (https://jfly.uni-koeln.de/color/); methods also
differ by marker. The same rows give the same bytes.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drmime.errors import InputError
from drmime.lab.experiment.rows import Row
from drmime.lab.report.summary import grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = "osD^vPX*"  # 8, coprime to the 7 colours: 56 different pairs
INK = "#010203"  # placeholder for the text colour of the page
MIN_ERROR = 1e-6  # smaller errors are drawn here, since a logarithmic axis has no zero
WIDTH = 5.5  # inches of 72 SVG units
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "drmime",  # so that ids are the same each time
    "text.parse_math": False,  # "$" in a name does not start a formula
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
}


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by method, in order of first appearance."""
    return grouped(rows, lambda row: row.method)


def boxes(groups: Mapping[str, Sequence[Row]], threshold: float) -> str:
    """A box plot of the median rTRE of every method's rows, on a logarithmic axis, with the `threshold` as a line. -> SVG

    Beside each box are the number of its runs and the number of runs that failed or have no finite error, which are not in
    the box. "" if there is no finite error.

    Raises:
        InputError: matplotlib is missing.
    """
    errors = {method: [_error(row) for row in rows if _finite(row)] for method, rows in groups.items()}
    if not any(errors.values()):
        return ""

    def draw(axes: "Axes") -> None:
        places = range(len(groups), 0, -1)  # the first method on top
        drawn = axes.boxplot(
            [errors[method] or [math.nan] for method in groups],
            positions=list(places),
            orientation="horizontal",
            widths=0.55,
            patch_artist=True,
            flierprops={"markersize": 3, "markeredgecolor": INK, "alpha": 0.5},
            medianprops={"color": INK, "linewidth": 1.6},
            boxprops={"edgecolor": INK},
            whiskerprops={"color": INK},
            capprops={"color": INK},
        )
        for index, box in enumerate(drawn["boxes"]):
            box.set_facecolor(COLOURS[index % len(COLOURS)] + "B0")  # two thirds opaque
        for place, (method, rows) in zip(places, groups.items(), strict=True):
            axes.annotate(
                _counts(len(errors[method]), sum(map(_failed, rows))),
                (1.01, place),
                xycoords=("axes fraction", "data"),
                va="center",
                annotation_clip=False,
            )
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            f"aligned below {threshold:g}",
            (threshold, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
        )
        axes.set_yticks(list(places), [_short(method) for method in groups])
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
        axes.set_xlabel("median rTRE (share of the image's diagonal)")
        axes.grid(axis="x")

    return _svg(draw, height=1.0 + 0.42 * len(groups))


def times(groups: Mapping[str, Sequence[Row]], threshold: float) -> str:
    """Seconds against median rTRE, both logarithmic: a faint mark for each run, a large one at each method's medians. -> SVG

    Runs without time or finite error are omitted; "" if none is left.

    Raises:
        InputError: matplotlib is missing.
    """
    marks = {
        method: [(row.scores["seconds"], _error(row)) for row in rows if _finite(row) and _positive(row.scores.get("seconds"))]
        for method, rows in groups.items()
    }
    if not any(marks.values()):
        return ""

    def draw(axes: "Axes") -> None:
        for index, (method, places) in enumerate(marks.items()):
            if not places:
                continue
            look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
            seconds, errors = (list(values) for values in zip(*places, strict=True))
            axes.scatter(seconds, errors, s=12, alpha=0.45, linewidths=0, **look)
            middle = (np.median(seconds), np.median(errors))
            axes.scatter(*middle, s=110, edgecolors=INK, linewidths=1, zorder=3, label=_short(method), **look)
        axes.axhline(threshold, color=INK, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain_ticks(axes.xaxis)
        _plain_ticks(axes.yaxis)
        axes.set_xlabel("seconds of a registration")
        axes.set_ylabel("median rTRE")
        axes.grid()
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, borderaxespad=0, title="median of a method")

    return _svg(draw, height=max(3.0, 0.8 + 0.25 * len(groups)))


def _plain_ticks(axis: "Axis") -> None:
    """Plain numbers at the ticks of a logarithmic axis: one per decade, or three if it spans few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _svg(draw: Callable[["Axes"], None], height: float) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("the report's plots need matplotlib: pip install 'drmime[report]'") from error
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # matplotlib's font lacks some scripts; browsers do not
        figure = Figure(figsize=(WIDTH, height))
        draw(figure.subplots())
        page = io.StringIO()
        figure.savefig(
            page,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.05,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    svg = page.getvalue()
    svg = svg[svg.index("<svg") :]
    # HTML needs no namespaces, and the ids of parts would occur once for each plot
    svg = re.sub(r' (?:xmlns(?::xlink)?="[^"]*"|id="[a-z0-9]+_\d+")', "", svg)
    return svg.replace(INK, "currentColor")


def _error(row: Row) -> float:
    return max(row.scores["rtre_median"], MIN_ERROR)


def _finite(row: Row) -> bool:
    return not row.error and math.isfinite(row.scores.get("rtre_median", math.nan))


def _positive(value: float | None) -> bool:
    return value is not None and 0 < value < math.inf


def _failed(row: Row) -> bool:
    return bool(row.error) or not math.isfinite(row.scores.get("rtre_median", 0))


def _counts(drawn: int, failed: int) -> str:
    return f"{drawn} runs" + (f"\n+ {failed} failed" if failed else "")


def _short(name: str) -> str:
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= 32 else name[:31] + "…"
