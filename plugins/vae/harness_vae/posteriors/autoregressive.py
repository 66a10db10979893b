"""Inverse autoregressive flow: all entries of z at once, each moved by those before it.

Kingma et al. 2016, arXiv 1606.04934. Drawing takes one pass a step; the density of a z from elsewhere would take D.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness_vae.posteriors.posterior import Step
from harness_vae.weight_norm import NormedLinear

_REMEMBERS = 1.5  # added to s: near the start, a step keeps most of z


class IAFStep(Step):
    """z' = sigma z + (1 - sigma) m, with m and sigma = sigmoid(s + 1.5) of a MADE with two hidden layers of ELUs.

    Entry d has m_d and s_d of the entries before it, and of the image, whose features enter the first hidden layer
    (MADE: Germain et al. 2015, arXiv 1502.03509).

    Args:
        num_features: F.
        size: D.
        width: of the two hidden layers.
        backwards: whether the last entry comes first.
    """

    def __init__(self, num_features: int, size: int, width: int, *, backwards: bool = False) -> None:
        super().__init__()
        order = torch.arange(size).flip(0) if backwards else torch.arange(size)
        sees = torch.arange(width) % size  # how many of the first entries a hidden unit sees
        self.context = NormedLinear(num_features, width)
        self.first = NormedLinear(size, width, mask=sees[:, None] > order)
        self.second = NormedLinear(width, width, mask=sees[:, None] >= sees)
        self.last = NormedLinear(width, 2 * size, deviation=0.1, mask=(order[:, None] >= sees).repeat(2, 1))

    def of(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, width)."""
        context: Tensor = self.context(features)
        return context

    def moves(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) and (N, width) to m and log sigma, (S, N, D) each: of entry d, functions of those before."""
        hidden = F.elu(self.second(F.elu(self.first(z) + given)))
        m, s = self.last(hidden).chunk(2, -1)
        return m, F.logsigmoid(s + _REMEMBERS)

    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) and (N, width) to z' (S, N, D) and sum_d log sigma_d, (S, N) nats."""
        m, log_sigma = self.moves(z, given)
        return m + log_sigma.exp() * (z - m), log_sigma.sum(-1)


class LinearIAFStep(Step):
    """z' = L(x) z with a lower triangular L that has ones on its diagonal: the determinant is one."""

    def __init__(self, num_features: int, size: int) -> None:
        super().__init__()
        self.below = NormedLinear(num_features, max(1, size * (size - 1) // 2), deviation=0.1)
        self.size = size

    def of(self, features: Tensor) -> Tensor:
        """Maps (N, F) to what lies below the diagonal of L, (N, D (D - 1) / 2), at least one number."""
        below: Tensor = self.below(features)
        return below

    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) to L z, and zeros (S, N)."""
        return z + torch.einsum("nij,snj->sni", lower_triangle(given, self.size, -1), z), z.new_zeros(z.shape[:-1])


def lower_triangle(entries: Tensor, size: int, diagonal: int = 0) -> Tensor:
    """Maps entries (N, P), row by row up to a ``diagonal``, to matrices (N, D, D) that are zero beyond it."""
    rows, columns = torch.tril_indices(size, size, diagonal, device=entries.device)
    matrices = entries.new_zeros(len(entries), size, size)
    return matrices.index_put((torch.arange(len(entries), device=rows.device)[:, None], rows, columns),
                              entries[:, : len(rows)])  # fmt: skip
