"""Adam (Kingma and Ba 2015, arXiv 1412.6980) with AMSGrad (Reddi, Kale and Kumar 2018, arXiv 1904.09237).

It calls torch's function for one step. The class `torch.optim.Adam` imports torch's compiler on its first step, which takes two
seconds in every process.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPS = (0.9, 0.999), 1e-8  # torch's defaults


class Adam:
    """Minimises over groups of parameters, each with its own learning rate; `rates` may be changed between steps."""

    def __init__(self, groups: Sequence[tuple[Sequence[Tensor], float]]) -> None:
        self.groups = [list(parameters) for parameters, _ in groups]
        self.rates = [rate for _, rate in groups]
        self._moments = [[[torch.zeros_like(one) for one in group] for group in self.groups] for _ in range(3)]
        self._steps = [[torch.zeros((), device=one.device) for one in group] for group in self.groups]

    @property
    def state(self) -> list[Tensor]:
        """Every tensor of the state, the same objects, from which another process can go on."""
        return [one for part in (*self._moments, self._steps) for group in part for one in group]

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Take one step by the gradients of all parameters, group by group; one whose gradient is None is not changed."""
        parts = zip(self.groups, self.rates, *self._moments, self._steps, strict=True)
        start = 0
        for group, rate, means, squares, largest, steps in parts:
            given = gradients[start : (start := start + len(group))]
            used = [number for number, one in enumerate(given) if one is not None]
            parameters, *states = [[one[number] for number in used] for one in (group, means, squares, largest, steps)]
            with torch.no_grad():
                adam(
                    parameters,
                    [_as_stored(one, parameter) for one, parameter in zip(given, group, strict=True) if one is not None],
                    states[0],
                    states[1],
                    states[2],
                    states[3],
                    amsgrad=True,
                    beta1=BETAS[0],
                    beta2=BETAS[1],
                    lr=rate,
                    fused=True,
                    weight_decay=0.0,
                    eps=EPS,
                    maximize=False,
                )


def _as_stored(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient with the strides of its parameter, which torch's fused function takes for granted."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
