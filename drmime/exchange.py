"""What a `Registration` gives to other programs."""

from pathlib import Path
from typing import Any

import numpy as np

from drmime.errors import InputError, package
from drmime.geometry.grid import Grid
from drmime.modes import own_defaults
from drmime.transform.base import Transform
from drmime.transform.formats.displacements import to_itk
from drmime.transform.formats.files import affine_matrix, write_transform
from drmime.transform.linear import MatrixTransform, matrix_of
from drmime.transform.warp import in_pixels


class Exchange:
    """The methods of `Registration` for other programs. Maps go from the fixed image to the moving one, except napari's."""

    transform: Transform
    fixed_grid: Grid
    moving_grid: Grid

    @property
    @own_defaults
    def pixel_matrix(self) -> np.ndarray:
        """moving_from_fixed in pixels, x first; equal to `matrix` if no spacing was given. shape: (D+1, D+1), float64

        It is the matrix that `cv2.warpAffine(moving, matrix[:2], size, flags=cv2.WARP_INVERSE_MAP)` takes, or, with all rows,
        `cv2.warpPerspective`.

        Raises:
            InputError: the transform is not one matrix.

        Example:
            >>> np.array_equal(result.pixel_matrix, result.matrix)  # no spacing was given
            True
        """
        world = MatrixTransform(matrix_of(self.transform))
        return matrix_of(in_pixels(world, self.fixed_grid, self.moving_grid)).numpy()

    @own_defaults
    def write_transform(self, path: str | Path, format: str | None = None) -> None:
        """Write the transform alone for another program, such as ITK, elastix, FSL, AFNI, OME-NGFF or QuPath.

        World coordinates, x first: LPS millimetres for medical formats, as in ITK, micrometres for TIFF that states its
        lengths, else pixels or the spacing given.

        Args:
            path: the file.
            format: as in `drmime.read_transform`; by default what the ending says.

        Raises:
            InputError: an unknown format, one that cannot hold this transform, or a path that cannot be written.

        Example:
            >>> result.write_transform("TransformParameters.0.txt")
            >>> drmime.read_transform("TransformParameters.0.txt").describe(result.fixed_grid) == result.describe()
            True
        """
        write_transform(self.transform, path, format, self.fixed_grid, self.moving_grid)

    @own_defaults
    def to_itk(self) -> Any:
        """The transform as a `SimpleITK.AffineTransform`, with which `SimpleITK.Resample` warps the moving image.

        World coordinates, x first; the centre is 0. Of a deformation: a composite of it and of a displacement field on the
        fixed grid, outside of which there are no displacements.

        Raises:
            InputError: the transform is projective, or SimpleITK is missing.

        Example:
            >>> result.to_itk().TransformPoint((10.0, 20.0))
            (12.0, 21.0)
        """
        return to_itk(self.transform, self.fixed_grid)

    @own_defaults
    def to_ants(self) -> Any:
        """The transform as an ANTsTransform of antspyx, with which `ants.apply_ants_transform_to_image` warps the moving image.

        World coordinates, x first, in single precision; the centre is 0. ANTs crashes in a process that has used SimpleITK.

        Raises:
            InputError: the transform is not one affine matrix, or antspyx is missing.

        Example:
            >>> result.to_ants().apply_to_point((10.0, 20.0))
            (12.0, 21.0)
        """
        matrix = affine_matrix(self.transform, "ANTs").numpy()
        ants, ndim = package("ants", "ANTs' transforms", "peers"), self.transform.ndim
        return ants.create_ants_transform(
            "AffineTransform", dimension=ndim, matrix=matrix[:-1, :-1], translation=matrix[:-1, -1], center=np.zeros(ndim)
        )

    @own_defaults
    def to_skimage(self) -> Any:
        """The transform in pixels as a `skimage.transform.ProjectiveTransform`, for `skimage.transform.warp(moving, …)`.

        Points are x first, as there: `warp(moving, result.to_skimage(), output_shape=fixed.shape)`.

        Raises:
            InputError: the transform is not one matrix, or scikit-image is missing.

        Example:
            >>> result.to_skimage()([[10, 20]])
            array([[12., 21.]])
        """
        try:
            from skimage.transform import ProjectiveTransform
        except ImportError as error:
            raise InputError("to_skimage needs scikit-image: pip install scikit-image") from error
        return ProjectiveTransform(self.pixel_matrix, dimensionality=self.transform.ndim)

    @own_defaults
    def to_napari(self) -> np.ndarray:
        """The `affine` of a napari layer of the moving image that lays it on the fixed image, shown in its pixels.

        It takes pixels of the moving image to pixels of the fixed image, both in array order. shape: (D+1, D+1), float64

        Raises:
            InputError: the transform is not one matrix.

        Example:
            >>> result.to_napari() @ [21, 12, 1]  # row, column
            array([20., 10.,  1.])
        """
        order = [*range(self.transform.ndim - 1, -1, -1), self.transform.ndim]
        return np.linalg.inv(self.pixel_matrix)[np.ix_(order, order)]
