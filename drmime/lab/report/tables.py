"""Tables as CSV, Markdown and LaTeX. The same rows in any order give the same bytes."""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from tabulate import DataRow, Line, TableFormat, tabulate

from drmime.image.io import write_text
from drmime.lab.experiment.rows import Row
from drmime.lab.report.summary import Table, Value, domains, measure, ordered, summary

__all__ = ["Table", "best", "domains", "latex", "markdown", "ordered", "printed", "summary", "write"]

SCORES = (
    *("naed", "tre_mean", "tre_median", "tre_max", "rtre_mean", "rtre_median", "rtre_max", "start_rtre_median", "robustness"),
    *("dice", "similarity", "probability", "expected_rtre", "seconds", "memory"),
)  # the columns of rows.csv, in this order; others follow by name
MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
LATEX = str.maketrans(
    {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {"[": "{[}", "*": "{*}"}  # LaTeX would read them as options of the line break before
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of cells that spreadsheets take for formulas
MEASURES = {"naed": "NAED", "dice": "1 - Dice"}
LATEX_MATH = {"±": r"\pm", "∞": r"\infty", " %": r"\,\%", " [": r"\;["}
BOOKTABS = TableFormat(
    lineabove=Line(r"\toprule", "", "", ""),
    linebelowheader=Line(r"\midrule", "", "", ""),
    linebetweenrows=None,
    linebelow=Line(r"\bottomrule", "", "", ""),
    headerrow=DataRow("", " & ", r" \\"),
    datarow=DataRow("", " & ", r" \\"),
    padding=0,
    with_header_hide=None,
)


@dataclass(frozen=True)
class Column:
    """How a column of `summary` is printed."""

    title: str
    form: str  # for `str.format` with the values of a line; the first is the main value
    more: str = ""  # appended if its values exist
    best: Callable[[Iterable[float]], float] | None = None
    least: float = -math.inf  # smaller values are printed as "< least"

    @property
    def about(self) -> str:
        return _fields(self.form)[0]


PRINTED = (
    Column("Pairs", "{pairs}"),
    Column("Runs", "{runs}"),
    Column("Failed", "{failed}"),
    Column("Not finite", "{not_finite}"),
    Column("Aligned", "{aligned:.1%}", best=max),
    Column("Silent", "{silent}"),
    Column("Alarms", "{alarms}"),
    Column("NAED", "{naed_mean:.4f}", " ± {naed_std:.4f}", best=min),
    Column("Median rTRE", "{rtre_median:.4f}", best=min),
    Column("Mean rTRE [95 % interval]", "{rtre_mean:.4f}", " [{rtre_low:.4f}, {rtre_high:.4f}]", best=min),
    Column("Robustness", "{robustness:.3f}", best=max),
    Column("Dice", "{dice:.3f}", best=max),
    Column("Seconds", "{seconds:.2f}", best=min),
    Column("Memory (MB)", "{memory:.0f}", best=min),
    Column("Compared", "{compared}"),
    Column("Left out", "{left_out}"),
    Column("Difference", "{difference:+.4f}"),
    Column("p (t-test)", "{t_test_p:.3f}", least=0.001),
    Column("p (Wilcoxon)", "{wilcoxon_p:.3f}", least=0.001),
)


class Number(float):
    """A number that is printed in scientific notation if it is large."""

    def __format__(self, form: str) -> str:
        return super().__format__(".1e" if 1e6 <= abs(self) < math.inf else form)


def printed(table: Table) -> list[list[str]]:
    """A summary as texts: the titles, then one line per method; "" without a value."""
    columns = [column for column in PRINTED if column.about in table.columns]
    body = [[str(line["method"]), *(_text(column, line) for column in columns)] for line in table.records()]
    return [["Method", *(column.title for column in columns)], *body]


def best(table: Table) -> list[list[bool]]:
    """Flags for the texts of `printed` that show the best value of their column; none if all texts are equal."""
    columns = [column for column in PRINTED if column.about in table.columns]
    lines = table.records()
    flags = [[False] * (1 + len(columns)) for _ in lines]
    for place, column in enumerate(columns, start=1):
        values = {line: value for line in range(len(lines)) if isinstance(value := lines[line][column.about], (int, float))}
        if column.best is None or not values:
            continue
        shown = {line: column.form.format(**{column.about: value}) for line, value in values.items()}
        top = column.form.format(**{column.about: column.best(values.values())})
        if len(set(shown.values())) > 1:
            for line, text in shown.items():
                flags[line][place] = text == top  # equal texts are equally good
    return flags


def write(rows: Iterable[Row], folder: Path, reference: str | None, threshold: float, methods: Sequence[str] = ()) -> None:
    """Write summary.csv, .md and .tex, domains.csv and rows.csv (every run with every score) into `folder`.

    `summary.csv` and `rows.csv` hold full precision, the others rounded numbers; the LaTeX table needs the package booktabs.
    Arguments are those of `summary`.

    Raises:
        InputError: as for `summary`, or the folder cannot be written.
    """
    rows = ordered(rows, methods)
    table, shares = summary(rows, reference, threshold, methods), domains(rows, threshold, methods)
    files = {
        "summary.csv": _csv(table),
        "summary.md": _page(table, shares, _legend(table, measure(rows), reference, threshold, largest_batch(rows))),
        "summary.tex": latex(table),
        "domains.csv": _csv(shares),
        "rows.csv": _csv(_plain(rows)),
    }
    for name, text in files.items():
        write_text(Path(folder) / name, text)


def markdown(table: Table) -> str:
    """A summary as a Markdown table, with the best values in bold."""
    titles, *body = printed(table)
    cells = [
        [_escaped(line[0]), *(f"**{text}**" if bold else text for text, bold in zip(line[1:], flags[1:], strict=True))]
        for line, flags in zip(body, best(table), strict=True)
    ]
    return _pipes(titles, cells)


def latex(table: Table) -> str:
    """A summary as a LaTeX tabular with the rules of booktabs and the best values in bold."""
    titles, *body = printed(table)
    cells = [
        [_line(line[0]).translate(LATEX), *map(_formula, line[1:], flags[1:])]
        for line, flags in zip(body, best(table), strict=True)
    ]
    inner = tabulate(cells, [title.translate(LATEX) for title in titles], BOOKTABS, disable_numparse=True)
    return f"% \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}\n{inner}\n\\end{{tabular}}\n"


def _fields(form: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(form) if name]


def _text(column: Column, line: Mapping[str, Value]) -> str:
    value = line[column.about]
    if value is None:
        return ""
    if isinstance(value, (int, float)) and value < column.least:
        return f"< {column.least:g}"
    more = column.more if all(line.get(name) is not None for name in _fields(column.more)) else ""
    numbers = {name: Number(number) if isinstance(number, float) else number for name, number in line.items()}
    return (column.form + more).format(**numbers).replace("inf", "∞").replace("%", " %")


def _legend(table: Table, measured: str, reference: str | None, threshold: float, batch: int) -> str:
    words = {
        "aligned": f"Aligned: median rTRE of a run below {threshold:g}.",
        "silent": "Silent: not aligned, but said to be. Alarms: aligned, but said to be doubtful or failed.",
        "naed_mean": "NAED: mean ± standard deviation over runs.",
        "rtre_mean": "rTRE: of the runs' medians, the mean with a 95 % bootstrap interval.",
        "seconds": f"Seconds: of pairs registered together, up to {batch}, the time of all divided by their number."
        if batch > 1
        else "",
        "compared": f"Difference, p: {MEASURES[measured]} against {_escaped(reference or '')}, pair by pair, mean over seeds.",
    }
    return " ".join([*(text for name, text in words.items() if text and name in table.columns), "Bold: the best."])


def largest_batch(rows: Iterable[Row]) -> int:
    """The largest number of pairs that were registered together."""
    return max((row.batch for row in rows if not row.error), default=1)


def _plain(rows: Sequence[Row]) -> Table:
    names = {name for row in rows for name in row.scores}
    scores = (*(name for name in SCORES if name in names), *sorted(names.difference(SCORES)))
    lines: list[tuple[Value, ...]] = []
    together = largest_batch(rows) > 1
    for row in rows:
        numbers = [row.scores.get(name) for name in scores]
        remarks = [_line(row.stop), _line("; ".join(row.notes))]
        batch = [row.batch] if together else []
        lines.append((row.method, row.pair, row.seed, row.domain, _line(row.error), row.verdict, *numbers, *batch, *remarks))
    columns = (*scores, "batch") if together else scores
    return Table(("method", "pair", "seed", "domain", "error", "verdict", *columns, "stop", "notes"), tuple(lines))


def _csv(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, line) for line in (table.columns, *table.lines)])
    return text.getvalue()


def _cell(value: Value) -> Value:
    """Prefix text that a spreadsheet would take for a formula with a quote, so that it is shown as text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _page(table: Table, shares: Table, legend: str) -> str:
    parts = [markdown(table), legend]
    if shares.lines:
        cells = [[_escaped(str(value or "")) for value in line] for line in shares.lines]
        parts += ["Aligned runs by domain:", _pipes([_escaped(name) for name in shares.columns], cells)]
    return "\n\n".join(parts) + "\n"


def _pipes(titles: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    align = ("left", *["right"] * (len(titles) - 1))
    return tabulate(cells, titles, "pipe", disable_numparse=True, colalign=align if cells else None)


def _formula(text: str, bold: bool) -> str:
    for mark, command in LATEX_MATH.items():
        text = text.replace(mark, command)
    return "" if not text else f"$\\mathbf{{{text}}}$" if bold else f"${text}$"


def _escaped(text: str) -> str:
    return MARKDOWN.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    """`text` on one line, with unprintable characters replaced by spaces."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
