"""Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020, arXiv 2006.11239), as a bound."""

from __future__ import annotations

import math
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_diffusion.averaged import spread_times
from harness_diffusion.denoiser import Denoiser
from harness_diffusion.gaussian_diffusion import GaussianDiffusion, divergence
from harness_layers.checks import check_choice, check_positive
from harness_layers.descent import Descent
from harness_layers.pixels import quantize, scale
from harness_layers.posteriors import standard_noise
from harness_layers.schedules import Schedule

Betas = Literal["cosine", "linear"]
Variance = Literal["learned", "small", "large"]

_OFFSET = 0.008  # of the cosine
_LARGEST_BETA = 0.9  # beyond, the error of one step is magnified by beta / (1 - beta)
_BOUND_WEIGHT = 1e-3
_WIDEST = 20.0


class DDPM(GaussianDiffusion):
    r"""A diffusion trained on the squared error of the noise, which scores an image by a discretized Gaussian.

    With f = 2 x / (levels - 1) - 1, betas of T steps, and alpha_t^2 = prod_{i <= t} (1 - beta_i):

    .. math:: p(x | z_1) = \int_{x's interval} N(f; f^(z_1), Var_1) df

    where the intervals of the lowest and the highest level have no outer ends. Variances are fixed (``small`` are those
    of q(z_s | z_t, f), ``large`` are beta_t), or ``learned``: log Var lies between the two, or beyond, by a share that
    the network says, trained on the bound with a weight of a thousandth (Nichol & Dhariwal 2021, arXiv 2102.09672).
    No estimate of f is clipped, in scoring or in sampling.

    Args:
        spec: any sample space.
        num_steps: T.
        scored_steps: see ``GaussianDiffusion``.
        betas: ``cosine`` (Nichol & Dhariwal) but at most 0.9, or ``linear`` from 0.1 / T to 20 / T, which is 1e-4 to
            0.02 at T = 1000.
        variance: ``learned``, ``small`` or ``large``.
        width, blocks: see ``ImageNetwork``.
        learning_rate, warm_up_steps, schedule, batch_size, max_gradient_norm, validate_every: see ``Descent``.
        averaging: see ``GaussianDiffusion``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    first_step = 2

    def __init__(self, spec: ImageSpec, *, num_steps: int = 100, scored_steps: int = 20, betas: Betas = "cosine",
                 variance: Variance = "learned", width: int = 32, blocks: int = 1, learning_rate: float = 1e-3,
                 warm_up_steps: int = 200, schedule: Schedule = "cosine", batch_size: int = 128,
                 max_gradient_norm: float | None = None, averaging: float = 0.999,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(width=width, blocks=blocks)
        check_choice(get_args(Betas), betas=betas)
        check_choice(get_args(Variance), variance=variance)
        extra = 1 if variance == "learned" else 0
        super().__init__(
            spec, Denoiser(spec, lowest=-1.0, highest=1.0, width=width, blocks=blocks, extra=extra),
            num_steps=num_steps, scored_steps=scored_steps, averaging=averaging,
            descent=Descent(
                learning_rate=learning_rate, schedule=schedule, warm_up_steps=warm_up_steps, batch_size=batch_size,
                max_gradient_norm=max_gradient_norm, validate_every=validate_every,
            ),
        )  # fmt: skip
        self.betas, self.variance, self.trained_steps = betas, variance, num_steps

    def with_steps(self, num_steps: int) -> Self:
        """Returns the same with as many of the T steps, evenly spaced, as its own; more than T are a ValueError."""
        if num_steps > self.trained_steps:
            raise ValueError(f"num_steps must be at most the {self.trained_steps} that were trained, not {num_steps}")
        return super().with_steps(num_steps)

    def gammas(self) -> Tensor:
        """Returns gamma_0 = -infinity to gamma_T, (T + 1,)."""
        count = self.trained_steps
        if self.betas == "linear":
            betas = torch.linspace(0.1, 20, count, dtype=torch.float64) / count
        else:
            time = torch.arange(count + 1, dtype=torch.float64) / count
            level = ((time + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)).cos().square()
            betas = 1 - level[1:] / level[:-1]
        log_signal = torch.log1p(-betas.clamp_max(_LARGEST_BETA)).cumsum(0)
        log_signal = F.pad(log_signal, (1, 0))[torch.linspace(0, count, self.num_steps + 1).round().long()]
        return ((-torch.expm1(log_signal)).log() - log_signal).to(self.device, self.dtype)

    def points(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to f (N, C, H, W) in [-1, 1]."""
        return scale(images, self.spec.levels, self.dtype)

    def predict(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z_t (N, C, H, W) and gamma_t (N,) or (1,) to the noise in it, and to the shares of its shape."""
        return self._predict(self.weights, z, gamma)

    def _predict(self, network: nn.Module, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        noise, extra = network(z, gamma)
        if self.variance == "learned":
            return noise, (0.5 + extra[:, 0]).clamp(-_WIDEST, _WIDEST)
        return noise, torch.full_like(noise, self.variance == "large")

    def reconstruction(self, images: Tensor, noise: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and the noise in z_1 to (N,) nats: log p(image | z_1), of a discretized Gaussian."""
        gamma = self.gammas()[1:2]
        z = self.diffuse(self.points(images), gamma, noise)
        return self._log_likelihood(images, z, *self.predict(z, gamma))

    def draw(self, z: Tensor) -> Tensor:
        """Maps z_1 (N, C, H, W) to (N, C, H, W) uint8: a draw from the Gaussian, at its nearest level."""
        mean, deviation = self._decoder(z, *self.predict(z, self.gammas()[1:2]))
        return quantize(mean + deviation * torch.randn_like(mean), self.spec.levels)

    def loss(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,): the squared error of the noise at one step each, spread over the batch.

        Of learned variances, plus T of the bound's term at that step, at the mean as it is, in thousandths of a bit.
        """
        points, gammas = self.points(images), self.gammas()
        step = 1 + (spread_times(images, points.dtype) * self.num_steps).long().clamp_max(self.num_steps - 1)
        noise = standard_noise(points.shape, points)
        z = self.diffuse(points, gammas[step], noise)
        predicted, shares = self._predict(self.network, z, gammas[step])
        loss = (predicted - noise).square().flatten(1).sum(1)
        if self.variance != "learned":
            return loss
        fixed, before = predicted.detach(), gammas[(step - 1).clamp_min(1)]
        first = -self._log_likelihood(images, z, fixed, shares)
        term = torch.where(step == 1, first, divergence(fixed - noise, shares, before, gammas[step]))
        return loss + _BOUND_WEIGHT / math.log(2) * self.num_steps * term

    def _decoder(self, z: Tensor, noise: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and deviation of f given z_1, (N, C, H, W) each.

        q(f | z_1, f) has no width: in its place are that of the step before, or of a sixth of the distance of two
        levels where variances are learned.
        """
        gammas = self.gammas()
        mean = (z - gammas[1].sigmoid().sqrt() * noise) / (-gammas[1]).sigmoid().sqrt()
        widest = narrow = F.logsigmoid(gammas[1])
        if self.num_steps > 1:
            narrow = widest + (-torch.expm1(gammas[1] - gammas[2])).log()
        if self.variance == "learned":
            narrow = narrow.clamp_max(-2 * math.log(3 * (self.spec.levels - 1)))
        return mean, (0.5 * (narrow + shares * (widest - narrow))).exp()

    def _log_likelihood(self, images: Tensor, z: Tensor, noise: Tensor, shares: Tensor) -> Tensor:
        mean, deviation = self._decoder(z, noise, shares)
        return discretized_log_prob(images, mean, deviation, self.spec.levels).flatten(1).sum(1)


def discretized_log_prob(images: Tensor, mean: Tensor, deviation: Tensor, levels: int) -> Tensor:
    """Maps integers and a Gaussian's mean and deviation, all (...), to (...) nats: its mass on the level's interval.

    Levels are evenly spaced from -1 to 1, and an interval ends half way to the next level; the outermost have no end.
    """
    half = 1 / (levels - 1)
    offset = scale(images, levels, mean.dtype) - mean
    lower = ((offset - half) / deviation).masked_fill(images == 0, -math.inf)
    upper = ((offset + half) / deviation).masked_fill(images == levels - 1, math.inf)
    mirrored = lower + upper > 0  # where the difference of two numbers close to one is taken
    low, high = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    log_mass: Tensor = log_high + (-torch.expm1(log_low - log_high)).log()
    return log_mass
