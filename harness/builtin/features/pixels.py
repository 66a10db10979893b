"""Pixels as features: no network, and nothing that has to be trained or downloaded."""

from __future__ import annotations

from torch import Tensor

from harness import FeatureNetwork, ImageSpec


class Pixels(FeatureNetwork):
    """Images scaled to [0, 1], flattened: the distance of distributions of pixels, blind to what the pixels show."""

    name = "pixels"
    digest = "none"

    def __init__(self, spec: ImageSpec) -> None:
        self.num_features = spec.num_dimensions

    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C H W) float64, value / (levels - 1)."""
        return images.flatten(1).double() / (spec.levels - 1)
