"""Our Adam is torch's, step by step, and costs no import of torch's compiler."""

import subprocess
import sys

import torch
from torch import Tensor
from torch.optim import Adam as Reference

from drmime.adam import Adam


def losses(parameters: list[Tensor], step: int) -> Tensor:
    """The second parameter has no gradient in the first steps, as a transform that waits for the warm-up."""
    first, second, third = parameters
    loss = (first.sin() * (third - step % 3)).sum()
    return loss + (second - first[:2]).pow(4).sum() if step > 4 else loss


def test_its_steps_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(size, dtype=torch.float64, generator=generator) for size in (3, 2, 3)]
    ours, theirs = ([value.clone().requires_grad_() for value in values] for _ in range(2))
    mine = Adam([(ours[:1], 0.1), (ours[1:], 0.01)])
    reference = Reference([{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:], "lr": 0.01}], amsgrad=True)
    for step in range(20):
        mine.rates[0] *= 0.9
        mine.step(torch.autograd.grad(losses(ours, step), ours, allow_unused=True))
        reference.zero_grad()
        losses(theirs, step).backward()
        reference.param_groups[0]["lr"] *= 0.9
        reference.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_strides_of_gradients_and_parameters_may_differ() -> None:
    found = []
    for one in (torch.zeros(2, 3), torch.zeros(3, 2).mT):
        Adam([([one], 0.1)]).step([torch.arange(6.0).view(3, 2).mT])
        found.append(one)
    assert torch.equal(*found)


def test_a_registration_imports_no_compiler() -> None:
    code = """
import sys
import numpy as np
from drmime import register
scene = np.random.default_rng(0).random((40, 40)).cumsum(0).cumsum(1)
register(scene, scene[::-1], schedule={"steps": 2})
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"
