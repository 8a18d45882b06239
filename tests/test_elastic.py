"""Deformations: the field between control points, the flow, the model, its stage, and what held-out blocks say of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import interpolate
from textures import busy
from tolerances import EXACT, MIDPOINT, TOLERANCE

import drmime
import drmime.transform.formats.files
from drmime import InputError, Interrupted, register
from drmime.geometry.grid import Grid
from drmime.holdout import Blocks
from drmime.image.image import Image
from drmime.image.pyramid import Pyramid
from drmime.optimise import Step, Stop
from drmime.transform.base import Chain, Held, Hints, Transform
from drmime.transform.elastic import BSpline, Elastic, Polyaffine, Velocity
from drmime.transform.field import FieldTransform
from drmime.transform.lattice import Lattice
from drmime.transform.lattice_model import LatticeModel
from drmime.transform.lattice_transform import BSplineTransform, VelocityTransform, flow
from drmime.transform.linear import LieTransform, MatrixTransform

ALL = slice(0, 1)


def grid_of(ndim: int) -> Grid:
    return Grid.regular((40, 60, 50)[-ndim:], (1.0, 2.0, 1.0)[-ndim:])


def model(ndim: int, start: torch.Tensor | None = None, **options: float) -> LatticeModel:
    grid = grid_of(ndim)
    start = torch.eye(ndim + 1, dtype=torch.float64)[None] if start is None else start
    return Velocity(spacing=20.0, **options).fits()[0].model(start, grid, grid)


def fill(made: LatticeModel, size: float = 0.05) -> LatticeModel:
    with torch.no_grad():
        for weights in made.coefficients.parameters():
            weights.copy_(size * torch.randn_like(weights))
    return made


def frame_points(ndim: int, count: int = 40) -> torch.Tensor:
    return 1.6 * torch.rand(1, count, ndim, dtype=torch.float64) - 0.8


# ---- the field


def test_the_field_is_a_cubic_b_spline() -> None:
    lattice = Lattice((9,), (-3.0,), 0.75)
    coefficients = torch.randn(1, 1, 9, dtype=torch.float64)
    places = torch.linspace(-2.2, 2.2, 50, dtype=torch.float64)
    knots = -3.0 + 0.75 * np.arange(-2, 11)  # of splines centred on the control points
    expected = interpolate.BSpline(knots, coefficients[0, 0].numpy(), 3)(places.numpy())
    wide = Lattice((4, 9), (-3.0, -1.0), 0.75)  # the same along y
    found = wide.at(coefficients[:, :, None].expand(-1, -1, 4, -1), torch.stack([places, 0 * places], -1)[None])
    assert np.allclose(found[0, :, 0].numpy(), expected, rtol=0, atol=EXACT)
    assert lattice.spacing == wide.spacing


def test_the_field_keeps_constants_and_slopes(ndim: int) -> None:
    lattice = Lattice.over(grid_of(ndim), 0.3)
    axes = [
        torch.arange(n, dtype=torch.float64) * 0.3 + first for n, first in zip(lattice.shape[::-1], lattice.first, strict=True)
    ]
    places = torch.stack(torch.meshgrid(*axes[::-1], indexing="ij")[::-1])[None]  # the coordinates as coefficients
    points = frame_points(ndim) * grid_of(ndim).extent / grid_of(ndim).extent.max()
    assert torch.allclose(lattice.at(places, points), points, rtol=0, atol=100 * EXACT)


def test_the_lattice_covers_the_image(ndim: int) -> None:
    grid = grid_of(ndim)
    lattice = Lattice.over(grid, 0.3)
    half = grid.extent / grid.extent.max()
    last = torch.tensor(lattice.first) + 0.3 * (torch.tensor(lattice.shape[::-1]) - 1)
    assert (torch.tensor(lattice.first) <= -half - 0.3 + 1e-6).all()
    assert (last >= half + 0.3 - 1e-6).all()


def test_the_flow_of_a_linear_field_is_the_matrix_exponential(ndim: int) -> None:
    generator = 0.4 * torch.randn(ndim, ndim, dtype=torch.float64)
    points = frame_points(ndim)
    found = flow(lambda places: places @ generator.mT, points, 32)
    assert torch.allclose(found, points @ torch.linalg.matrix_exp(generator).mT, rtol=0, atol=1e-7)


# ---- the model


def test_no_waves_give_the_start(ndim: int) -> None:
    start = torch.eye(ndim + 1, dtype=torch.float64)
    start[0, 1], start[0, -1] = 0.2, 5
    made = model(ndim, start[None])
    (found,) = made.result()
    assert torch.equal(found.matrix, start)  # type: ignore[attr-defined]
    points = frame_points(ndim)[None]
    world = made.fixed.world_from_frame
    expected = torch.linalg.inv(world) @ start @ world
    there = made(points, ALL)
    assert torch.allclose(there.points[0, 0], points[0, 0] @ expected[:-1, :-1].mT + expected[:-1, -1], rtol=0, atol=EXACT)
    assert there.valid.all()


def test_the_result_maps_as_the_model(ndim: int) -> None:
    start = torch.eye(ndim + 1, dtype=torch.float64).repeat(2, 1, 1)
    start[1, 0, 0], start[1, -1, 0] = 1.1, 1e-3  # projective
    made = fill(model(ndim, start))
    points = frame_points(ndim)[None]
    world = made.fixed.world_from_frame
    here = points[0, 0] @ world[:-1, :-1].mT + world[:-1, -1]
    for number, transform in enumerate(made.result()):
        there = made(points, ALL).points[0, number] @ world[:-1, :-1].mT + world[:-1, -1]
        assert (transform(here) - here).norm(dim=1).max() > 1
        assert (transform(here) - there).norm(dim=1).max() < 2e-3 * float(made.fixed.extent.max())  # another rule


def test_the_derivative_for_the_metric_is_near_the_true_one(ndim: int) -> None:
    made = fill(model(ndim), 0.02)
    points = frame_points(ndim)[None]
    world = made.fixed.world_from_frame
    here = points[0, 0] @ world[:-1, :-1].mT + world[:-1, -1]
    found, exact = made(points, ALL).jacobian[0, 0], made.result()[0].jacobian(here)
    off, change = (found - exact).abs().mean(), (exact - torch.eye(ndim)).abs().mean()
    assert off < 0.35 * change


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pairs_of_a_batch_are_as_alone_and_levels_alike(ndim: int, dtype: torch.dtype) -> None:
    made = fill(model(ndim, torch.eye(ndim + 1, dtype=torch.float64).repeat(3, 1, 1)))
    alone = model(ndim)
    points = torch.rand(2, 3, 30, ndim, dtype=dtype) - 0.5
    found = made(points, slice(0, 2)).points
    for pair in range(3):
        with torch.no_grad():
            alone.coefficients.weights.copy_(made.coefficients.weights[pair, None])
        assert torch.allclose(
            alone(points[:, pair, None], slice(0, 2)).points[:, 0], found[:, pair], rtol=0, atol=TOLERANCE[dtype]
        )


def test_the_penalty_is_that_of_the_formula() -> None:
    bending, volume = model(2, bending=1.0), model(2, bending=0.0, volume=1.0)
    lattice = bending.lattice
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) * lattice.spacing for n in lattice.shape), indexing="ij")
    wanted = torch.stack([x**2 + 3 * x * y, 0.5 * y])[None]  # second derivatives 2 and 3; divergence 2 x + 3 y + 0.5
    for one in (bending, volume):
        waves = wanted
        for axis in (0, 1):
            waves = torch.tensordot(waves, torch.linalg.inv(getattr(one.coefficients, f"cosines{axis}")), dims=([2], [0]))
        with torch.no_grad():
            one.coefficients.weights.copy_(waves / one.coefficients.damping)
    assert float(bending.penalty().detach()) == pytest.approx(2**2 + 2 * 3**2)
    inner = (2 * x + lattice.spacing + 3 * y + 0.5)[:-1, :-1]  # forward differences
    assert float(volume.penalty().detach()) == pytest.approx(float((inner**2).mean()))
    assert float(model(2, bending=0.0).penalty().detach()) == 0


@pytest.mark.parametrize("family", [Velocity, BSpline, Polyaffine])
def test_smoother_models_go_from_none_to_nearly_all(family: type[Elastic], ndim: int) -> None:
    start = torch.eye(ndim + 1, dtype=torch.float64)[None]
    made = fill(family().fits()[0].model(start, grid_of(ndim), grid_of(ndim)))
    lengths = [float(one.field().detach().norm()) for one in (*made.smoother(), made)]  # type: ignore[attr-defined, operator]
    assert lengths[0] == 0
    assert lengths == sorted(lengths)


def test_regions_that_move_alike_are_one_matrix_exponential(ndim: int) -> None:
    grid = grid_of(ndim)
    made = Polyaffine().model(torch.eye(ndim + 1, dtype=torch.float64)[None], grid, grid)
    velocity = torch.zeros(ndim + 1, ndim + 1, dtype=torch.float64)
    velocity[:-1] = 0.05 * torch.randn(ndim, ndim + 1, dtype=torch.float64)
    about = made.coefficients.basis.flatten(2)  # shape: (R, K, D * (D + 1))
    weights = torch.linalg.lstsq(about.mT, velocity[:-1].flatten().expand(len(about), -1)[..., None]).solution[..., 0]
    with torch.no_grad():
        made.coefficients.weights.copy_(weights[None])
    points = frame_points(ndim) * grid.extent / grid.extent.max()
    expected = torch.linalg.matrix_exp(velocity)
    found = made(points[None], ALL).points[0]
    assert torch.allclose(found, points @ expected[:-1, :-1].mT + expected[:-1, -1], rtol=0, atol=MIDPOINT)


@pytest.mark.parametrize("family", [Velocity, BSpline, Polyaffine])
def test_what_is_held_stays_where_it_is(family: type[Elastic], ndim: int) -> None:
    grid = grid_of(ndim)
    mask = torch.zeros(1, *grid.shape, dtype=torch.bool)
    mask[(0, *(slice(8, 12),) * ndim)] = True
    start = torch.eye(ndim + 1, dtype=torch.float64)[None]
    start[0, 0, -1] = 3.0
    made = fill(family().fits()[0].model(start, grid, grid, Hints(held=Held(mask, grid))), 0.2)
    (found,) = made.result()
    points = grid.index_points().reshape(*grid.shape, ndim)
    world = points @ grid.world_from_index[:-1, :-1].mT + grid.world_from_index[:-1, -1]
    moved = found(world) - world - start[0, :-1, -1]
    assert moved[mask[0]].abs().max() < EXACT
    assert moved.norm(dim=-1).max() > 0.5


@pytest.mark.parametrize("family", [Velocity, BSpline, Polyaffine])
def test_a_mask_that_leaves_nothing_free_is_refused(family: type[Elastic]) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match=r"affine_mask: expected some place that may be deformed"):
        register(pixels, pixels, transform=["affine", family()], affine_mask=np.ones((40, 44)))


@pytest.mark.parametrize(
    ("mask", "transform", "words"),
    [
        (np.ones((40, 44)), "affine", "expected a deformation"),
        (np.ones((40, 40)), "affine+velocity", "affine mask: expected the image's shape"),
        (np.zeros((40, 44)), "affine+velocity", "affine mask: expected at least one nonzero pixel"),
        ("none.png", "affine+velocity", "none.png"),
    ],
)
def test_a_wrong_affine_mask_is_one_clear_error(mask: object, transform: str, words: str) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match=words):
        register(pixels, pixels, transform=transform, affine_mask=mask)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing": 0.5}, "at least 2 pixels"),
        ({"spacing": -1.0}, "above 0"),
        ({"smoothness": -1.0}, "smoothness"),
        ({"steps": 0}, "steps"),
        ({"rate": []}, "expected as many of each"),
        ({"rate": [0.1, 0.2, 0.3]}, "expected as many of each"),
        ({"rate": [0.1, -0.2]}, "rate"),
        ({"rate": 0.0}, "rate"),
        ({"chance": 0}, "chance"),
        ({"chance": 1.5}, "chance"),
        ({"stiffness": 1}, "unknown option"),
        ({"name": "polyaffine", "spacing": 6.0}, "at least 8 pixels"),
        ({"name": "polyaffine", "generators": "projective"}, "affine"),
        ({"name": "bspline", "spacing": 0.5}, "at least 2 pixels"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, float], words: str) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match=words):
        register(pixels, pixels, transform=["affine", {"name": "velocity", **options}])


@pytest.mark.parametrize(
    "stages", ["velocity+affine", "affine+velocity+velocity", "bspline+velocity", [], "affine+", "affine+velocty"]
)
def test_a_wrong_order_of_stages_is_one_clear_error(stages: object) -> None:
    pixels = np.random.default_rng(0).random((40, 44))
    with pytest.raises(InputError, match=r"transform"):
        register(pixels, pixels, transform=stages)  # type: ignore[call-overload]


# ---- the stage


def bent_pair(share: float = 0.03, side: int = 96) -> tuple[np.ndarray, np.ndarray, VelocityTransform]:
    """An image, a bent copy in other intensities, and the map from the first to the second."""
    grid = Grid.regular((side, side))
    scene = busy(grid, seed=3)
    lattice = Lattice.over(grid, 0.8)
    random = torch.Generator().manual_seed(1)
    velocities = share * 2 * torch.randn(2, *lattice.shape, dtype=torch.float64, generator=random)
    back = VelocityTransform(velocities, lattice, grid.world_from_frame)
    fixed, moving = (scene(points).view(side, side).numpy() for points in (grid.index_points(), back(grid.index_points())))
    return fixed, np.exp(-moving), back.inverse()


ONE = {"name": "velocity", "steps": 120, "rate": 0.005, "smoothness": 2.0, "spacing": 10.0}  # one fit
QUICK = ["affine", ONE]


def test_a_deformation_is_found() -> None:
    """On average over three seeds, of which one alone varies by a tenth."""
    fixed, moving, truth = bent_pair()
    points = 10 + 76 * torch.rand(200, 2, dtype=torch.float64)
    before = (truth(points) - points).norm(dim=1).mean()
    linear = register(fixed, moving, start=None, levels=3)
    after_linear = (torch.as_tensor(linear.to_moving(points)) - truth(points)).norm(dim=1).mean()
    results = [register(fixed, moving, transform=QUICK, start=None, levels=3, seed=seed) for seed in range(3)]
    errors = [(torch.as_tensor(found.to_moving(points)) - truth(points)).norm(dim=1).mean() for found in results]
    assert sum(errors) / len(errors) < 0.3 * after_linear < 0.3 * before
    result = results[0]
    assert isinstance(result.transform, Chain)
    assert result.folded == 0
    assert result.inverse_error < 0.1
    assert result.stop is Stop.STEPS
    with pytest.raises(InputError, match="one matrix"):
        _ = result.matrix
    assert len(result.history) == len(linear.history) + 30 + 120


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bspline", "polyaffine"])
def test_other_families_find_it_too(name: str) -> None:
    fixed, moving, truth = bent_pair()
    spacing = {"bspline": 10.0, "polyaffine": 30.0}[name]
    one = {} if name == "polyaffine" else {"smoothness": 2.0}
    stages = ["affine", {"name": name, "steps": 120, "rate": 0.005, "spacing": spacing} | one]
    result, linear = (register(fixed, moving, transform=one, start=None, levels=3) for one in (stages, "affine"))
    points = 10 + 76 * torch.rand(200, 2, dtype=torch.float64)
    errors, before = ((torch.as_tensor(one.to_moving(points)) - truth(points)).norm(dim=1) for one in (result, linear))
    assert errors.mean() < 0.5 * before.mean()
    assert result.folded == 0
    assert result.inverse_error < 0.1


@pytest.mark.slow
def test_an_affine_mask_keeps_its_place_affine() -> None:
    fixed, moving, _ = bent_pair()
    mask = np.zeros(fixed.shape)
    mask[30:50, 40:60] = 1
    result, linear = (
        register(fixed, moving, transform=one, start=None, levels=3, affine_mask=mask if one is QUICK else None)
        for one in (QUICK, "affine")
    )
    rows, columns = np.nonzero(mask)
    inside, everywhere = np.stack([columns, rows], 1), np.argwhere(mask == 0)[:, ::-1]
    assert np.abs(result.to_moving(inside) - linear.to_moving(inside)).max() < 1e-9
    assert np.abs(result.to_moving(everywhere) - linear.to_moving(everywhere)).max() > 0.5


def test_an_image_without_deformation_stays_affine() -> None:
    grid = Grid.regular((96, 96))
    scene, points = busy(grid, seed=3), grid.index_points()
    fixed, moving = scene(points).view(96, 96).numpy(), scene(points).neg().exp().view(96, 96).numpy()
    result = register(fixed, moving, transform=QUICK, start=None, levels=3)
    same = register(fixed, moving, start=None, levels=3)
    assert isinstance(result.transform, LieTransform)
    assert torch.equal(result.transform.matrix, same.transform.matrix)  # type: ignore[attr-defined]
    assert any("no evidence of a deformation" in note for note in result.notes)
    assert np.isfinite(result.deviation([[20, 20]])).all()


@pytest.mark.slow
@pytest.mark.parametrize(("chance", "kind"), [(1e-3, LieTransform), (1, Chain)])
def test_chance_says_how_much_evidence_a_deformation_needs(chance: float, kind: type[Transform]) -> None:
    fixed, moving, _ = bent_pair(share=0.01)
    result = register(fixed, moving, transform=["affine", ONE | {"chance": chance}], start=None, levels=3)
    assert isinstance(result.transform, kind)


@pytest.mark.slow
def test_a_pair_in_a_batch_is_bent_as_alone() -> None:
    fixed, moving, _ = bent_pair(side=64)
    options = {"transform": ["affine", {"name": "velocity", "steps": 20}], "start": None, "levels": 2}
    (alone,) = register([fixed], [moving], **options)
    first, second = register([fixed, fixed], [moving, np.exp(-np.roll(fixed, 1, 0))], **options)
    points = np.random.default_rng(0).uniform(5, 58, (50, 2))
    assert np.abs(first.to_moving(points) - alone.to_moving(points)).max() < 1e-3
    assert np.abs(second.to_moving(points) - points - [0, 1]).max() < 1


def test_linear_stages_follow_each_other() -> None:
    fixed, moving, _ = bent_pair()
    rigid, both = (register(fixed, moving, transform=one, start=None, levels=2) for one in ("rigid", "rigid+affine"))
    assert np.abs(both.matrix - rigid.matrix).max() > 1e-3
    assert len(both.history) == 2 * len(rigid.history)
    assert both.notes == rigid.notes
    assert np.isfinite(both.deviation([[20, 20]])).all()


def test_a_deformation_alone_begins_at_the_start() -> None:
    fixed, moving, truth = bent_pair()
    start = np.eye(3)
    start[0, 2] = 1.5
    result = register(fixed, moving, transform=ONE, start={"given": start, "refine": False}, levels=3)
    assert np.array_equal(result.transform.parts[0].matrix, start)  # type: ignore[attr-defined]
    points = 10 + 76 * torch.rand(200, 2, dtype=torch.float64)
    assert (torch.as_tensor(result.to_moving(points)) - truth(points)).norm(dim=1).mean() < 1
    same = register(fixed, np.exp(-fixed), transform=ONE | {"steps": 20}, start=None, levels=2)
    assert any("no evidence" in note for note in same.notes)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("bad", [1e-6, 50.0], ids=["still", "lost"])
def test_of_several_fits_the_best_supported_is_kept(bad: float, order: int) -> None:
    fixed, moving, truth = bent_pair()
    good = register(fixed, moving, **register_options({}))
    both = register(fixed, moving, **register_options({"rate": [bad, 0.005][::order]}))
    points = torch.as_tensor(np.random.default_rng(0).uniform(10, 86, (50, 2)))
    errors = [(torch.as_tensor(one.to_moving(points)) - truth(points)).norm(dim=1).mean() for one in (good, both)]
    assert both.stop is Stop.STEPS
    assert errors[1] < 1.3 * errors[0]
    assert len(both.history) == len(good.history)  # of the fit that was kept


@pytest.mark.slow
def test_ctrl_c_in_a_later_fit_keeps_the_earlier_one() -> None:
    fixed, moving, _ = bent_pair()

    def stop(step: Step) -> None:
        if step.index == 100 + 150 + 40:  # of the linear stage, of the first fit, of the second
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        register(fixed, moving, observers=stop, **register_options({"rate": [0.005, 0.001]}))
    (found,) = caught.value.registrations
    assert found.stop is Stop.INTERRUPTED
    assert len(found.history) == 100 + 150
    assert isinstance(found.transform, Chain)


def register_options(change: dict[str, object]) -> dict[str, object]:
    return {"transform": ["affine", ONE | change], "start": None, "levels": 3}


def test_another_seed_draws_other_points_for_the_deformation() -> None:
    fixed, moving, _ = bent_pair(side=64)
    steps = ["translation", {"name": "velocity", "steps": 10}]
    first, second = (register(fixed, moving, transform=steps, start=None, levels=1, seed=seed).totals[-5:] for seed in (0, 1))
    assert (first != second).all()


@pytest.mark.parametrize("inverse", [False, True])
def test_a_deformation_is_written_as_json(ndim: int, inverse: bool, tmp_path: object) -> None:
    made = fill(model(ndim)).result()[0]
    made = made.inverse() if inverse else made
    drmime.transform.formats.files.write_transform(made, f"{tmp_path}/a.json")
    points = made(torch.rand(5, ndim, dtype=torch.float64))
    assert torch.equal(drmime.read_transform(f"{tmp_path}/a.json")(points), made(points))


def test_a_point_without_an_image_harms_no_other() -> None:
    grid = Grid.regular((8, 8))
    moved = torch.zeros(2, 8, 8, dtype=torch.float64)
    moved[0, :, 4] = 1.0  # the slope is singular from column 3 to 4 … and 4 to 5
    points = torch.tensor([[1.0, 2.0], [math.nan, 1.0], [4.5, 3.0]], dtype=torch.float64)
    back = FieldTransform(moved, grid).inverse()(points)
    assert torch.allclose(back[0], points[0])
    assert back[1].isnan().all()


def test_a_deformed_registration_can_be_used(tmp_path: object) -> None:
    fixed, moving, truth = bent_pair()
    result = replace(register(fixed, moving, start=None, levels=2, schedule={"steps": 1}), transform=truth)
    points = np.random.default_rng(0).uniform(5, 90, (50, 2))
    assert np.abs(result.to_fixed(result.to_moving(points)) - points).max() < 1e-4
    assert np.abs(result.inverse().to_moving(result.to_moving(points)) - points).max() < 1e-4
    path = f"{tmp_path}/r.json"
    result.save(path)
    again = drmime.Registration.load(path)
    assert np.array_equal(again.to_moving(points), result.to_moving(points))
    inner = (slice(10, -10), slice(10, -10))
    assert np.abs(result.warp(moving) - np.exp(-fixed))[inner].mean() < 0.02
    labels = (moving > 1).astype(np.uint8)
    assert set(np.unique(result.warp_labels(labels))) <= {0, 1}
    assert result.mesh(moving).shape[2] == 3
    assert "control points" in result.describe()


def test_the_map_of_volumes_is_the_change_of_small_boxes() -> None:
    fixed, moving, truth = bent_pair()
    result = replace(register(fixed, moving, start=None, levels=2, schedule={"steps": 1}), transform=truth)
    volumes = result.volume_change()
    assert volumes.shape == fixed.shape
    step = 1e-4
    row, column = 40, 50
    ends = [result.to_moving([[column + dx, row + dy]])[0] for dx, dy in ((-step, 0), (step, 0), (0, -step), (0, step))]
    area = np.linalg.det(np.stack([ends[1] - ends[0], ends[3] - ends[2]])) / (2 * step) ** 2
    assert volumes[row, column] == pytest.approx(area, rel=1e-5)
    mirror = MatrixTransform(torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64)))
    assert replace(result, transform=truth @ mirror).folded == 0  # mirrored everywhere: no fold


def test_a_fold_is_seen() -> None:
    fixed, moving, _ = bent_pair()
    grid = Grid.regular(fixed.shape)
    lattice = Lattice.over(grid, 0.3)
    wild = torch.zeros(2, *lattice.shape, dtype=torch.float64)
    wild[0, :, 4] = 3.0
    torn = BSplineTransform(wild, lattice, grid.world_from_frame)
    result = replace(register(fixed, moving, start=None, levels=2, schedule={"steps": 1}), transform=torn)
    assert 0 < result.folded < 1
    assert (result.volume_change() <= 0).any()


# ---- blocks that the fit does not use


def test_a_fifth_of_the_image_is_held_out_in_blocks(ndim: int) -> None:
    points = 2 * torch.rand(20000, ndim, dtype=torch.float64) - 1
    blocks = Blocks(0.12)
    share = float(blocks.used(points).double().mean())
    assert share == pytest.approx(0.8, abs=0.05)
    near = points + 1e-3
    assert float((blocks.used(points) == blocks.used(near)).double().mean()) > 0.95
    assert math.isclose(float(blocks.used(points[None])[0].double().mean()), share)


def test_a_block_has_several_pixels_of_the_coarsest_level() -> None:
    """Else its pixels show what those show that the fit uses."""
    for side, least in ((1000, 0.12), (64, 3 * 8 / 32)):
        grid = Grid.regular((side, side))
        image = Image(torch.zeros(1, 1, side, side), grid)
        assert Blocks.over(Pyramid.of(image, 4)).side == pytest.approx(least)
