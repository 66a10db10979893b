"""A right implicit model: it promises samples alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import Dataset, ImageSpec, Model, Trainer

from .common import at_most
from .latent import network
from .registry import right


@right
class GAN(Model):
    """A generator against a discriminator, without saturation (Goodfellow et al. 2014, arXiv 1406.2661)."""

    noise = 4

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.generator = network(self.noise, spec.num_dimensions)
        self.discriminator = network(spec.num_dimensions, 1)

    def generate(self, num_images: int) -> Tensor:
        """Draws (num_images, D) in (0, 1)."""
        return torch.sigmoid(self.generator(torch.randn(num_images, self.noise, dtype=self.dtype)))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        levels = (self.generate(num_samples) * self.spec.levels).floor().clamp(0, self.spec.levels - 1)
        return levels.to(torch.uint8).view(num_samples, *self.spec.shape)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        first = torch.optim.Adam(self.generator.parameters(), lr=0.01)
        second = torch.optim.Adam(self.discriminator.parameters(), lr=0.01)
        trainer.track(generator=first, discriminator=second)
        for batch in trainer.batches(data.train, batch_size=100):
            real = (batch.images.flatten(1).to(self.dtype) + 0.5) / self.spec.levels
            fake = self.generate(len(real))
            told = F.softplus(-self.discriminator(real)) + F.softplus(self.discriminator(fake.detach()))
            second.zero_grad()
            told.mean().backward()
            second.step()
            fooled = F.softplus(-self.discriminator(fake)).mean()
            first.zero_grad()
            fooled.backward()
            first.step()
            trainer.log(loss=fooled)
