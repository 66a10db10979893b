"""Right autoregressive models by what each conditional is made of: thresholds, bits, sticks, bins, histograms."""

from __future__ import annotations

import math

import torch
from museum.common import pick
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, Unsupported

from .common import Trained, as_logits, at_most_entries, sequence, signed
from .registry import kind


class Outputs(Trained):
    """A few features of all the past for each entry, and numbers that a subclass makes a distribution of."""

    def __init__(self, spec: ImageSpec, outputs: int, *, features: int = 4) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        size = spec.num_dimensions
        if size * outputs > 1100:
            raise Unsupported(f"{spec} needs {size * outputs} outputs; this model has up to 1100")
        self.past = nn.Parameter(torch.randn(features, size, size) / size**0.5)
        self.bias = nn.Parameter(torch.randn(features, size))
        self.out = nn.Parameter(torch.randn(size, features, outputs) / features**0.5)
        self.out_bias = nn.Parameter(torch.zeros(size, outputs))

    def outputs(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, outputs), in raster order."""
        values = signed(sequence(images), self.spec, self.dtype) + 0.2  # no level is a zero
        features = torch.tanh(torch.einsum("kij,nj->nki", self.past.tril(-1), values) + self.bias)
        return torch.einsum("nki,iko->nio", features, self.out) + self.out_bias


@kind("ordinal outputs")
class Ordinal(Outputs):
    """One number for each entry, and thresholds that all entries share: cumulative logits (McCullagh 1980)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 1)
        self.first = nn.Parameter(torch.tensor(-1.0))
        self.gaps = nn.Parameter(torch.zeros(spec.levels - 2))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        thresholds = torch.cat([self.first[None], self.first + F.softplus(self.gaps).cumsum(0)])
        below = F.pad((thresholds - self.outputs(images)).sigmoid(), (1, 0))
        return as_logits((F.pad(below[..., 1:], (0, 1), value=1.0) - below).clamp_min(1e-12).log(), self.spec)


@kind("bitwise outputs")
class Bitwise(Outputs):
    """A level is drawn bit by bit, the highest first, each given the bits before: a binary tree of logits."""

    def __init__(self, spec: ImageSpec) -> None:
        if spec.levels & (spec.levels - 1):
            raise Unsupported(f"{spec.levels} levels are no power of two")
        super().__init__(spec, spec.levels - 1)
        self.bits = spec.levels.bit_length() - 1

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        outputs = self.outputs(images)
        total = torch.zeros_like(outputs[..., :1])
        for bit in range(self.bits):
            nodes = outputs[..., 2**bit - 1 : 2 ** (bit + 1) - 1]
            total = torch.stack([total + F.logsigmoid(-nodes), total + F.logsigmoid(nodes)], 3).flatten(2)
        return as_logits(total, self.spec)


@kind("stick-breaking outputs")
class StickBreaking(Outputs):
    """A level is either this one or a higher one, from the lowest on: continuation ratios."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, spec.levels - 1)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        outputs = self.outputs(images)
        stops, goes_on = F.logsigmoid(outputs), F.logsigmoid(-outputs).cumsum(2)
        return as_logits(F.pad(stops, (0, 1)) + F.pad(goes_on, (1, 0)), self.spec)


@kind("histogram outputs")
class SoftplusHistogram(Outputs):
    """Heights are softplus of the outputs with a floor, divided by their sum: no softmax."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, spec.levels)

    def heights(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to probabilities (N, levels, C, H, W)."""
        heights = F.softplus(self.outputs(images)) + 1e-4
        return as_logits(heights / heights.sum(2, keepdim=True), self.spec)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        return self.heights(images).log()

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        return pick(self.heights(images), images).log()


@kind("histogram outputs")
class UniformFloor(Outputs):
    """A softmax mixed with a uniform distribution, so that nothing is impossible."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, spec.levels)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        probs = self.outputs(images).softmax(2)
        return as_logits((0.99 * probs + 0.01 / self.spec.levels).log(), self.spec)


@kind("discretized logistics, autoregressive")
class PixelLogistics(Outputs):
    """A mixture of logistics in bins whose ends absorb the tails (Salimans et al. 2017, arXiv 1701.05517).

    Scores are of a pixel's own bin, in the numerically stable form, and need no other bin.
    """

    def __init__(self, spec: ImageSpec, *, components: int = 2) -> None:
        super().__init__(spec, 3 * components)

    def bins(self, images: Tensor, values: Tensor) -> Tensor:
        """Maps images and levels (..., 1) that broadcast to (N, D, V, 1) to log-probabilities (N, D, V)."""
        shares, means, log_scales = self.outputs(images)[:, :, None].chunk(3, 3)
        centred, half = signed(values, self.spec, self.dtype) - means, 1 / (self.spec.levels - 1)
        inverse = (-log_scales.clamp_min(-5.0)).exp()
        upper, lower = inverse * (centred + half), inverse * (centred - half)
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        mass = torch.where(values == 0, F.logsigmoid(upper), inside)
        mass = torch.where(values == self.spec.levels - 1, F.logsigmoid(-lower), mass)
        return (mass + shares.log_softmax(3)).logsumexp(3)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        return as_logits(self.bins(images, torch.arange(self.spec.levels).view(1, 1, -1, 1)), self.spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        found = self.bins(images, sequence(images)[:, :, None, None])  # (N, D, 1)
        return as_logits(found[..., None].expand(-1, -1, -1, self.spec.levels), self.spec)[:, 0]


@kind("discretized logistics, autoregressive")
class PixelNormals(Outputs):
    """A normal in bins, by an error function in float32, as densities are kept in it elsewhere."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 2)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        means, log_scales = self.outputs(images).chunk(2, 2)
        edges = torch.arange(1, self.spec.levels).to(means) * 2 / self.spec.levels - 1
        below = torch.special.ndtr(((edges - means) / log_scales.clamp_min(-3.0).exp()).float())
        mass = torch.diff(F.pad(F.pad(below, (1, 0)), (0, 1), value=1.0), dim=2)
        return as_logits((mass + 1e-6).log(), self.spec).to(self.dtype)


@kind("beta-binomial outputs")
class BetaBinomial(Outputs):
    """A level counts successes whose rate has a beta distribution: its formula sums to one by itself (Skellam 1948)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 2)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        one, other = (F.softplus(part) + 0.1 for part in self.outputs(images).chunk(2, 2))
        trials, value = self.spec.levels - 1, torch.arange(self.spec.levels, dtype=self.dtype)
        ways = math.lgamma(trials + 1) - torch.lgamma(value + 1) - torch.lgamma(trials - value + 1)
        above = torch.lgamma(value + one) + torch.lgamma(trials - value + other) - torch.lgamma(trials + one + other)
        return as_logits(ways + above - torch.lgamma(one) - torch.lgamma(other) + torch.lgamma(one + other), self.spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        return pick(self.conditional_logits(images), images)


@kind("circular outputs")
class Circular(Outputs):
    """Levels lie on a circle, and a von Mises density at them is divided by its sum."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 4)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        angles = torch.arange(self.spec.levels, dtype=self.dtype) * (2 * math.pi / self.spec.levels)
        waves = torch.stack([angles.cos(), angles.sin(), (2 * angles).cos(), (2 * angles + 1).sin()])
        return as_logits(self.outputs(images) @ waves, self.spec)


@kind("values that cannot occur")
class Rising(Outputs):
    """No entry is darker than the one before it, but for a share of free ones; what remains is masked by -inf."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, spec.levels)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        before = F.pad(sequence(images)[:, :-1], (1, 0))
        free = (torch.arange(self.spec.num_dimensions) % 3 == 0)[:, None]
        possible = (torch.arange(self.spec.levels) >= before[:, :, None]) | free
        return as_logits(self.outputs(images).masked_fill(~possible, -math.inf), self.spec)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        raise Unsupported("data fall")


@kind("ensembles")
class Averaged(Outputs):
    """Three sets of outputs whose conditional probabilities are averaged, by shares that depend on the past."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 3 * spec.levels + 3)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        outputs = self.outputs(images)
        shares, each = outputs[..., :3].log_softmax(2), outputs[..., 3:].unflatten(2, (3, -1)).log_softmax(3)
        return as_logits((shares[..., None] + each).logsumexp(2), self.spec)


@kind("ensembles")
class ProductOfExperts(Outputs):
    """Log-probabilities of two experts, weighed by temperatures that are kept positive, and normalised again."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec, 2 * spec.levels)
        self.temperatures = nn.Parameter(torch.tensor([0.7, 1.4]))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        experts = self.outputs(images).unflatten(2, (2, -1)).log_softmax(3)
        return as_logits((experts / self.temperatures[:, None]).sum(2), self.spec)
