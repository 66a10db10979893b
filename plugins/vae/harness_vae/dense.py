"""A dense encoder and decoder of any depth: weight-normalised, with ELUs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_layers.pixels import num_outputs
from harness_vae.weight_norm import NormedLinear


class DenseLayers(nn.Module):
    """Linear layers of the widths ``hidden`` with an ELU after each; maps (..., inputs) to (..., hidden[-1])."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(NormedLinear(*widths) for widths in pairwise([inputs, *hidden]))

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., inputs) to (..., hidden[-1])."""
        for layer in self.layers:
            values = F.elu(layer(values))
        return values


class DenseEncoder(DenseLayers):
    """Maps images (N, C, H, W) in [-1, 1] to features (N, hidden[-1])."""

    def __init__(self, spec: ImageSpec, hidden: Sequence[int]) -> None:
        super().__init__(spec.num_dimensions, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, hidden[-1])."""
        return super().forward(images.flatten(1))


class DenseDecoder(nn.Module):
    """Maps latents (N, D) to outputs (N, C * O, H, W), see ``harness_layers.pixels``."""

    def __init__(self, size: int, hidden: Sequence[int], spec: ImageSpec) -> None:
        super().__init__()
        self.shape = (spec.channels * num_outputs(spec), spec.height, spec.width)
        self.layers = DenseLayers(size, hidden)
        self.last = NormedLinear(hidden[-1], num_outputs(spec) * spec.num_dimensions, deviation=0.1)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C * O, H, W)."""
        return cast("Tensor", self.last(self.layers(latents)).view(-1, *self.shape))
