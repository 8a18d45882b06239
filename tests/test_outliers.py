"""No-data values, hot and dead pixels are left out, and what is none of these stays as it is."""

import kinds
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from drmime import register
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image
from drmime.image.outliers import mended

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the pictures")


def camera() -> np.ndarray:
    return skimage_data.camera()[::2, ::2].astype(np.float32)


def image(pixels: np.ndarray) -> Image:
    return as_image(pixels, role="fixed")


@pytest.mark.parametrize("value", [-9999.0, -1.0e30, 65535.0, -400.0])
@pytest.mark.parametrize("share", [0.002, 0.03, 0.3])
def test_a_repeated_value_far_from_all_others_is_masked(value: float, share: float, rng: np.random.Generator) -> None:
    pixels = camera()
    here = np.zeros(pixels.shape, bool)
    here.ravel()[: int(share * here.size)] = True
    pixels[here] = value
    done = mended(image(pixels), "fixed")
    assert torch.equal(done.image.mask[0, 0] == 0, torch.as_tensor(here))
    assert len(done.notes) == 1
    assert f"hold {value:g}" in done.notes[0]


def test_single_pixels_of_such_a_value_are_repaired_and_not_masked(rng: np.random.Generator) -> None:
    pixels = camera()
    spoilt = np.where(rng.random(pixels.shape) < 0.01, -9999, pixels)
    spoilt[100:120, 100:120] = -9999
    done = mended(image(spoilt), "fixed").image
    assert int((done.mask == 0).sum()) < 1.1 * 400
    assert float(done.data[done.mask > 0].min()) >= 0


@pytest.mark.parametrize("kind", ["hot", "dead"])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.03])
def test_single_pixels_become_the_median_of_their_neighbours(kind: str, share: float, rng: np.random.Generator) -> None:
    pixels = camera()
    spoilt = pixels.copy()
    here = rng.random(pixels.shape) < share
    spoilt[here] = rng.uniform(3000, 60000, here.sum()) * (1 if kind == "hot" else -1)
    done = mended(image(spoilt), "fixed")
    found = done.image.data[0, 0].numpy()
    assert done.image.mask is None
    assert "neighbours" in done.notes[0]
    assert (found[~here] == pixels[~here]).all()
    assert np.median(np.abs(found - pixels)[here]) < 10
    assert found.max() <= 255
    assert found.min() >= 0


def untouched() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    ground = np.zeros((256, 256))
    labels = ground.copy()
    labels[40:90, 40:120], labels[150:200, 30:90] = 1, 40
    brain = ground.copy()
    brain[60:200, 60:200] = random.uniform(80, 160, (140, 140))
    return {
        "a photograph": camera(),
        "saturated": np.clip(camera() * 3, 0, 255),
        "labels": labels,
        "a specimen on zeros": brain,
        "noise": random.standard_normal((256, 256)),
        "speckle": camera() * random.gamma(1, 1, (256, 256)),
        "points on noise": random.standard_normal((256, 256)) + 500 * (random.random((256, 256)) < 0.01),
        **{kind: kinds.problem(kind, 1).fixed for kind in ("nuclei", "spots", "binary", "labels")},
    }


@pytest.mark.parametrize("name", untouched())
def test_what_belongs_to_the_scene_stays(name: str) -> None:
    given = image(untouched()[name])
    done = mended(given, "fixed")
    assert done.notes == ()
    assert done.image.mask is None
    assert torch.equal(done.image.data, given.data)


def test_hot_voxels_too() -> None:
    random = np.random.default_rng(0)
    pixels = gaussian_filter(random.standard_normal((30, 40, 50)), 3)
    here = random.random(pixels.shape) < 0.01
    spoilt = np.where(here, random.uniform(1e3, 1e4, pixels.shape), pixels)
    found = mended(Image(torch.as_tensor(spoilt)[None, None], Grid.regular(pixels.shape)), "moving").image.data[0, 0].numpy()
    assert np.abs(found - pixels).max() < 0.2


@pytest.mark.parametrize("kind", ["no data 1.0%", "hot 3.0%", "dead 3.0%", "no data 3.0%"])
def test_they_cost_no_accuracy_and_are_told(kind: str) -> None:
    problem = kinds.problem(kind, 0)
    result = register(problem.fixed, problem.moving, device="cpu", **problem.options)
    errors = np.linalg.norm(result.to_moving(problem.fixed_points) - problem.moving_points, axis=1)
    assert np.median(errors) < 0.5
    assert not result.doubts
    assert sum("of the fixed image" in note for note in result.notes) == 1
    assert sum("of the moving image" in note for note in result.notes) == 1
