"""Right flows, each entry moved by those before it: masked ones in both directions, and a masked prior."""

from __future__ import annotations

import torch
from museum.common import at_most
from museum.flows import Flow, Logit
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import kind


class MaskedNetwork(nn.Module):
    """A network with one hidden layer, entry i of whose outputs (N, D, outputs) depends on entries before i alone."""

    def __init__(self, size: int, outputs: int, *, hidden: int = 24) -> None:
        super().__init__()
        self.size, self.outputs = size, outputs
        degrees, entries = torch.arange(hidden) % max(1, size - 1), torch.arange(size)
        self.register_buffer("first_mask", (degrees[:, None] >= entries).float(), persistent=False)
        last = (entries[:, None] > degrees).float().repeat_interleave(outputs, 0)
        self.register_buffer("last_mask", last, persistent=False)
        self.first, self.last = nn.Linear(size, hidden), nn.Linear(hidden, size * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, D) to (N, D, outputs)."""
        hidden = torch.tanh(F.linear(x, self.first.weight * self.first_mask, self.first.bias))
        return F.linear(hidden, self.last.weight * self.last_mask, self.last.bias).view(-1, self.size, self.outputs)


def one_after_another(entry, like: Tensor) -> Tensor:
    """Builds (N, D) entry by entry: ``entry`` maps what there is, zeros after it, and i to entry i (N,)."""
    done = torch.zeros_like(like)
    for i, here in enumerate(torch.eye(like.shape[1], dtype=torch.bool)):
        done = torch.where(here, entry(done, i).unsqueeze(1), done)
    return done


class MaskedAffine(nn.Module):
    """z_i = (x_i - m_i) exp(-s_i) with m, s of the entries of x before i; nothing bounds s."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network = MaskedNetwork(size, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.network(x).unbind(2)
        return (x - mean) * torch.exp(-log_std), -log_std.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        def entry(given, i):
            mean, log_std = self.network(given)[:, i].unbind(1)
            return z[:, i] * log_std.exp() + mean

        return one_after_another(entry, z)


class InverseMaskedAffine(nn.Module):
    """x_i = z_i sigma_i + (1 - sigma_i) m_i, of the entries of z before i, with a gate as its authors have it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.network = MaskedNetwork(size, 2)

    def parts(self, given: Tensor) -> tuple[Tensor, Tensor]:
        mean, gate = self.network(given).unbind(2)
        return mean, torch.sigmoid(gate + 1.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        def entry(given, i):
            mean, gate = self.parts(given)
            return (x[:, i] - (1 - gate[:, i]) * mean[:, i]) / gate[:, i]

        z = one_after_another(entry, x)
        return z, -self.parts(z)[1].log().sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        mean, gate = self.parts(z)
        return gate * z + (1 - gate) * mean


class Reverse(nn.Module):
    """The entries in reverse."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flip(1), torch.zeros_like(x[:, 0])

    def inverse(self, z: Tensor) -> Tensor:
        return z.flip(1)


@kind("masked autoregressive flow")
class MaskedAutoregressiveFlow(Flow):
    """Three layers whose order is reversed between them (Papamakarios et al. 2017, arXiv 1705.07057)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        layers = [layer for _ in range(3) for layer in (MaskedAffine(size), Reverse())]
        return [Logit(self.spec.levels, alpha=1e-6), *layers]


@kind("inverse autoregressive flow")
class InverseAutoregressiveFlow(Flow):
    """Samples at once and scores entry by entry (Kingma et al. 2016, arXiv 1606.04934)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        at_most(self.spec, 600)
        return [Logit(self.spec.levels), InverseMaskedAffine(size), Reverse(), InverseMaskedAffine(size)]


def newton(function, target: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Solves an increasing function, which returns its log-derivative too, between bounds; it bisects where it must."""
    x = (low + high) / 2
    for _ in range(60):
        found, log_slope = function(x)
        low, high = torch.where(found < target, x, low), torch.where(found > target, x, high)
        step = x - (found - target) * (-log_slope).exp()
        x, before = torch.where((step > low) & (step < high), step, (low + high) / 2), x
        if bool(((x - before).abs() <= 1e-12 * (1 + x.abs())).all()):
            break
    return x


@kind("flow with an autoregressive prior")
class AutoregressivePriorFlow(Flow):
    """Gaussian conditionals of each latent given those before it, learned, as priors of lossy codes are."""

    def make_layers(self, size: int) -> list[nn.Module]:
        self.conditionals = MaskedNetwork(size, 2)
        return [Logit(self.spec.levels)]

    def log_prior(self, latents: Tensor) -> Tensor:
        mean, log_std = self.conditionals(latents).unbind(2)
        return torch.distributions.Normal(mean, F.softplus(log_std) + 0.1).log_prob(latents).sum(1)

    @torch.no_grad()
    def sample_prior(self, num_samples: int) -> Tensor:
        noise = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)

        def entry(given, i):
            mean, log_std = self.conditionals(given)[:, i].unbind(1)
            return mean + (F.softplus(log_std) + 0.1) * noise[:, i]

        return one_after_another(entry, noise)
