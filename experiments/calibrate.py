"""Fits the verdict's model to the figures that `verdicts.py` measured, and cross-validates it.

    python experiments/calibrate.py --rows runs/verdicts                  # figures; nothing is written
    python experiments/calibrate.py --rows runs/verdicts --write          # writes drmime/verdict/calibration.json
    python experiments/calibrate.py --rows runs/verdicts --plot experiments/results/verdict/reliability.png

The models of the cross-validation have seen no image of the data sets that they are tested on. A result is right if its median
error is below 1 % of the moving image's diagonal.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, special

from drmime.verdict import calibration as model
from drmime.verdict.judge import LIKELY, REPEATED, UNLIKELY

RIGHT, WRONG = 0.01, 0.03  # median errors, shares of the moving image's diagonal
BETWEEN = (0.002, 0.05)  # errors of which the expected error is tested
SMALLEST = 5e-4  # errors below are taken as this: landmarks are not more precise
FOLDS = 10
RIDGE = 1.0  # of the weights of standardised figures; 0.1 to 10 give the same counts
SCALES: dict[str, dict[str, Any]] = {  # how a figure enters, see `drmime.verdict.calibration.Scale`
    "in_place": {"low": 0, "high": 1, "unknown": 0, "logarithm": False, "larger": True},
    "in_place_coarse": {"low": 0, "high": 1, "unknown": 0, "logarithm": False, "larger": True},
    "residual": {"low": 5e-4, "high": 0.06, "unknown": 0.06, "logarithm": True, "larger": False},
    "displaced": {"low": 5e-4, "high": 0.06, "unknown": 0.06, "logarithm": True, "larger": False},
    "peak_ratio": {"low": 0.3, "high": 10, "unknown": 1, "logarithm": True, "larger": True},
    "information": {"low": 0.3, "high": 30, "unknown": 0.3, "logarithm": True, "larger": True},
    "rival": {"low": 0, "high": 1.2, "unknown": 0.3, "logarithm": False, "larger": False},
    "shifted": {"low": 0, "high": 1.2, "unknown": 0, "logarithm": False, "larger": False},
    "overlap": {"low": 0.02, "high": 1, "unknown": 0.02, "logarithm": True, "larger": True},
    "distortion": {"low": 1, "high": 3, "unknown": 1, "logarithm": True, "larger": False},
}
# "information" gets no weight beside these, "shifted" and "overlap" change no count
OF_PROBABILITY = ("in_place", "in_place_coarse", "residual", "peak_ratio", "rival", "distortion")
OF_ERROR = ("displaced", "residual")


@dataclass(frozen=True)
class Rows:
    """Registrations with known errors."""

    figures: list[dict[str, float]]
    errors: np.ndarray  # shape: (N,), shares of the moving image's diagonal; infinite if the images do not belong together
    belongs: np.ndarray  # shape: (N,), bool
    hard: np.ndarray  # shape: (N,), bool: doubtful whatever the probability
    kinds: np.ndarray
    datasets: np.ndarray  # shape: (N, 2), of the fixed and the moving image
    names: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return self.errors < RIGHT

    def part(self, chosen: np.ndarray) -> "Rows":
        arrays = (part[chosen] for part in (self.errors, self.belongs, self.hard, self.kinds, self.datasets, self.names))
        return Rows([self.figures[n] for n in np.flatnonzero(chosen)], *arrays)


def read(folder: Path) -> Rows:
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.figures.json"))]
    figures = [{name: math.nan if value is None else value for name, value in row["figures"].items()} for row in found]
    errors = np.array([math.inf if row["error"] is None else row["error"] for row in found])
    belongs, hard = (np.array([bool(row[key]) for row in found]) for key in ("belongs", "hard"))
    datasets = np.array([(row["datasets"][0], row["datasets"][-1]) for row in found])
    names = np.array([f"{row['kind']}/{row['pair']}" for row in found])
    return Rows(figures, errors, belongs, hard, np.array([row["kind"] for row in found]), datasets, names)


def fitted(rows: Rows) -> dict[str, Any]:
    """The contents of `calibration.json`."""
    scales = {name: model.Scale(**scale, usual=0.0) for name, scale in SCALES.items()}
    columns = {name: np.array([scale(row[name]) for row in rows.figures]) for name, scale in scales.items()}
    known = rows.belongs & np.isfinite(rows.errors)
    logarithms = np.log(np.maximum(rows.errors[known], SMALLEST))
    data = {name: columns[name][known] for name in OF_ERROR}
    weights = linear(data, lambda values: values - logarithms, robust, dict.fromkeys(OF_ERROR, 1.0))
    error = dict(zip((*OF_ERROR, "intercept"), weights, strict=True))
    expected = sum(error[name] * columns[name][known] for name in OF_ERROR) + error["intercept"]
    signs = np.where(rows.right, 1.0, -1.0)
    better = {name: 1.0 if SCALES[name]["larger"] else -1.0 for name in OF_PROBABILITY}
    weights = linear({name: columns[name] for name in OF_PROBABILITY}, lambda values: signs * values, logistic, better)
    usual = {}
    for name, scale in SCALES.items():
        values = np.array([row[name] for row, right in zip(rows.figures, rows.right, strict=True) if right])
        usual[name] = float(f"{np.quantile(values[np.isfinite(values)], 0.05 if scale['larger'] else 0.95):.3g}")
    return {
        "figures": {name: scale | {"usual": usual[name]} for name, scale in SCALES.items()},
        "probability": dict(zip((*OF_PROBABILITY, "intercept"), weights, strict=True)),
        "error": error,
        "spread": [float(value) for value in np.quantile(logarithms - expected, [0.05, 0.95])],
    }


def linear(
    columns: Mapping[str, np.ndarray],
    margin: Callable[[np.ndarray], np.ndarray],
    loss: Callable[[np.ndarray], np.ndarray],
    sign: Mapping[str, float],
) -> list[float]:
    """Weights and intercept that minimise the summed loss of `margin` of the linear function, plus the ridge.

    A weight has the `sign` of its figure, or is 0: where figures say nearly the same, a fit without this rule can give one of
    them a weight against its meaning.
    """
    data = np.stack(list(columns.values()), 1)
    centre, spread = data.mean(0), data.std(0) + 1e-9
    data = np.c_[(data - centre) / spread, np.ones(len(data))]

    def total(weights: np.ndarray) -> float:
        return float(loss(margin(data @ weights)).sum() + 0.5 * RIDGE * np.square(weights[:-1]).sum())

    bounds = [(0, None) if sign[name] > 0 else (None, 0) for name in columns]
    weights = optimize.minimize(total, np.zeros(data.shape[1]), method="L-BFGS-B", bounds=[*bounds, (None, None)]).x
    own = weights[:-1] / spread
    return [round(float(value), 4) for value in (*own, weights[-1] - own @ centre)]


def logistic(margins: np.ndarray) -> np.ndarray:
    return -special.log_expit(margins)


def robust(off: np.ndarray) -> np.ndarray:
    """Nearly the absolute value: the fit is a median."""
    return np.sqrt(np.square(off) + 0.09)


def folds(rows: Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks of the rows to fit and to test; no row that is fitted has a data set of those that are tested.

    Data sets are dealt to parts of about equal numbers of rows. A row of images of two data sets belongs to a pair of parts.
    """
    names, counts = np.unique(rows.datasets[:, 0], return_counts=True)
    places: dict[str, int] = {}
    sizes = np.zeros(FOLDS)
    for place in np.argsort(-counts):
        places[names[place]] = int(sizes.argmin())
        sizes[places[names[place]]] += counts[place]
    parts = np.sort([[places.get(name, -1) for name in both] for both in rows.datasets], 1)  # -1: never a fixed image
    for pair in np.unique(parts, axis=0):
        yield ~np.isin(parts, pair).any(1), (parts == pair).all(1)


def cross_validated(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Probability and expected error (median, low, high) of each row, by a model that has not seen its data set."""
    probability, expected = np.zeros(len(rows.errors)), np.zeros((len(rows.errors), 3))
    for known, test in folds(rows):
        fit = model.Calibration.of(fitted(rows.part(known)))
        for number in np.flatnonzero(test):
            probability[number] = fit.aligned(rows.figures[number])
            expected[number] = fit.expected(rows.figures[number])
    return probability, expected


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal width."""
    bins = np.minimum((probability * 10).astype(int), 9)
    return sum(
        float(abs(probability[bins == n].mean() - right[bins == n].mean()) * (bins == n).mean()) for n in np.unique(bins)
    )


def report(rows: Rows, probability: np.ndarray, expected: np.ndarray) -> None:
    shifted = np.array([row["shifted"] for row in rows.figures])
    flagged, failed = (probability < LIKELY) | rows.hard | (shifted >= REPEATED), probability < UNLIKELY
    wrong, strangers = rows.belongs & (rows.errors > WRONG), ~rows.belongs
    searched = ~np.char.endswith(rows.kinds, "unsearched")
    print(f"{len(rows.errors)} registrations of {len(np.unique(rows.datasets))} data sets, {rows.right.sum()} of them right")
    for what, chosen, called in (
        ("more than 3 % off, doubtful or failed", wrong, flagged),
        ("the same, of searches", wrong & searched, flagged),
        ("right, doubtful or failed", rows.right, flagged),
        ("right, failed", rows.right, failed),
        ("do not belong together, doubtful or failed", strangers, flagged),
        ("do not belong together, failed", strangers, failed),
    ):
        print(f"{what}: {called[chosen].sum()} of {chosen.sum()} ({called[chosen].mean():.1%})")
    print(f"expected calibration error of the probability: {calibration_error(probability, rows.right):.3f}")
    tested = rows.belongs & (rows.errors >= BETWEEN[0]) & (rows.errors <= BETWEEN[1])
    for what, chosen in (("", tested), (" (searches)", tested & searched)):
        near = np.abs(np.log(expected[chosen, 0] / rows.errors[chosen])) <= math.log(2)
        inside = (rows.errors[chosen] >= expected[chosen, 1]) & (rows.errors[chosen] <= expected[chosen, 2])
        print(f"expected error within a factor of 2, errors of 0.2 to 5 %{what}: {near.mean():.1%} of {chosen.sum()}")
        print(f"  in the 90 % interval: {inside.mean():.1%}")
    print("figure: chance that a right result has a better one than a result more than 3 % off")
    for name, scale in SCALES.items():
        values = np.array([model.Scale(**scale, usual=0.0)(row[name]) for row in rows.figures]) * (1 if scale["larger"] else -1)
        ours, theirs = values[rows.right, None], values[rows.errors > WRONG]
        print(f"  {name}: {np.mean(ours > theirs) + np.mean(ours == theirs) / 2:.3f}")
    print("kind: right, flagged of these; more than 3 % off, flagged of these")
    for kind in np.unique(rows.kinds):
        own, off = rows.right & (rows.kinds == kind), (rows.errors > WRONG) & (rows.kinds == kind)
        print(f"  {kind}: {own.sum()}, {flagged[own].sum()}; {off.sum()}, {flagged[off].sum()}")
    for number in np.argsort(probability):
        odd = flagged[number] if rows.right[number] else not flagged[number] and rows.errors[number] > WRONG
        if odd:
            figures = {name: float(f"{value:.3g}") for name, value in rows.figures[number].items()}
            print(f"  {rows.names[number]}: error {rows.errors[number]:.2%}, probability {probability[number]:.2f}, {figures}")


def plot(probability: np.ndarray, right: np.ndarray, path: Path) -> None:
    """A reliability plot: the share of right results by probability, and how many results there are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    edges = np.linspace(0, 1, 11)
    bins = np.minimum((probability * 10).astype(int), 9)
    used = np.unique(bins)
    means, shares = ([float(values[bins == n].mean()) for n in used] for values in (probability, right))
    above.plot([0, 1], [0, 1], color="gray", linewidth=1)
    above.plot(means, shares, "o-", color="#0072B2")
    above.set_ylabel("share of right results")
    below.hist(probability, edges, color="#0072B2")
    below.set_yscale("log")
    below.set_ylabel("results")
    below.set_xlabel("probability, cross-validated")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    rows = read(args.rows)
    probability, expected = cross_validated(rows)
    report(rows, probability, expected)
    if args.plot:
        plot(probability, rows.right, args.plot)
    if args.write:
        path = Path(model.__file__).with_suffix(".json")
        path.write_text(json.dumps(fitted(rows), indent=1) + "\n", encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
