"""The optimised transform: a start matrix times the exponential of weighted Lie-algebra generators."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from drmime.geometry import lie
from drmime.geometry.grid import Grid
from drmime.geometry.matrices import slopes


class LieTransform(nn.Module):
    """`matrix()` is `moving_from_fixed` in world units, one per pair; at zero coefficients it is exactly `start`.

    moving_from_fixed = start @ world_from_frame @ exp(sum_k theta_k B_k) @ frame_from_world

    The exponential acts in the frame of the fixed grid and the start comes after it. So any invertible start serves
    any group without a matrix logarithm, and the conditioning does not depend on where the moving image lies in the
    world. Everything here is float64: these matrices are tiny, and world coordinates can be large.
    """

    basis: Tensor
    start: Tensor
    world_from_frame: Tensor
    frame_from_world: Tensor

    def __init__(
        self,
        generators: Mapping[str, Tensor],
        start: Tensor,
        fixed: Grid,
        finest_vector: bool = False,
        parametrisation: str = "exponential",
    ) -> None:
        """`start`: (B, D+1, D+1) world; `finest_vector` adds DRMIME's second coefficients, for the finest level alone.

        `parametrisation`: a name of `lie.PARAMETRISATIONS`, which stands for exp above.
        """
        super().__init__()
        self.parametrisation = lie.PARAMETRISATIONS[parametrisation]
        self.names = tuple(generators)
        count = (2 if finest_vector else 1, start.shape[0], len(self.names))
        self.coefficients = nn.Parameter(torch.zeros(count, dtype=torch.float64))  # shape: (1 or 2, B, K)
        self.register_buffer("basis", torch.stack(list(generators.values())))
        self.register_buffer("start", start.to(torch.float64))
        self.register_buffer("world_from_frame", fixed.world_from_frame)
        self.register_buffer("frame_from_world", torch.linalg.inv(fixed.world_from_frame))
        self.is_affine = not bool(self.basis[:, -1].any() or self.start[:, -1, :-1].any())

    def matrix(self, coefficients: Tensor | None = None) -> Tensor:
        """moving_from_fixed at `coefficients` (B, K), by default the current ones of the finest level. shape: (B, D+1, D+1)"""
        coefficients = self.coefficients.sum(0) if coefficients is None else coefficients
        return self.moving_from_frame(coefficients) @ self.frame_from_world

    def by_level(self, levels: int) -> Tensor:
        """The coefficients that act on each level, finest first. shape: (levels, B, K)"""
        finest = self.coefficients.sum(0, keepdim=True)
        return torch.cat([finest, self.coefficients[:1].expand(levels - 1, -1, -1)])

    def moving_from_frame(self, coefficients: Tensor) -> Tensor:
        """World of the moving image from the fixed frame: (..., B, K) -> (..., B, D+1, D+1)"""
        return self.start @ self.world_from_frame @ self.parametrisation(coefficients, self.basis)

    def jacobian(self, moving_from_frame: Tensor, points: Tensor) -> Tensor:
        """Of the moving point by the fixed one, up to a positive factor. shape: (L, B, N, D, D), N = 1 for an affine transform

        `moving_from_frame` (L, B, D+1, D+1), `points` (L, B or 1, N, D) of the fixed frame.
        """
        if self.is_affine:
            return moving_from_frame[..., None, :-1, :-1]
        return slopes(moving_from_frame, points.to(moving_from_frame))
