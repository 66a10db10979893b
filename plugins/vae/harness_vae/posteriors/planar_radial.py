"""Planar and radial flows, whose parameters the encoder gives for each image.

Rezende & Mohamed 2015, arXiv 1505.05770. Both are kept invertible as in its appendix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_vae.posteriors.posterior import Step
from harness_vae.weight_norm import NormedLinear

_TINY = 1e-12


class PlanarStep(Step):
    """z' = z + u tanh(w z + b), with log |det| = log |1 + (1 - tanh^2) w u|.

    The encoder's u is moved along w so that w u > -1. Where w starts decides how soon a step does anything: it is
    uniform within sqrt(2 / D), whatever the image.
    """

    def __init__(self, num_features: int, size: int) -> None:
        super().__init__()
        self.linear = NormedLinear(num_features, 2 * size + 1, deviation=0.1)
        within = math.sqrt(2 / size)
        self.start = nn.Parameter(torch.empty(size).uniform_(-within, within))
        self.size = size

    def of(self, features: Tensor) -> Tensor:
        """Maps (N, F) to w, u, b and w u, (N, 2 D + 2)."""
        w, u, b = torch.split(self.linear(features), [self.size, self.size, 1], dim=-1)
        w = w + self.start
        before = (w * u).sum(-1, keepdim=True)
        u = u + (F.softplus(-before) - 1) * w / w.square().sum(-1, keepdim=True).clamp_min(_TINY)
        return torch.cat([w, u, b, F.softplus(before) - 1], dim=-1)

    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) to z' (S, N, D) and log |det dz'/dz|, (S, N) nats."""
        w, u, b, slope = torch.split(given, [self.size, self.size, 1, 1], dim=-1)
        bent = ((z * w).sum(-1, keepdim=True) + b).tanh()
        return z + u * bent, (1 + (1 - bent.square()) * slope).abs().log().squeeze(-1)


class RadialStep(Step):
    """z' = z + beta h (z - c), h = 1 / (alpha + |z - c|), with alpha > 0 and beta > -alpha.

    log |det| = (D - 1) log(1 + beta h) + log(1 + alpha beta h^2)
    """

    def __init__(self, num_features: int, size: int) -> None:
        super().__init__()
        self.linear = NormedLinear(num_features, size + 2, deviation=0.1)
        self.start = nn.Parameter(torch.randn(size))
        self.size = size

    def of(self, features: Tensor) -> Tensor:
        """Maps (N, F) to c, alpha and beta, (N, D + 2)."""
        centre, alpha, beta = torch.split(self.linear(features), [self.size, 1, 1], dim=-1)
        alpha = F.softplus(alpha)
        return torch.cat([centre + self.start, alpha, F.softplus(beta) - alpha], dim=-1)

    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) to z' (S, N, D) and log |det dz'/dz|, (S, N) nats."""
        centre, alpha, beta = torch.split(given, [self.size, 1, 1], dim=-1)
        away = z - centre
        h = 1 / (alpha + (away.square().sum(-1, keepdim=True) + _TINY).sqrt())
        log_det = (self.size - 1) * (beta * h).log1p() + (alpha * beta * h.square()).log1p()
        return z + beta * h * away, log_det.squeeze(-1)
