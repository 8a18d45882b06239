"""Where to start: shifts that are known, on blobs that are known."""

import numpy as np
import pytest
import torch
from problems import oblique, photograph, scene, translation
from tolerances import EXACT
from torch import Tensor

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import apply
from drmime.image.door import as_image
from drmime.image.image import Image, batch
from drmime.parts import PROPOSERS
from drmime.start.plan import Start
from drmime.start.propose.base import Proposer
from drmime.start.propose.simple import Centre, Identity, Mass

SHAPES = {2: (40, 52), 3: (20, 26, 22)}
ROUNDING = 1e-4  # pixels, of sums over images in float32


def blob(grid: Grid, middle: Tensor, width: float = 2.0, dark: bool = False, channels: int = 1) -> Image:
    """A Gaussian blob around the world point `middle`, which is small enough to lie inside as a whole."""
    points = apply(grid.world_from_index, grid.index_points())[0]
    values = torch.exp(-0.5 * ((points - middle) / width).square().sum(-1)).view(grid.shape)
    values = 0.9 - 0.7 * values if dark else 0.1 + 0.7 * values
    return Image(values.float().expand(1, channels, *grid.shape).contiguous(), grid)


def middles(grid: Grid) -> tuple[Tensor, Tensor]:
    """Two world points, some pixels off the centre."""
    off = torch.tensor([1.7, -1.2, 0.9], dtype=torch.float64)[: grid.ndim] * grid.spacing.min()
    return grid.centre + off, grid.centre - 0.8 * off.flip(0)


@pytest.fixture
def straight(ndim: int) -> Grid:
    return Grid.regular(SHAPES[ndim])


def test_identity_leaves_the_worlds_as_they_are(straight: Grid) -> None:
    image = blob(straight, straight.centre)
    assert torch.equal(Identity()(image, image), torch.eye(straight.ndim + 1, dtype=torch.float64)[None])


def test_centre_takes_the_middle_of_one_grid_to_that_of_the_other(ndim: int) -> None:
    fixed_grid = oblique(SHAPES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=7.0)
    moving_grid = Grid.regular([length + 5 for length in SHAPES[ndim]], [3.0] * ndim)
    matrix = Centre()(blob(fixed_grid, fixed_grid.centre), blob(moving_grid, moving_grid.centre))
    assert matrix.shape == (1, ndim + 1, ndim + 1)
    assert torch.equal(matrix[0, :-1, :-1], torch.eye(ndim, dtype=torch.float64))
    assert torch.allclose(apply(matrix[0], fixed_grid.centre[None])[0][0], moving_grid.centre, atol=100 * EXACT)


@pytest.mark.parametrize("dark", [False, True], ids=["bright on dark", "dark on bright"])
def test_mass_takes_blob_to_blob(straight: Grid, dark: bool) -> None:
    here, there = middles(straight)
    matrix = Mass()(blob(straight, here, dark=dark), blob(straight, there, dark=dark))
    assert torch.allclose(matrix[0], translation(*(there - here).tolist()), atol=ROUNDING)


def test_a_dark_blob_weighs_as_a_bright_one(straight: Grid) -> None:
    here, there = middles(straight)
    bright = Mass()(blob(straight, here), blob(straight, there))
    for fixed_dark, moving_dark in ((True, True), (True, False), (False, True)):
        shift = Mass()(blob(straight, here, dark=fixed_dark), blob(straight, there, dark=moving_dark))
        assert torch.allclose(shift, bright, atol=ROUNDING)


def test_mass_is_in_world_units_on_grids_of_unlike_spacing(ndim: int) -> None:
    fixed_grid = oblique([2 * length for length in SHAPES[ndim]], (0.7, 0.5, 0.6)[-ndim:], offset=7.0)
    moving_grid = Grid.regular(SHAPES[ndim], (1.0, 1.2, 1.1)[-ndim:])
    here, there = middles(fixed_grid)[0], middles(moving_grid)[1]
    matrix = Mass()(blob(fixed_grid, here, 1.5), blob(moving_grid, there, 1.5))
    assert torch.allclose(apply(matrix[0], here[None])[0][0], there, atol=10 * ROUNDING)
    assert torch.equal(matrix[0, :-1, :-1], torch.eye(ndim, dtype=torch.float64))


def test_channels_weigh_together(straight: Grid) -> None:
    here, there = middles(straight)
    gray = Mass()(blob(straight, here), blob(straight, there))
    assert torch.allclose(Mass()(blob(straight, here, channels=3), blob(straight, there)), gray, atol=ROUNDING)


def masked(straight: Grid, here: Tensor, trash: float) -> Image:
    """A blob, and bright trash in a corner that the mask covers."""
    image = blob(straight, here)
    corner = tuple(slice(0, 5) for _ in straight.shape)
    data, mask = image.data.clone(), torch.ones_like(image.data)
    data[(0, 0, *corner)], mask[(0, 0, *corner)] = trash, 0
    return Image(data, straight, mask)


def test_what_a_mask_covers_weighs_nothing(straight: Grid) -> None:
    here, there = middles(straight)
    clean = Mass()(blob(straight, here), blob(straight, there))
    for trash in (9.0, -1e3):
        assert torch.allclose(Mass()(masked(straight, here, trash), blob(straight, there)), clean, atol=10 * ROUNDING)
        assert torch.allclose(Mass()(blob(straight, here), masked(straight, there, trash)), clean, atol=10 * ROUNDING)


def test_a_border_that_a_mask_covers_is_not_taken_for_the_background(straight: Grid) -> None:
    """A dark blob on bright ground in a frame of NaN, as a warp leaves it."""
    here, there = middles(straight)
    pixels = blob(straight, here, dark=True).data[0, 0].numpy()
    framed = np.full_like(pixels, np.nan)
    inner = tuple(slice(1, -1) for _ in pixels.shape)
    framed[inner] = pixels[inner]
    shift = Mass()(as_image(framed, role="fixed", nan="mask"), blob(straight, there, dark=True))[0, :-1, -1]
    assert torch.allclose(shift, there - here, atol=0.05)


def ready(name: str, straight: Grid) -> Proposer:
    """The proposer; landmarks are the corners, moved by a pixel, and a search is a short one."""
    corners = straight.corners().numpy()
    options = {
        "landmarks": {"fixed_points": corners, "moving_points": corners + 1},
        "search": {"size": 16, "step": 60, "scales": [1.0]},
    }
    return PROPOSERS[name](**options.get(name, {}))


@pytest.mark.parametrize("name", PROPOSERS)
def test_a_pair_starts_in_a_batch_where_it_starts_alone(name: str, straight: Grid) -> None:
    if name in ("features", "sift", "fourier_mellin") and straight.ndim == 3:
        pytest.skip("for two dimensions")
    pictures = [photograph(scene(straight, seed), grid=straight, dtype=torch.float32).normalised() for seed in range(2)]
    pictures.append(masked(straight, middles(straight)[0], 9.0))
    fixed, moving = pictures, [pictures[1], pictures[2], pictures[0]]
    start = ready(name, straight)
    alone = [start(f, m) for f, m in zip(fixed, moving, strict=True)]
    for candidates in alone:
        assert candidates.shape[1:] == (straight.ndim + 1, straight.ndim + 1)
        assert candidates.dtype == torch.float64
    if not all(map(len, alone)):
        with pytest.raises(InputError, match="found no start"):
            Start(given=start).matrices(batch(fixed), batch(moving))
        return
    together = Start(given=start).matrices(batch(fixed), batch(moving))
    assert torch.allclose(together, torch.stack([candidates[0] for candidates in alone]), atol=EXACT)
