"""Features: known similarities of real pictures are recovered, reversed contrast and masks included."""

import math

import pytest
import torch
from problems import rotation, translation
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.door import as_image
from drmime.image.image import Image
from drmime.start.propose.corners import Level, levels
from drmime.start.propose.features import Features

pictures = pytest.importorskip("skimage.data", reason="scikit-image brings the pictures")


@pytest.fixture(scope="module")
def camera() -> Image:
    return as_image(pictures.camera()[60:380, 100:450], role="fixed").normalised()


def turned(image: Image, angle: float, scale: float = 1.0, moving: Grid | None = None) -> tuple[Image, Tensor]:
    """The image seen on another grid, middle near middle; and moving_from_fixed. Where there is nothing the mask is 0."""
    moving = Grid.regular((350, 370)) if moving is None else moving
    size = torch.diag(torch.tensor([scale, scale, 1.0], dtype=torch.float64))
    to = translation(*(moving.centre + 12 * moving.spacing).tolist())
    truth = to @ rotation(2, math.radians(angle)) @ size @ translation(*(-image.grid.centre).tolist())
    points = moving.index_points()[None].float()
    values, inside = image.at(points, (torch.linalg.inv(truth) @ moving.world_from_index)[None])
    return Image(values.mT.reshape(1, -1, *moving.shape), moving, inside.view(1, 1, *moving.shape)), truth


def worst(matrix: Tensor, truth: Tensor, grid: Grid) -> float:
    """The largest error at a corner of the grid, as a share of its longest side."""
    moved, right = (apply(m, grid.corners())[0] for m in (matrix, truth))
    size = torch.linalg.det(truth[:2, :2]).abs().sqrt() * grid.extent.max()
    return float((moved - right).norm(dim=1).max() / size)


@pytest.mark.parametrize(("angle", "scale"), [(0, 1.0), (137, 1.25), (-20, 0.7), (179, 0.55)])
def test_a_similarity_is_found(angle: float, scale: float, camera: Image) -> None:
    moving, truth = turned(camera, angle, scale)
    found = Features()(camera, moving)
    assert 1 <= len(found) <= 4
    assert found.dtype == torch.float64
    assert torch.equal(found[:, -1], torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(found), 3))
    assert worst(found[0], truth, camera.grid) < 0.01


def test_reversed_contrast_makes_no_difference_unless_told_otherwise(camera: Image) -> None:
    moving, truth = turned(camera, 137, 1.2)
    inverse = Image(1 - moving.data, moving.grid, moving.mask)
    assert worst(Features(keypoints=300)(camera, inverse)[0], truth, camera.grid) < 0.01
    assert worst(Features(multimodal=False, keypoints=300)(camera, moving)[0], truth, camera.grid) < 0.01
    axes = torch.eye(2, dtype=torch.float64)
    for harmonics, same in (((2, 4), True), ((1, 2, 3), False)):
        first, second = (
            levels(Image(data, camera.grid), 1.0, axes, harmonics, 200)[0] for data in (camera.data, 1 - camera.data)
        )
        likeness = _likeness(first, second, torch.arange(200), 0)
        assert (likeness.min() > 0.999) == same


def test_other_colours_and_a_curve_of_intensities() -> None:
    picture = as_image(pictures.astronaut()[:400, :400], role="fixed").normalised()
    moving, truth = turned(picture, -100, 0.9)
    other = Image((1 - moving.data[:, 1:2]).clamp(0, 1) ** 2, moving.grid, moving.mask)
    assert worst(Features(keypoints=300)(picture, other)[0], truth, picture.grid) < 0.01


def test_spacing_and_offset_are_those_of_the_world(camera: Image) -> None:
    fixed = Image(camera.data, Grid(camera.grid.shape, translation(1e4, -500.0) @ rotation(2, 0.7) @ torch.diag(
        torch.tensor([0.25, 0.25, 1.0], dtype=torch.float64)
    )))  # fmt: skip
    moving, truth = turned(fixed, 60, 1.1, Grid.regular((300, 500), (0.5, 0.3)))
    assert worst(Features(keypoints=300)(fixed, moving)[0], truth, fixed.grid) < 0.01


def test_worlds_of_other_units_are_brought_together(camera: Image) -> None:
    moving, truth = turned(camera, 30, 10.0, Grid.regular((350, 370), (10.0, 10.0)))
    assert worst(Features(keypoints=300)(camera, moving)[0], truth, camera.grid) < 0.01


def test_trash_under_a_mask_is_not_described(camera: Image) -> None:
    moving, truth = turned(camera, 75)
    data, mask = camera.data.clone(), torch.ones_like(camera.data)
    data[..., :120, :], mask[..., :120, :] = torch.rand(120, camera.grid.shape[1]), 0
    covered = Image(data, camera.grid, mask)
    assert worst(Features(keypoints=300)(covered, moving)[0], truth, camera.grid) < 0.02
    found = levels(covered, 1.0, torch.eye(2, dtype=torch.float64), (2, 4), 600)[0]
    assert (found.places.imag + camera.grid.centre[1]).min() > 120


def test_images_that_share_nothing_give_nothing(camera: Image) -> None:
    coins = as_image(pictures.coins(), role="moving").normalised()
    assert Features(least=13)(camera, coins).shape == (0, 3, 3)
    ramp = Image(torch.linspace(0, 1, 220).expand(1, 1, 200, 220).contiguous(), Grid.regular((200, 220)))
    assert Features(keypoints=300)(camera, ramp).shape == (0, 3, 3)
    tiny = Image(camera.data[..., :9, :9], Grid.regular((9, 9)))
    assert Features(keypoints=300)(tiny, tiny).shape == (0, 3, 3)


def test_the_same_every_time(camera: Image) -> None:
    moving, _ = turned(camera, 20)
    assert torch.equal(Features(keypoints=300)(camera, moving), Features(keypoints=300)(camera, moving))


def test_a_quarter_turn_of_the_image_is_one_of_its_descriptors(camera: Image) -> None:
    """Turned pixel for pixel, so that only rounding is left: corners and descriptors turn with the image."""
    square = Image(camera.data[..., :320, :320], Grid.regular((320, 320)))
    quarter = Image(square.data.rot90(-1, (2, 3)), square.grid)  # x axis to y axis
    axes = torch.eye(2, dtype=torch.float64)
    first, second = (levels(image, 1.0, axes, (1, 2, 3), 10000)[0] for image in (square, quarter))
    partner = ((first.places * 1j)[:, None] - second.places).abs().min(1)
    found = partner.values < 0.5
    assert found.float().mean() > 0.9
    likeness = _likeness(first, second, partner.indices, 4)[found]
    assert likeness.quantile(0.1) > 0.99
    assert _likeness(first, second, partner.indices, 0)[found].median() < 0.95


def _likeness(first: Level, second: Level, partner: Tensor, turn: int) -> Tensor:
    return (first.descriptors(0) * second.descriptors(turn)[partner]).sum(1)


def test_volumes_are_refused() -> None:
    volume = Image(torch.rand(1, 1, 20, 20, 20), Grid.regular((20, 20, 20)))
    with pytest.raises(InputError, match="features are for 2-D images, got 3-D"):
        Features(keypoints=300)(volume, volume)


@pytest.mark.parametrize("options", [{"multimodal": 2}, {"count": 0}, {"least": 1}, {"side": 10}, {"keypoints": 2.5}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        Features(**options)
