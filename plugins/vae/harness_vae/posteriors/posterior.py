"""Approximate posteriors q(z | x): noise and what an encoder says of x become z, and log q of just that z."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness_layers.posteriors import DiagonalGaussian
from harness_vae.weight_norm import NormedLinear

_DRAWS = 16


class Posterior(nn.Module, ABC):
    """q(z | x) of D = ``size`` latents, given F = ``num_features`` features of an image.

    It is evaluated at its own draws alone: the inverse of many is not known, or needs D passes.
    """

    def __init__(self, num_features: int, size: int) -> None:
        super().__init__()
        self.num_features, self.size = num_features, size

    @abstractmethod
    def of(self, features: Tensor) -> Sequence[Tensor]:
        """Maps features (N, F) to what draws need of each image, (N, ...) each: computed once for all draws."""

    @abstractmethod
    def draw(self, given: Sequence[Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Maps what ``of`` returned, and standard normal noise (S, N, D), to z (S, N, D) and its log q, (S, N) nats."""

    def mean(self, given: Sequence[Tensor]) -> Tensor:
        """Maps what ``of`` returned to E[z], (N, D).

        It is the average over pairs of opposite noise, always the same: exact where z is linear in its noise.
        """
        like = given[0]
        noise = torch.randn(_DRAWS, 1, self.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        both = torch.cat([noise, -noise]).to(like).expand(-1, len(like), -1)
        return self.draw(given, both)[0].mean(0)


class Step(nn.Module, ABC):
    """An invertible map of latents that depends on the image."""

    @abstractmethod
    def of(self, features: Tensor) -> Tensor:
        """Maps features (N, F) to the parameters of the map for each image, (N, P)."""

    @abstractmethod
    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) and parameters (N, P) to z' (S, N, D) and log |det dz'/dz|, (S, N) nats."""


class FlowPosterior(Posterior):
    """A diagonal Gaussian, and the ``steps`` that its draws are sent through: none is the diagonal posterior.

        z_0 = mean(x) + deviation(x) noise,   z_t = f_t(z_{t-1}, x)
        log q(z_T | x) = log q(z_0 | x) - sum_t log |det dz_t/dz_{t-1}|

    Rezende & Mohamed 2015, arXiv 1505.05770.
    """

    steps: Sequence[Step]

    def __init__(self, num_features: int, size: int, steps: Sequence[Step] = ()) -> None:
        super().__init__(num_features, size)
        self.gaussian = NormedLinear(num_features, 2 * size, deviation=0.5)
        self.steps = cast("Sequence[Step]", nn.ModuleList(steps))

    def of(self, features: Tensor) -> Sequence[Tensor]:
        """Maps (N, F) to mean and log-variance (N, 2 D), and the parameters of each step."""
        return self.gaussian(features), *(step.of(features) for step in self.steps)

    def draw(self, given: Sequence[Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Maps noise (S, N, D) to z (S, N, D) and log q(z | x), (S, N) nats."""
        gaussian = DiagonalGaussian(*given[0].chunk(2, -1))
        z, log_q = gaussian.at(noise), gaussian.log_prob_at(noise)
        for step, parameters in zip(self.steps, given[1:], strict=True):
            z, log_det = step(z, parameters)
            log_q = log_q - log_det
        return z, log_q
