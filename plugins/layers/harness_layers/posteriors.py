"""Distributions of latents: diagonal Gaussians, scored at the noise that they were drawn with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, diag(exp(log_variance))); both are (..., D) and broadcast against values."""

    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Maps standard normal noise (..., D) to values (..., D): mean + std * noise."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def log_prob_at(self, noise: Tensor) -> Tensor:
        """Maps noise (..., D) to (...) nats: the log-density of ``at(noise)``, without dividing by the deviation."""
        return -(0.5 * (noise.square() + self.log_variance) + _HALF_LOG_TWO_PI).sum(-1)

    def log_prob(self, values: Tensor) -> Tensor:
        """Maps (..., D) to (...) nats."""
        return self.log_prob_at((values - self.mean) * (-0.5 * self.log_variance).exp())


def standard_normal_log_prob(values: Tensor) -> Tensor:
    """Maps (..., D) to (...) nats under N(0, I)."""
    return -(0.5 * values.square() + _HALF_LOG_TWO_PI).sum(-1)


def standard_noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Draws standard normal noise of a shape from the global generator, with the type and on the device of ``like``."""
    return torch.randn(tuple(shape), dtype=like.dtype, device=like.device)
