"""Affine autoregressive steps: every entry is shifted and scaled by functions of the entries before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness_layers.masked import MaskedMLP

_MOST = 5.0  # of a log-scale, on either side of zero: what is far from all data does not overflow


class MaskedAffine(nn.Module):
    r"""Masked autoregressive step (Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057): one pass to the latents.

    .. math:: z_d = (x_d - \mu_d(x_{<d})) \exp(-a_d(x_{<d})), \quad \log|\det dz/dx| = -\sum_d a_d

    The log-scales a are bounded, to 5 tanh(a / 5). The inverse is made entry by entry. It starts as the identity.

    Args:
        size: D.
        hidden: the widths of the layers of the masked network.
        reverse: whether the last entry comes first.
    """

    def __init__(self, size: int, hidden: Sequence[int], *, reverse: bool) -> None:
        super().__init__()
        self.network = MaskedMLP(size, 2, hidden)
        for part in self.network.layers[-1].parameters():
            nn.init.zeros_(part)
        self.reverse = reverse

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, D) to latents (N, D) and the log-determinant (N,) nats."""
        x = self._ordered(x)
        mean, log_std = self.network(x).unbind(2)
        log_std = _bounded(log_std)
        z: Tensor = (x - mean) * torch.exp(-log_std)
        return self._ordered(z), -log_std.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Maps latents (N, D) to x (N, D)."""
        entries = self._ordered(z).T.contiguous()

        def entry(d: int, outputs: Tensor) -> Tensor:
            mean, log_std = outputs
            value: Tensor = entries[d] * _bounded(log_std).exp() + mean
            return value

        x: Tensor = self.network.one_by_one(entry, len(z))
        return self._ordered(x)

    def _ordered(self, x: Tensor) -> Tensor:
        return x.flip(1) if self.reverse else x


def _bounded(log_std: Tensor) -> Tensor:
    bounded: Tensor = _MOST * torch.tanh(log_std / _MOST)
    return bounded


class Inverted(nn.Module):
    """A step with its two directions exchanged: of a masked affine one, the inverse autoregressive step.

    See Kingma et al. 2016, arXiv 1606.04934: one pass to images, and a pass for each entry to latents.
    """

    def __init__(self, step: MaskedAffine) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, D) to latents (N, D) and the log-determinant (N,) nats."""
        z = self.step.inverse(x)
        return z, -self.step(z)[1]

    def inverse(self, z: Tensor) -> Tensor:
        """Maps latents (N, D) to x (N, D)."""
        x: Tensor = self.step(z)[0]
        return x
