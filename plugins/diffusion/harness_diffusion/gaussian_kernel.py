"""Gaussian diffusion of dequantized pixels, the kernel of Deep Diffusion on images of many levels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Dataset, ImageSpec
from harness_diffusion.deep_kernels import Kernel

_LAST_LOGIT = 5.0  # of the share of noise in x_T: little of an image is left


class GaussianKernel(Kernel):
    """Gaussian diffusion of uniformly dequantized pixels, in units of their standard deviation.

        x_0 = (image + u - shift) / scale,    u ~ U[0, 1)^D
        q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t)
        p(x_{t-1} | x_t) = N(sqrt(1 - beta_t) x_t + m sqrt(beta_t), sigmoid(v / sqrt(T) + logit(beta_t)))
        p(x_0 | x_1) = N(sqrt(1 - beta_1) x_1, beta_1)

    m and v are the network's, and shift and scale the mean and deviation of all training pixels. The
    authors' code has u 1 / scale^2 wide instead of 1 / scale, on MNIST some 80 levels too narrow: its density is one of
    nearly discrete data. Here u is one level wide, and the bound has the term -D log(scale), so that it is one of
    log p(image).

    A pixel of noise far below one level would have to be magnified a thousand times by a network that is to see the
    noise of black pixels. So m is put together: the network says how likely a pixel has the lowest or the highest
    level, from which m follows, and what m is otherwise. Bayes' rule weighs the three by how near x_t is to both ends.

    The schedule starts evenly in logit(1 - prod(1 - beta)), from ``first_noise`` levels to nearly nothing but noise,
    and beta_2..T are learned with the rest, by the gradient of the bound.

    Args:
        spec: the sample space.
        num_steps: T.
        first_noise: deviation of the noise of the first step, in levels: at most a quarter, as it blurs what is drawn.
        learned: whether the schedule is.
    """

    inputs, outputs, first_step = 3, 4, 2
    shift: Tensor
    scale: Tensor
    logits: Tensor

    def __init__(self, spec: ImageSpec, num_steps: int, *, first_noise: float, learned: bool) -> None:
        super().__init__(spec, num_steps)
        self.first_noise = first_noise
        self.register_buffer("shift", torch.tensor(spec.levels / 2))
        self.register_buffer("scale", torch.tensor(spec.levels / math.sqrt(12)))
        self.register_buffer("logits", self._initial_logits())
        self.changes = nn.Parameter(torch.zeros(num_steps - 1), requires_grad=learned)

    def _initial_logits(self) -> Tensor:
        """Returns logit(beta_t) (T,), evenly spaced in logit(1 - prod_{s <= t} (1 - beta_s))."""
        first = torch.logit((self.first_noise / self.scale.double()).square())
        log_kept = F.logsigmoid(-torch.linspace(float(first), _LAST_LOGIT, self.num_steps, dtype=torch.float64))
        before = F.pad(log_kept[:-1], (1, 0))
        return torch.expm1(before - log_kept).log().to(self.scale)

    @torch.no_grad()
    def fit(self, data: Dataset) -> None:
        """Takes the mean and the deviation of all training pixels, dequantized; the first draw of random data."""
        values = data.train.draw(0).images.flatten().double()
        self.shift.fill_(values.mean() + 0.5)
        self.scale.fill_((values.var(correction=0) + 1 / 12).sqrt())
        self.logits.copy_(self._initial_logits())

    def schedule(self) -> tuple[Tensor, Tensor]:
        """Returns logit(beta_t) and log prod_{s <= t} (1 - beta_s), both (T,)."""
        logits = self.logits + F.pad(self.changes, (1, 0))
        return logits, F.logsigmoid(-logits).cumsum(0)

    def start(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Maps (N, C, H, W) uint8 to x_0, with noise."""
        noise = torch.rand(images.shape, dtype=dtype, device=images.device)
        return (images.to(dtype) + noise - self.shift) / self.scale

    def finish(self, x: Tensor) -> Tensor:
        """Maps draws of x_0 to images: rounded down and clamped to the levels."""
        return (x * self.scale + self.shift).floor().clamp(0, self.spec.levels - 1).to(torch.uint8)

    def ends(self, x: Tensor) -> Tensor:
        """Maps x_0 to E log p(x_0 | x_1) - KL(q(x_T | x_0) || N(0, 1)) - D log(scale), (N,) nats."""
        logits, log_kept = self.schedule()
        beta, square = logits[0].sigmoid(), x.square()
        first = -0.5 * (math.log(2 * math.pi) + F.logsigmoid(logits[0]) + beta * square + 1 - beta)
        last = 0.5 * (log_kept[-1].exp() * (square - 1) - torch.log(-torch.expm1(log_kept[-1])))
        return (first - last - self.scale.log()).flatten(1).sum(1)

    def diffuse(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x_t and the noise that is in it."""
        log_kept = _at(self.schedule()[1], steps)
        noise = torch.randn_like(x)
        return (log_kept / 2).exp() * x + (-torch.expm1(log_kept)).sqrt() * noise, noise

    def features(self, noisy: Tensor, steps: Tensor) -> Tensor:
        """Returns x_t, and how far it is from a pixel of the lowest and the highest level, in units of its spread."""
        away, _ = self._from_ends(noisy, steps)
        return torch.cat([noisy, *(away / 3).tanh()], 1)

    def moments(self, noisy: Tensor, outputs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns m and the logarithm of the variance of p(x_{t-1} | x_t), both (N, C, H, W)."""
        logit = _at(self.schedule()[0], steps)
        away, spread = self._from_ends(noisy, steps)
        known = (logit / 2).exp() * (noisy - away / spread)  # m at both ends, (2, N, C, H, W)
        odds = torch.cat([outputs[:, :2].transpose(0, 1) - away.square() / 2, torch.zeros_like(away[:1])])
        mean = (odds.softmax(0) * torch.cat([known, outputs[:, 2][None]])).sum(0)
        return mean, F.logsigmoid(outputs[:, 3] / math.sqrt(self.num_steps) + logit)

    def _from_ends(self, noisy: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how far x_t is from pixels of both ends, (2, N, C, H, W), in units of their spread (N, 1, 1, 1)."""
        log_kept = _at(self.schedule()[1], steps)
        spread = (log_kept.exp() / (12 * self.scale.square()) - torch.expm1(log_kept)).sqrt()
        ends = torch.stack([0.5 - self.shift, self.spec.levels - 0.5 - self.shift]) / self.scale
        return (noisy - (log_kept / 2).exp() * ends.view(2, 1, 1, 1, 1)) / spread, spread

    def divergence(self, noisy: Tensor, known: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """KL of two Gaussians; the means' difference is written so that nothing cancels."""
        logits, log_kept = self.schedule()
        logit, now, before = _at(logits, steps), _at(log_kept, steps), _at(log_kept, steps - 1)
        mean, log_variance = self.moments(noisy, outputs, steps)
        log_over = F.logsigmoid(logit) - log_variance  # beta over p's variance
        log_ratio = log_over + _log1mexp(before) - _log1mexp(now)  # q's variance over p's
        away = (logit / 2).exp() * (noisy - known / (-torch.expm1(now)).sqrt()) - mean
        return 0.5 * (torch.expm1(log_ratio) - log_ratio + away.square() * log_over.exp()).flatten(1).sum(1)

    def draw_noise(self, num_samples: int, like: Tensor) -> Tensor:
        """Draws standard Gaussians."""
        return torch.randn(num_samples, *self.spec.shape, dtype=like.dtype, device=like.device)

    def reverse(self, noisy: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """Draws from the Gaussian."""
        logit = _at(self.schedule()[0], steps)
        mean, log_variance = self.moments(noisy, outputs, steps)
        mean = (F.logsigmoid(-logit) / 2).exp() * noisy + logit.sigmoid().sqrt() * mean
        return mean + (log_variance / 2).exp() * torch.randn_like(noisy)

    def reverse_first(self, x: Tensor) -> Tensor:
        """Draws x_0 from N(sqrt(1 - beta_1) x_1, beta_1), the noise included."""
        beta = self.logits[0].sigmoid()
        return (1 - beta).sqrt() * x + beta.sqrt() * torch.randn_like(x)


def _at(values: Tensor, steps: Tensor) -> Tensor:
    """Maps (T,) and steps (N,) from 1 on to (N, 1, 1, 1)."""
    return values[steps - 1].view(-1, 1, 1, 1)


def _log1mexp(x: Tensor) -> Tensor:
    """Returns log(1 - exp(x)), x < 0."""
    return torch.log(-torch.expm1(x))
