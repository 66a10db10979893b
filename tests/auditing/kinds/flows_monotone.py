"""Right couplings by monotone functions that are no affine ones."""

from __future__ import annotations

import torch
from museum.common import at_most
from museum.flows import Affine, Flow, Logit, Permutation
from museum.latent import network
from torch import Tensor, nn
from torch.nn import functional as F

from .flows_autoregressive import newton
from .registry import kind

BINS, REACH, LEAST = 4, 4.0, 1e-3


def knots(free: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (..., BINS) to the widths of bins, which sum to twice REACH, and where each begins."""
    widths = 2 * REACH * (LEAST + (1 - LEAST * BINS) * free.softmax(-1))
    starts = F.pad(widths.cumsum(-1)[..., :-1], (1, 0)) - REACH
    return widths, starts


def spline(value: Tensor, free: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
    """Rational-quadratic spline within +-REACH, and the identity beyond: value (...) and parameters (..., 3 BINS - 1).

    Returns the value there and the log-derivative of the map forwards.
    """
    inside = (value > -REACH) & (value < REACH)
    given = value.clamp(-REACH + 1e-9, REACH - 1e-9)
    width_free, height_free, slope_free = free.split([BINS, BINS, BINS - 1], -1)
    (widths, lefts), (heights, bottoms) = knots(width_free), knots(height_free)
    slopes = F.pad(LEAST + F.softplus(slope_free + 0.54), (1, 1), value=1.0)
    edges = bottoms if backwards else lefts
    index = (given.unsqueeze(-1) >= edges).sum(-1, keepdim=True) - 1
    width, left, height, bottom, slope = (each.gather(-1, index).squeeze(-1) for each in (
        widths, lefts, heights, bottoms, slopes
    ))  # fmt: skip
    after = slopes.gather(-1, index + 1).squeeze(-1)
    mean = height / width
    bend = slope + after - 2 * mean
    if backwards:
        rise = given - bottom
        a = height * (mean - slope) + rise * bend
        b, c = height * slope - rise * bend, -mean * rise
        theta = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
    else:
        theta = (given - left) / width
    both = theta * (1 - theta)
    below = mean + bend * both
    log_slope = 2 * mean.log() + (after * theta.square() + 2 * mean * both + slope * (1 - theta).square()).log()
    log_slope = log_slope - 2 * below.log()
    found = left + theta * width if backwards else bottom + height * (mean * theta.square() + slope * both) / below
    return torch.where(inside, found, value), torch.where(inside, log_slope, 0.0)


class SplineCoupling(nn.Module):
    """Half of the entries says by which spline the others move."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.half, self.rest = size // 2, size - size // 2
        self.network = network(self.half, self.rest * (3 * BINS - 1))

    def move(self, both: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
        given, moved = both[:, : self.half], both[:, self.half :]
        free = self.network(given).view(len(both), self.rest, -1)
        found, log_slope = spline(moved, free, backwards=backwards)
        return torch.cat([given, found], 1), log_slope.sum(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.move(x, backwards=False)

    def inverse(self, z: Tensor) -> Tensor:
        return self.move(z, backwards=True)[0]


@kind("neural spline flow")
class SplineFlow(Flow):
    """Rational-quadratic couplings with linear tails (Durkan et al. 2019, arXiv 1906.04032)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), SplineCoupling(size), Permutation(size), SplineCoupling(size)]


class MixtureCoupling(nn.Module):
    """The distribution function of a mixture of logistics, its logit, and an affine map after it."""

    units = 2

    def __init__(self, size: int) -> None:
        super().__init__()
        self.half, self.rest = size // 2, size - size // 2
        self.network = network(self.half, self.rest * (3 * self.units + 2))

    def parts(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        free = self.network(given).view(len(given), self.rest, -1)
        weight, mean, log_scale, both = free.split([self.units, self.units, self.units, 2], -1)
        return weight.log_softmax(-1), mean, log_scale.clamp_min(-7), torch.tanh(both[..., 0]), both[..., 1]

    def squash(self, x: Tensor, weight: Tensor, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the logit of the mixture's distribution function at x, and the log-derivative."""
        inner = (x.unsqueeze(-1) - mean) * torch.exp(-log_scale)
        below, above = F.logsigmoid(inner), F.logsigmoid(-inner)
        log_cdf, log_rest = (weight + below).logsumexp(-1), (weight + above).logsumexp(-1)
        log_density = (weight + below + above - log_scale).logsumexp(-1)
        return log_cdf - log_rest, log_density - log_cdf - log_rest

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given, moved = x[:, : self.half], x[:, self.half :]
        *mixture, log_scale, shift = self.parts(given)
        value, log_slope = self.squash(moved, *mixture)
        return torch.cat([given, value * log_scale.exp() + shift], 1), (log_slope + log_scale).sum(1)

    @torch.no_grad()
    def inverse(self, z: Tensor) -> Tensor:
        given, moved = z[:, : self.half], z[:, self.half :]
        weight, mean, scale, log_scale, shift = self.parts(given)
        target = (moved - shift) * torch.exp(-log_scale)
        alone = mean + scale.exp() * target.unsqueeze(-1)  # where each component has it
        value = newton(lambda x: self.squash(x, weight, mean, scale), target, alone.amin(-1), alone.amax(-1))
        return torch.cat([given, value], 1)


@kind("coupling by mixtures of logistics")
class LogisticMixtureFlow(Flow):
    """Couplings of Flow++ (Ho et al. 2019, arXiv 1902.00275), inverted by bisection."""

    def make_layers(self, size: int) -> list[nn.Module]:
        at_most(self.spec, 600)
        return [Logit(self.spec.levels), MixtureCoupling(size), Affine(size)]
