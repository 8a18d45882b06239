"""Images of other packages give what arrays with spacing and masks given by hand do."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from drmime.errors import InputError
from drmime.geometry.grid import Grid
from drmime.image.door import as_image
from drmime.image.objects import from_object
from drmime.image.pixels import Pixels

PIXELS = (np.random.default_rng(0).random((9, 12, 14)) * 1000).astype(np.float32)
LENGTHS = (0.5, 0.75, 2.5)  # x first


def simpleitk() -> Any:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(PIXELS)
    image.SetSpacing(LENGTHS)
    image.SetOrigin((10, -20, 30))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    return image


def itk() -> Any:
    itk = pytest.importorskip("itk")
    image = itk.image_from_array(PIXELS)
    image.SetSpacing(LENGTHS)
    image.SetOrigin((10, -20, 30))
    image.SetDirection(np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]], float))
    return image


def ants() -> Any:
    ants = pytest.importorskip("ants")
    direction = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]], float)
    return ants.from_numpy(PIXELS.T.copy(), origin=(10, -20, 30), spacing=LENGTHS, direction=direction)


def nibabel() -> Any:
    nibabel = pytest.importorskip("nibabel")
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) @ np.diag(LENGTHS)
    affine[:3, 3] = (-10, 20, 30)
    return nibabel.Nifti1Image(PIXELS.T, affine)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [simpleitk, itk, ants, nibabel])
def test_geometry_is_kept(make: Any) -> None:
    image = as_image(make(), role="fixed")
    assert np.array_equal(image.data[0, 0].numpy(), PIXELS)
    expected = np.array([[0, -0.75, 0, 10], [0.5, 0, 0, -20], [0, 0, -2.5, 30], [0, 0, 0, 1]])
    assert np.allclose(image.grid.world_from_index.numpy(), expected, rtol=0, atol=1e-5)


def test_colours_of_itk_are_channels() -> None:
    sitk = pytest.importorskip("SimpleITK")
    colours = PIXELS[:3].transpose(1, 2, 0).copy()
    image = sitk.GetImageFromArray(colours, isVector=True)
    image.SetSpacing((0.5, 2.0))
    found = as_image(image, role="moving")
    assert found.data.shape == (1, 3, 12, 14)
    assert found.grid.spacing.tolist() == [0.5, 2.0]


def test_xarray_keeps_its_coordinates() -> None:
    xarray = pytest.importorskip("xarray", reason="an optional package")
    coords = {"y": 10 - 0.5 * np.arange(9), "x": 0.25 * np.arange(12)}
    image = as_image(xarray.DataArray(PIXELS[..., :3], dims=("y", "x", "band"), coords=coords), role="fixed")
    assert image.data.shape == (1, 3, 9, 12)
    assert image.grid.world_from_index.tolist() == [[0.25, 0, 0], [0, -0.5, 10], [0, 0, 1]]
    uneven = xarray.DataArray(PIXELS[0], dims=("y", "x"), coords={"x": np.arange(14.0) ** 2})
    with pytest.raises(InputError, match="'x' are not evenly spaced"):
        as_image(uneven, role="fixed")
    times = {name: 2.0 * np.arange(length) for name, length in zip("zyx", PIXELS.shape, strict=True)}
    timed = xarray.DataArray(PIXELS[None], dims=("time", "z", "y", "x"), coords=times)
    assert as_image(timed, role="fixed").grid.spacing.tolist() == [2, 2, 2]
    bare = as_image(xarray.DataArray(PIXELS), role="fixed")
    assert bare.grid.spacing.tolist() == [1, 1, 1]


def test_the_mask_of_a_masked_array_is_kept() -> None:
    bad = PIXELS[0] > 900
    spoilt = np.where(bad, np.nan, PIXELS[0])
    image = as_image(np.ma.masked_array(spoilt, bad), role="fixed")
    by_hand = as_image(np.where(bad, 0, PIXELS[0]), role="fixed", mask=~bad)
    assert torch.equal(image.mask, by_hand.mask)
    assert torch.equal(image.data, by_hand.data)
    half = np.zeros((12, 14), bool)
    half[:, :7] = True
    both = as_image(np.ma.masked_array(spoilt, bad), role="fixed", mask=half)
    assert np.array_equal(both.mask[0, 0].numpy(), half & ~bad)
    with pytest.raises(InputError, match="no valid pixel"):
        as_image(np.ma.masked_array(PIXELS[0], True), role="fixed")


def test_the_mask_of_the_channel_that_is_compared_counts() -> None:
    bad = np.random.default_rng(1).random((12, 14, 3)) > 0.9
    masked = np.ma.masked_array(PIXELS[0][..., None].repeat(3, -1), bad)
    assert np.array_equal(as_image(masked, role="fixed").mask[0, 0].numpy(), ~bad.any(-1))
    assert np.array_equal(as_image(masked, role="fixed", channel=-1).mask[0, 0].numpy(), ~bad[..., 2])


def test_pillow_and_dask_are_taken() -> None:
    picture = (PIXELS[0] / 4).astype(np.uint8)
    assert np.array_equal(from_object(Picture.fromarray(picture), "fixed").array, picture)
    dask = pytest.importorskip("dask.array")
    assert np.array_equal(from_object(dask.from_array(PIXELS), "fixed").array, PIXELS)


def test_pixels_are_taken_as_they_are() -> None:
    source = Pixels(PIXELS, channel_axis=0)
    assert as_image(source, role="fixed").data.shape == (1, 9, 12, 14)
    assert as_image(source, role="fixed", channel=4).data.shape == (1, 1, 12, 14)
    for channel in (9, -10, 1.5, True, "first"):
        with pytest.raises(InputError, match="expected a channel from -9 to 8"):
            as_image(source, role="fixed", channel=channel)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (lambda: torch.empty(12, 14, device="meta"), "device meta"),
        (lambda: torch.ones(12, 14).to_sparse(), "dense"),
    ],
)
def test_tensors_without_values_are_refused(tensor: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_object(tensor(), "fixed")


def test_complex_tensors_are_refused_as_arrays_are() -> None:
    with pytest.raises(InputError, match="dtype complex64"):
        as_image(torch.ones(12, 14, dtype=torch.complex64).conj(), role="fixed")


@pytest.mark.parametrize("space", [(), (0,), (1, 2), (2, 1, 0)])
def test_a_grid_of_other_axes_than_those_of_space_is_refused(space: tuple) -> None:
    with pytest.raises(InputError, match="expected a grid of the axes in space"):
        Pixels(PIXELS, Grid.regular(PIXELS.shape), space)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "tensor",
    [
        lambda: torch.as_tensor(PIXELS[0]).to(torch.bfloat16),
        lambda: torch.as_tensor(PIXELS[0] / 1000).to(torch.float8_e4m3fn),
        lambda: torch.quantize_per_tensor(torch.as_tensor(PIXELS[0]), 4.0, 0, torch.quint8),
        lambda: torch._neg_view(torch.as_tensor(PIXELS[0])),
        lambda: torch.complex(torch.as_tensor(PIXELS[0]), torch.as_tensor(PIXELS[1])).conj().imag,
        lambda: torch.as_tensor(PIXELS[0]).requires_grad_(),
        lambda: torch.as_tensor(PIXELS[0]).half(),
    ],
)
def test_tensors_of_every_kind_keep_their_values(tensor: Any) -> None:
    odd = tensor()
    plain = odd.dequantize() if odd.is_quantized else odd.detach().to(torch.float64)
    assert np.allclose(from_object(odd, "fixed").array, plain.numpy())
