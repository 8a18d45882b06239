"""Transforms in other programs' files map points as these programs do; what a format cannot hold is refused."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, settings
from hypothesis import given as given_by
from hypothesis import strategies as st
from maps import grids, points, same, theirs, transform
from scipy import ndimage

from drmime import InputError, Registration, Stop
from drmime.geometry.grid import Grid
from drmime.image.io import write_image
from drmime.parts import TRANSFORM_FORMATS
from drmime.transform.base import Chain, Transform
from drmime.transform.formats.displacements import from_itk, to_itk
from drmime.transform.formats.elastix import parameters
from drmime.transform.formats.files import read_transform, write_transform
from drmime.transform.linear import MatrixTransform
from drmime.transform.warp import resample

GROUPS = ("translation", "rigid", "similarity", "affine")
NAMES = {  # the first is written in this format without naming it; of some endings the content tells the format
    **{"drmime": ["a.json"], "itk": ["a.tfm", "a.h5", "a.mat"], "elastix": ["TransformParameters.0.txt"]},
    **{"matrix": ["a.csv", "a.npy", "a.txt"], "fsl": ["a.fsl.mat", "a.mat"], "freesurfer": ["a.lta"]},
    **{"afni": ["a.aff12.1D", "a.1D"], "ngff": ["a.ngff.json", "a.json"], "bigwarp": ["a.bigwarp.csv", "a.csv"]},
    **{"qupath": ["a.qupath.txt"], "warpy": ["a.warpy.json", "transform_1_2.json", "a.json"]},
}
FILES = [(format, name) for format, names in NAMES.items() for name in names]
DIMENSIONS = {"fsl": 3, "freesurfer": 3, "afni": 3, "qupath": 2, "warpy": 2}  # of formats that hold one dimension only
CASES = [(*file, ndim) for file in FILES for ndim in (2, 3) if ndim == DIMENSIONS.get(file[0], ndim)]
BOTH_GRIDS = {"fsl", "freesurfer", "afni", "bigwarp", "qupath", "warpy"}  # formats that need both grids to write


def test_every_format_is_tested() -> None:
    assert NAMES.keys() | {"displacements"} == TRANSFORM_FORMATS.keys()  # tests/test_displacements.py


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize(("format", "name", "ndim"), CASES)
def test_what_is_written_comes_back(format: str, name: str, group: str, ndim: int, tmp_path: Path) -> None:
    if format == "itk":
        pytest.importorskip("SimpleITK")
    folder, given = tmp_path / "new", grids(ndim)
    made = transform(ndim, group)
    write_transform(made, folder / name, format, *given)
    same(made, read_transform(folder / name, None, *given), given[0])
    same(made, read_transform(folder / name, format, *given), given[0])
    assert [path.name for path in folder.iterdir()] == [name]
    written = (folder / name).read_bytes()
    if name == NAMES[format][0] and format != "itk":  # an Insight file and HDF5 hold no more than the transform, but the time
        write_transform(made, folder / name, None, *given)
        assert (folder / name).read_bytes() == written


@pytest.mark.parametrize(("format", "name", "ndim"), [case for case in CASES if case[0] in BOTH_GRIDS | {"elastix"}])
def test_another_dimension_or_a_missing_grid_is_refused(format: str, name: str, ndim: int, tmp_path: Path) -> None:
    made, (fixed, moving) = transform(ndim), grids(ndim)
    refused: list[tuple[Transform, Grid | None, Grid | None]] = [(made, None, moving)]
    refused += [(made, grids(5 - ndim)[0], moving)]
    refused += [(transform(5 - ndim), *(grids(5 - ndim) if format in DIMENSIONS else (fixed, moving)))]
    if format in BOTH_GRIDS:
        refused += [(made, fixed, None), (made, fixed, grids(5 - ndim)[1])]
    for one, *given in refused:
        with pytest.raises(InputError, match=r"grid|dimensions"):
            write_transform(one, tmp_path / name, format, *given)
        assert not list(tmp_path.iterdir())
    write_transform(made, tmp_path / name, format, fixed, moving)
    if format in BOTH_GRIDS - {"freesurfer"}:
        for given in ((fixed, None), (None, moving), (grids(5 - ndim)[0], moving)):
            with pytest.raises(InputError, match=r"grid|dimensions"):
                read_transform(tmp_path / name, format, *given)


@pytest.mark.parametrize("name", NAMES["itk"])
def test_simpleitk_maps_points_alike(name: str, ndim: int, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    fixed, _ = grids(ndim)
    made = transform(ndim)
    write_transform(made, tmp_path / name)
    theirs = sitk.ReadTransform(str(tmp_path / name))
    expected = made(points(fixed)).numpy()
    assert np.array([theirs.TransformPoint(point) for point in points(fixed).tolist()]) == pytest.approx(expected, abs=1e-9)


def euler(sitk: Any, ndim: int) -> Any:
    made = sitk.Euler2DTransform() if ndim == 2 else sitk.Euler3DTransform()
    made.SetCenter([5.0, -3.0, 8.0][:ndim])
    made.SetParameters([0.3, 4.0, 5.0] if ndim == 2 else [0.3, -0.2, 0.5, 4.0, 5.0, 6.0])
    return made


def composite(sitk: Any, ndim: int) -> Any:
    scale = sitk.ScaleTransform(ndim)
    scale.SetScale([1.2, 0.9, 1.1][:ndim])
    return sitk.CompositeTransform([euler(sitk, ndim), scale, sitk.TranslationTransform(ndim, [1.0, 2.0, 3.0][:ndim])])


@pytest.mark.parametrize("make", [euler, composite])
def test_any_linear_transform_of_simpleitk_is_read(make: Callable[[Any, int], Any], ndim: int, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    theirs = make(sitk, ndim)
    sitk.WriteTransform(theirs, str(tmp_path / "a.tfm"))
    fixed, _ = grids(ndim)
    expected = [theirs.TransformPoint(point) for point in points(fixed).tolist()]
    for ours in (from_itk(theirs), read_transform(tmp_path / "a.tfm")):
        assert ours(points(fixed)).numpy() == pytest.approx(np.array(expected), abs=1e-8)


def content(ndim: int) -> tuple[Grid, Grid, np.ndarray, Transform]:
    """The grids of a fixed and a moving image, a smooth moving image, and a transform that puts them centre on centre."""
    fixed, moving = grids(ndim)
    pixels = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(moving.shape), 2).astype(np.float32)
    centred = torch.eye(ndim + 1, dtype=torch.float64)
    made = transform(ndim)
    centred[:-1, -1] = moving.centre - made(fixed.centre[None])[0]
    return fixed, moving, pixels, MatrixTransform(centred) @ made


def same_pixels(theirs: np.ndarray, ours: np.ndarray, tolerance: float) -> None:
    """Both images, -9 outside the moving one, agree but for its borders, where programs extrapolate differently."""
    both = (theirs > -9) & (ours > -9)
    assert both.mean() > 0.05
    assert ((theirs > -9) == (ours > -9)).mean() > 0.97
    assert np.abs(theirs - ours)[ndimage.binary_erosion(both, iterations=2)].max() < tolerance


def test_simpleitk_warps_alike(ndim: int) -> None:
    sitk = pytest.importorskip("SimpleITK")
    fixed, moving, pixels, made = content(ndim)
    image, frame = sitk.GetImageFromArray(pixels), sitk.GetImageFromArray(np.zeros(fixed.shape))
    for one, grid in ((image, moving), (frame, fixed)):
        spacing = grid.spacing.numpy()
        one.SetSpacing(spacing.tolist())
        one.SetOrigin(grid.world_from_index[:-1, -1].tolist())
        one.SetDirection((grid.world_from_index[:-1, :-1].numpy() / spacing).flatten().tolist())
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, frame, to_itk(made), sitk.sitkLinear, -9.0))
    same_pixels(theirs, resample(pixels, made, moving, fixed, fill=-9.0), 1e-5)


ANTS_WARPS = """
import ants, numpy as np
fixed, moving = (ants.image_read(f"{name}.nii.gz") for name in ("fixed", "moving"))
warped = ants.apply_transforms(fixed, moving, ["a.mat"], interpolator="linear", defaultvalue=-9)
np.save("theirs.npy", warped.numpy().T)
print("[]")
"""
TRANSFORMIX_WARPS = """
import itk, numpy as np
parameter = itk.ParameterObject.New()
parameter.ReadParameterFile("TransformParameters.0.txt")
parameter.SetParameter(0, "DefaultPixelValue", "-9")
warped = itk.transformix_filter(itk.imread("moving.nii.gz", itk.F), parameter)
np.save("theirs.npy", itk.array_from_image(warped))
print("[]")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "code", "name"), [("ants", ANTS_WARPS, "a.mat"), ("itk", TRANSFORMIX_WARPS, "TransformParameters.0.txt")]
)
def test_ants_and_transformix_warp_alike(package: str, code: str, name: str, ndim: int, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'drmime[peers]'")
    pytest.importorskip("nibabel", reason="writes NIfTI")
    fixed, moving, pixels, made = content(ndim)
    write_image(tmp_path / "fixed.nii.gz", np.zeros(fixed.shape, np.float32), fixed)
    write_image(tmp_path / "moving.nii.gz", pixels, moving)
    write_transform(made, tmp_path / name, fixed=fixed, moving=moving)
    theirs(code, points(fixed), tmp_path)
    same_pixels(np.load(tmp_path / "theirs.npy"), resample(pixels, made, moving, fixed, fill=-9.0), 1e-4)  # single precision


# itk-elastix and ANTs bring an ITK of their own each, and crash beside another one: they run in processes of their own.
ANTS = """
import ants
theirs = ants.read_transform("a.mat")
ants.write_transform(theirs, "b.mat")
print([list(theirs.apply_to_point(point)) for point in POINTS])
"""
TRANSFORMIX = """
import itk, numpy as np
parameter = itk.ParameterObject.New()
parameter.ReadParameterFile("TransformParameters.0.txt")
image = itk.image_from_array(np.zeros((5,) * len(POINTS[0]), np.float32))
itk.transformix_filter(image, parameter, fixed_point_set_file_name="points.txt", output_directory=".")
lines = open("outputpoints.txt").read().splitlines()
print([[float(word) for word in line.split("OutputPoint = [")[1].split("]")[0].split()] for line in lines])
"""


def test_ants_reads_and_writes_alike(ndim: int, tmp_path: Path) -> None:
    if find_spec("ants") is None:
        pytest.skip("ANTs is not installed: pip install 'drmime[peers]'")
    fixed, _ = grids(ndim)
    made = transform(ndim)
    write_transform(made, tmp_path / "a.mat")
    found = theirs(ANTS, points(fixed), tmp_path)
    assert found == pytest.approx(made(points(fixed)).numpy(), abs=1e-4)  # it maps in single precision
    again = read_transform(tmp_path / "b.mat")
    assert again(points(fixed)).numpy() == pytest.approx(made(points(fixed)).numpy(), abs=1e-4)


@pytest.mark.slow
def test_transformix_maps_points_alike(ndim: int, tmp_path: Path) -> None:
    if find_spec("itk") is None:
        pytest.skip("itk-elastix is not installed: pip install 'drmime[peers]'")
    fixed, _ = grids(ndim)
    made = transform(ndim)
    (tmp_path / "TransformParameters.0.txt").write_text(parameters(made, fixed))
    lines = [" ".join(f"{value:.12g}" for value in point) for point in points(fixed).tolist()]
    (tmp_path / "points.txt").write_text("\n".join(["point", str(len(lines)), *lines]))
    found = theirs(TRANSFORMIX, points(fixed), tmp_path)
    assert found == pytest.approx(made(points(fixed)).numpy(), abs=1e-4)  # it prints six decimals


PARAMETERS = {
    "Euler": ("EulerTransform", [0.3, 4, 5], [0.3, -0.2, 0.5, 4, 5, 6]),
    "Similarity": ("SimilarityTransform", [1.2, 0.3, 4, 5], [0.1, -0.2, 0.3, 4, 5, 6, 1.2]),
    "Translation": ("TranslationTransform", [4, 5], [4, 5, 6]),
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_elastix_s_own_transforms_are_those_of_itk(kind: str, ndim: int, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    name, *both = PARAMETERS[kind]
    values, centre = both[ndim - 2], [5.0, -3.0, 8.0][:ndim]
    lines = [f'(Transform "{name}")', f"(TransformParameters {' '.join(map(str, values))})", f"(FixedImageDimension {ndim})"]
    lines += [f"(CenterOfRotationPoint {' '.join(map(str, centre))})"]
    (tmp_path / "TransformParameters.0.txt").write_text("\n".join(lines))
    made = {
        "Translation": lambda: sitk.TranslationTransform(ndim, values),
        "Euler": lambda: euler(sitk, ndim),
        "Similarity": sitk.Similarity2DTransform if ndim == 2 else sitk.Similarity3DTransform,
    }[kind]()
    if kind == "Similarity":
        made.SetCenter(centre)
        made.SetParameters(values)
    ours = read_transform(tmp_path / "TransformParameters.0.txt")
    fixed, _ = grids(ndim)
    expected = [made.TransformPoint(point) for point in points(fixed).tolist()]
    assert ours(points(fixed)).numpy() == pytest.approx(np.array(expected), abs=1e-8)


def test_an_initial_transform_of_elastix_is_applied_first(tmp_path: Path) -> None:
    fixed, _ = grids(2)
    first, second = transform(2), transform(2, "rigid")
    for number, one in enumerate((first, second)):
        write_transform(one, tmp_path / f"TransformParameters.{number}.txt", "elastix", fixed)
    last = tmp_path / "TransformParameters.1.txt"
    last.write_text(last.read_text().replace('"NoInitialTransform"', '"/elsewhere/TransformParameters.0.txt"'))
    same(second @ first, read_transform(last), fixed)
    last.write_text(last.read_text().replace("TransformParameters.0.txt", "TransformParameters.1.txt"))
    with pytest.raises(InputError, match="leads back here"):
        read_transform(last)


CHANGES = ["nan", "1e999", "-inf", "{", "[]", "null", "\n", ",", '"', "1 2 3", "\0", "9" * 400, "#"]
TEXTS = [(format, names[0]) for format, names in NAMES.items() if format != "itk"]


@pytest.mark.parametrize(("format", "name"), TEXTS)
def test_whatever_is_changed_in_a_file_it_is_refused_or_a_transform(format: str, name: str, tmp_path: Path) -> None:
    ndim = DIMENSIONS.get(format, 2)
    given = grids(ndim)
    write_transform(transform(ndim), tmp_path / name, format, *given)
    text = (tmp_path / name).read_text()

    @settings(max_examples=60)
    @example(0, len(text), "")
    @given_by(st.integers(0, len(text)), st.integers(0, 40), st.text(max_size=5) | st.sampled_from(CHANGES))
    def check(start: int, length: int, other: str) -> None:
        (tmp_path / name).write_text(text[:start] + other + text[start + length :], encoding="utf-8")
        try:
            found = read_transform(tmp_path / name, format, *given)
        except InputError:
            return
        assert found.ndim in (2, 3)
        assert found(points(given[0])[:, : found.ndim]).shape[-1] == found.ndim

    check()


HEAD = "#Insight Transform File V1.0\n#Transform 0\n"
SHIFT = '(Transform "TranslationTransform")\n(TransformParameters'
BARE = f'{{"kind": "lie", "matrix": {np.eye(3).tolist()}, "generators": {{}}'
OURS = '{"format": "drmime transform 1", "transform":'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{}"),
        ("a.json", '{"format": "drmime registration 5", "transform": {"kind": "matrix", "matrix": [[1, 2], [3, 4]]}}'),
        ("a.tfm", "no transform"),
        ("a.mat", "no transform"),
        ("TransformParameters.0.txt", "(Transform)"),
        ("TransformParameters.0.txt", '(Transform "BSplineTransform")\n(TransformParameters 1 2 3)'),
        ("TransformParameters.0.txt", '(Transform "AffineTransform")\n(TransformParameters 1 0 0)'),
        ("TransformParameters.0.txt", '(Transform "AffineTransform")\n(TransformParameters 0 0 0 0 1 2)'),
        ("a.tfm", f"{HEAD}Transform: Euler2DTransform_double_2_2\nParameters: 0.5\nFixedParameters: 0 0\n"),
        ("a.tfm", f"{HEAD}Transform: AffineTransform_double_2_2\nParameters: 1 0 0 1 5 5\n"),
        ("a.tfm", HEAD + 2 * "Transform: TranslationTransform_double_2_2\nParameters: 1 2\nFixedParameters:\n"),
        ("a.mat", "\xff" * 4000),
        ("TransformParameters.0.txt", "(Transform  )\n(TransformParameters 1)"),
        ("TransformParameters.0.txt", f"{SHIFT} 1 2)\n(FixedImageDimension 1000000000)"),
        ("TransformParameters.0.txt", f"{SHIFT} 1 inf)"),
        ("a.json", f'{OURS} {BARE}, "coefficients": {{"x": null}}, "modes": null}}}}'),
        ("a.json", OURS + 400 * '{"kind": "chain", "parts": [' + 400 * "]}" + "}"),
        ("a.csv", "1,0\n0,1\n"),
        ("a.csv", "1,0,0\n0,0,0\n0,0,1\n"),
        ("a.csv", "1,0,nan\n0,1,0\n0,0,1\n"),
        ("a.npy", "no array"),
        ("a.xyz", "1 0 0"),
    ],
)
def test_a_file_that_holds_no_transform_is_refused(name: str, text: str, tmp_path: Path) -> None:
    if name.endswith((".tfm", ".mat")):
        pytest.importorskip("SimpleITK")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_transform(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_transform(tmp_path / "nowhere.tfm")


@pytest.mark.parametrize(("format", "name"), FILES)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(format: str, name: str, tmp_path: Path) -> None:
    if format == "itk":
        pytest.importorskip("SimpleITK")
    tilted = torch.eye(3, dtype=torch.float64)
    tilted[2, 0] = 0.001
    chain = Chain([MatrixTransform(torch.eye(3)), MatrixTransform(torch.eye(3))])
    if DIMENSIONS.get(format) == 3:
        tilted, chain = torch.block_diag(torch.eye(1), tilted), Chain([MatrixTransform(torch.eye(4))] * 2)
    for made in (MatrixTransform(tilted), chain):
        if format == "drmime" or (format == "matrix" and made is not chain):
            continue
        if made is chain and name in ("a.tfm", "a.h5"):  # a composite
            continue
        with pytest.raises(InputError, match="perspective" if made is not chain else "one matrix"):
            write_transform(made, tmp_path / name, format, *grids(made.ndim))
        assert not list(tmp_path.iterdir())


def test_numbers_that_no_program_can_use_are_not_written(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    for format, name in FILES:
        ndim = DIMENSIONS.get(format, 2)
        nothing, behind = (torch.eye(ndim + 1, dtype=torch.float64) for _ in range(2))
        nothing[0, 0], behind[ndim, ndim] = torch.nan, -1
        for matrix in (nothing,) if format in ("drmime", "matrix") else (nothing, behind):
            with pytest.raises(InputError, match="finite numbers"):
                write_transform(MatrixTransform(matrix), tmp_path / name, format, *grids(ndim))
    with pytest.raises(InputError, match="3 dimensions"):
        write_transform(transform(3), tmp_path / "TransformParameters.0.txt", fixed=grids(2)[0])
    assert not list(tmp_path.iterdir())


def test_endings_may_be_in_upper_case(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    fixed, _ = grids(2)
    for name in ("A.TFM", "0GENERICAFFINE.MAT", "A.CSV", "A.JSON", "TRANSFORMPARAMETERS.7.TXT"):
        made = transform(2)
        write_transform(made, tmp_path / name, fixed=fixed)
        same(made, read_transform(tmp_path / name), fixed)
    assert "AffineTransform" in (tmp_path / "TRANSFORMPARAMETERS.7.TXT").read_text()


def test_elastix_files_may_have_comments_and_names_with_blanks(tmp_path: Path) -> None:
    first, last = tmp_path / "TransformParameters.0.txt", tmp_path / "TransformParameters.1.txt"
    first.write_bytes(b'\xef\xbb\xbf(Transform "TranslationTransform") // \xfc\n(TransformParameters 1.5E0 -2) // x (y)\n')
    before = r'(InitialTransformParametersFileName "C:\my data\TransformParameters.0.txt")'
    last.write_text(f'(Transform "TranslationTransform")\n(TransformParameters 1 1)\n{before}\n')
    assert read_transform(last)(torch.zeros(1, 2, dtype=torch.float64)).tolist() == [[2.5, -1.0]]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="grid of the fixed image"):
        write_transform(transform(2), tmp_path / "TransformParameters.0.txt")
    with pytest.raises(InputError, match="unknown transform format 'itkk'"):
        write_transform(transform(2), tmp_path / "a.tfm", "itkk")


# What a `Registration` gives


def result(ndim: int) -> Registration:
    fixed, moving = grids(ndim)
    values = {"similarity": 0.5, "overlap": 0.9, "history": np.zeros((3, 2)), "totals": np.zeros(3), "settings": {}}
    return Registration(transform(ndim), fixed, moving, Stop.STEPS, **values)


def test_a_registration_writes_its_transform(ndim: int, tmp_path: Path) -> None:
    found = result(ndim)
    for name in ("TransformParameters.0.txt", "a.csv", "a.json"):
        found.write_transform(tmp_path / name)
        same(found.transform, read_transform(tmp_path / name), found.fixed_grid)


def registered() -> tuple[Registration, np.ndarray, np.ndarray]:
    """A smooth moving image, a registration with unequal grids that keeps within it, and the image that it warps."""
    pixels = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((70, 80)), 3)
    turn = torch.tensor([[0.95, 0.1, 12.0], [-0.08, 1.05, 15.0], [0, 0, 1]], dtype=torch.float64)
    values = {"similarity": 0.5, "overlap": 0.9, "history": np.zeros((3, 2)), "totals": np.zeros(3), "settings": {}}
    found = Registration(MatrixTransform(turn), Grid.regular((40, 50)), Grid.regular((70, 80)), Stop.STEPS, **values)
    return found, pixels, found.warp(pixels)


def test_scikit_image_warps_alike() -> None:
    transforms = pytest.importorskip("skimage.transform")
    found, pixels, ours = registered()
    theirs = transforms.warp(pixels, found.to_skimage(), output_shape=found.fixed_grid.shape, order=1)
    assert np.abs(theirs - ours).max() < 1e-6


def test_opencv_warps_alike() -> None:
    cv2 = pytest.importorskip("cv2")
    found, pixels, ours = registered()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    theirs = cv2.warpAffine(pixels, found.pixel_matrix[:2], found.fixed_grid.shape[::-1], flags=flags)
    assert np.abs(theirs - ours).max() < 0.05 * np.ptp(pixels)  # it rounds places to 1/32 of a pixel


def test_a_layer_of_napari_lies_on_the_fixed_image(ndim: int) -> None:
    found = result(ndim)
    fixed = points(found.fixed_grid)
    there = found.transform(fixed)
    index = [
        (grid.index_from_world[:-1, :-1] @ places.mT + grid.index_from_world[:-1, -1:]).mT.flip(-1).numpy()
        for grid, places in ((found.moving_grid, there), (found.fixed_grid, fixed))
    ]
    affine = found.to_napari()
    assert index[0] @ affine[:-1, :-1].T + affine[:-1, -1] == pytest.approx(index[1], abs=1e-6)
