"""Right flows that keep the image's shape: masked couplings of convolutions, Glow's steps, normalisation layers."""

from __future__ import annotations

import torch
from museum.common import at_most, fit_by_gradient, log_normal
from museum.flows import Affine, Coupling, Flow, Logit, Permutation
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from harness import ImageSpec, Unsupported

from .registry import kind


class MaskedCoupling(nn.Module):
    """z = b x + (1 - b) (x exp(s(b x)) + t(b x)), over images, with a mask b of zeros and ones; nothing bounds s."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        channels = len(mask)
        self.register_buffer("mask", mask, persistent=False)
        self.network = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2 * channels, 3, padding=1)
        )

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self.network(x * self.mask).chunk(2, 1)
        return shift * (1 - self.mask), log_scale * (1 - self.mask)

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        x = flat.view(-1, *self.mask.shape)
        shift, log_scale = self.parts(x)
        return (x * log_scale.exp() + shift).flatten(1), log_scale.sum((1, 2, 3))

    def inverse(self, flat: Tensor) -> Tensor:
        z = flat.view(-1, *self.mask.shape)
        shift, log_scale = self.parts(z)
        return ((z - shift) * torch.exp(-log_scale)).flatten(1)


@kind("convolutional coupling flow")
class CheckerboardFlow(Flow):
    """Masks like a checkerboard, and of channels where there are several (Dinh et al. 2016, arXiv 1605.08803)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        channels, height, width = self.spec.shape
        board = ((torch.arange(height)[:, None] + torch.arange(width)) % 2).float().expand(channels, -1, -1)
        masks = [board, 1 - board]
        if channels > 1:
            first = (torch.arange(channels) < channels // 2).float().view(-1, 1, 1).expand(-1, height, width)
            masks += [first, 1 - first]
        return [Logit(self.spec.levels), *(MaskedCoupling(mask.clone()) for mask in masks)]


class ActNorm(nn.Module):
    """A scale and a shift a channel, which the first batch of the training sets (Kingma & Dhariwal 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and not self.initialized:
            with torch.no_grad():
                std, mean = torch.std_mean(x, (0, 2, 3), keepdim=True)
                self.loc.copy_(-mean)
                self.log_scale.copy_(-(std + 1e-6).log())
                self.initialized.fill_(1)
        log_det = x.shape[2] * x.shape[3] * self.log_scale.sum()
        return (x + self.loc) * self.log_scale.exp(), log_det.expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z * torch.exp(-self.log_scale) - self.loc


class Mix(nn.Module):
    """A convolution of 1x1 by a full matrix, whose log-determinant is computed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q.contiguous())

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Returns the matrix and its log-determinant."""
        return self.weight, torch.linalg.slogdet(self.weight).logabsdet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, log_det = self.matrix()
        return F.conv2d(x, weight[:, :, None, None]), (x.shape[2] * x.shape[3] * log_det).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return F.conv2d(z, torch.linalg.inv(self.matrix()[0])[:, :, None, None])


class MixByLU(Mix):
    """The same as P L (U + diag(sign exp(log s))): the permutation P and the signs are fixed."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        permutation, lower, upper = torch.linalg.lu(self.weight.detach())
        del self.weight
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower), nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(upper.diagonal().abs().log())

    def matrix(self) -> tuple[Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(len(self.sign), dtype=self.lower.dtype)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())
        return self.permutation @ lower @ upper, self.log_s.sum()


class ChannelCoupling(nn.Module):
    """Half of the channels moves the others, by a sigmoid's scale; the last convolution starts at zero."""

    def __init__(self, channels: int, *, hidden: int = 8) -> None:
        super().__init__()
        self.half = channels // 2
        self.network = nn.Sequential(
            nn.Conv2d(self.half, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(),
            nn.Conv2d(hidden, 2 * (channels - self.half), 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def parts(self, given: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(given).chunk(2, 1)
        return torch.sigmoid(log_scale + 2), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given, moved = x[:, : self.half], x[:, self.half :]
        scale, shift = self.parts(given)
        return torch.cat([given, (moved + shift) * scale], 1), scale.log().sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        given, moved = z[:, : self.half], z[:, self.half :]
        scale, shift = self.parts(given)
        return torch.cat([given, moved / scale - shift], 1)


class OnImages(nn.Module):
    """Steps on images, squeezed by two where height and width are even."""

    def __init__(self, shape: tuple[int, int, int], steps: list[nn.Module]) -> None:
        super().__init__()
        self.shape, self.steps = shape, nn.ModuleList(steps)

    def forward(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = F.pixel_unshuffle(flat.view(-1, *self.shape), 2), flat.new_zeros(len(flat))
        for step in self.steps:
            x, added = step(x)
            log_det = log_det + added
        return x.flatten(1), log_det

    def inverse(self, flat: Tensor) -> Tensor:
        channels, height, width = self.shape
        z = flat.view(-1, 4 * channels, height // 2, width // 2)
        for step in reversed(self.steps):
            z = step.inverse(z)
        return F.pixel_shuffle(z, 2).flatten(1)


@kind("Glow")
class Glow(Flow):
    """Actnorm, 1x1 convolutions by LU, affine couplings on squeezed images (Kingma & Dhariwal 2018, arXiv 1807.03039).

    The last half of the channels is a Gaussian whose mean and scale are predicted from the first, as by its splits.
    """

    mix = MixByLU

    def make_layers(self, size: int) -> list[nn.Module]:
        channels, height, width = self.spec.shape
        if height % 2 or width % 2:
            raise Unsupported("height and width must be even")
        channels *= 4
        self.prior_network = nn.Conv2d(channels // 2, channels, 3, padding=1)
        nn.init.zeros_(self.prior_network.weight)
        steps = [step for _ in range(2) for step in (ActNorm(channels), self.mix(channels), ChannelCoupling(channels))]
        return [Logit(self.spec.levels), OnImages(self.spec.shape, steps)]

    def split(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Maps the first half of the latents, (N, D/2), to mean and log standard deviation of the others."""
        channels, height, width = self.spec.shape
        found = self.prior_network(first.view(-1, 2 * channels, height // 2, width // 2))
        mean, log_std = found.chunk(2, 1)
        return mean.flatten(1), log_std.flatten(1)

    def log_prior(self, latents: Tensor) -> Tensor:
        first, second = latents.chunk(2, 1)
        return log_normal(first).sum(1) + log_normal(second, *self.split(first)).sum(1)

    @torch.no_grad()
    def sample_prior(self, num_samples: int) -> Tensor:
        first, noise = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype).chunk(2, 1)
        mean, log_std = self.split(first)
        return torch.cat([first, mean + log_std.exp() * noise], 1)

    def fit(self, data, trainer) -> None:
        self.train()
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean(), learning_rate=0.005)
        self.eval()


@kind("Glow")
class GlowByFullMatrix(Glow):
    """The same, its 1x1 convolutions by full matrices."""

    mix = Mix


class Normalise(nn.Module):
    """Batch normalisation as a layer of a flow: by the batch while training, by running statistics otherwise."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_gamma, self.beta = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(var, 0.1)
        z = (x - mean) / (var + 1e-5).sqrt() * self.log_gamma.exp() + self.beta
        return z, (self.log_gamma - 0.5 * (var + 1e-5).log()).sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return (z - self.beta) * torch.exp(-self.log_gamma) * (self.running_var + 1e-5).sqrt() + self.running_mean


@kind("flow with batch normalisation")
class BatchNormFlow(Flow):
    """Couplings with batch normalisation between them, as MAF and RealNVP have it; running statistics score."""

    def make_layers(self, size: int) -> list[nn.Module]:
        steps = [layer for _ in range(2) for layer in (Coupling(size), Normalise(size), Permutation(size))]
        return [Logit(self.spec.levels), *steps]

    def fit(self, data, trainer) -> None:
        self.train()
        super().fit(data, trainer)
        self.eval()


@kind("coupling flow of normalised weights")
class WeightNormFlow(Flow):
    """Couplings whose networks have weights of separate length and direction (Salimans & Kingma 2016)."""

    norm = staticmethod(weight_norm)

    def make_layers(self, size: int) -> list[nn.Module]:
        couplings = [Coupling(size), Permutation(size), Coupling(size)]
        for coupling in (couplings[0], couplings[2]):
            coupling.network[0], coupling.network[2] = self.norm(coupling.network[0]), self.norm(coupling.network[2])
        return [Logit(self.spec.levels), *couplings, Affine(size)]


@kind("contractive residual flow")
class SpectralFlow(Flow):
    """Residual layers of one hidden layer, Lipschitz below one by power iterations as torch makes them.

    The iterations are buffers that training updates: after weights were drawn, ``project_`` brings them up to date.
    """

    def __init__(self, spec: ImageSpec) -> None:
        at_most(spec, 200)
        super().__init__(spec)

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), SpectralResidual(size)]

    @torch.no_grad()
    def project_(self) -> None:
        self.train()
        for _ in range(30):
            self.layers[-1].residual(torch.zeros(1, self.spec.num_dimensions, dtype=self.dtype))
        self.eval()

    def fit(self, data, trainer) -> None:
        self.train()
        super().fit(data, trainer)
        self.project_()


class SpectralResidual(nn.Module):
    """z = x + 0.7 W2 tanh(W1 x + b1) with weights divided by their largest singular values."""

    def __init__(self, size: int, *, hidden: int = 8) -> None:
        super().__init__()
        self.first = spectral_norm(nn.Linear(size, hidden), n_power_iterations=3)
        self.last = spectral_norm(nn.Linear(hidden, size), n_power_iterations=3)

    def residual(self, x: Tensor) -> Tensor:
        return 0.7 * self.last(torch.tanh(self.first(x)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, last = self.first.weight, self.last.weight
        bent = torch.tanh(F.linear(x, first, self.first.bias))
        z = x + 0.7 * F.linear(bent, last, self.last.bias)
        inner = torch.eye(len(first), dtype=x.dtype) + 0.7 * (first @ last) * (1 - bent.square())[:, :, None]
        return z, torch.linalg.slogdet(inner).logabsdet  # Sylvester's identity

    def inverse(self, z: Tensor) -> Tensor:
        x = z
        for _ in range(80):
            x = z - self.residual(x)
        return x
