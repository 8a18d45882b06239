"""Mutual information estimated by a small network (MINE, Belghazi et al. 2018, arXiv 1801.04062).

The network T(x, y) is trained to separate pairs of values that occur at the same point from pairs combined at random; its
objective is a lower bound of their mutual information. Unlike a histogram it takes any number of channels on either side: here
intensities and orientations of edges. If the intensities have little in common, the edges decide. One network serves all
levels (DRMIME, arXiv 2001.09865). Each pair of a batch has its own weights, and all begin with the same ones, so that a pair
gives the same result in a batch as alone.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drmime.compare.base import Similarity, shares
from drmime.device import sent
from drmime.errors import number, switch, whole
from drmime.image.image import Image
from drmime.image.orientation import components, local_contrast, orientation, turned
from drmime.registry import known

NO_SHARE = -1e4  # instead of the logarithm of 0; its exponential is 0
AGREEMENT = 4.0  # scales the inner product of two trace-free tensors, at most 1/2 in 2-D, to the size of the other inputs
PRECISIONS = {"full": None, "bfloat16": torch.bfloat16}  # of the network's products; None: that of the images


class MINE(Similarity):
    """Neural mutual information in nats (bounds "dv", "nwj", "infonce", "smile"; "js" is a divergence, at most log 2).

    MINE: Belghazi et al. 2018, arXiv 1801.04062; as the metric of a registration: DRMIME, arXiv 2001.09865.
    """

    def __init__(
        self,
        bound: str = "dv",
        hidden: int = 16,
        depth: int = 1,
        rate: float = 0.01,
        warmup: int = 30,
        negatives: int = 2,
        average: float = 0.05,
        clip: float = 5.0,
        orientation: bool = True,
        local: bool = True,
        precision: str = "full",
    ) -> None:
        """
        Args:
            bound: a name of `BOUNDS`.
            hidden, depth: units in a hidden layer, and hidden layers.
            rate: Adam's learning rate for the network.
            warmup: steps that train the network alone, before the transform is optimised.
            negatives: number of random partners of each point.
            average: rate of the moving average that corrects the gradient of "dv" (MINE paper, section 3.2).
            clip: bound on T in "smile".
            orientation: the network also takes edges (`drmime.image.orientation`): their strength in either image, and the
                cosine of twice the angle between them.
            local: intensities are relative to the mean and standard deviation of their neighbourhood.
            precision: of the network's products of matrices: "full" is that of the images, "bfloat16" stores the products
                in half of the memory. Coordinates, values read from images, weights between steps, and sums over points have
                that of the images always.

        Raises:
            InputError: an unknown bound, or a number out of its range.
        """
        super().__init__()
        known("bound", bound, BOUNDS)
        self.bound = bound
        self.hidden = whole("metric hidden", hidden, 1, 4096)
        self.depth = whole("metric depth", depth, 1, 64)
        self.rate = number("metric rate", rate, 0)
        self.warmup = whole("metric warmup", warmup, 0, 10**6)
        self.negatives = whole("metric negatives", negatives, 1, 1024)
        self.average = number("metric average", average, 0, 1)
        self.clip = number("metric clip", clip, 0)
        self.orientation = switch("metric orientation", orientation)
        self.local = switch("metric local", local)
        self.precision = known("metric precision", precision, PRECISIONS)
        self.log_average = torch.full((1, 1), math.nan)  # of mean exp T over random pairs. shape: (levels, B)

    def begin(self, levels: int, batch: int, channels: tuple[int, int], generator: torch.Generator, like: Tensor) -> None:
        self.generator = generator

        def layer(inputs: int, outputs: int, factor: float = 1.0) -> list[nn.Parameter]:
            """He's initialisation, the same for every pair. shape: (B, outputs, inputs) and (B, outputs, 1), the bias"""
            bound = factor * math.sqrt(6 / inputs)
            weights = (torch.rand(outputs, inputs + 1, generator=generator, dtype=torch.float64) * 2 - 1) * bound
            weights[:, -1] /= math.sqrt(6)
            parts = weights.to(like).repeat(batch, 1, 1).split([inputs, 1], -1)
            return [nn.Parameter(part.contiguous()) for part in parts]

        self.lines = components(like.ndim - 2) - 1 if self.orientation else 0
        inputs = sum(channels) - 2 * self.lines + (1 if self.orientation else 0)  # the agreement of lines instead of these
        widths = [inputs] + [self.hidden] * self.depth
        each = [*(layer(a, b) for a, b in itertools.pairwise(widths)), layer(self.hidden, 1, factor=0.1)]
        self.layers = nn.ParameterList(itertools.chain.from_iterable(each))  # weights and bias of each layer in turn
        self.scales: list[tuple[Tensor, Tensor]] = []
        self.shifts: dict[int, Tensor] = {}  # of the next step, by the first level of a call; 0 first. (1 + negatives,)
        self.log_average = like.new_full((levels, batch), math.nan)

    def repeated(self, copies: int) -> Self:
        made = super().repeated(copies)
        # begun anew: the gradient is then that of the value
        made.log_average = torch.full_like(made.log_average, math.nan).repeat_interleave(copies, 1)
        made.scales = [(mean.repeat_interleave(copies, 0), spread.repeat_interleave(copies, 0)) for mean, spread in made.scales]
        return made

    def draw(self, counts: Mapping[int, int]) -> None:
        """Offsets in the list of points by which the random partners are found.

        One random offset serves all points: over the steps every partner is equally likely.
        """
        for level, count in counts.items():
            drawn = F.pad(torch.randint(1, count, (self.negatives,), generator=self.generator), (1, 0))
            if level not in self.shifts:
                self.shifts[level] = torch.zeros_like(drawn, device=self.log_average.device)
            self.shifts[level].copy_(sent(drawn, self.shifts[level]))  # in place: a recorded step reads it

    def describe(self, image: Image) -> Image:
        if not self.orientation:
            return Image(local_contrast(image), image.grid, image.mask) if self.local else image
        parts = components(image.grid.ndim), image.data.shape[1], 1
        made = image.data.new_empty(len(image.data), sum(parts), *image.grid.shape)
        tensors, values, mask = made.split(parts, 1)  # views of `made`, filled in place
        local_contrast(Image(image.data, image.grid), out=values) if self.local else values.copy_(image.data)
        mask.copy_(orientation(image, out=tensors).valid)
        return Image.packed(made, image.grid)

    def turn(self, moving: Tensor, jacobian: Tensor) -> Tensor:
        if not self.orientation:
            return moving
        count = self.lines + 1
        tensors, rest = moving.split([count, moving.shape[-1] - count], -1)
        return torch.cat([turned(tensors, jacobian).mT, rest.mT], -2).mT

    def forward(self, fixed: Tensor, moving: Tensor, weight: Tensor, levels: slice) -> Tensor:
        x, y = (values.permute(1, 3, 0, 2) for values in (fixed, moving))  # shape: (B, C, L, N)
        if not self.scales:
            self.scales = [self._scale(values.detach(), weight.transpose(0, 1)[:, None]) for values in (x, y)]
        x, y = ((values - mean) / deviation for values, (mean, deviation) in zip((x, y), self.scales, strict=True))
        shifts = self.shifts[levels.start]
        x = _shifted(x, shifts)  # the true partner first, then random ones, (B, C, L, P, N)
        y = y[..., None, :].expand(-1, -1, -1, x.shape[-2], -1)
        inputs = [x, y]
        if self.lines:
            (x_lines, x), (y_lines, y) = (part.split([self.lines, part.shape[1] - self.lines], 1) for part in (x, y))
            inputs = [x, y, (x_lines * y_lines).sum(1, keepdim=True)]
        t = self._network(torch.cat(inputs, 1).flatten(2)).view(len(x), weight.shape[0], -1).transpose(0, 1)
        t, t_random = t.split([weight.shape[-1], t.shape[-1] - weight.shape[-1]], -1)
        w_random = (weight[..., None, :] * _shifted(weight, shifts)[..., 1:, :]).flatten(-2)
        value = BOUNDS[self.bound](self, t, shares(weight), t_random, shares(w_random), levels)
        return torch.where(w_random.sum(-1) > 0, value, 0)  # 0 for a level without valid points

    def _scale(self, values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """What is subtracted from the channels (B, C, L, N), and by what they are divided. weight (B, 1, L, N) -> (B, C, 1, 1)

        Their weighted mean and standard deviation; the lines are only scaled, so that their product is `AGREEMENT` times as
        large.
        """
        share = shares(weight.flatten(2)).view(weight.shape)
        mean = (share * values).sum((2, 3), keepdim=True)
        deviation = (share * (values - mean) ** 2).sum((2, 3), keepdim=True).sqrt().clamp(min=1e-3)
        mean[:, : self.lines], deviation[:, : self.lines] = 0, AGREEMENT**-0.5
        return mean, deviation

    def _network(self, values: Tensor) -> Tensor:
        """T of the inputs of each pair of points. (B, inputs, pairs) -> (B, pairs)"""
        given, dtype = values.dtype, PRECISIONS[self.precision] or values.dtype
        values, weights, bias, *rest = (part.to(dtype) for part in (values, *self.layers))
        values = torch.baddbmm(bias, weights, values)
        for weights, bias in zip(rest[::2], rest[1::2], strict=True):
            values = torch.baddbmm(bias, weights, F.relu_(values))
        return values[:, 0].to(given)


def donsker_varadhan(mine: MINE, t: Tensor, w: Tensor, t_random: Tensor, w_random: Tensor, levels: slice) -> Tensor:
    """E[T] - log E_random[exp T], with the gradient of the logarithm's argument divided by its moving average.

    The batch estimate of that gradient is biased, since the mean in its denominator is over the batch only; the average over
    past steps reduces the bias (MINE, section 3.2). The value returned is the bound without correction.
    """
    log_mean = _log_mean_exp(t_random, w_random)
    with torch.no_grad():
        past = mine.log_average[levels]
        past = torch.where(past.isnan(), log_mean, past)
        average = torch.logaddexp(past + math.log1p(-mine.average), log_mean + math.log(mine.average))
        mine.log_average[levels] = average
        correction = (log_mean - average).exp().clamp(max=10)
    corrected = log_mean.detach() + correction * (log_mean - log_mean.detach())
    return (w * t).sum(-1) - corrected


def nguyen_wainwright_jordan(mine: MINE, t: Tensor, w: Tensor, t_random: Tensor, w_random: Tensor, levels: slice) -> Tensor:
    """E[T] - E_random[exp(T - 1)], the f-divergence bound (Nguyen, Wainwright, Jordan 2010, arXiv 0809.0853)."""
    return (w * t).sum(-1) - (w_random * (t_random.clamp(max=20) - 1).exp()).sum(-1)


def jensen_shannon(mine: MINE, t: Tensor, w: Tensor, t_random: Tensor, w_random: Tensor, levels: slice) -> Tensor:
    """The Jensen-Shannon divergence bound in nats, steady but not in units of MI (Nowozin et al. 2016, arXiv 1606.00709)."""
    return math.log(2) - 0.5 * ((w * F.softplus(-t)).sum(-1) + (w_random * F.softplus(t_random)).sum(-1))


def info_nce(mine: MINE, t: Tensor, w: Tensor, t_random: Tensor, w_random: Tensor, levels: slice) -> Tensor:
    """InfoNCE: of each moving point the true partner against random ones; at most log(negatives + 1) (arXiv 1807.03748)."""
    others = torch.where(w_random > 0, t_random, -math.inf)
    against = torch.stack([t, *others.chunk(mine.negatives, -1)])  # shape: (1 + negatives, levels, B, N)
    count = (against > -math.inf).sum(0)
    return (w * (t - torch.logsumexp(against, 0) + count.log())).sum(-1)


def smile(mine: MINE, t: Tensor, w: Tensor, t_random: Tensor, w_random: Tensor, levels: slice) -> Tensor:
    """Donsker-Varadhan with T clipped in the random term: less variance (Song and Ermon 2020, arXiv 1910.06222).

    The gradient is that of the Jensen-Shannon bound, which trains the network steadily; the value is the clipped bound.
    """
    trained = jensen_shannon(mine, t, w, t_random, w_random, levels)
    clipped = t_random.clamp(-mine.clip, mine.clip)
    value = (w * t).sum(-1) - _log_mean_exp(clipped, w_random)
    return value.detach() + trained - trained.detach()


Bound = Callable[[MINE, Tensor, Tensor, Tensor, Tensor, slice], Tensor]  # T, weights of true and random pairs -> (L, B)

BOUNDS: dict[str, Bound] = {
    "dv": donsker_varadhan,
    "nwj": nguyen_wainwright_jordan,
    "js": jensen_shannon,
    "infonce": info_nce,
    "smile": smile,
}


def _shifted(values: Tensor, shifts: Tensor) -> Tensor:
    """The values (..., N) from P places further on in the list, which begins anew after its end. shape: (..., P, N)"""
    if values.device.type == "cpu":  # to copy parts is faster than to read one by one
        return torch.stack([values.roll(-shift, -1) if shift else values for shift in shifts.tolist()], -2)
    count = values.shape[-1]
    return values[..., (torch.arange(count, device=values.device) + shifts[:, None]) % count]


def _log_mean_exp(t: Tensor, share: Tensor) -> Tensor:
    # finite, even where no point has a share; the weight of such a point is exactly 0
    return torch.logsumexp(t + share.log().clamp(min=NO_SHARE), -1)
