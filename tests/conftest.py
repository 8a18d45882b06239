"""What every test may ask for. Random numbers start from the same place in each."""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from elsewhere import elsewhere, put_elsewhere  # noqa: F401  # fixtures
from graphs import graphs  # noqa: F401
from problems import Scene, oblique, scene

from drmime.geometry.grid import Grid

ROOT = Path(__file__).resolve().parents[1]
# `kinds` makes images with a known answer, `counting` counts operations
sys.path += [str(ROOT / "experiments"), str(ROOT / "benchmarks")]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SHAPES = {2: (24, 33), 3: (17, 20, 24)}

torch.set_num_threads(1)  # the tensors of tests are small: threads would wait for each other
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"  # read once; with several, ANTs adds in another order each time

hypothesis.settings.register_profile("same every time", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same every time")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real image pairs, which is not part of the repository."""
    if not (DATA / "pairs.csv").is_file():
        pytest.skip(f"the real image pairs are not here: no pairs.csv in {os.path.relpath(DATA)}")
    return DATA


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def ndim(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def grid(ndim: int) -> Grid:
    """A small grid with unequal sides and spacings, turned against the world's axes."""
    return oblique(SHAPES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=7.0)


@pytest.fixture
def smooth(grid: Grid) -> Scene:
    """A smooth function that fills `grid`, to be read at any point."""
    return scene(grid)


@pytest.fixture(scope="session")
def browsing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser without a window."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'drmime[test]'")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    starter = shutil.which("chromedriver")
    if browser is None or starter is None:
        pytest.skip("no browser to look at pages with: neither chromium nor google-chrome with chromedriver is here")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1366,900", "no-first-run"):
        options.add_argument(f"--{flag}")
    for part in ("quic", "background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{part}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    driver = webdriver.Chrome(options=options, service=service.Service(starter))
    yield driver
    driver.quit()


@pytest.fixture
def driver(browsing: Any) -> Any:
    """The browser with nothing in its log."""
    browsing.get_log("browser")
    return browsing
