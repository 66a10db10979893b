"""The ladder variational autoencoder (Sønderby et al. 2016, arXiv 1602.02282)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.pixels import level_counts
from harness_layers.posteriors import DiagonalGaussian
from harness_layers.schedules import Schedule
from harness_vae.ladder import Choose, LadderModel
from harness_vae.latent_model import Objective
from harness_vae.networks import glorot_linear
from harness_vae.pixels import PixelLayer

_LEAST_VARIANCE = 1e-5
_LEAK = 0.1
_VAGUE = 2.0  # of evidence at the start; a posterior below half of its prior's variance makes weights that have none
_SMOOTHING = 1e-3  # the share of uniform levels in the frequencies that the decoder starts from


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
    """A diagonal Gaussian (..., outputs), by a linear map of features (..., inputs): v = softplus(. + start)."""

    def __init__(self, inputs: int, outputs: int, start: float = 0.0) -> None:
        super().__init__()
        self.linear, self.start = glorot_linear(inputs, 2 * outputs), start

    def forward(self, features: Tensor) -> DiagonalGaussian:
        """Maps (..., inputs) to a Gaussian with parameters (..., outputs)."""
        mean, raw = self.linear(features).chunk(2, -1)
        return DiagonalGaussian(mean, (F.softplus(raw + self.start) + _LEAST_VARIANCE).log())


def precision_weighted(one: DiagonalGaussian, other: DiagonalGaussian) -> DiagonalGaussian:
    """Returns the normalised product of two Gaussians: 1/v = 1/v1 + 1/v2, mean = v (mean1/v1 + mean2/v2)."""
    gap = other.log_variance - one.log_variance
    mean = other.mean + gap.sigmoid() * (one.mean - other.mean)
    return DiagonalGaussian(mean, other.log_variance + F.logsigmoid(-gap))


class LVAE(LadderModel):
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
    pixels: PixelLayer

    def __init__(self, spec: ImageSpec, *, latents: tuple[int, ...] = (64, 32, 16, 8, 4),
                 hidden: tuple[int, ...] = (512, 256, 128, 64, 32), hidden_layers: int = 2, num_samples: int = 1,
                 warm_up: float = 0.1, free_bits: float = 0.0, average_decay: float | None = None,
                 learning_rate: float = 2e-3, batch_size: int = 256, schedule: Schedule = "cosine",
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
        self.evidence = nn.ModuleList(map(Gaussian, hidden, latents, [_VAGUE] * len(latents)))
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

    def bottom_up(self, images: Tensor) -> list[DiagonalGaussian]:
        """Maps (N, C, H, W) uint8 to what they say of each layer's latents, parameters (N, size), the top first."""
        values, found = images.flatten(1).to(self.dtype) / (self.spec.levels - 1), list[DiagonalGaussian]()
        for network, evidence in zip(self.upward, self.evidence, strict=True):
            values = network(values)
            found.append(evidence(values))
        return found[::-1]

    def top_down(self, choose: Choose, evidence: Sequence[DiagonalGaussian] | None = None) -> Tensor:
        """Runs the generative networks, and returns the features of the pixels, (..., N, F); see ``LadderModel``."""
        top = len(self.downward) - 1
        zeros = torch.zeros(self._latents[top], dtype=self.dtype, device=self.device)
        prior = DiagonalGaussian(zeros, zeros)
        values = zeros
        for level in range(top, -1, -1):
            if level < top:
                prior = self.priors[level](values)
            posterior = None if evidence is None else evidence[top - level]
            if posterior is not None and level < top:
                posterior = precision_weighted(posterior, prior)
            values = self.downward[level](choose(prior, posterior))
        return values
