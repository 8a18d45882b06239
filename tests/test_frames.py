"""Frames: where a picture ends is no edge of the scene; where objects end on a flat ground is."""

import kinds
import numpy as np
import pytest
import torch
from problems import photograph, rotation, world_points
from textures import busy
from torch import Tensor

from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.door import as_image
from drmime.image.frames import GROUND, PICTURE_FRAME, frame, without_frames
from drmime.image.image import Image, batch
from drmime.image.orientation import BLURRED, orientation

LARGE = {2: (120, 100), 3: (40, 44, 48)}


def bright(grid: Grid) -> Tensor:
    """A scene without black. (1, 1, *shape)"""
    return photograph(busy(grid), grid=grid).normalised().data * 0.7 + 0.2


def turned_picture(grid: Grid) -> Tensor:
    """Where a turned picture lies on black corners. (*shape)"""
    points, _ = apply(rotation(grid.ndim, 0.5), world_points(grid) - grid.centre)
    return (points.abs() < 0.42 * grid.size).all(1).view(grid.shape)


def disc(grid: Grid, share: float = 0.45) -> Tensor:
    return ((world_points(grid) - grid.centre).norm(dim=1) < share * float(grid.size.min())).view(grid.shape)


@pytest.mark.parametrize(("shape", "ndim"), [(turned_picture, 2), (turned_picture, 3), (disc, 2)])
@pytest.mark.parametrize("ground", [0.0, 1.0], ids=["dark", "bright"])
def test_the_frame_of_a_picture_is_masked_and_the_picture_stays(shape, ndim: int, ground: float) -> None:
    grid = Grid.regular(LARGE[ndim])
    content = shape(grid)
    image = Image(torch.where(content, bright(grid), ground), grid)
    assert float(frame(image).max()) == PICTURE_FRAME
    mask = without_frames(image, image)[0].mask
    assert not mask[0, 0][~content].any()
    assert float(mask[0, 0][content].double().mean()) > (0.93 if ndim == 2 else 0.75)


def test_along_a_frame_there_is_no_edge(ndim: int) -> None:
    """Where something is left, it is what the scene shows without the frame."""
    grid = Grid.regular(LARGE[ndim])
    content = turned_picture(grid)
    framed = Image(torch.where(content, bright(grid), 0), grid)
    tensors = orientation(without_frames(framed, framed)[0])
    known = orientation(Image(bright(grid), grid)).data
    assert not tensors.data[:, :, ~content].any()
    kept = tensors.mask[0, 0] > 0
    assert float(kept[content].double().mean()) > (0.7 if ndim == 2 else 0.3)
    strong = kept & (known[0, -1] > 0.3)
    alike = (tensors.data * known).sum(1)[0] / (tensors.data.norm(dim=1) * known.norm(dim=1))[0].clamp(min=1e-9)
    assert float((alike[strong] > 0.98).double().mean()) > 0.95


@pytest.mark.parametrize("kind", ["nuclei", "spots", "binary", "labels"])
@pytest.mark.parametrize("number", range(3))
def test_the_ground_of_objects_is_no_frame(kind: str, number: int) -> None:
    """Of three kinds of noise."""
    problem = kinds.problem(kind, number)
    for pixels in (problem.fixed, problem.moving):
        assert not frame(as_image(pixels, role="fixed").normalised()).any()


def test_objects_without_noise_keep_their_outlines() -> None:
    grid = Grid.regular((100, 100))
    square = torch.zeros(1, 1, 100, 100)
    square[..., 30:70, 30:70] = 1
    stripes = (torch.arange(100) // 10 % 2).float().expand(1, 1, 100, 100).contiguous()
    for pixels in (square, disc(grid)[None, None].float(), stripes):
        assert not frame(Image(pixels, grid)).any()


def test_dark_content_inside_and_dark_content_on_the_border_are_no_frames() -> None:
    """As dark as it gets; what meets the border does not surround the rest."""
    grid = Grid.regular((100, 100))
    for part in (np.s_[40:60, 40:60], np.s_[0:30, 30:70]):
        pixels = bright(grid)
        pixels[(..., *part)] = 0
        assert not frame(Image(pixels, grid)).any()


def specimen(grid: Grid, rich: bool) -> Image:
    """A kidney on a gray ground with much to see inside, or with nothing but a faint change."""
    points = (world_points(grid) - grid.centre) / grid.size.min()
    x, y = points[:, 0], points[:, 1]
    inside = ((x / 0.42) ** 2 + (y / 0.3) ** 2 < 1) & (x**2 + (y + 0.35) ** 2 > 0.2**2)
    pixels = (bright(grid) - 0.2) * 1.3 + 0.08 if rich else 0.7 + 0.02 * bright(grid)
    return Image(torch.where(inside.view(grid.shape), pixels, 0.4), grid)


def test_the_ground_of_a_specimen_is_left_out_in_both_images_or_in_neither() -> None:
    grid = Grid.regular((160, 160))
    rich, poor = specimen(grid, rich=True), specimen(grid, rich=False)
    assert float(frame(rich).max()) == GROUND
    assert not frame(poor).any()
    for image in without_frames(rich, rich):
        assert not image.mask[..., :20, :20].any()
        assert image.mask[..., 75:85, 75:85].all()
    assert [image.mask for image in without_frames(rich, poor)] == [None, None]


def test_the_ground_of_a_volume_is_no_frame() -> None:
    """A head with much to see inside, round or long, whole or cut by the volume's side: its outline says how it is turned."""
    grid = Grid.regular((48, 48, 48))
    points = (world_points(grid) - grid.centre) / grid.size.min()
    for middle, sides in ((0.0, (0.38, 0.38, 0.38)), (0.0, (0.3, 0.4, 0.35)), (0.2, (0.38, 0.38, 0.38))):
        places = (points - middle * torch.eye(3)[0]) / torch.tensor(sides)
        inside = places.square().sum(1).view(grid.shape) < 1
        assert not frame(Image(torch.where(inside, bright(grid), 0), grid)).any()


def test_a_picture_s_frame_is_left_out_whatever_the_other_image_shows() -> None:
    grid = Grid.regular((120, 120))
    framed = Image(torch.where(disc(grid), bright(grid), 0), grid)
    plain = Image(bright(grid), grid)
    one, other = without_frames(framed, plain)
    assert one.mask is not None
    assert other is plain


def test_a_mask_of_the_user_is_kept_and_never_emptied() -> None:
    grid = Grid.regular((120, 120))
    content = disc(grid)
    pixels = torch.where(content, bright(grid), 0)
    left = torch.zeros(1, 1, 120, 120)
    left[..., :60] = 1
    mask = without_frames(*[Image(pixels, grid, left)] * 2)[0].mask
    assert not mask[..., 60:].any()
    assert not mask[0, 0][~content].any()
    corner = torch.zeros(1, 1, 120, 120)
    corner[..., :10, :10] = 1
    assert torch.equal(without_frames(*[Image(pixels, grid, corner)] * 2)[0].mask, corner)


def test_an_image_in_a_batch_has_the_frame_it_has_alone() -> None:
    grid = Grid.regular((120, 120))
    images = [
        Image(torch.where(disc(grid), bright(grid), 0), grid),
        Image(bright(grid), grid),
        specimen(grid, rich=True),
    ]
    together = frame(batch(images))
    assert torch.equal(together, torch.cat([frame(image) for image in images]))
    masks = without_frames(batch(images), batch(images[::-1]))[0].mask
    for number, (one, other) in enumerate(zip(images, images[::-1], strict=True)):
        alone = without_frames(one, other)[0].mask
        assert torch.equal(masks[number, None], torch.ones_like(one.data) if alone is None else alone)


def test_what_is_left_out_next_to_a_mask_is_less_in_a_small_image() -> None:
    for side, reach in ((16, 1), (32, 2), (48, BLURRED), (200, BLURRED)):
        mask = torch.ones(1, 1, side, side)
        mask[..., : side // 2] = 0
        kept = orientation(Image(torch.rand(1, 1, side, side), Grid.regular((side, side)), mask)).mask
        assert int(kept[0, 0, side // 2].argmax()) == side // 2 + reach
