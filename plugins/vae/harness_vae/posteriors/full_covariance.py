"""The Gaussian posterior with any covariance: what a linear flow can reach, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness_layers.posteriors import standard_normal_log_prob
from harness_vae.posteriors.autoregressive import lower_triangle
from harness_vae.posteriors.posterior import Posterior
from harness_vae.weight_norm import NormedLinear


class FullCovariance(Posterior):
    """z = mean(x) + C(x) noise, with C lower triangular: the exponential of its diagonal is what the encoder gives."""

    def __init__(self, num_features: int, size: int) -> None:
        super().__init__(num_features, size)
        self.mean_and_scale = NormedLinear(num_features, 2 * size, deviation=0.5)
        self.below = NormedLinear(num_features, max(1, size * (size - 1) // 2), deviation=0.1)

    def of(self, features: Tensor) -> Sequence[Tensor]:
        """Maps (N, F) to the mean (N, D), log of the diagonal (N, D), and C (N, D, D)."""
        mean, log_diagonal = self.mean_and_scale(features).chunk(2, -1)
        return mean, log_diagonal, lower_triangle(self.below(features), self.size, -1) + log_diagonal.exp().diag_embed()

    def draw(self, given: Sequence[Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Maps noise (S, N, D) to z (S, N, D) and log q(z | x), (S, N) nats."""
        mean, log_diagonal, scale = given
        return mean + torch.einsum("nij,snj->sni", scale, noise), standard_normal_log_prob(noise) - log_diagonal.sum(-1)
