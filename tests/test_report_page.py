"""The page of a run: right in its bytes, and right in a browser, which is asked for what it computed and drew."""

import json
import math
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drmime.errors import InputError
from drmime.lab.experiment.rows import Row

tiny.needs_report()
from drmime.lab.report import page, plots  # noqa: E402 - needs them

EVIL = "<script>alert(1)</script>"
SIZE = (60, 80)  # of pictures: height, width
POINTS = {
    "fixed": [[0.25, 0.5], [0.75, 0.2], [0.5, 0.9]],
    "before": [[0.30, 0.6], [0.85, 0.3], [0.1, 0.1]],
    "after": [[0.26, 0.5], None, [0.5, 0.85]],  # a landmark may be nowhere
}
CURVES = {"step": [0, 10, 20, 30], "total": [0.0, 0.2, 0.3, 0.4], "level0": [0.1, None, 0.2, 0.3]}
ERRORS = {("b", "first"): 0.002, ("b", "second"): 0.02, ("a", "first"): 0.0005, ("a", "second"): math.inf}


class Source(HTMLParser):
    """What a browser would find in a page: tags with attributes, and the text of each script by its id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.data: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append(dict(attrs).get("id") or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.data[self.scripts[-1]] = self.data.get(self.scripts[-1], "") + data

    def read(self, name: str) -> Any:
        return json.loads(self.data[name], parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder with pictures: fixed is black, before is gray, after is white."""
    for name, value in (("fixed", 0), ("before", 128), ("after", 255), ("error", 64)):
        iio.imwrite(tmp_path / f"{name}.png", np.full((*SIZE, 3), value, np.uint8))
    return tmp_path


def some_rows() -> list[Row]:
    rows = [
        Row(
            method=method,
            pair=pair,
            seed=0,
            domain="retina" if pair == "a" else "histology",
            scores={"rtre_median": error, "rtre_mean": error, "naed": error, "tre_median": 1000 * error, "seconds": 2.5},
            verdict="aligned" if error < 0.01 else "doubtful",
            stop="All steps were taken.",
            notes=["A note."],
            curves=CURVES,
            pictures={name: f"{name}.png" for name in ("fixed", "before", "after", "error")},
            points=POINTS,
            settings={"levels": 4, "metric": {"name": "mine"}},
            versions={"drmime": "1.0"},
            device="a small machine",
        )
        for (pair, method), error in ERRORS.items()
    ]
    failed = Row(method="second", pair="c10", seed=0, domain="retina", error="InputError: nothing there")
    bare = Row(method="first", pair=f"c9{EVIL}", seed=0, scores={"dice": 0.5}, notes=[EVIL], stop=EVIL, settings={EVIL: EVIL})
    return [*rows, failed, bare]


def written(rows: Sequence[Row], folder: Path, **options: Any) -> str:
    arguments = {"title": "A run", "reference": None, "threshold": 0.01} | options
    return page.write(rows, folder, **arguments).read_text(encoding="utf-8")


def test_rows_in_any_order_give_the_same_bytes(folder: Path) -> None:
    rows = some_rows()
    first = written(rows, folder)
    random.shuffle(rows)
    assert written(rows, folder) == first


def test_methods_stand_in_the_order_asked_for(folder: Path) -> None:
    source = Source(written(some_rows(), folder, methods=["second", "first"]))
    assert [row["method"] for row in source.read("rows")] == ["second"] * 3 + ["first"] * 3


def test_the_page_asks_for_no_other_file(folder: Path) -> None:
    text = written(some_rows(), folder)
    outside = [
        (tag, value)
        for tag, attributes in Source(text).tags
        for name, value in attributes.items()
        if name.split(":")[-1] in ("src", "href", "srcset", "action", "data", "poster")
        and not (value or "").startswith(("#", "data:"))
    ]
    assert not outside
    for trace in ("http://", "https://", "@import", "url(http", "fetch(", "XMLHttpRequest"):
        assert trace not in text


def test_untrusted_text_makes_no_script(folder: Path) -> None:
    rows = [replace(row, method=EVIL, domain='"><img src=x onerror=alert(1)>', device=EVIL) for row in some_rows()]
    source = Source(written(rows, folder, title=EVIL, reference=EVIL))
    own = ["rows", "", *(f"row-{number}" for number in range(6)), *(f"picture-{number}" for number in range(4))]
    assert source.scripts == own
    assert [attributes for tag, attributes in source.tags if tag == "img" and "src" in attributes] == []
    assert {row["method"] for row in source.read("rows")} == {EVIL}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(), max_size=20),
    number=st.floats(),
    value=st.recursive(
        st.none() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
)
def test_any_names_and_numbers_come_back(tmp_path: Path, name: str, number: float, value: Any) -> None:
    row = Row(
        method=name, pair=name, seed=0, domain=name, scores={"rtre_median": number, "naed": number}, settings={name: value}
    )
    source = Source(written([row], tmp_path, title=name))
    line = source.read("rows")[0]
    assert (line["method"], line["pair"]) == (name, name)
    sent = math.nan if line["naed"] is None else float(line["naed"])
    assert sent == number or (math.isnan(sent) and math.isnan(number))
    assert set(source.read("row-0")["settings"]) == {name}


@pytest.mark.parametrize(
    "rows", [[], [Row("m", "p", 0, error="no")], [Row("m", "p", 0)], [Row("m", "p", 0, scores={"naed": math.nan})]]
)
def test_a_page_of_next_to_nothing(rows: list[Row], tmp_path: Path) -> None:
    text = written(rows, tmp_path)
    assert len(Source(text).read("rows")) == len(rows)
    assert ("There are no runs yet" in text) == (not rows)
    assert "<h2>Errors</h2>" not in text


def test_pictures_are_there_once_and_only_from_the_folder(folder: Path) -> None:
    inner = folder / "run"
    inner.mkdir()
    shutil.copy(folder / "fixed.png", inner / "fixed.png")
    shutil.copy(folder / "fixed.png", inner / "same.png")
    (inner / "secret.txt").write_text("secret")
    names = {
        "fixed": "fixed.png",
        "same": "same.png",
        "gone": "gone.png",
        "above": "../after.png",
        "text": "secret.txt",
        "bad": "\0.png",
    }
    source = Source(written([Row("m", "p", 0, pictures=names)], inner))
    assert source.read("row-0")["pictures"] == {"fixed": 0, "same": 0}
    assert [name for name in source.scripts if name.startswith("picture")] == ["picture-0"]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (Row("m", "p", 0, error="no", scores={"rtre_median": 0.0}), "failed"),
        (Row("m", "p", 0, scores={"rtre_median": 0.0099}), "aligned"),
        (Row("m", "p", 0, scores={"rtre_median": 0.01}), "not aligned"),
        (Row("m", "p", 0, scores={"rtre_median": math.inf}), "not aligned"),
        (Row("m", "p", 0, scores={"rtre_median": math.nan}), "not aligned"),
        (Row("m", "p", 0, scores={"dice": 1.0}), "unknown"),
    ],
)
def test_status(row: Row, word: str) -> None:
    assert page.status(row, 0.01) == word


def test_what_holds_for_all_runs_is_told(folder: Path) -> None:
    text = written([*some_rows(), Row("m", "p", 0, versions={"drmime": "1.1"})], folder)
    for fact in ("runs <b>7</b>", "failed <b>1</b>", "drmime <b>1.0, 1.1</b>", "device <b>a small machine</b>"):
        assert fact in text


def test_tables_hold_the_summary_with_the_best_in_bold(folder: Path) -> None:
    text = written(some_rows(), folder, reference="first")
    assert '<td class="number best">100.0 %</td>' in text  # aligned
    assert '<td class="number">0.0 %</td>' in text
    assert "p-values are of NAED against first, pair by pair, each the mean over its seeds." in text
    assert '<th scope="row">retina</th>' in text
    assert "1/1 (100 %)" in text


def test_unknown_reference(folder: Path) -> None:
    with pytest.raises(InputError, match="first"):
        written(some_rows(), folder, reference="frist")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_extra(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"drmime\[report\]"):
        written(some_rows(), folder)
    assert not (folder / "report.html").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        written([], tmp_path / "file")


def test_boxes_tell_what_they_leave_out() -> None:
    scores = [{"rtre_median": value} for value in (0.0, 0.001, 0.1, math.inf)]
    rows = [Row("$m_1$", str(place), 0, scores=score) for place, score in enumerate(scores)]
    drawn = plots.boxes(plots.by_method([*rows, Row("$m_1$", "x", 0, error="no"), Row("none", "x", 0)]), 0.01)
    assert ">3 runs<" in drawn
    assert ">+ 2 failed<" in drawn
    assert ">$m_1$<" in drawn  # no formula
    assert ">0 runs<" in drawn
    assert plots.INK not in drawn


def test_times_need_both_numbers() -> None:
    whole = Row("m", "p", 0, scores={"rtre_median": 0.001, "seconds": 2.0})
    assert ">m<" in plots.times(plots.by_method([whole]), 0.01)
    for scores in ({"rtre_median": 0.001}, {"rtre_median": 0.001, "seconds": 0.0}, {"rtre_median": math.nan, "seconds": 1.0}):
        assert plots.times(plots.by_method([replace(whole, scores=scores)]), 0.01) == ""


# In a browser.


class Browser:
    """The page of some rows in a browser, by the page's own ids."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        driver.get(path.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def get(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.get(selector).click()

    def press(self, key: str) -> None:
        self.driver.switch_to.active_element.send_keys(key)

    def set(self, name: str, value: float | str) -> None:
        script = (
            "const one = document.getElementById(arguments[0]); one.value = arguments[1]; one.dispatchEvent(new Event('input'))"
        )
        self.run(script, name, value)

    def column(self, key: str) -> list[str]:
        script = "return [...document.querySelectorAll('#runs tbody tr')].map(row => row.cells[arguments[0]].textContent)"
        headers = self.run("return [...document.querySelectorAll('#runs thead th')].map(one => one.dataset.key)")
        return self.run(script, headers.index(key))

    def open(self, pair: str, method: str) -> None:
        found = """[...document.querySelectorAll('#runs tbody tr')].find(row => ['pair', 'method'].every(
            (name, index) => row.querySelector('.' + name).textContent === arguments[index])).click()"""
        self.run(found, pair, method)
        self.run("return Promise.all([...document.querySelectorAll('.stack img:not([hidden])')].map(one => one.decode()))")

    def style(self, selector: str, name: str) -> str:
        return self.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", selector, name)

    def name(self) -> str:
        return self.get("#name").text


@pytest.fixture
def browser(driver: Any, folder: Path) -> Iterator[Browser]:
    written(some_rows(), folder, reference="first")
    yield Browser(driver, folder / "report.html")
    assert driver.get_log("browser") == []


def test_a_click_on_a_heading_sorts_numbers_as_numbers(browser: Browser) -> None:
    heading = browser.get("[data-key=rtre_median]")
    assert heading.get_attribute("aria-sort") is None
    browser.click("[data-key=rtre_median] button")
    assert browser.column("rtre_median") == ["0.0005", "0.0020", "0.0200", "∞", "", ""]
    assert heading.get_attribute("aria-sort") == "ascending"
    browser.click("[data-key=rtre_median] button")
    assert browser.column("rtre_median") == ["∞", "0.0200", "0.0020", "0.0005", "", ""]  # what is missing stays last
    assert heading.get_attribute("aria-sort") == "descending"
    browser.click("[data-key=tre_median] button")
    assert browser.column("tre_median")[:4] == ["0.500", "2", "20", "∞"]  # as text 2, 20 would be before 0.5
    assert heading.get_attribute("aria-sort") is None


def test_names_sort_by_the_numbers_in_them(browser: Browser) -> None:
    browser.click("[data-key=pair] button")
    assert browser.column("pair") == ["a", "a", "b", "b", f"c9{EVIL}", "c10"]
    browser.click("[data-key=domain] button")
    assert browser.column("domain") == ["histology", "histology", "retina", "retina", "retina", ""]


def test_filters(browser: Browser) -> None:
    browser.get("#words").send_keys("ALIGNED b")
    assert set(browser.column("pair")) == {"b"}
    assert browser.get("#count").text == "2 of 6 runs"
    browser.set("words", "nothing there")
    assert browser.column("pair") == ["c10"]  # errors count as words
    browser.set("words", "no such word")
    assert browser.column("pair") == []
    browser.set("words", "")
    browser.click("[data-filter=verdict] option[value=doubtful]")
    assert browser.column("verdict") == ["doubtful", "doubtful"]
    browser.click("[data-filter=verdict] option[value='']")
    for choice, value, count in (("method", "second", 3), ("domain", "retina", 2), ("status", "failed", 1)):
        browser.click(f"[data-filter={choice}] option[value={value}]")
        assert len(browser.column("pair")) == count


def test_failures_first(browser: Browser) -> None:
    browser.click("[data-key=pair] button")
    browser.click("#failures")
    assert browser.column("status") == ["failed", "not aligned", "not aligned", "unknown", "aligned", "aligned"]
    assert browser.column("pair")[1:3] == ["a", "b"]  # sorted as before within
    browser.click("#failures")
    assert browser.column("pair")[0] == "a"


def test_the_slider_in_each_mode(browser: Browser) -> None:
    browser.open("b", "first")
    assert browser.get(".stack .over").is_displayed()
    wide = browser.get(".stack").size["width"]
    shape = browser.get(".stack").size["height"] / wide
    assert shape == pytest.approx(SIZE[0] / SIZE[1], abs=0.01)
    for place in (0, 25, 100):
        browser.set("slider", place)
        assert browser.style(".over", "clipPath") == f"inset(0px 0px 0px {place}%)"
    browser.click("[value=blend]")
    assert browser.style(".over", "clipPath") == "none"
    for place in (0, 25, 100):
        browser.set("slider", place)
        assert float(browser.style(".over", "opacity")) == place / 100
    browser.click("[value=checkerboard]")
    assert float(browser.style(".over", "opacity")) == 1
    assert "conic-gradient" in browser.style(".over", "maskImage")
    large = browser.style(".over", "maskSize")
    browser.set("slider", 0)
    assert browser.style(".over", "maskSize") != large
    browser.click("[value=swipe]")
    assert browser.style(".over", "maskImage") == "none"


def test_a_press_on_the_picture_moves_the_swipe(browser: Browser) -> None:
    chains = pytest.importorskip("selenium.webdriver").ActionChains(browser.driver)
    browser.open("b", "first")
    stack = browser.get(".stack")
    chains.move_to_element_with_offset(stack, stack.size["width"] // 4, 0).click().perform()
    assert float(browser.get("#slider").get_attribute("value")) == pytest.approx(75, abs=1)
    assert browser.style(".over", "clipPath") == "inset(0px 0px 0px 75%)"


def test_before_and_after_are_two_pictures(browser: Browser) -> None:
    browser.open("b", "first")
    after = browser.get(".over").get_attribute("src")
    browser.click("[value=before]")
    before = browser.get(".over").get_attribute("src")
    assert before.startswith("data:image/png;base64,")
    assert before != after
    assert browser.get(".under").get_attribute("src") not in (before, after)
    browser.click("[name=side][value=error]")
    assert browser.get(".over").get_attribute("src") not in (before, after)


def test_landmarks_lie_where_their_shares_say(browser: Browser) -> None:
    browser.open("b", "first")
    middles = """
        const frame = document.querySelector('.stack').getBoundingClientRect();
        return [...document.querySelectorAll(arguments[0])].map(mark => {
            const box = mark.getBoundingClientRect();
            return [(box.x + box.width / 2 - frame.x) / frame.width, (box.y + box.height / 2 - frame.y) / frame.height]; })"""
    for marks, points in (
        (".fixed circle", POINTS["fixed"]),
        (".before path", POINTS["before"]),
        (".after path", [point for point in POINTS["after"] if point]),
    ):
        np.testing.assert_allclose(browser.run(middles, f".stack svg {marks}"), points, atol=0.005)
    joined = [np.mean([start, end], 0) for start, end in zip(POINTS["after"], POINTS["fixed"], strict=True) if start]
    np.testing.assert_allclose(browser.run(middles, ".stack svg .after line"), joined, atol=0.005)
    browser.click("#landmarks")
    assert not browser.get(".stack svg").is_displayed()


def test_curves_are_drawn_and_skip_what_is_missing(browser: Browser) -> None:
    browser.open("b", "first")
    ends = "return document.querySelector(`path[data-name=${arguments[0]}]`).getAttribute('d').match(/[-0-9.]+/g).map(Number)"
    total, level = (np.reshape(browser.run(ends, name), (-1, 2)) for name in ("total", "level0"))
    assert len(total) == 4
    assert len(level) == 3
    assert (np.diff(total[:, 1]) < 0).all()  # it rises
    np.testing.assert_allclose(np.diff(total[:, 0]), np.diff(total[:, 0])[0], atol=0.11)  # steps are evenly spaced
    np.testing.assert_allclose(level[:, 0], total[[0, 2, 3], 0])
    np.testing.assert_allclose(level[2, 1], total[2, 1])  # both 0.3
    assert "level 0" in browser.get("#curves").text


def test_keys_go_from_run_to_run(browser: Browser) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    browser.click("[data-key=rtre_median] button")  # a first, b first, b second, a second, then the two without
    assert browser.run("return document.querySelectorAll('#runs tbody [tabindex=\"0\"]').length") == 1
    browser.run("document.querySelector('#runs tbody tr').focus()")
    browser.press(keys.ARROW_DOWN)
    browser.press(keys.ENTER)
    assert browser.name() == "b — first"
    browser.press(keys.ARROW_DOWN)
    assert browser.name() == "b — second"
    browser.press(keys.ARROW_LEFT)
    browser.press(keys.ARROW_UP)
    browser.press(keys.ARROW_UP)
    assert browser.name() == "a — first"  # the first one stays
    browser.run("document.getElementById('slider').focus()")
    browser.press(keys.ARROW_RIGHT)
    assert browser.name() == "a — first"  # it moved the slider
    assert browser.get("#slider").get_attribute("value") == "51"
    browser.click("#next")
    assert browser.name() == "b — first"
    browser.press(keys.ESCAPE)
    assert not browser.get("#viewer").is_displayed()
    assert browser.run("return document.activeElement.querySelector('.pair').textContent") == "b"


def test_another_method_of_the_same_pair(browser: Browser) -> None:
    browser.open("b", "first")
    assert [one.text for one in browser.get("#others").find_elements("css selector", "option")] == ["first", "second"]
    browser.click("#others option:last-child")
    assert browser.name() == "b — second"


def test_missing_parts_leave_no_gap_and_no_error(browser: Browser) -> None:
    browser.open("b", "first")  # so that something could be left over
    assert 'metric: {"name":"mine"}' in browser.run("return document.querySelector('#settings pre').textContent")
    browser.open("c10", "second")
    assert "nothing there" in browser.get("#outcome").text
    assert "There is no picture" in browser.get("#blank").text
    assert not browser.get("#pictures").is_displayed()
    assert browser.get("#curves").text == browser.get("#notes").text == browser.get("#scores").text == ""
    assert not browser.get("#settings").is_displayed()


def test_names_that_look_like_scripts_stay_names(browser: Browser) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    browser.open(f"c9{EVIL}", "first")
    assert browser.name() == f"c9{EVIL} — first"
    assert EVIL in browser.get("#notes").text
    with pytest.raises(NoAlertPresentException):
        _ = browser.driver.switch_to.alert


@pytest.mark.parametrize("rows", [[], [Row("m", "p", 0, error="no")]], ids=["none", "failed"])
def test_a_browser_takes_a_page_of_next_to_nothing(rows: list[Row], driver: Any, tmp_path: Path) -> None:
    written(rows, tmp_path)
    browser = Browser(driver, tmp_path / "report.html")
    browser.click("[data-key=pair] button" if rows else "#failures")
    assert browser.get("#count").text == f"{len(rows)} of {len(rows)} runs"
    assert driver.get_log("browser") == []


def test_two_thousand_runs_sort_at_once(driver: Any, tmp_path: Path) -> None:
    rows = [Row(f"method {n % 8}", f"pair {n // 8}", 0, scores={"rtre_median": (n * 7919 % 2000) / 2000}) for n in range(2000)]
    written(rows, tmp_path)
    browser = Browser(driver, tmp_path / "report.html")
    script = "const start = performance.now(); document.querySelector(arguments[0]).click(); document.body.offsetHeight;"
    assert (
        browser.run(script + "return performance.now() - start", "[data-key=rtre_median]") < 3000
    )  # ms; about 300 on a laptop
    errors = [float(text) for text in browser.column("rtre_median")]
    assert errors == sorted(errors)
    assert len(errors) == 2000
