"""Planar flows as densities (Rezende & Mohamed 2015)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_flows.repeated import RepeatedFlow

_LEAST_SLOPE = 1e-3  # zero in the paper, where float32 would lose the inverse
_MOST_ITERATIONS = 50  # some ten are enough


class Planar(nn.Module):
    r"""Bends space along a direction, as a function of the distance from a plane.

    .. math:: z = x + \hat u \tanh(w^T x + b), \quad \hat u = u + (m(w^T u) - w^T u) w / |w|^2

    With m(y) = -1 + log(1 + e^y) the slope along w, 1 + w^T \hat u (1 - tanh^2), stays positive, whatever w, u and b
    are: so the map is invertible, and the logarithm of its slope is log |det dz/dx|. It starts as the identity.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        w = torch.empty(size).uniform_(-1, 1) * math.sqrt(2 / size)
        self.w, self.b = nn.Parameter(w), nn.Parameter(torch.empty(()).uniform_(-1, 1))
        self.u = nn.Parameter(math.log(math.e - 1) * w / w.square().sum())

    def _push(self) -> tuple[Tensor, Tensor]:
        """Returns u^ (D,), and 1 + w^T u^, the least slope where it is below one."""
        along = self.w @ self.u
        slope = F.softplus(along) + _LEAST_SLOPE
        return self.u + (slope - 1 - along) * self.w / self.w.square().sum(), slope

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant (N,) nats."""
        push, slope = self._push()
        bent = torch.tanh(x @ self.w + self.b)
        return x + bent[:, None] * push, _slope_at(bent, slope).log()

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to (N, D), by the root of v + w^T u^ tanh(v) = w^T z + b, to rounding."""
        push, slope = self._push()
        target = z @ self.w + self.b
        v = _root(target.detach(), slope.detach())
        bent = torch.tanh(v)
        v = v - (v + (slope - 1) * bent - target) / _slope_at(bent, slope.detach())  # which has the root's gradient
        return z - torch.tanh(v)[:, None] * push


def _slope_at(bent: Tensor, slope: Tensor) -> Tensor:
    """Returns 1 + (slope - 1)(1 - bent^2), as a sum of what is not negative: no digit is lost near zero."""
    return bent.square() + slope * (1 - bent.square())


def _root(target: Tensor, slope: Tensor) -> Tensor:
    """Solves f(v) = v + (slope - 1) tanh(v) = target (N,) by Newton's method.

    f is odd, and for v > 0 concave or convex: from a start below the root, or above, the steps run up to it one way.
    """
    size, bend = target.abs(), slope - 1
    far, near = size - bend, size / slope  # what f is like for large v, and for small
    v = torch.where(bend > 0, torch.maximum(far, near), torch.minimum(far, near))
    rounding = 4 * torch.finfo(target.dtype).eps * (size + bend.abs())
    for _ in range(_MOST_ITERATIONS):
        bent = torch.tanh(v)
        excess = v + bend * bent - size
        if bool((excess.abs() <= rounding).all()):
            break
        v = v - excess / _slope_at(bent, slope)
    return v * target.sign()


class PlanarFlow(RepeatedFlow):
    """Planar steps, from images to latents: the density in closed form, samples by a root each.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, where they bend a posterior of latents.
    Args and errors: see ``RepeatedFlow``.
    """

    @staticmethod
    def _step(size: int) -> nn.Module:
        return Planar(size)
