"""Right flows on dequantized images: an affine map, couplings, and a planar layer that is inverted by bisection."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ImageSpec, Invertible, Trainer

from .common import at_most, fit_by_gradient, log_normal
from .registry import right


class Layer(Protocol):
    """An invertible map of (N, D)."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (N, D) and the log-determinant, (N,)."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes it."""
        ...


class Logit(nn.Module):
    """From [0, levels) to the reals, by way of (alpha, 1 - alpha) (Dinh et al. 2016, arXiv 1605.08803)."""

    def __init__(self, levels: int, *, alpha: float = 0.05) -> None:
        super().__init__()
        self.levels, self.alpha = levels, alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) in [0, levels) to (N, D) and the log-determinant."""
        inner = self.squeeze(x)
        scale = torch.tensor((1 - 2 * self.alpha) / self.levels, dtype=x.dtype).log()
        return torch.logit(inner), self.log_det(inner, scale).sum(1)

    def squeeze(self, x: Tensor) -> Tensor:
        """Maps [0, levels) to (alpha, 1 - alpha)."""
        return self.alpha + (1 - 2 * self.alpha) * x / self.levels

    def log_det(self, inner: Tensor, scale: Tensor) -> Tensor:
        """Returns the log-derivative, elementwise."""
        return scale - inner.log() - (1 - inner).log()

    def inverse(self, z: Tensor) -> Tensor:
        """Maps the reals to levels; what is beyond them stays there."""
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha) * self.levels


class Scaling(nn.Module):
    """From [0, levels) to about [-1, 1)."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) in [0, levels) to (N, D) and the log-determinant."""
        step = torch.full_like(x, 2 / self.levels)
        return 2 * x / self.levels - 1, step.log().sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes it."""
        return (z + 1) / 2 * self.levels


class Affine(nn.Module):
    """A shift and a scale for every entry."""

    def __init__(self, size: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(size))
        self.log_scale = nn.Parameter(torch.tensor(scale).log().repeat(size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant."""
        return (x - self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes it."""
        return z * (-self.log_scale).exp() + self.shift


class Coupling(nn.Module):
    """Half of the entries moves the other half: by a shift, and a scale unless it is additive."""

    def __init__(self, size: int, *, hidden: int = 16, additive: bool = False) -> None:
        super().__init__()
        self.half, self.additive = size // 2, additive
        self.network = nn.Sequential(nn.Linear(self.half, hidden), nn.Tanh(), nn.Linear(hidden, 2 * (size - self.half)))

    def parts(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the half that stays to shifts and log scales."""
        shift, log_scale = self.network(given).chunk(2, 1)
        return shift, torch.zeros_like(log_scale) if self.additive else torch.tanh(log_scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant."""
        given, moved = x[:, : self.half], x[:, self.half :]
        shift, log_scale = self.parts(given)
        return torch.cat([given, moved * log_scale.exp() + shift], 1), log_scale.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes it."""
        given, moved = z[:, : self.half], z[:, self.half :]
        shift, log_scale = self.parts(given)
        return torch.cat([given, (moved - shift) * (-log_scale).exp()], 1)


class Permutation(nn.Module):
    """Another order of the entries, drawn at construction and kept with the weights."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant, which is zero."""
        return x[:, self.order], torch.zeros_like(x[:, 0])

    def inverse(self, z: Tensor) -> Tensor:
        """Undoes it."""
        return z[:, self.order.argsort()]


class Planar(nn.Module):
    """z = x + u tanh(w x + b), with w u > -1; inverted by bisection (Rezende & Mohamed 2015, arXiv 1505.05770)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.free = nn.Parameter(torch.randn(size) / size**0.5), nn.Parameter(0.1 * torch.randn(size))
        self.bias = nn.Parameter(torch.zeros(()))

    def direction(self) -> Tensor:
        """Returns u (D,), such that w u > -1."""
        inner = self.weight @ self.free
        return self.free + (F.softplus(inner) - 1 - inner) * self.weight / self.weight.square().sum()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant."""
        direction = self.direction()
        bent = torch.tanh(x @ self.weight + self.bias)
        return x + bent[:, None] * direction, (1 + (1 - bent.square()) * (self.weight @ direction)).abs().log()

    def inverse(self, z: Tensor) -> Tensor:
        """Finds w x by bisection, and x from it."""
        direction = self.direction()
        inner, target = self.weight @ direction, z @ self.weight
        low, high = target - inner.abs(), target + inner.abs()
        for _ in range(70):
            middle = (low + high) / 2
            above = middle + inner * torch.tanh(middle + self.bias) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return z - torch.tanh(low + self.bias)[:, None] * direction


class Flow(Invertible):
    """Layers one after another, and a standard Gaussian."""

    layers: nn.ModuleList

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most(spec, 1100)
        self.layers = nn.ModuleList(self.make_layers(spec.num_dimensions))

    def make_layers(self, size: int) -> list[nn.Module]:
        """Returns the layers for ``size`` entries, from images to latents."""
        raise NotImplementedError

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = x.flatten(1), torch.zeros(len(x), dtype=x.dtype)
        for layer in self.layers:
            latents, added = layer(latents)
            log_det = log_det + added
        return latents, log_det

    def inverse(self, latents: Tensor) -> Tensor:
        for layer in reversed(self.layers):
            latents = layer.inverse(latents)
        return latents.view(-1, *self.spec.shape)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents).sum(1)

    def sample_prior(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean())


@right
class AffineFlow(Flow):
    """A Gaussian on the logits of dequantized images."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size)]


@right
class RealNVP(Flow):
    """Affine couplings with permutations between them (Dinh et al. 2016, arXiv 1605.08803)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        couplings = [layer for _ in range(3) for layer in (Coupling(size), Permutation(size))]
        return [Logit(self.spec.levels), *couplings, Affine(size)]


@right
class NICE(Flow):
    """Additive couplings, one scaling, and a logistic prior (Dinh et al. 2014, arXiv 1410.8516)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        couplings = [layer for _ in range(2) for layer in (Coupling(size, additive=True), Permutation(size))]
        return [Scaling(self.spec.levels), *couplings, Affine(size, scale=3.0)]

    def log_prior(self, latents: Tensor) -> Tensor:
        return (F.logsigmoid(latents) + F.logsigmoid(-latents)).sum(1)

    def sample_prior(self, num_samples: int) -> Tensor:
        uniform = torch.rand(num_samples, self.spec.num_dimensions, dtype=self.dtype)
        return torch.logit(uniform, eps=1e-15 if self.dtype == torch.float64 else 1e-7)


@right
class PlanarFlow(Flow):
    """Two planar layers between affine ones."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), Planar(size), Planar(size)]
