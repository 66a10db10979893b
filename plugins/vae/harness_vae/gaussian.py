"""Diagonal Gaussians, and the networks that give their parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

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


def glorot_linear(inputs: int, outputs: int) -> nn.Linear:
    """Returns a linear layer with Glorot's uniform weights and zero biases (Glorot & Bengio 2010)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class TanhNetwork(nn.Module):
    """Linear layers of the widths ``hidden`` with a tanh after each; maps (..., inputs) to (..., hidden[-1])."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(glorot_linear(*widths) for widths in pairwise([inputs, *hidden]))

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., inputs) to (..., hidden[-1])."""
        for layer in self.layers:
            values = layer(values).tanh_()  # in place: the derivative of tanh needs its result alone
        return values


class GaussianNetwork(nn.Module):
    """A diagonal Gaussian whose parameters are linear in the features of a tanh network.

    Args:
        inputs: width of what it is conditioned on.
        hidden: widths of the tanh layers.
        outputs: D, the width of the Gaussian.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.features = TanhNetwork(inputs, hidden)
        self.mean = glorot_linear(hidden[-1], outputs)
        self.log_variance = glorot_linear(hidden[-1], outputs)

    def forward(self, inputs: Tensor) -> DiagonalGaussian:
        """Maps (..., inputs) to a Gaussian with parameters (..., D)."""
        features = self.features(inputs)
        return DiagonalGaussian(self.mean(features), self.log_variance(features))


def standard_noise(shape: Sequence[int], like: Tensor) -> Tensor:
    """Draws standard normal noise of a shape from the global generator, with the type and on the device of ``like``."""
    return torch.randn(tuple(shape), dtype=like.dtype, device=like.device)
