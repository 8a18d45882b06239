"""What the documents promise: snippets run, commands exist, configurations are accepted."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from drmime import Start, settings
from drmime.arguments import parser
from drmime.cli import main
from drmime.lab import experiment
from drmime.registration import register
from drmime.registry import options_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
LONG = ("stacks", "deformation", "options")  # pages whose examples take long


def snippets(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_python_example_runs_and_finds_the_shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage", reason="scikit-image brings the picture")
    (code,) = snippets("python")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the snippet is ours
    assert names["result"].to_moving([[350, 350]]) == pytest.approx(np.array([[338, 330]]), abs=0.5)
    assert names["warped"].shape == names["fixed"].shape
    assert {path.name for path in tmp_path.iterdir()} == {"overlay.png", "transform.json"}


def test_every_command_of_the_readme_is_one_of_ours(capsys: pytest.CaptureFixture) -> None:
    commands = re.findall(r"^drmime (\w+)", "\n".join(snippets("sh")), re.MULTILINE)
    assert set(commands) == {"info", "register", "warp", "points", "convert", "stack", "stitch", "config", "run"}
    for command in [*commands, "demo", "report"]:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert "example" in capsys.readouterr().out


def test_every_command_line_is_accepted() -> None:
    text = "\n".join(part for page in (README, *PAGES.values()) for part in snippets("sh", page))
    lines = [shlex.split(line.partition(" > ")[0], comments=True) for line in re.findall(r"^drmime .*", text, re.MULTILINE)]
    assert len(lines) > 10
    for _, *words in lines:
        assert parser().parse_args(words).command == words[0]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name, text in PAGES.items()
        if snippets("python", text)
    ],
)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names stand for small images and a quick registration."""
    monkeypatch.chdir(tmp_path)  # where it writes its files
    if "to_skimage" in PAGES[page]:
        pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'drmime[test]'")
    if ".zarr" in PAGES[page]:
        pytest.importorskip("zarr", reason="zarr is not installed: pip install 'drmime[slides]'")
    rows, columns = np.mgrid[:64, :64]
    fixed = np.hypot(rows - 20, columns - 30) + 20 * np.sin(rows / 5)

    def quick(*images: object, **options: object) -> object:
        return register(*images, **{"start": None, **options, "schedule": {"steps": 5}})

    names = {"np": np, "register": quick, "fixed": fixed, "moving": 100 - np.roll(fixed, (2, 3), axis=(0, 1))}
    names["result"] = quick(fixed, names["moving"])
    names["sections"] = [np.roll(fixed, shift, axis=1) for shift in (0, 2, 4)]
    scene = np.random.default_rng(0).random((108, 108))
    names["frames"] = np.stack([np.roll(scene, shift, axis=1) for shift in (0, 2, 4)])
    names["tiles"] = [scene[y : y + 60, x : x + 60] for y in (0, 48) for x in (0, 48)]
    for code in snippets("python", PAGES[page]):
        exec(compile(code, f"docs/{page}.md", "exec"), names)  # noqa: S102 - the snippet is ours


def test_every_start_of_the_table_is_accepted() -> None:
    points = [[1, 1], [30, 2], [5, 40]]
    names = {"matrix": np.eye(3), "points": points, "other_points": points}
    starts = re.findall(r"`start=([^`]+)`", PAGES["starts"])
    assert len(starts) > 10
    for start in starts:
        assert Start.of(eval(start, names))  # noqa: S307 - the table is ours


def test_the_experiment_of_the_page_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = snippets("yaml", PAGES["experiments"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for name in ("mine.yaml", "images/1.png", "images/2.png"):
        (tmp_path / name).write_text(text, encoding="utf-8")  # a picture is only listed
    assert len(experiment.load(tmp_path / "mine.yaml").tasks()) == 4 * 3


def test_every_link_leads_to_a_file() -> None:
    for folder, text in ((ROOT, README), *((ROOT / "docs", text) for text in PAGES.values())):
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert link.startswith("https://") or (folder / link).exists(), link


def test_ci_runs_the_command_of_the_readme() -> None:
    lines = [line for line in "\n".join(snippets("sh")).splitlines() if re.match(r"python3 -m venv .* pytest$", line)]
    assert len(lines) == 1


def test_the_recipe_of_the_paper_has_known_options() -> None:
    assert settings.config(ROOT / "configs" / "paper.yaml", options_of(register))


def test_the_version_is_in_one_place() -> None:
    from drmime import __version__

    found = [path for path in ROOT.glob("*") if path.is_file() and path.suffix in (".cfg", ".toml", ".py")]
    assert not [path for path in found if f'"{__version__}"' in path.read_text(encoding="utf-8")]
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
