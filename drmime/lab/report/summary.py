"""Summary tables of rows: one line per method, and one per domain.

Rows are sorted before anything is computed, so that the same rows in any order give exactly the same table.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from drmime.lab.evaluate import compare, interval, success_rate
from drmime.lab.experiment.rows import Row
from drmime.registry import known

Value = str | float | None

LANDMARKS = ("rtre_median", "naed")  # scores by landmarks
AVERAGED = ("naed", "rtre_median", "robustness", "dice")
ALWAYS = ("method", "pairs", "runs", "failed")
COLUMNS = (
    *(*ALWAYS, "not_finite", "aligned", "silent", "alarms", "naed_mean", "naed_std"),
    *("rtre_median", "rtre_mean", "rtre_low", "rtre_high"),
    *("robustness", "dice", "seconds", "memory", "compared", "left_out", "difference", "t_test_p", "wilcoxon_p"),
)


@dataclass(frozen=True)
class Table:
    """Column names and lines of values; None if a line has no value."""

    columns: tuple[str, ...]
    lines: tuple[tuple[Value, ...], ...]

    def records(self) -> list[dict[str, Value]]:
        """The lines as dicts. Column names must be unique."""
        return [dict(zip(self.columns, line, strict=True)) for line in self.lines]


def ordered(rows: Iterable[Row], methods: Sequence[str] = ()) -> list[Row]:
    """Rows sorted by method (in the order of `methods`, then by name), pair and seed."""
    place = {method: index for index, method in enumerate(methods)}
    return sorted(rows, key=lambda row: (place.get(row.method, len(place)), row.method, row.pair, row.seed))


def summary(rows: Iterable[Row], reference: str | None, threshold: float, methods: Sequence[str] = ()) -> Table:
    """One line of numbers per method; columns without any value are omitted.

    | column | meaning |
    |---|---|
    | pairs, runs, failed | counts; failed runs enter no score but `aligned` |
    | not_finite | runs with an infinite score, which is excluded from means; omitted if there are none |
    | aligned | share of runs with rtre_median below `threshold`, among pairs with landmarks; failed ones count as not below |
    | silent | runs that are not aligned although the method's verdict is "aligned"; omitted without verdicts |
    | alarms | runs that are aligned although the method's verdict is "doubtful" or "failed" |
    | naed_mean, naed_std | mean and sample standard deviation (n - 1) over runs |
    | rtre_median, rtre_mean | median (with infinite ones) and mean over runs of rtre_median: ANHIR's MMrTRE and AMrTRE |
    | rtre_low, rtre_high | 95 % bootstrap interval of rtre_mean, see `evaluate.interval` |
    | robustness, dice | means over runs |
    | seconds, memory | median time; largest memory, in MB that a registration added to its process |
    | compared, left_out | pairs compared with `reference` by means over seeds; pairs where either mean is not finite |
    | difference, t_test_p, wilcoxon_p | `evaluate.compare` with the reference, of `measure(rows)` |

    A pair that could not be read has no landmarks: it counts as failed but does not enter `aligned`.

    Raises:
        InputError: there are rows, but `reference` is neither a method of them nor in `methods`.
    """
    rows = ordered(rows, methods)
    groups = grouped(rows, lambda row: row.method)
    if reference is not None and rows:
        known("reference method", reference, {*groups, *methods})
    measured = measure(rows)
    comparable = {row.pair for row in rows if _value(row, measured) is not None}
    with_landmarks = _with_landmarks(rows)
    lines = []
    for method, own in groups.items():
        errors = [_error(row, "rtre_median") for row in own if row.pair in with_landmarks]
        line = {"method": method, **_counts(own), **_averages(own), "aligned": success_rate(errors, threshold)}
        line |= _verdicts([row for row in own if row.verdict and row.pair in with_landmarks], threshold)
        if reference in groups and method != reference:
            line |= _against([row for row in groups[reference] if row.pair in comparable], own, measured)
        lines.append({name: None if value != value else value for name, value in line.items()})  # NaN becomes None
    columns = tuple(name for name in COLUMNS if name in ALWAYS or any(_is_informative(name, line.get(name)) for line in lines))
    return Table(columns, tuple(tuple(line.get(name) for name in columns) for line in lines))


def measure(rows: Iterable[Row]) -> str:
    """The score by which methods are compared: naed, as in DRMIME's tables, or dice (as 1 - dice) if no row has naed."""
    return "naed" if any(_value(row, "naed") is not None for row in rows) else "dice"


def domains(rows: Iterable[Row], threshold: float, methods: Sequence[str] = ()) -> Table:
    """Aligned runs as "k/n (p %)": one line per domain and one for all, one column per method; see `aligned` in `summary`.

    There are no lines without landmarks; None if a method has no run.
    """
    rows = ordered(rows, methods)
    names = tuple(grouped(rows, lambda row: row.method))
    with_landmarks = _with_landmarks(rows)
    rows = [row for row in rows if row.pair in with_landmarks]
    parts = grouped(rows, lambda row: row.domain or "other") if any(row.domain for row in rows) else {}
    lines = []
    for domain, part in [*sorted(parts.items()), *([("all", rows)] if rows else [])]:
        own = grouped(part, lambda row: row.method)
        lines.append((domain, *(_share(own.get(name, []), threshold) for name in names)))
    return Table(("domain", *names), tuple(lines))


def grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Rows by `key`, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _with_landmarks(rows: Sequence[Row]) -> set[str]:
    """Names of the pairs with landmarks; failed runs state this too."""
    return {row.pair for row in rows if row.landmarks or any(_value(row, name) is not None for name in LANDMARKS)}


def _value(row: Row, name: str) -> float | None:
    value = row.scores.get(name)
    return None if value is None else math.inf if math.isnan(value) else float(value)


def _error(row: Row, name: str) -> float:
    """The error of a run by a score; infinite if it failed or lacks the score."""
    value = None if row.error else _value(row, name)
    if value is None:
        return math.inf
    return 1 - value if name == "dice" else value


def _counts(rows: Sequence[Row]) -> dict[str, Value]:
    done = [row for row in rows if not row.error]
    infinite = [row for row in done if any(_value(row, name) in (math.inf, -math.inf) for name in AVERAGED)]
    failed = len(rows) - len(done)
    return {"pairs": len({row.pair for row in rows}), "runs": len(rows), "failed": failed, "not_finite": len(infinite)}


def _verdicts(rows: Sequence[Row], threshold: float) -> dict[str, Value]:
    """Counts of wrong verdicts; empty without verdicts."""
    if not rows:
        return {}
    said = np.array([row.verdict == "aligned" for row in rows])
    right = np.array([_error(row, "rtre_median") < threshold for row in rows])
    return {"silent": int((said & ~right).sum()), "alarms": int((~said & right).sum())}


def _averages(rows: Sequence[Row]) -> dict[str, Value]:
    """Means, medians and deviations over runs; NaN without values, infinite on overflow."""
    done = [row for row in rows if not row.error]
    values = {
        name: np.array([value for row in done if (value := _value(row, name)) is not None])
        for name in (*AVERAGED, "seconds", "memory")
    }
    finite = {name: array[np.isfinite(array)] for name, array in values.items()}
    median = {name: float(np.median(values[name])) if values[name].size else math.nan for name in ("rtre_median", "seconds")}
    with np.errstate(over="ignore", invalid="ignore"):
        mean = {name: float(np.mean(array)) if array.size else math.nan for name, array in finite.items()}
        deviation = float(np.std(finite["naed"], ddof=1)) if finite["naed"].size > 1 else math.nan
        low, high = interval(finite["rtre_median"])
    return {
        **{"naed_mean": mean["naed"], "naed_std": deviation},
        **{"rtre_median": median["rtre_median"], "rtre_mean": mean["rtre_median"], "rtre_low": low, "rtre_high": high},
        **{"robustness": mean["robustness"], "dice": mean["dice"]},
        **{"seconds": median["seconds"], "memory": float(values["memory"].max()) if values["memory"].size else math.nan},
    }


def _against(reference: Sequence[Row], own: Sequence[Row], measured: str) -> dict[str, Value]:
    """Compare pairs by the mean over the seeds that both methods have: runs that differ by seed only are not independent."""
    theirs = {(row.pair, row.seed): _error(row, measured) for row in reference}
    both = grouped([row for row in own if (row.pair, row.seed) in theirs], lambda row: row.pair)
    mine = [np.mean([_error(row, measured) for row in rows]) for rows in both.values()]
    found = compare(mine, [np.mean([theirs[row.pair, row.seed] for row in rows]) for rows in both.values()])
    return {
        **{"compared": found.count, "left_out": found.left_out, "difference": found.mean_difference},
        **{"t_test_p": found.t_test, "wilcoxon_p": found.wilcoxon},
    }


def _is_informative(name: str, value: Value) -> bool:
    return value is not None and not (name in ("not_finite", "left_out") and value == 0)


def _share(rows: Sequence[Row], threshold: float) -> str | None:
    aligned = sum(_error(row, "rtre_median") < threshold for row in rows)
    return f"{aligned}/{len(rows)} ({100 * aligned / len(rows):.0f} %)" if rows else None
