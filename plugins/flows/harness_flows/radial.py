"""Radial flows as densities (Rezende & Mohamed 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm
from harness_flows.preprocessing import preprocessing as prepare
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule

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


class RadialFlow(Flow):
    """Radial steps, an actnorm before each, from images to latents; inverse and density are both in closed form.

    Reference: Rezende & Mohamed 2015, arXiv 1505.05770, where they bend a posterior of latents.

    Args:
        spec: the sample space.
        layers: K, the number of steps.
        preprocessing, alpha: see ``harness_flows.preprocessing``.
        learning_rate, batch_size, schedule: of Adam, see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, layers: int = 48, preprocessing: str = "logit", alpha: float = 0.05,
                 learning_rate: float = 1e-2, batch_size: int = 200, schedule: Schedule = "cosine",
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(layers=layers)
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule, validate_every=validate_every
        )
        size = spec.num_dimensions
        steps = [step for _ in range(layers) for step in (ActNorm([size], [size]), Radial(size))]
        super().__init__(spec, steps, preprocessing=prepare(preprocessing, spec.levels, alpha=alpha), descent=descent)
