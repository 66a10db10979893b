"""Additive couplings, the posterior that NICE makes (Dinh et al. 2015, arXiv 1410.8516; Rezende & Mohamed 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness_vae.posteriors.posterior import Step
from harness_vae.weight_norm import NormedLinear


class CouplingStep(Step):
    """Every second entry of z is moved by a function of the others, and of the image: the determinant is one.

    Args:
        num_features: F.
        size: D.
        width: of the hidden layer.
        odd: which half is moved: entries 1, 3, ... or 0, 2, ...
    """

    moved: Tensor

    def __init__(self, num_features: int, size: int, width: int, *, odd: bool = False) -> None:
        super().__init__()
        self.register_buffer("moved", (torch.arange(size) % 2 == int(odd)).float(), persistent=False)
        self.context, self.first = NormedLinear(num_features, width), NormedLinear(size, width)
        self.last = NormedLinear(width, size, deviation=0.1)

    def of(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, width)."""
        context: Tensor = self.context(features)
        return context

    def forward(self, z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (S, N, D) to z' (S, N, D), and zeros (S, N)."""
        hidden = F.elu(self.first(z * (1 - self.moved)) + given)
        return z + self.last(hidden) * self.moved, z.new_zeros(z.shape[:-1])
