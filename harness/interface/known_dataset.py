"""A dataset that was drawn from a distribution whose log-probability is known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.interface.dataset import Dataset, Split
from harness.interface.spec import ImageSpec


class KnownDistribution(ABC):
    """A distribution of images whose log-probability can be computed."""

    spec: ImageSpec

    @abstractmethod
    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 on the CPU to (N,) float64 nats, exactly."""

    @abstractmethod
    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, C, H, W) uint8."""

    @property
    def entropy(self) -> float | None:
        """In nats an image, exactly; None where that sum is too long: then it is the mean of -log p, with an error."""
        return None


@dataclass(frozen=True)
class KnownDataset(Dataset):
    """A dataset whose images were drawn from a known distribution.

    Attributes:
        distribution: what they were drawn from, independently.
    """

    distribution: KnownDistribution = field(kw_only=True)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) float64 nats, on the CPU: log p_true(image)."""
        return self.distribution.log_prob(images.cpu())

    @property
    def entropy(self) -> float | None:
        """Of the distribution, in nats an image; None where it is not known exactly."""
        return self.distribution.entropy

    @classmethod
    def draw(
        cls, name: str, distribution: KnownDistribution, *, sizes: tuple[int, int, int], seed: int
    ) -> KnownDataset:
        """Draws the three splits of a dataset.

        Args:
            name: of the dataset.
            distribution: what to draw from.
            sizes: numbers of training, validation and test images.
            seed: the same gives the same images.
        """
        generator = torch.Generator().manual_seed(seed)
        train, valid, test = (Split(distribution.sample(size, generator)) for size in sizes)
        protocol = (
            f"independent draws from a known distribution, seed {seed}: "
            f"{sizes[0]:,} train, then {sizes[1]:,} valid, then {sizes[2]:,} test"
        )
        return cls(name, distribution.spec, train, valid, test, protocol, distribution=distribution)
