"""kornia's SIFT as a start: known similarities of real pictures, reversed contrast, masks, and pairs that share nothing."""

import pytest
import torch
from problems import rotation, translation

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.image import Image
from drmime.start.propose.sift import SIFT, _vectors

pictures = pytest.importorskip("skimage.data", reason="scikit-image brings the pictures")
from test_features import turned, worst  # noqa: E402 - skips without scikit-image

SMALL = {"side": 320, "keypoints": 400}


@pytest.fixture(scope="module")
def camera() -> Image:
    return as_image(pictures.camera()[60:380, 100:450], role="fixed").normalised()


@pytest.mark.parametrize("multimodal", [True, False])
@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (137, 1.25), (179, 0.55)])
def test_a_similarity_is_found(angle: float, scale: float, multimodal: bool, camera: Image) -> None:
    moving, truth = turned(camera, angle, scale)
    found = SIFT(multimodal, **SMALL)(camera, moving)
    assert 1 <= len(found) <= 4
    assert found.dtype == torch.float64
    assert worst(found[0], truth, camera.grid) < 0.01
    assert torch.equal(found, SIFT(multimodal, **SMALL)(camera, moving))


def test_reversed_contrast_makes_no_difference_unless_told_otherwise(camera: Image) -> None:
    moving, truth = turned(camera, 137, 1.2)
    inverse = Image(1 - moving.data, moving.grid, moving.mask)
    assert worst(SIFT(**SMALL)(camera, inverse)[0], truth, camera.grid) < 0.01
    assert not any(worst(matrix, truth, camera.grid) < 0.01 for matrix in SIFT(False, **SMALL)(camera, inverse))


def test_a_keypoint_of_the_negative_is_the_same_upside_down(camera: Image) -> None:
    axes = torch.eye(2, dtype=torch.float64)
    (places, sizes, shares), (others, turned_sizes, negative) = (
        SIFT(**SMALL)._keypoints(Image(data, camera.grid), axes) for data in (camera.data, 1 - camera.data)
    )
    near, partner = (places[:, None] - others).abs().min(1)
    same = (near < 0.1) & ((sizes / turned_sizes[partner] + 1).abs() < 0.1)  # of one size, turned by half a circle
    assert same.float().mean() > 0.8
    first = _vectors(shares[same], blind=False)
    second, wrong = (_vectors(negative[partner][same], blind=False, upside_down=flip) for flip in (True, False))
    assert (first * second).sum(1).median() > 0.99
    assert (first * wrong).sum(1).median() < 0.9


def test_spacing_and_offset_are_those_of_the_world(camera: Image) -> None:
    size = torch.diag(torch.tensor([0.25, 0.25, 1.0], dtype=torch.float64))
    fixed = Image(camera.data, Grid(camera.grid.shape, translation(1e4, -500.0) @ rotation(2, 0.7) @ size))
    moving, truth = turned(fixed, 60, 1.1, Grid.regular((300, 500), (0.5, 0.3)))
    assert worst(SIFT(**SMALL)(fixed, moving)[0], truth, fixed.grid) < 0.01


def test_nothing_is_found_under_a_mask(camera: Image) -> None:
    data, mask = camera.data.clone(), torch.ones_like(camera.data)
    data[..., :120, :], mask[..., :120, :] = torch.rand(120, camera.grid.shape[1]), 0
    places, *_ = SIFT(**SMALL)._keypoints(Image(data, camera.grid, mask), torch.eye(2, dtype=torch.float64))
    assert len(places) > 50
    assert (places.imag + camera.grid.centre[1]).min() > 118


def test_images_that_share_nothing_give_nothing(camera: Image) -> None:
    coins = as_image(pictures.coins(), role="moving").normalised()
    assert SIFT(least=13)(camera, coins).shape == (0, 3, 3)
    ramp = Image(torch.linspace(0, 1, 220).expand(1, 1, 200, 220).contiguous(), Grid.regular((200, 220)))
    assert SIFT(**SMALL)(camera, ramp).shape == (0, 3, 3)
    tiny = Image(camera.data[..., :9, :9], Grid.regular((9, 9)))
    assert SIFT(**SMALL)(tiny, tiny).shape == (0, 3, 3)


def test_volumes_and_options_out_of_range_are_refused() -> None:
    volume = Image(torch.rand(1, 1, 20, 20, 20), Grid.regular((20, 20, 20)))
    with pytest.raises(InputError, match="2-D images, got 3-D"):
        SIFT()(volume, volume)
    for option in ({"count": 0}, {"least": 2}, {"side": 8}, {"keypoints": 1}, {"multimodal": "yes"}):
        with pytest.raises(InputError, match=next(iter(option))):
            SIFT(**option)
