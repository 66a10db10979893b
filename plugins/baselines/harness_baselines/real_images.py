"""Real images in a model's place: references for sample quality. They are no models of anything, and are not ranked."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness import Dataset, ImageSpec, Model, Split, Trainer


class _RealImages(Model):
    """Keeps a split's images and draws from them without replacement, until they are used up; then it begins again."""

    default_budget: ClassVar[str] = "1 epoch"
    draws_jointly: ClassVar[bool] = True
    """Without replacement holds within one call of ``sample``, and so all samples are asked for in one."""

    images: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("images", torch.empty(0, dtype=torch.uint8))  # (N, C, H, W) once fitted

    def _keep(self, split: Split) -> None:
        # random data have no images but their draws, of which the first stands for all
        self.images = split.draw(0).images.to(self.device, copy=True)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, by permutations from torch's global CPU generator.

        Raises:
            ValueError: there are no images yet: it was neither fitted nor loaded.
        """
        if len(self.images) == 0:
            raise ValueError(f"{type(self).__name__} holds no images: fit it, or load its weights, first")
        orders = [torch.randperm(len(self.images)) for _ in range(-(-num_samples // len(self.images)))]
        index = torch.cat(orders)[:num_samples] if orders else torch.empty(0, dtype=torch.int64)
        return self.images[index.to(self.device)]


class TrainingImages(_RealImages):
    """Draws real training images: what a perfect memory of the training data would get."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Keeps the training images."""
        self._keep(data.train)


class TestImages(_RealImages):
    """Draws the test images themselves: the floor of any distance to them.

    It reads ``data.test`` on purpose, as no model may: it is a reference, and says so.
    """

    __test__ = False  # pytest takes a class of this name for tests

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Keeps the test images."""
        self._keep(data.test)
