"""The line, as images of one entry: data for the toy in which an encoder learns the identity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness import DataFolder, ImageSpec, KnownDataset, KnownDistribution

LEVELS, HALF = 256, 4.0


@dataclass(frozen=True)
class StandardNormal(KnownDistribution):
    """The standard Gaussian on [-4, 4], cut into 256 cells: a level is a cell, counted from below."""

    @property
    def spec(self) -> ImageSpec:  # type: ignore[override]
        """Of one entry."""
        return ImageSpec(channels=1, height=1, width=1, levels=LEVELS)

    @property
    def probabilities(self) -> Tensor:
        """Of each level, (256,) float64; what lies beyond the ends is left out, and the rest divided by its sum."""
        table = torch.special.ndtr(torch.linspace(-HALF, HALF, LEVELS + 1, dtype=torch.float64)).diff()
        shares: Tensor = table / table.sum()
        return shares

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, 1, 1) uint8 to (N,) float64 nats."""
        return self.probabilities.log()[images.flatten().long()]

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, 1, 1, 1) uint8."""
        levels = torch.multinomial(self.probabilities, num_images, replacement=True, generator=generator)
        return levels.to(torch.uint8).view(-1, 1, 1, 1)

    @property
    def entropy(self) -> float:
        """In nats an image, exactly."""
        return float(torch.special.entr(self.probabilities).sum())


def standard_normal(folder: DataFolder) -> KnownDataset:
    """Draws 20,000 training images, 2,000 validation images and 5,000 test images."""
    return KnownDataset.draw("standard-normal", StandardNormal(), sizes=(20_000, 2_000, 5_000), seed=0)
