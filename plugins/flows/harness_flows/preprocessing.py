"""From dequantized levels to where a flow works: the first step of every flow, its log-determinant included."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from harness_layers.checks import check_choice


class Logit(nn.Module):
    """y = log t - log(1 - t) with t = alpha + (1 - 2 alpha) x / levels (Dinh et al. 2017, arXiv 1605.08803).

    log dy/dx = log((1 - 2 alpha) / levels) - log t - log(1 - t) for each entry.

    Args:
        levels: of the images.
        alpha: how far t stays from 0 and 1, above 0 and below 1/2.

    Raises:
        ValueError: alpha out of its range.
    """

    def __init__(self, levels: int, *, alpha: float) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha must be above 0 and below 0.5, not {alpha!r}")
        self.levels, self.alpha = levels, alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, D) in [0, levels) to (N, D) and the log-determinant (N,) nats."""
        share = (1 - 2 * self.alpha) / self.levels
        low, high = (self.alpha + share * x).log(), (self.alpha + share * (self.levels - x)).log()
        return low - high, (math.log(share) - low - high).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to x (N, D), which may be a little outside of [0, levels)."""
        return (torch.sigmoid(z) - self.alpha) * (self.levels / (1 - 2 * self.alpha))


class Linear(nn.Module):
    """y = low + (high - low) x / levels."""

    def __init__(self, levels: int, *, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.scale = low, (high - low) / levels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, D) in [0, levels) to (N, D) in [low, high) and the log-determinant (N,) nats."""
        return self.low + self.scale * x, x.new_full((len(x),), x.shape[1] * math.log(self.scale))

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to x (N, D)."""
        return (z - self.low) / self.scale


PREPROCESSINGS = ("logit", "centred", "unit")


def preprocessing(name: str, levels: int, *, alpha: float) -> Logit | Linear:
    """Returns ``logit`` with its alpha, or levels scaled to [-1, 1), ``centred``, or to [0, 1), ``unit``.

    Raises:
        ValueError: another name, or alpha out of its range.
    """
    check_choice(PREPROCESSINGS, preprocessing=name)
    if name == "logit":
        return Logit(levels, alpha=alpha)
    return Linear(levels, low=-1.0 if name == "centred" else 0.0)
