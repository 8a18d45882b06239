"""Tensors of orientation: angles that are known, and edges that are nobody's."""

import math

import pytest
import torch
from problems import linear, oblique, photograph, rotation, world_points
from textures import busy, inverted
from tolerances import EXACT, TOLERANCE
from torch import Tensor

from drmime.compare.angle import GradientAngle
from drmime.geometry.grid import Grid
from drmime.image.image import Image, batch
from drmime.image.orientation import (
    EDGE,
    agreement,
    basis,
    components,
    gaussian,
    local_contrast,
    orientation,
    turned,
)

SHAPES = {2: (40, 52), 3: (20, 26, 22)}
LARGE = {2: (120, 100), 3: (32, 36, 40)}
AWAY = 4  # pixels from a border at which neither the Gaussian nor the difference sees it


def inner_part(data: Tensor, margin: int = AWAY) -> Tensor:
    return data[(..., *[slice(margin, -margin)] * (data.ndim - 2))]


def tensors_of(gradients: Tensor) -> Tensor:
    """Components of g gᵀ. (N, D) -> (N, m)"""
    return torch.einsum("aij,ni,nj->na", basis(gradients.shape[-1]), gradients, gradients)


def matrices_of(tensors: Tensor, ndim: int) -> Tensor:
    """The symmetric matrices that components (..., m) stand for. (..., D, D)"""
    return torch.einsum("...a,aij->...ij", tensors, basis(ndim).to(tensors))


def trace(tensors: Tensor, ndim: int) -> Tensor:
    return matrices_of(tensors, ndim).diagonal(dim1=-2, dim2=-1).sum(-1)


def traces(image: Tensor) -> Tensor:
    """(B, m, *shape) -> (B, *shape)"""
    return trace(image.movedim(1, -1), image.ndim - 2)


def turn_of(ndim: int, *angles: float) -> Tensor:
    """A rotation (D, D) in every plane."""
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    for axis, angle in zip(range(1, ndim), angles, strict=False):
        matrix = matrix @ rotation(ndim, angle, (axis - 1, axis))
    return matrix[:-1, :-1]


def noise(count: int, ndim: int) -> Tensor:
    return torch.randn(count, ndim, dtype=torch.float64)


@pytest.fixture
def plane(ndim: int) -> Grid:
    return Grid.regular(SHAPES[ndim])


@pytest.fixture
def large(ndim: int) -> Grid:
    return Grid.regular(LARGE[ndim])


# Angles


def test_the_inner_product_is_the_squared_cosine_of_the_angle_in_the_world(ndim: int) -> None:
    """Of linear ramps, on a grid that is oblique and has unlike spacings."""
    grid = oblique(SHAPES[ndim], (2.0, 0.5, 0.8)[-ndim:], offset=7.0)
    for a, b in noise(6, 2 * ndim).view(6, 2, ndim):
        here, there = (orientation(photograph(linear(g.tolist()), grid=grid)).data for g in (a, b))
        product = (here * there).sum(1) / (traces(here) * traces(there)).clamp(min=0.1)
        cosine = float(a @ b / (a.norm() * b.norm()))
        assert torch.allclose(inner_part(product[:, None]), torch.tensor(cosine**2).double(), atol=1e-6)


def test_the_trace_says_how_far_a_gradient_stands_out_of_the_noise(plane: Grid) -> None:
    """|g|² / (|g|² + σ²), with σ² a share of the mean of |g|²: of a ramp of one slope almost everywhere."""
    for share in (0.1, 0.5, 2.0):
        clear = traces(orientation(photograph(linear([0.01] * plane.ndim), grid=plane), noise=share).data)
        assert float(clear.max()) == pytest.approx(1 / (1 + share), abs=0.1)
    two = photograph(lambda p: torch.where(p[..., 0] < 26, 0.01, 0.03) * (p[..., 0] - 26), grid=Grid.regular((40, 52)))
    clear = traces(orientation(two, noise=1.0).data)[0]
    weak, strong = float(clear[20, 13]), float(clear[20, 39])
    assert (1 / weak - 1) / (1 / strong - 1) == pytest.approx(9, rel=1e-6)  # σ²/|g|² of each


def test_contrast_reversal_brightness_and_the_order_of_colours_change_nothing(plane: Grid) -> None:
    functions = [busy(plane, seed) for seed in range(3)]
    image = photograph(*functions, grid=plane)
    known = orientation(image).data
    for data in (
        1 - image.data,
        2 * image.data + 3,
        image.data.flip(1),
        image.data * torch.tensor([-1.0, 1, 1]).view(-1, *[1] * plane.ndim),
    ):
        assert torch.allclose(orientation(Image(data, plane)).data, known, atol=1e-9)


def test_a_gray_image_is_as_good_as_its_copies_in_three_colours(plane: Grid) -> None:
    image = photograph(busy(plane), grid=plane)
    colours = Image(image.data.repeat_interleave(3, 1), plane)
    assert torch.allclose(orientation(colours).data, orientation(image).data, atol=1e-9)


def test_spacing_is_told_by_the_world(ndim: int) -> None:
    """An image whose pixels are twice as long along one axis shows its gradients flatter there."""
    grid = Grid.regular(SHAPES[ndim], [2.0] + [1.0] * (ndim - 1))  # z or y, the last coordinate
    tensors = orientation(photograph(linear([1.0] * ndim), grid=grid)).data
    entries = matrices_of(inner_part(tensors).movedim(1, -1), ndim)
    assert torch.allclose(entries[..., 0, 0], entries[..., -1, -1], atol=1e-9)


# Turning


def test_turned_by_a_rotation_are_the_tensors_of_turned_gradients(ndim: int) -> None:
    gradients, turn = noise(50, ndim), turn_of(ndim, 0.7, -1.1)
    assert torch.allclose(turned(tensors_of(gradients), turn[None]), tensors_of(gradients @ turn), atol=100 * EXACT)


def test_turning_keeps_the_trace_and_any_factor_of_the_jacobian_is_the_same(ndim: int) -> None:
    tensors, jacobian = tensors_of(noise(50, ndim)), noise(ndim, ndim)[None]
    once = turned(tensors, jacobian)
    assert torch.allclose(trace(once, ndim), trace(tensors, ndim), rtol=1e-9)
    for factor in (1e-3, -2.0, 1e3):
        assert torch.allclose(turned(tensors, factor * jacobian), once, rtol=1e-7, atol=1e-9)


def test_turned_by_any_jacobian_a_gradient_has_the_direction_of_the_chain_rule(ndim: int) -> None:
    gradients, jacobian = noise(50, ndim), noise(ndim, ndim)
    pulled = gradients @ jacobian
    pulled = pulled * (gradients.norm(dim=1) / pulled.norm(dim=1))[:, None]
    assert torch.allclose(turned(tensors_of(gradients), jacobian[None]), tensors_of(pulled), atol=1e-9)


def test_two_turns_are_one(ndim: int) -> None:
    tensors, a, b = tensors_of(noise(50, ndim)), turn_of(ndim, 0.7, -1.1), turn_of(ndim, -0.4, 2.0)
    assert torch.allclose(turned(turned(tensors, a[None]), b[None]), turned(tensors, (a @ b)[None]), atol=100 * EXACT)
    assert torch.allclose(turned(turned(tensors, a[None]), a.T[None]), tensors, atol=100 * EXACT)


def test_the_inner_product_of_two_tensors_turned_alike_stays(ndim: int) -> None:
    one, two, turn = tensors_of(noise(50, ndim)), tensors_of(noise(50, ndim)), turn_of(ndim, 0.7, -1.1)[None]
    assert torch.allclose((turned(one, turn) * turned(two, turn)).sum(1), (one * two).sum(1), atol=1000 * EXACT)


def test_a_jacobian_for_each_point_is_as_good_as_one_at_a_time(ndim: int) -> None:
    tensors, jacobians = tensors_of(noise(20, ndim)), noise(20 * ndim, ndim).view(20, ndim, ndim)
    alone = torch.cat([turned(tensors[i, None], jacobians[i, None]) for i in range(20)])
    assert torch.allclose(turned(tensors, jacobians), alone, atol=1e-9)
    batched = turned(tensors.view(4, 5, -1), jacobians[::5][:, None])
    alone = torch.stack([turned(tensors.view(4, 5, -1)[i], jacobians[5 * i, None]) for i in range(4)])
    assert torch.allclose(batched, alone, atol=1e-9)


def test_what_was_turned_without_gradients_first_has_them_later(ndim: int) -> None:
    basis.cache_clear()
    tensors, turn = noise(5, components(ndim)), turn_of(ndim, 0.3, 0.4)[None]
    with torch.inference_mode():
        turned(tensors, turn)
    assert turned(tensors.requires_grad_(), turn.requires_grad_()).sum().backward() is None
    assert tensors.grad is not None


def test_nothing_turned_is_nothing(ndim: int) -> None:
    zeros = torch.zeros(4, components(ndim))
    assert torch.equal(turned(zeros, turn_of(ndim, 0.3, 0.4)[None]), zeros)


def test_an_image_turned_by_a_right_angle_has_turned_tensors(ndim: int) -> None:
    """Of whole images: every pixel but those whose frame is told on a grid of cells."""
    grid = Grid.regular((30,) * ndim)
    image = photograph(busy(grid), grid=grid)
    other = Image(torch.rot90(image.data, 1, (-2, -1)), grid)  # shows at x, y what was at -y, x, from the middle
    turn = rotation(ndim, math.pi / 2)[:-1, :-1]
    read = torch.rot90(orientation(image).data, 1, (-2, -1)).flatten(2).transpose(1, 2)
    found = orientation(other).data.flatten(2).transpose(1, 2)
    assert min(float((found - turned(read, m[None, None])).abs().max()) for m in (turn, turn.T)) < 1e-9
    assert float((found - read).abs().max()) > 0.1


def test_on_a_turned_grid_the_world_has_the_same_tensors(ndim: int) -> None:
    """A scene read by two cameras, one on the same pixels with its axes swapped about."""
    grid = Grid.regular(SHAPES[ndim])
    image = photograph(busy(grid), grid=grid)
    order = [*range(1, ndim), 0]
    shape = tuple(grid.shape[axis] for axis in order)
    columns = [ndim - 1 - axis for axis in order][::-1]
    matrix = grid.world_from_index[:, [*columns, ndim]]
    other = photograph(busy(grid), grid=Grid(shape, matrix))
    assert torch.equal(other.data, image.data.permute(0, 1, *[axis + 2 for axis in order]))
    known = orientation(image).data.permute(0, 1, *[axis + 2 for axis in order])
    assert torch.allclose(orientation(other).data, known, atol=1e-9)


# Components


def test_components_count_an_orthonormal_basis_of_which_the_last_alone_has_a_trace(ndim: int) -> None:
    matrices = basis(ndim)
    assert matrices.shape == (components(ndim), ndim, ndim)
    assert torch.allclose(torch.einsum("aij,bij->ab", matrices, matrices), torch.eye(len(matrices)).double(), atol=EXACT)
    assert torch.equal(matrices, matrices.mT)
    assert torch.allclose(matrices[-1], torch.eye(ndim).double() / math.sqrt(ndim), atol=EXACT)


def test_the_inner_product_without_the_last_component_is_what_is_beyond_chance(ndim: int) -> None:
    a, b = tensors_of(noise(50, ndim)) + tensors_of(noise(50, ndim)), tensors_of(noise(50, ndim))
    known = (a * b).sum(1) - trace(a, ndim) * trace(b, ndim) / ndim
    assert torch.allclose((a * b)[:, :-1].sum(1), known, atol=1000 * EXACT)


def test_in_the_plane_components_are_the_double_angle() -> None:
    angle = torch.linspace(0, 7, 50, dtype=torch.float64)
    gradients = torch.stack([angle.cos(), angle.sin()], 1)
    double = torch.stack([(2 * angle).cos(), (2 * angle).sin()], 1) / math.sqrt(2)
    assert torch.allclose(tensors_of(gradients)[:, :-1], double, atol=EXACT)


def test_agreement_of_random_directions_has_the_variance_it_says(ndim: int) -> None:
    first, second = (tensors_of(torch.nn.functional.normalize(noise(400 * 200, ndim), dim=1)).view(400, 200, -1) for _ in "ab")
    weight = torch.linspace(0, 1, 200, dtype=torch.float64).round().expand(400, -1)
    total, variance = agreement(first, second, weight)
    standard = total / variance.sqrt()
    assert abs(float(standard.mean())) < 3 / math.sqrt(400)
    assert float(standard.std()) == pytest.approx(1, abs=3 / math.sqrt(800))


# Edges that are nobody's


def test_the_border_of_an_image_is_no_edge(plane: Grid) -> None:
    tensors = orientation(photograph(busy(plane), grid=plane)).data
    rim = torch.ones(plane.shape, dtype=torch.bool)
    rim[tuple(slice(EDGE, -EDGE) for _ in plane.shape)] = False
    assert not tensors[:, :, rim].any()
    assert (traces(tensors)[:, ~rim] > 0).float().mean() > 0.9


@pytest.mark.parametrize("trash", [0.0, 1.0])
def test_the_border_of_a_mask_is_no_edge(large: Grid, trash: float) -> None:
    """Nor does what the mask covers matter."""
    image = photograph(busy(large), grid=large).normalised()
    mask = torch.ones_like(image.data)
    mask[(..., *[slice(10, 20) for _ in large.shape])] = 0
    covered = orientation(Image(torch.where(mask > 0, image.data, trash), large, mask))
    assert not covered.data[(..., *[slice(10 - EDGE, 20 + EDGE) for _ in large.shape])].any()
    mended = orientation(Image(torch.where(mask > 0, image.data, 0.5), large, mask)).data
    assert torch.allclose(covered.data, mended, atol=1e-9)


def test_a_constant_image_has_no_direction(plane: Grid) -> None:
    for value in (0.0, 0.3, 1.0):
        image = Image(torch.full((1, 2, *plane.shape), value), plane)
        assert float(orientation(image).data.abs().max()) < 0.01  # and not NaN
        assert float(local_contrast(image).abs().max()) < 0.01


def test_a_specimen_on_empty_ground_keeps_its_outline() -> None:
    """A blob that fills less than a tenth is what there is to see, and not content in a frame."""
    grid = Grid.regular((100, 100))
    distance = (world_points(grid) - grid.centre).norm(dim=1).view(grid.shape)
    image = Image((distance < 15).float()[None, None], grid)
    assert float(traces(orientation(image).data)[0][(distance - 15).abs() < 1].min()) > 0.3


def test_dark_content_inside_is_no_frame() -> None:
    """As dark as it gets, but not on the border."""
    grid = Grid.regular((100, 100))
    pixels = photograph(busy(grid), grid=grid).normalised().data * 0.8 + 0.2
    pixels[..., 40:60, 40:60] = 0
    tensors = traces(orientation(Image(pixels, grid)).data)[0]
    assert float(tensors[40, 44:56].min()) > 0.2


def test_one_pixel_across_is_no_crash(ndim: int) -> None:
    image = Image(torch.rand(1, 1, *(1, 40, 12)[:ndim]), Grid.regular((1, 40, 12)[:ndim]))
    assert not orientation(image).data.any()


def test_an_image_in_a_batch_has_the_tensors_it_has_alone(plane: Grid) -> None:
    images = [photograph(busy(plane, seed), grid=plane, dtype=torch.float32).normalised() for seed in range(3)]
    images[1] = Image(images[1].data, plane, (torch.rand(1, 1, *plane.shape) > 0.01).float())
    images[2] = Image(torch.where(torch.arange(plane.shape[-1]) < 12, 0, images[2].data), plane)
    together = batch(images)
    for describe in (orientation, GradientAngle().describe):
        alone = torch.cat([describe(image).data for image in images])
        assert torch.allclose(describe(together).data, alone, atol=10 * TOLERANCE[torch.float32])
    alone = torch.cat([local_contrast(image) for image in images])
    assert torch.allclose(local_contrast(together), alone, atol=1e-3)


# Helpers


def test_the_gaussian_keeps_sums_and_widens_by_its_variance(ndim: int) -> None:
    data = torch.zeros(1, 1, *(25,) * ndim, dtype=torch.float64)
    data[(..., *(12,) * ndim)] = 1
    blurred = gaussian(data, 1.5)
    place = torch.arange(25, dtype=torch.float64) - 12
    assert float(blurred.sum()) == pytest.approx(1)
    for axis in range(2, ndim + 2):
        profile = blurred.sum([a for a in range(ndim + 2) if a != axis])
        assert float(profile @ place) == pytest.approx(0, abs=1e-12)
        assert float(profile @ place**2) == pytest.approx(1.5**2, rel=0.05)  # cut off at three widths
    assert torch.allclose(gaussian(torch.ones_like(data), 1.5), torch.ones_like(data), atol=EXACT)


def test_local_contrast_is_without_an_affine_change_of_intensities(large: Grid) -> None:
    image = photograph(busy(large), grid=large)
    known = local_contrast(image)
    assert torch.allclose(local_contrast(Image(3 * image.data - 7, large)), known, atol=1e-3)
    assert torch.allclose(local_contrast(Image(-image.data, large)), -known, atol=1e-3)


def test_local_contrast_is_without_shading(large: Grid) -> None:
    image = photograph(busy(large), grid=large)
    share = world_points(large).view(*large.shape, -1)[..., 0] / large.size[0]
    shaded = Image(image.data * (0.4 + share) + 3 * share, large)
    pairs = [
        torch.stack([one.flatten(), other.flatten()]).corrcoef()[0, 1]
        for one, other in ((image.data, shaded.data), (local_contrast(image), local_contrast(shaded)))
    ]
    assert float(pairs[0]) < 0.6
    assert float(pairs[1]) > 0.95


def test_local_contrast_sees_nothing_of_what_a_mask_covers(large: Grid) -> None:
    image = photograph(busy(large), grid=large)
    mask = torch.ones_like(image.data)
    mask[(..., *[slice(10, 20) for _ in large.shape])] = 0
    found = [local_contrast(Image(torch.where(mask > 0, image.data, trash), large, mask)) for trash in (0.0, 9.0)]
    assert torch.allclose(found[0] * mask, found[1] * mask, atol=1e-9)


def test_inverted_scenes_agree_in_lines_and_not_in_intensities(large: Grid) -> None:
    scene = busy(large)
    one, two = photograph(scene, grid=large), photograph(inverted(scene), grid=large)
    assert float(torch.stack([one.data.flatten(), two.data.flatten()]).corrcoef()[0, 1]) < -0.8
    here, there = orientation(one).data, orientation(two).data
    strong = (traces(here) > 0.3) & (traces(there) > 0.3)
    product = (here * there).sum(1) / (traces(here) * traces(there)).clamp(min=1e-9)
    assert float(product[strong].min()) > 0.9
