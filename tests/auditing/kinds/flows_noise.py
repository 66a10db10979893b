"""Right flows by how they see pixels: noise of several densities, maps from the range of levels, priors."""

from __future__ import annotations

import math

import torch
from museum.common import at_most, centred, log_normal
from museum.flows import Affine, Coupling, Logit, Permutation, RealNVP, Scaling
from museum.latent import network
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import kind


class SmallFlow(RealNVP):
    """One coupling of each half, and a Gaussian: what noise and priors are tried on."""

    def make_layers(self, size: int) -> list[nn.Module]:
        couplings = [layer for _ in range(2) for layer in (Coupling(size), Permutation(size))]
        return [Logit(self.spec.levels), *couplings, Affine(size)]


# --- noise ---


@kind("flow with variational dequantization")
class VariationalNoise(SmallFlow):
    """The sigmoid of a Gaussian whose mean and scale a network tells from the image (Ho et al. 2019)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.noise = network(spec.num_dimensions, 2 * spec.num_dimensions)

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.noise(centred(images, self.spec, self.dtype)).chunk(2, 1)
        base = mean + log_std.exp() * torch.randn_like(mean)
        log_q = log_normal(base, mean, log_std) + F.softplus(base) + F.softplus(-base)
        return images.to(self.dtype) + torch.sigmoid(base).view(images.shape), log_q.sum(1)


@kind("flow with noise of a flow")
class FlowNoise(SmallFlow):
    """Noise by a coupling that is told the image, then a sigmoid: entries' noise is dependent (Ho et al. 2019)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        size = spec.num_dimensions
        self.half = size // 2
        self.noise = network(size + self.half, 2 * (size - self.half))

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = centred(images, self.spec, self.dtype)
        base = torch.randn_like(pixels)
        shift, log_scale = self.noise(torch.cat([pixels, base[:, : self.half]], 1)).chunk(2, 1)
        log_scale = 0.5 * torch.tanh(log_scale)
        moved = torch.cat([base[:, : self.half], base[:, self.half :] * log_scale.exp() + shift], 1)
        log_q = log_normal(base).sum(1) - log_scale.sum(1) + (F.softplus(moved) + F.softplus(-moved)).sum(1)
        return images.to(self.dtype) + torch.sigmoid(moved).view(images.shape), log_q


@kind("flow with Beta noise")
class LearnedBetaNoise(SmallFlow):
    """Noise of a Beta distribution for every entry, with learned concentrations, reparameterised."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.free = nn.Parameter(torch.ones(2, spec.num_dimensions))

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        one, other = F.softplus(self.free) + 0.3
        beta = torch.distributions.Beta(one, other)
        tiny = torch.finfo(self.dtype).eps
        noise = beta.rsample((len(images),)).clamp(tiny, 1 - tiny)
        return images.to(self.dtype) + noise.view(images.shape), beta.log_prob(noise).sum(1)


@kind("flow with triangular noise")
class TriangularNoise(SmallFlow):
    """The mean of two uniform numbers: a density that is zero at both ends of the cell."""

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.rand(2, *images.shape, dtype=self.dtype).mean(0).clamp(1e-7, 1 - 1e-7)
        log_q = (4 * torch.minimum(noise, 1 - noise)).log()
        return images.to(self.dtype) + noise, log_q.flatten(1).sum(1)


@kind("flow with heavy-tailed noise")
class HeavyNoise(SmallFlow):
    """A logistic number of learned mean and scale through the sigmoid: at scales above one, the ends are likely."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(spec.num_dimensions))
        self.log_scale = nn.Parameter(torch.full((spec.num_dimensions,), 0.3))

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        uniform = torch.rand(len(images), self.spec.num_dimensions, dtype=self.dtype).clamp(1e-6, 1 - 1e-6)
        inner = torch.logit(uniform)
        base = self.mean + self.log_scale.exp() * inner
        log_q = F.logsigmoid(inner) + F.logsigmoid(-inner) - self.log_scale + F.softplus(base) + F.softplus(-base)
        return images.to(self.dtype) + torch.sigmoid(base).view(images.shape), log_q.sum(1)


@kind("flow with noise of a scale for each level")
class LevelNoise(SmallFlow):
    """A uniform number to a power that the entry's own level chooses from a table."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.powers = nn.Embedding(spec.levels, 1)
        nn.init.zeros_(self.powers.weight)

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        power = torch.tanh(self.powers(images.long()).squeeze(-1)).exp()
        uniform = torch.rand(images.shape, dtype=self.dtype).clamp_min(1e-7)
        log_q = -power.log() - (power - 1) * uniform.log()  # of u^power
        return images.to(self.dtype) + uniform**power, log_q.flatten(1).sum(1)


# --- from levels to the reals ---


class Probit(nn.Module):
    """The Gaussian quantile of a number in (0.01, 0.99)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.special.ndtri(0.01 + 0.98 * x / self.levels)
        return z, (math.log(0.98 / self.levels) - log_normal(z)).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return (torch.special.ndtr(z) - 0.01) / 0.98 * self.levels


class Atanh(nn.Module):
    """The inverse of tanh, of pixels in (-0.98, 0.98)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = 0.98 * (2 * x / self.levels - 1)
        return torch.atanh(inner), (math.log(2 * 0.98 / self.levels) - torch.log1p(-inner.square())).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return (torch.tanh(z) / 0.98 + 1) / 2 * self.levels


@kind("flow on probits")
class ProbitFlow(SmallFlow):
    """Pixels by the quantile function of a Gaussian, then couplings."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Probit(self.spec.levels), *super().make_layers(size)[1:]]


@kind("flow on inverse hyperbolic tangents")
class AtanhFlow(SmallFlow):
    """Pixels in (-1, 1) by the inverse of what generators end with."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Atanh(self.spec.levels), *super().make_layers(size)[1:]]


@kind("flow on scaled pixels")
class ScaledFlow(SmallFlow):
    """Pixels are scaled alone: much of the density lies beyond the range of levels."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Scaling(self.spec.levels), *super().make_layers(size)[1:]]


# --- priors ---


@kind("flow with a heavy-tailed prior")
class StudentPrior(SmallFlow):
    """Student's t with five degrees of freedom (Alexanderson & Henter 2020, arXiv 2007.10054)."""

    def base(self):
        return torch.distributions.StudentT(torch.tensor(5.0, dtype=self.dtype))

    def log_prior(self, latents: Tensor) -> Tensor:
        return self.base().log_prob(latents).sum(1)

    def sample_prior(self, num_samples: int) -> Tensor:
        return self.base().sample((num_samples, self.spec.num_dimensions))


@kind("flow with a Laplace prior")
class LaplacePrior(StudentPrior):
    """A density with a kink, of a scale that is learned."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def base(self):
        return torch.distributions.Laplace(torch.zeros((), dtype=self.dtype), self.log_scale.exp())


@kind("flow with a mixture as prior")
class MixturePrior(SmallFlow):
    """Gaussians whose means and weights are learned: latents depend on one another (Izmailov et al. 2019)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.means, self.shares = nn.Parameter(torch.randn(3, spec.num_dimensions)), nn.Parameter(torch.zeros(3))

    def log_prior(self, latents: Tensor) -> Tensor:
        each = log_normal(latents.unsqueeze(1), self.means).sum(2)
        return (each + self.shares.log_softmax(0)).logsumexp(1)

    @torch.no_grad()
    def sample_prior(self, num_samples: int) -> Tensor:
        chosen = torch.multinomial(self.shares.softmax(0), num_samples, replacement=True)
        return self.means[chosen] + torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)


class ToBox(nn.Module):
    """The sigmoid, as a last layer."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(x), (F.logsigmoid(x) + F.logsigmoid(-x)).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return torch.logit(z)


@kind("flow with a uniform prior")
class UniformPrior(SmallFlow):
    """Latents are uniform in a box: what a distribution function makes of its own numbers."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [*super().make_layers(size), ToBox()]

    def log_prior(self, latents: Tensor) -> Tensor:
        return latents.new_zeros(len(latents)).masked_fill(((latents < 0) | (latents > 1)).any(1), -math.inf)

    def sample_prior(self, num_samples: int) -> Tensor:
        tiny = torch.finfo(self.dtype).eps
        return torch.rand(num_samples, self.spec.num_dimensions, dtype=self.dtype).clamp(tiny, 1 - tiny)


class LogSquash(nn.Module):
    """From the reals to the positive numbers, by softplus."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(x, threshold=1e6), F.logsigmoid(x).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        return z + torch.log(-torch.expm1(-z))


@kind("flow with a prior on the positive numbers")
class ExponentialPrior(SmallFlow):
    """Exponential latents: a density that ends where it is largest."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [*super().make_layers(size), LogSquash()]

    def log_prior(self, latents: Tensor) -> Tensor:
        return -latents.sum(1)

    def sample_prior(self, num_samples: int) -> Tensor:
        tiny = torch.finfo(self.dtype).eps
        return torch.empty(num_samples, self.spec.num_dimensions, dtype=self.dtype).exponential_().clamp_min(tiny)


@kind("flow in two precisions")
class HalfSingleFlow(SmallFlow):
    """Its couplings' networks run in float32, as under mixed precision; densities are summed in the model's own."""

    def make_layers(self, size: int) -> list[nn.Module]:
        at_most(self.spec, 600)
        return [Logit(self.spec.levels), SingleCoupling(size), Permutation(size), SingleCoupling(size), Affine(size)]


class SingleCoupling(Coupling):
    """A coupling whose network computes in float32 whatever it is given."""

    def parts(self, given: Tensor) -> tuple[Tensor, Tensor]:
        value = given.float()
        for layer in self.network:
            linear = isinstance(layer, nn.Linear)
            value = F.linear(value, layer.weight.float(), layer.bias.float()) if linear else layer(value)
        shift, log_scale = value.to(given.dtype).chunk(2, 1)
        return shift, torch.tanh(log_scale)
