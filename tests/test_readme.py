"""What the documents promise: snippets run, commands exist, configurations are accepted."""

import re
from pathlib import Path

import numpy as np
import pytest

from drmime import settings
from drmime.cli import main
from drmime.registration import register
from drmime.registry import options_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs_and_finds_the_shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = snippets("python")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the snippet is ours
    assert names["result"].to_moving([[350, 350]]) == pytest.approx(np.array([[338, 330]]), abs=0.5)
    assert names["warped"].shape == names["fixed"].shape
    assert {path.name for path in tmp_path.iterdir()} == {"overlay.png", "transform.json"}


def test_every_command_of_the_readme_is_one_of_ours(capsys: pytest.CaptureFixture) -> None:
    commands = re.findall(r"^drmime (\w+)", "\n".join(snippets("sh")), re.MULTILINE)
    assert set(commands) == {"register", "warp", "config", "run"}
    for command in [*commands, "demo", "report"]:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert "example" in capsys.readouterr().out


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
