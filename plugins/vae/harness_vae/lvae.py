"""The ladder variational autoencoder (Sønderby et al. 2016, arXiv 1602.02282)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.pixels import level_counts
from harness_layers.posteriors import DiagonalGaussian, standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.latent_model import LatentModel, Objective, Terms
from harness_vae.networks import glorot_linear
from harness_vae.pixels import PixelLayer

_LEAST_VARIANCE = 1e-5
_LEAK = 0.1
_SMOOTHING = 1e-3  # the share of uniform levels in the frequencies that the decoder starts from
_SAMPLED_ENTRIES = 2**23


class BatchNorm(nn.BatchNorm1d):
    """Batch norm of (..., width) over all that comes before the width; in evaluation, running statistics alone."""

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., width) to the same; one row alone has no deviation, and takes the running statistics."""
        rows = values.flatten(0, -2)
        if self.training and len(rows) == 1:
            normal = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        else:
            normal = super().forward(rows)
        return normal.view(values.shape)


class Network(nn.Sequential):
    """Dense layers of one width, batch norm and max(x, x / 10) after each; maps (..., inputs) to (..., width)."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        sizes = [inputs] + [width] * layers
        blocks = [
            nn.Sequential(glorot_linear(before, width), BatchNorm(width), nn.LeakyReLU(_LEAK)) for before in sizes[:-1]
        ]
        super().__init__(*blocks)


class Gaussian(nn.Module):
    """A diagonal Gaussian (..., outputs) whose mean and softplus variance are linear in features (..., inputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = glorot_linear(inputs, 2 * outputs)

    def forward(self, features: Tensor) -> DiagonalGaussian:
        """Maps (..., inputs) to a Gaussian with parameters (..., outputs)."""
        mean, raw = self.linear(features).chunk(2, -1)
        return DiagonalGaussian(mean, (F.softplus(raw) + _LEAST_VARIANCE).log())


def precision_weighted(one: DiagonalGaussian, other: DiagonalGaussian) -> DiagonalGaussian:
    """Returns the normalised product of two Gaussians: 1/v = 1/v1 + 1/v2, mean = v (mean1/v1 + mean2/v2)."""
    gap = other.log_variance - one.log_variance
    mean = other.mean + gap.sigmoid() * (one.mean - other.mean)
    return DiagonalGaussian(mean, other.log_variance + F.logsigmoid(-gap))


class Draw(NamedTuple):
    """Latents drawn from q, the top layer first: values (..., size) and nats (...) of each, and what pixels see."""

    values: list[Tensor]
    log_q: list[Tensor]
    log_p: list[Tensor]
    pixel_features: Tensor


class LVAE(LatentModel):
    """The posterior of a layer joins what the image says of it, bottom up, with its prior given the layer above.

        q(z_l | x, z_{l+1}) ∝ N(z_l; m_l(x), v_l(x)) p(z_l | z_{l+1}),    q(z_L | x) = N(z_L; m_L(x), v_L(x))

    So inference runs top down through the generative model's own networks. Dense layers have batch norm, as in the
    paper: of the batch at hand in training, of running statistics in all that is scored or drawn.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: units of the stochastic layers, the bottom z_1 first.
        hidden: widths of the dense layers below each stochastic layer, upwards and downwards; one for each.
        hidden_layers: how many dense layers each of these networks has.
        num_samples, warm_up, free_bits, average_decay: of ``Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: of ``Descent``.

    Raises:
        ValueError: a number out of its range, more or fewer ``hidden`` than ``latents``.
    """

    default_budget = "200 epochs"

    def __init__(self, spec: ImageSpec, *, latents: tuple[int, ...] = (64, 32, 16, 8, 4),
                 hidden: tuple[int, ...] = (512, 256, 128, 64, 32), hidden_layers: int = 2, num_samples: int = 1,
                 warm_up: float = 0.1, free_bits: float = 0.0, average_decay: float | None = None,
                 learning_rate: float = 1e-3, batch_size: int = 256, schedule: Schedule = "cosine",
                 max_gradient_norm: float | None = None, validate_every: str = "1 epoch") -> None:  # fmt: skip
        objective = Objective(
            num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay
        )
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, epsilon=1e-4, schedule=schedule,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        super().__init__(spec, objective=objective, descent=descent)
        check_widths(latents=latents, hidden=hidden)
        check_positive(hidden_layers=hidden_layers)
        if len(hidden) != len(latents):
            raise ValueError(f"hidden={tuple(hidden)} needs one width for each of latents={tuple(latents)}")
        self._latents = tuple(latents)
        below = [spec.num_dimensions, *hidden[:-1]]
        self.upward = nn.ModuleList(
            Network(size, width, hidden_layers) for size, width in zip(below, hidden, strict=True)
        )
        self.evidence = nn.ModuleList(map(Gaussian, hidden, latents))
        self.downward = nn.ModuleList(
            Network(size, width, hidden_layers) for size, width in zip(latents, hidden, strict=True)
        )
        self.priors = nn.ModuleList(map(Gaussian, hidden[1:], latents))
        self.pixels = PixelLayer(hidden[0], spec)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The units of each stochastic layer, top level first."""
        return self._latents[::-1]

    def start_from(self, images: Tensor) -> None:
        """Starts the decoder's biases at the frequencies of the levels in (M, C, H, W) uint8."""
        levels = self.spec.levels
        counts = level_counts(images, levels).flatten(1).to(self.dtype)  # (levels, D)
        self.pixels.start_from((1 - _SMOOTHING) * counts / len(images) + _SMOOTHING / levels)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to the pixels' projection, then mean and log-variance of each layer, top first."""
        values = images.flatten(1).to(self.dtype) / (self.spec.levels - 1)
        found: list[Tensor] = []
        for network, evidence in zip(self.upward, self.evidence, strict=True):
            values = network(values)
            gaussian: DiagonalGaussian = evidence(values)
            found = [gaussian.mean, gaussian.log_variance, *found]
        return (*self.pixels.project(images), *found)

    def draw_at(self, features: Sequence[Tensor], noise: Sequence[Tensor]) -> Draw:
        """Maps ``features`` of N images and noise (..., N, size) of each layer, top first, to latents of q."""
        values, log_q, log_p = list[Tensor](), list[Tensor](), list[Tensor]()
        above: Tensor | None = None
        for level, own in zip(reversed(range(len(noise))), noise, strict=True):
            mean, log_variance = features[-2 * (level + 1)], features[-2 * (level + 1) + 1]
            posterior = DiagonalGaussian(mean, log_variance)
            prior: DiagonalGaussian | None = None if above is None else self.priors[level](above)
            if prior is not None:
                posterior = precision_weighted(posterior, prior)
            values.append(posterior.at(own))
            log_q.append(posterior.log_prob_at(own))
            log_p.append(standard_normal_log_prob(values[-1]) if prior is None else prior.log_prob(values[-1]))
            above = self.downward[level](values[-1])
        assert above is not None
        return Draw(values, log_q, log_p, above)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of ``num_samples`` weights of each."""
        drawn = self.draw_at(features, self._noise((num_samples, len(images))))
        ratios = [p - q for p, q in zip(drawn.log_p, drawn.log_q, strict=True)]
        return Terms(self.pixels.log_likelihood((features[0], features[1]), drawn.pixel_features), ratios)

    def _noise(self, shape: tuple[int, ...]) -> list[Tensor]:
        return [standard_noise((*shape, size), self._anchor) for size in self.latent_sizes]

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D) of q, top level first, and log q of each, (N,) nats."""
        drawn = self.draw_at(self.features(images), self._noise((len(images),)))
        return torch.cat(drawn.values, 1), torch.stack(drawn.log_q).sum(0)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D), top level first: means, of every layer given the mean of that above."""
        zeros = [torch.zeros_like(noise) for noise in self._noise((len(images),))]
        return torch.cat(self.draw_at(self.features(images), zeros).values, 1)

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D), top level first, to (N,) nats: log p(z_L) + sum_l log p(z_l | z_{l+1})."""
        values = torch.split(latents, list(self.latent_sizes), dim=1)[::-1]
        total = standard_normal_log_prob(values[-1])
        for level, prior in enumerate(self.priors):
            total = total + prior(self.downward[level + 1](values[level + 1])).log_prob(values[level])
        return total

    def _pixel_features(self, latents: Tensor) -> Tensor:
        features: Tensor = self.downward[0](latents[:, -self._latents[0] :])
        return features

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats: log p(x | z_1)."""
        return self.pixels.log_likelihood(self.pixels.project(images), self._pixel_features(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D), top level first, to (N, C, H, W) float: E[x | z_1], in levels. Only z_1 matters, given all."""
        return self.pixels.expected(self._pixel_features(latents))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, top down, then a draw of the pixels."""
        rows = max(1, _SAMPLED_ENTRIES // (self.spec.num_dimensions * self.spec.levels))
        sizes = [rows] * (num_samples // rows) + [num_samples % rows] * (num_samples % rows > 0)
        return torch.cat([self._sample_block(size) for size in sizes])

    def _sample_block(self, num_samples: int) -> Tensor:
        noise = self._noise((num_samples,))
        values = noise[0]
        for level, own in zip(reversed(range(len(self.priors))), noise[1:], strict=True):
            values = self.priors[level](self.downward[level + 1](values)).at(own)
        return self.pixels.draw(self.downward[0](values))
