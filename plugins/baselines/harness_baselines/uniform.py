"""The uniform distribution over images: the figure that a model which knows nothing gets."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from harness import Dataset, ExactLikelihood, Trainer


class Uniform(ExactLikelihood):
    """All images of the sample space are equally probable.

    log p(x) = -D ln(levels): 543.427 nats on binary 28x28 images, 8 bits/dim on 8-bit images of any size.
    """

    default_budget: ClassVar[str] = "1 epoch"

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Learns nothing: there is nothing to learn."""

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats."""
        value = -self.spec.num_dimensions * math.log(self.spec.levels)
        return torch.full((len(images),), value, dtype=self.dtype, device=images.device)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8."""
        shape = (num_samples, *self.spec.shape)
        return torch.randint(self.spec.levels, shape, dtype=torch.uint8, device=self.device)
