"""Radial flows as densities (Rezende & Mohamed 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_flows.repeated import RepeatedFlow

_LEAST_SLOPE = 1e-3  # at the centre; zero in the paper, where float32 would lose the inverse
_START = -1.5  # of alpha, 0.2 then: wider ones find fewer modes


class Radial(nn.Module):
    r"""Pulls space towards a centre, or pushes it away.

    .. math:: z = x + \beta h (x - c), \quad h = 1 / (\alpha + r), \quad r = |x - c|
    .. math:: \log|\det dz/dx| = (D - 1) \log(1 + \beta h) + \log(1 + \beta h - \beta h^2 r)

    With beta = -alpha + softplus(b), above -alpha, the distance from the centre grows with r: so the map is invertible.
    It starts as the identity.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.randn(size))
        self.a, self.b = nn.Parameter(torch.full((), _START)), nn.Parameter(torch.full((), _START))

    def _reach(self) -> tuple[Tensor, Tensor]:
        """Returns alpha, and alpha + beta."""
        alpha = F.softplus(self.a)
        return alpha, F.softplus(self.b) + _LEAST_SLOPE * alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant (N,) nats."""
        alpha, total = self._reach()
        away = x - self.centre
        r = torch.linalg.vector_norm(away, dim=1)
        across = (r + total) / (alpha + r)  # 1 + beta h, as a quotient of what is positive
        along = (r * (r + 2 * alpha) + alpha * total) / (alpha + r).square()
        return self.centre + across[:, None] * away, (x.shape[1] - 1) * across.log() + along.log()

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to (N, D), by the positive root of r^2 + (alpha + beta - |z - c|) r = alpha |z - c|."""
        alpha, total = self._reach()
        away = z - self.centre
        far = torch.linalg.vector_norm(away, dim=1)
        gap = far - total
        wide = (gap.square() + 4 * alpha * far).sqrt() + gap.abs()
        r = torch.where(gap > 0, wide / 2, 2 * alpha * far / wide)  # no digit is lost
        return self.centre + ((alpha + r) / (r + total))[:, None] * away


class RadialFlow(RepeatedFlow):
    """Radial steps, from images to latents; inverse and density are both in closed form.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, where they bend a posterior of latents.
    Args and errors: see ``RepeatedFlow``.
    """

    @staticmethod
    def _step(size: int) -> nn.Module:
        return Radial(size)
