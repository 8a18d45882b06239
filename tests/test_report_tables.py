"""Tables of made-up rows whose every number is known, and files that other programs read back."""

import csv
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from drmime.errors import InputError
from drmime.lab.evaluate import compare, interval
from drmime.lab.experiment.rows import Row

tiny.needs_report()
from drmime.lab.report.summary import measure  # noqa: E402 - needs them
from drmime.lab.report.tables import (  # noqa: E402
    Table,
    best,
    domains,
    latex,
    markdown,
    ordered,
    printed,
    summary,
    write,
)

FILES = ["domains.csv", "rows.csv", "summary.csv", "summary.md", "summary.tex"]
NASTY = [
    "a|b",
    r"\|",
    "*x*",
    "[0]",
    "under_score",
    "50 % & more",
    "#1 {a} ~ ^ $x$",
    "<b>",
    "`code`",
    "new\nline",
    "é→",
    "\ud800",
]


def row(
    method: str, pair: str, rtre: float | None = None, seed: int = 0, domain: str = "", error: str = "", **more: Any
) -> Row:
    """A run whose NAED is twice its median rTRE."""
    scores = {} if rtre is None else {"naed": 2 * rtre, "rtre_median": rtre, "robustness": 0.5}
    return Row(method, pair, seed, domain, error, scores=scores | more)


def made() -> list[Row]:
    """Three methods on six pairs of two domains with two seeds; the third fails on one pair and finds nothing on another."""
    rng = np.random.default_rng(0)
    rows = []
    for method, size in (("mine", 1), ("other", 1.5), ("third", 2)):
        for number in range(6):
            for seed in range(2):
                place = {"pair": f"p{number}", "seed": seed, "domain": "retina" if number % 2 else "histology"}
                error = np.inf if (method, number) == ("third", 5) else float(size * rng.gamma(2, 0.003))
                cost = {"seconds": 3 * size, "memory": 500.0 + 10 * number, "similarity": 0.3}
                failed = (method, number) == ("third", 4)
                rows.append(row(method, error="crashed", **place) if failed else row(method, rtre=error, **place, **cost))
    return rows


def by_method(table: Table) -> dict[str, dict[str, Any]]:
    return {str(line["method"]): line for line in table.records()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- numbers


def test_every_number_worked_out_by_hand() -> None:
    rows = [
        row("a", "p", 0.01, seconds=1.0, memory=100.0, dice=0.8),
        row("a", "q", 0.02, seconds=2.0, memory=300.0, dice=0.6),
        row("a", "q", 0.06, seed=1, seconds=9.0, memory=200.0),
    ]
    line = summary(rows, None, 0.02).records()[0]
    low, high = interval([0.01, 0.02, 0.06])
    expected = {
        **{"method": "a", "pairs": 2, "runs": 3, "failed": 0, "aligned": 1 / 3, "naed_mean": 0.06},
        **{"naed_std": math.sqrt((0.04**2 + 0.02**2 + 0.06**2) / 2), "rtre_median": 0.02, "rtre_mean": 0.03},
        **{"rtre_low": low, "rtre_high": high, "robustness": 0.5, "dice": 0.7, "seconds": 2, "memory": 300},
    }
    assert line == pytest.approx(expected)
    assert list(line) == list(expected)


def test_a_failed_run_counts_as_not_aligned_and_in_no_mean() -> None:
    rows = [row("a", "p", 0.001), row("a", "q", error="no memory"), row("b", "p", 0.001), row("b", "q", 0.003)]
    lines = by_method(summary(rows, None, 0.01))
    assert (lines["a"]["failed"], lines["a"]["aligned"], lines["a"]["naed_mean"]) == (1, 0.5, 0.002)
    assert (lines["b"]["failed"], lines["b"]["aligned"]) == (0, 1)
    assert lines["a"]["naed_std"] is None


def test_scores_of_a_failed_run_count_in_no_mean_either() -> None:
    rows = [row("a", "p", 0.001), row("a", "q", 0.001, error="broke while the picture was drawn", seconds=5.0)]
    line = summary(rows, None, 0.01).records()[0]
    assert (line["aligned"], line["rtre_mean"]) == (0.5, 0.001)
    assert "seconds" not in line


def test_pairs_without_landmarks_are_not_judged_by_them() -> None:
    rows = [row("a", "p", 0.001), row("a", "labels", dice=0.9), row("b", "p", 0.5), row("b", "labels", error="crashed")]
    assert [line["aligned"] for line in summary(rows, None, 0.01).records()] == [1, 0]
    assert domains(rows, 0.01).lines == (("all", "1/1 (100 %)", "0/1 (0 %)"),)


def test_a_pair_that_could_not_be_read_says_nothing_of_a_method() -> None:
    rows = [
        *(row("a", "p", 0.001, domain="retina"), row("a", "q", error="corrupt", domain="retina")),
        *(row("a", "r", dice=0.5, domain="brain"), row("a", "s", error="corrupt", domain="brain")),
    ]
    line = summary(rows, None, 0.01).records()[0]
    assert (line["aligned"], line["failed"]) == (1, 2)


def test_a_failed_run_that_knows_of_landmarks_is_not_aligned() -> None:
    rows = [Row("a", "p", 0, error="crashed", landmarks=True), row("a", "q", dice=1.0)]
    assert summary(rows, None, 0.01).records()[0]["aligned"] == 0
    assert domains(rows, 0.01).lines == (("all", "0/1 (0 %)"),)


def test_wrong_verdicts_are_counted_among_pairs_with_landmarks() -> None:
    said = {
        "p": (0.001, "aligned"),
        "q": (0.001, "doubtful"),
        "r": (0.5, "aligned"),
        "s": (0.5, "failed"),
        "t": (0.5, "doubtful"),
    }
    rows = [replace(row("a", pair, error), verdict=verdict) for pair, (error, verdict) in said.items()]
    rows += [replace(row("a", "unknown"), verdict="aligned"), replace(row("a", "infinite", math.inf), verdict="aligned")]
    silent = by_method(summary([*rows, row("b", "p", 0.5)], None, 0.01))
    assert (silent["a"]["silent"], silent["a"]["alarms"]) == (2, 1)
    assert silent["b"].get("silent") is None
    assert "silent" not in summary([row("b", "p", 0.5)], None, 0.01).columns


def test_infinite_errors_are_counted_and_kept_out_of_means() -> None:
    rows = [row("a", name, error) for name, error in zip("pqrst", (0.01, 0.03, np.inf, np.inf, np.nan), strict=True)]
    lines = by_method(summary([*rows, row("b", "p", 0.01)], None, 0.02))
    assert (lines["a"]["not_finite"], lines["b"]["not_finite"]) == (3, 0)
    assert (lines["a"]["naed_mean"], lines["a"]["rtre_mean"]) == pytest.approx((0.04, 0.02))
    assert (lines["a"]["rtre_median"], lines["a"]["aligned"]) == (np.inf, 0.2)
    assert "not_finite" not in summary([row("b", "p", 0.01)], None, 0.02).columns


def test_columns_without_any_value_are_left_out() -> None:
    counts = ("method", "pairs", "runs", "failed")
    assert summary([row("a", "p", dice=0.5)], None, 0.01).columns == (*counts, "dice")
    failed = [row("a", "p", error="crashed"), row("b", "p", error="crashed")]
    assert summary(failed, None, 0.01).columns == counts
    assert summary(failed, "a", 0.01) == Table((*counts, "compared"), (("a", 1, 1, 1, None), ("b", 1, 1, 1, 0)))


def test_no_rows_and_only_failed_rows() -> None:
    assert summary([], "a", 0.01) == Table(("method", "pairs", "runs", "failed"), ())
    assert domains([], 0.01) == Table(("domain",), ())
    failed = [row("a", "p", error="crashed"), row("a", "q", error="crashed")]
    assert summary(failed, "a", 0.01) == Table(("method", "pairs", "runs", "failed"), (("a", 2, 2, 2),))
    assert domains(failed, 0.01).lines == ()


# --- comparisons


def test_methods_are_compared_pair_by_pair_by_the_mean_over_seeds() -> None:
    rows = made()
    naeds: dict[tuple[str, str], float] = {}
    for r in rows:
        naeds[r.method, r.pair] = naeds.get((r.method, r.pair), 0) + r.scores.get("naed", np.inf) / 2
    lines = by_method(summary(rows, "mine", 0.01))
    assert all(lines["mine"][name] is None for name in ("compared", "difference", "t_test_p", "wilcoxon_p"))
    for method in ("other", "third"):
        pairs = sorted(pair for name, pair in naeds if name == method)
        expected = compare([naeds[method, pair] for pair in pairs], [naeds["mine", pair] for pair in pairs])
        line = lines[method]
        assert (line["compared"], line["left_out"]) == (expected.count, expected.left_out)
        assert line["difference"] == pytest.approx(expected.mean_difference)
        assert (line["t_test_p"], line["wilcoxon_p"]) == pytest.approx((expected.t_test, expected.wilcoxon))
    assert (lines["third"]["compared"], lines["third"]["left_out"]) == (4, 2)


def test_runs_that_only_one_method_has_finished_are_not_paired() -> None:
    rows = [*(row("a", name, 0.02) for name in "pqr"), *(row("b", name, 0.01) for name in "qrst"), row("b", "q", 0.5, seed=1)]
    line = by_method(summary(rows, "a", 0.01))["b"]
    assert (line["compared"], line["difference"]) == (2, pytest.approx(-0.02))
    assert "left_out" not in line


def test_methods_are_compared_by_dice_without_landmarks() -> None:
    rows = [row("a", name, dice=0.5) for name in "pqr"] + [
        row("b", name, dice=0.5 + more) for name, more in zip("pqr", (0.1, 0.2, 0.3), strict=True)
    ]
    assert measure(rows) == "dice"
    assert by_method(summary(rows, "a", 0.01))["b"]["difference"] == pytest.approx(-0.2)
    assert measure([*rows, row("a", "s", 0.1)]) == "naed"


def test_a_reference_that_is_no_method() -> None:
    with pytest.raises(InputError, match="unknown reference method 'mime'; did you mean 'mine'"):
        summary(made(), "mime", 0.01)
    waiting = summary(made(), "mime", 0.01, methods=["mime", "mine"])  # none of its runs has finished
    assert "compared" not in waiting.columns


# --- domains and order


def test_aligned_runs_by_domain() -> None:
    rows = [
        *(row("a", "p", 0.001, domain="retina"), row("a", "q", 0.5, domain="retina"), row("a", "r", 0.001, domain="brain")),
        *(row("b", "p", 0.001, domain="retina"), row("b", "q", error="crashed", domain="retina")),
        row("a", "s", 0.009, domain=""),
    ]
    assert domains(rows, 0.01) == Table(
        ("domain", "a", "b"),
        (
            ("brain", "1/1 (100 %)", None),
            ("other", "1/1 (100 %)", None),
            ("retina", "1/2 (50 %)", "1/2 (50 %)"),
            ("all", "3/4 (75 %)", "1/2 (50 %)"),
        ),
    )


def test_a_method_may_be_called_domain() -> None:
    assert domains([row("domain", "p", 0.001)], 0.01) == Table(("domain", "domain"), (("all", "1/1 (100 %)"),))


def test_methods_come_in_the_order_given_then_by_name() -> None:
    rows = [row(method, pair, 0.1, seed) for method in "dcba" for pair in "qp" for seed in (10, 9)]
    assert [r.method for r in ordered(rows, ["c", "missing", "a"])][::4] == ["c", "a", "b", "d"]
    assert [(r.pair, r.seed) for r in ordered(rows)][:4] == [("p", 9), ("p", 10), ("q", 9), ("q", 10)]
    assert [line[0] for line in summary(rows, None, 0.01, ["c", "missing", "a"]).lines] == ["c", "a", "b", "d"]


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    rows = made()
    write(rows, tmp_path / "first", "mine", 0.01)
    expected = contents(tmp_path / "first")
    assert sorted(expected) == FILES
    for attempt in range(5):
        random.shuffle(rows)
        write(rows, tmp_path / str(attempt), "mine", 0.01)
        assert contents(tmp_path / str(attempt)) == expected


@given(
    st.lists(
        st.builds(
            row,
            st.sampled_from("ab"),
            st.sampled_from("pq"),
            st.none() | st.floats(0),
            st.integers(0, 2),
            error=st.sampled_from(["", "x"]),
        )
    )
)
def test_any_rows_give_tables(rows: list[Row]) -> None:
    rows = list({(r.method, r.pair, r.seed): r for r in rows}.values())
    table = summary(rows, None, 0.01)
    assert sum(line["runs"] for line in table.records()) == len(rows)
    assert all(value == value for line in table.lines for value in line), "NaN stands in the table"
    assert markdown(table).count("\n") == 1 + len(table.lines)
    assert latex(table).count(r"\\") == 1 + len(table.lines)


# --- as people read it


def test_the_printed_table() -> None:
    rows = [
        *(row("a", name, error, seconds=1.234) for name, error in zip("pqr", (0.001, 0.002, 0.003), strict=True)),
        *(row("b", name, error, seconds=1.234) for name, error in zip("pqr", (0.011, 0.012, 0.0131), strict=True)),
    ]
    titles, *body = printed(summary(rows, "a", 0.01))
    shown = [dict(zip(titles, line, strict=True)) for line in body]
    assert [line["Aligned"] for line in shown] == ["100.0 %", "0.0 %"]
    assert [line["NAED"] for line in shown] == ["0.0040 ± 0.0020", "0.0241 ± 0.0021"]
    assert re.fullmatch(r"0\.0020 \[0\.00\d\d, 0\.00\d\d\]", shown[0]["Mean rTRE [95 % interval]"])
    assert [line["Seconds"] for line in shown] == ["1.23", "1.23"]
    assert [line["Difference"] for line in shown] == ["", "+0.0201"]
    assert [line["p (t-test)"] for line in shown] == ["", "< 0.001"]
    assert [line["p (Wilcoxon)"] for line in shown] == ["", "0.250"]
    flags = dict(zip(titles, zip(*best(summary(rows, "a", 0.01)), strict=True), strict=True))
    assert flags["NAED"] == flags["Aligned"] == flags["Median rTRE"] == (True, False)
    assert flags["Seconds"] == flags["Robustness"] == flags["Runs"] == flags["Method"] == (False, False)


def test_one_run_has_no_deviation_and_infinity_is_never_the_best() -> None:
    table = summary([row("a", "p", 0.01), row("b", "p", np.inf)], None, 0.02)
    titles, *body = printed(table)
    shown = [dict(zip(titles, line, strict=True)) for line in body]
    assert [line["NAED"] for line in shown] == ["0.0200", ""]
    assert [line["Median rTRE"] for line in shown] == ["0.0100", "∞"]
    assert [line[titles.index("Median rTRE")] for line in best(table)] == [True, False]
    assert r"$\infty$" in latex(table)


def test_a_number_of_any_size_fits_its_cell() -> None:
    shown = printed(summary([row("a", "p", 1e200), row("a", "q", 3e200)], None, 0.02))
    assert max(len(text) for line in shown for text in line) < 30
    assert "2.0e+200" in shown[1]


def test_a_latex_table_to_paste_into_a_paper() -> None:
    rows = [row("my_method", "p", 0.001), row("my_method", "q", 0.003), row("peer", "p", 0.001), row("peer", "q", 0.005)]
    lines = [re.sub(" +", " ", line).strip() for line in latex(summary(rows, None, 0.002)).splitlines()]
    columns = r"Aligned & NAED & Median rTRE & Mean rTRE {[}95 \% interval] & Robustness \\"
    assert lines[:4] == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lrrrrrrrr}",
        r"\toprule",
        r"Method & Pairs & Runs & Failed & " + columns,
    ]
    assert lines[4] == r"\midrule"
    assert lines[5].startswith(
        r"my\_method & $2$ & $2$ & $0$ & $50.0\,\%$ & $\mathbf{0.0040 \pm 0.0028}$ & $\mathbf{0.0020}$ & "
    )
    assert lines[6].startswith(
        r"peer & $2$ & $2$ & $0$ & $50.0\,\%$ & $0.0060 \pm 0.0057$ & $0.0030$ & $0.0030\;[0.0010, 0.0050]$ & "
    )
    assert lines[7:] == [r"\bottomrule", r"\end{tabular}"]


def test_names_of_any_kind_stay_in_their_cells() -> None:
    rows = [row(name, "p", 0.001 * number) for number, name in enumerate(NASTY, start=1)]
    table = summary(rows, None, 0.01, NASTY)
    width = len(printed(table)[0])
    plain = [" ".join(name.replace("\ud800", " ").split()) for name in NASTY]
    cells = [re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1] for line in markdown(table).splitlines()]
    assert {len(line) for line in cells} == {width}
    assert [re.sub(r"\\(.)", r"\1", line[0]).strip() for line in cells[2:]] == plain
    tex = latex(table).splitlines()[5:-2]
    assert len(tex) == len(NASTY)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in tex} == {width - 1}
    for line in tex:
        name = re.split(r"(?<!\\)&", line)[0]
        assert not re.search(r"(?<!\\)[%$#_]|[<>|~^]|^[\[*]", name), f"{name} holds a mark that LaTeX would obey"
        assert len(re.findall(r"(?<!\\)\{", name)) == len(re.findall(r"(?<!\\)\}", name))


def test_the_markdown_page_says_what_its_numbers_are(tmp_path: Path) -> None:
    write(made(), tmp_path, "mine", 0.0125)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "below 0.0125" in text
    assert "NAED against mine, pair by pair, mean over seeds" in text
    assert "| histology" in text
    write([row("a", "p", dice=0.5), row("b", "p", dice=0.6)], tmp_path, "a", 0.0125)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "1 - Dice against a" in text
    assert "Aligned" not in text


# --- files


def test_numbers_are_read_back_in_full(tmp_path: Path) -> None:
    rows = made()
    write(rows, tmp_path, "mine", 0.01)
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    for line, expected in zip(read, summary(rows, "mine", 0.01).records(), strict=True):
        assert line.pop("method") == expected.pop("method")
        assert {name: float(value) if value else None for name, value in line.items()} == expected


def test_every_run_is_a_line_with_all_its_scores(tmp_path: Path) -> None:
    rows = [
        Row("a", "p, q", 3, "retina", scores={"naed": 0.1, "new": 2.0, "seconds": 1 / 3}, stop="done", notes=["one", "two"]),
        Row("a", "r", 0, error='it said "no"\nand\x00 left', scores={"dice": np.inf}),
    ]
    write(rows, tmp_path, None, 0.01)
    text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
    assert text.count("\n") == 3
    read = list(csv.DictReader(text.splitlines()))
    assert list(read[0]) == [
        *("method", "pair", "seed", "domain", "error", "verdict", "naed", "dice", "seconds", "new", "stop", "notes")
    ]
    assert (read[0]["pair"], read[0]["notes"], float(read[0]["seconds"])) == ("p, q", "one; two", 1 / 3)
    assert (read[1]["error"], read[1]["dice"], read[1]["naed"]) == ('it said "no" and left', "inf", "")


@pytest.mark.parametrize("rows", [[], [row("a", "p", error="crashed")], [row(name, "p", 0.1) for name in NASTY]])
def test_all_files_are_written_whatever_there_is(rows: list[Row], tmp_path: Path) -> None:
    write(rows, tmp_path / "new" / "folder", rows[0].method if rows else "a", 0.01)
    assert sorted(contents(tmp_path / "new" / "folder")) == FILES


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(InputError, match="cannot write"):
        write([], tmp_path / "file" / "below", None, 0.01)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "=HYPERLINK(0)"])
def test_no_cell_is_a_formula(text: str, tmp_path: Path) -> None:
    rows = [Row(text, "p", 0, domain=text, error=text), Row("fine", "p", 0, scores={"similarity": -0.5})]
    write(rows, tmp_path, None, 0.01)
    for name in ("rows.csv", "summary.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            cells = [cell for line in csv.reader(file) for cell in line]
        assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in cells)
        assert any(cell.startswith("'") for cell in cells)
    assert "-0.5" in (tmp_path / "rows.csv").read_text(encoding="utf-8")
