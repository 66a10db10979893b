"""Noise for levels: uniform, or from a flow that sees the image.

    log p(image) >= E_q[log p(image + u) - log q(u | image)],    u = sigmoid(v) in (0, 1)^D

Variational dequantization: Ho et al. 2019, arXiv 1902.00275. v is standard Gaussian noise, moved by couplings that all
see the image: one that moves every entry, then two by checkerboards.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_flows.couplings import Coupling, checkerboard, network_for
from harness_layers.checks import check_choice
from harness_layers.posteriors import standard_noise, standard_normal_log_prob

Dequantizing = Literal["uniform", "variational"]


class VariationalDequantization(nn.Module):
    """Draws noise and its log-density; the image stands beside the noise, as channels that every coupling keeps.

    Args:
        spec: the sample space.
        channels: maps of the networks.
    """

    def __init__(self, spec: ImageSpec, *, channels: int) -> None:
        super().__init__()
        self.levels = spec.levels
        kept = torch.ones(spec.shape, dtype=torch.bool)
        stacked = (2 * spec.channels, *spec.shape[1:])
        self.couplings = nn.ModuleList(
            Coupling(torch.cat([stays, kept]), network_for(stacked, 2 * stacked[0], channels=channels, blocks=1))
            for stays in (~kept, checkerboard(spec.shape, parity=0), checkerboard(spec.shape, parity=1))
        )

    def forward(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W), floats, to noise (N, C, H, W) in (0, 1) and its log-density (N,) nats."""
        noise = standard_noise(levels.shape, levels)
        values = torch.cat([noise, 4 * levels / (self.levels - 1) - 2], 1)
        log_density = standard_normal_log_prob(noise.flatten(1))
        for coupling in self.couplings:
            values, log_det = coupling(values)
            log_density = log_density - log_det
        odds = values[:, : levels.shape[1]]
        return odds.sigmoid(), log_density + (F.softplus(odds) + F.softplus(-odds)).flatten(1).sum(1)


def dequantization_for(name: Dequantizing, spec: ImageSpec, *, channels: int) -> nn.Module | None:
    """Returns what ``Flow`` takes: None for ``uniform`` noise.

    Raises:
        ValueError: another name.
    """
    check_choice(("uniform", "variational"), dequantization=name)
    return VariationalDequantization(spec, channels=channels) if name == "variational" else None
