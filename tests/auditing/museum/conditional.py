"""Right models that take labels: an autoregressive one whose labels are marginalised, a VAE, and a GAN."""

from __future__ import annotations

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn

from harness import (
    ClassConditional,
    Dataset,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    Noise,
    Split,
    Trainer,
    Unsupported,
)
from harness.interface.sampling import raster_sample

from .autoregressive import MADE
from .common import categorical_draw, centred, fit_by_gradient, log_normal, pick
from .implicit import GAN
from .latent import network
from .registry import right


class Labelled(ClassConditional):
    """Keeps the labels of a view."""

    given: Tensor | None = None

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        if spec.num_classes is None:
            raise Unsupported("the images have no labels")
        self.num_classes = spec.num_classes

    def condition_on(self, labels: Tensor) -> Self:
        view = copy.copy(self)
        view.given = labels
        return view

    def labels_for(self, num_images: int) -> Tensor:
        """Returns the view's labels, or random ones."""
        return torch.randint(self.num_classes, (num_images,)) if self.given is None else self.given


@right
class ConditionalMADE(Labelled, ExactLikelihood):
    """A masked network with a bias for every label; without labels, the mean of p(x | y) over them."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.made = MADE(spec)
        self.bias = nn.Embedding(self.num_classes, spec.levels * spec.num_dimensions)

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """Maps images and labels (N,) to logits (N, levels, C, H, W)."""
        return self.made.conditional_logits(images) + self.bias(labels).view(-1, self.spec.levels, *self.spec.shape)

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        """Maps images and labels (N,) to (N,) nats: log p(image | label)."""
        return pick(self.logits(images, labels).log_softmax(1), images).flatten(1).sum(1)

    def log_prob(self, images: Tensor) -> Tensor:
        if self.given is not None:
            return self.log_prob_given(images, self.given)
        labels = [torch.full((len(images),), label) for label in range(self.num_classes)]
        return self.marginal(torch.stack([self.log_prob_given(images, label) for label in labels]))

    def marginal(self, log_probs: Tensor) -> Tensor:
        """Maps log p(x | y), (classes, N), to log p(x), (N,)."""
        return log_probs.logsumexp(0) - math.log(self.num_classes)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        labels = self.labels_for(num_samples)
        noise = Noise.draw(num_samples, self.spec, dtype=self.dtype)
        return raster_sample(
            lambda images, ordering: self.logits(images, labels), self.made.generation_steps, self.spec, noise
        )

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, self.loss)

    def loss(self, batch: Split) -> Tensor:
        """Returns the mean of -log p(x | y) over a batch."""
        assert batch.labels is not None
        return -self.log_prob_given(batch.images, batch.labels).mean()


@right
class ConditionalVAE(Labelled, ImportanceWeighted):
    """Encoder and decoder are told the label; without one, it is drawn from a uniform prior (Kingma et al. 2014)."""

    def __init__(self, spec: ImageSpec, *, latents: int = 2) -> None:
        super().__init__(spec)
        MADE(spec)  # the same spaces
        self.latents = latents
        self.encoder = network(spec.num_dimensions + self.num_classes, 2 * latents)
        self.decoder = network(latents + self.num_classes, spec.levels * spec.num_dimensions)

    def with_label(self, values: Tensor, labels: Tensor) -> Tensor:
        """Appends labels (N,) in one-hot code to (N, F)."""
        return torch.cat([values, nn.functional.one_hot(labels, self.num_classes).to(values)], 1)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        repeated = images.repeat(num_samples, 1, 1, 1)
        if self.given is None:
            labels = torch.randint(self.num_classes, (len(repeated),))
        else:
            labels = self.given.repeat(num_samples)
        pixels = centred(repeated, self.spec, self.dtype)
        mean, log_std = self.encoder(self.with_label(pixels, labels)).chunk(2, 1)
        latents = mean + log_std.exp() * torch.randn_like(mean)
        log_p = pick(self.logits(latents, labels).log_softmax(1), repeated).flatten(1).sum(1)
        weights = log_p + log_normal(latents).sum(1) - log_normal(latents, mean, log_std).sum(1)
        return weights.view(num_samples, len(images))

    def logits(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Maps (N, Z) and labels (N,) to (N, levels, C, H, W)."""
        flat = self.decoder(self.with_label(latents, labels))
        return flat.view(len(latents), self.spec.levels, *self.spec.shape)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        latents = torch.randn(num_samples, self.latents, dtype=self.dtype)
        return categorical_draw(self.logits(latents, self.labels_for(num_samples))).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        def negative_elbo(batch: Split) -> Tensor:
            assert batch.labels is not None
            view = self.condition_on(batch.labels)
            return -view.log_importance_weights(batch.images, 1).mean()

        fit_by_gradient(self, data, trainer, negative_elbo)


@right
class ConditionalGAN(Labelled, GAN):
    """A generator that is told the label (Mirza & Osindero 2014, arXiv 1411.1784)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.label_bias = nn.Embedding(self.num_classes, spec.num_dimensions)

    def generate(self, num_images: int, labels: Tensor | None = None) -> Tensor:
        labels = self.labels_for(num_images) if labels is None else labels
        flat = self.generator(torch.randn(num_images, self.noise, dtype=self.dtype)) + self.label_bias(labels)
        return torch.sigmoid(flat)
