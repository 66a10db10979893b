"""How far a distance between two sets of images moves with the images: delete-a-group jackknife, and random halves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import generator


@dataclass(frozen=True)
class Effort:
    """How much resampling a number of dimensions allows.

    Attributes:
        num_groups: of the jackknife; the relative error of a standard error is about 1 / sqrt(2 num_groups).
        num_splits: into random halves.
    """

    num_groups: int
    num_splits: int

    @classmethod
    def at(cls, num_dimensions: int) -> Effort:
        """Returns the effort for D dimensions: what one repetition costs grows with D^3."""
        if num_dimensions <= 128:
            return cls(50, 20)
        return cls(20, 5) if num_dimensions <= 1024 else cls(10, 3)


def groups_for(num_images: int, effort: Effort) -> int:
    """Returns the number of groups for a set: fewer where a group would have less than two images."""
    return max(2, min(effort.num_groups, num_images // 2))


def jackknife_error(replicates: Tensor) -> float:
    """Returns the standard error sqrt((G - 1) / G sum_g (t_g - mean)^2) (Efron & Stein 1981).

    Args:
        replicates: (G,) float64, the statistic without each group in turn.
    """
    num_groups = len(replicates)
    return math.sqrt((num_groups - 1) / num_groups * float((replicates - replicates.mean()).square().sum()))


def shuffled(features: Tensor, seed: int, purpose: str) -> Tensor:
    """Returns the rows of (N, D) float in a seeded order, as float64: a file's order may be by class."""
    order = torch.randperm(len(features), generator=generator(seed, purpose))
    return features[order].double()


@dataclass(frozen=True)
class Halves:
    """Distances between two halves of one set, over random splits: what a perfect model of that size could get.

    Attributes:
        mean, low, high: over splits; low and high are the 2.5 % and 97.5 % quantiles.
        num_images: in a half.
        num_splits: how many splits were taken.
    """

    mean: float
    low: float
    high: float
    num_images: int
    num_splits: int

    @classmethod
    def of(cls, features: Tensor, distance: Callable[[Tensor, Tensor], float], num_splits: int) -> Halves:
        """Splits (N, D) features ``num_splits`` times, always in the same ways."""
        half = len(features) // 2
        values = []
        for split in range(num_splits):
            order = torch.randperm(len(features), generator=generator(0, "halves", split))
            values.append(distance(features[order[:half]].double(), features[order[half : 2 * half]].double()))
        found = torch.tensor(values, dtype=torch.float64)
        low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return cls(found.mean().item(), low, high, half, num_splits)

    def details(self) -> dict[str, float]:
        """Returns the figures under the names that a score's details give them."""
        return {
            "halves": self.mean,
            "halves_low": self.low,
            "halves_high": self.high,
            "halves_images": float(self.num_images),
            "halves_splits": float(self.num_splits),
        }
