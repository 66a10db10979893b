"""Generators that are told the class of the image that they make."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ClassConditional, Dataset, ImageSpec, Trainer, Unsupported
from harness_gan.adversarial import Adversarial
from harness_gan.networks import Network, build_generator


def num_classes(spec: ImageSpec) -> int:
    """Returns how many classes there are; without labels, raises Unsupported."""
    if not spec.num_classes:
        raise Unsupported("this GAN is told classes: it needs a dataset with labels")
    return spec.num_classes


def needed(labels: Tensor | None) -> Tensor:
    """Returns the labels; raises Unsupported if there are none."""
    if labels is None:
        raise Unsupported("this GAN is told classes: it needs labels with the images")
    return labels


class Conditional(Adversarial, ClassConditional):
    """A generator of latents and a class, as a one-hot vector beside them: x = G(z, y).

    Each generated image of a training step is of the class of the real one in its place. Samples without labels are of
    classes drawn by their frequencies in the training data, and before any training of equally probable ones.

    Its arguments are those of ``Adversarial``.

    Raises:
        Unsupported: a sample space or images without labels.
    """

    frequencies: Tensor
    given: Tensor | None = None

    def build_generator(self, network: Network, *, width: int) -> nn.Module:
        """Returns a generator with an input for each class beside the latents."""
        classes = num_classes(self.spec)
        self.register_buffer("frequencies", torch.full((classes,), 1 / classes))
        return build_generator(network, self.spec, latents=self.latents + classes, width=width)

    def one_hot(self, labels: Tensor | None) -> Tensor:
        """Maps labels (N,) int64 to (N, K)."""
        return F.one_hot(needed(labels), num_classes(self.spec)).to(self.dtype)

    def generate(self, generator: nn.Module, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Maps latents (N, D) and labels (N,) to images (N, C, H, W) in [-1, 1]."""
        images: Tensor = generator(torch.cat([latents, self.one_hot(labels)], 1))
        return images

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Counts the classes of the training images, and plays the game."""
        counts = torch.bincount(needed(data.train.labels), minlength=num_classes(self.spec))
        self.frequencies.copy_(counts / counts.sum())
        super().fit(data, trainer)

    def condition_on(self, labels: Tensor) -> Self:
        """Takes (N,) int64 and returns a view of the model, with the same weights, for exactly N images.

        Raises:
            ValueError: a label that is no class.
        """
        classes = num_classes(self.spec)
        outside = (labels < 0) | (labels >= classes)
        if outside.any():
            raise ValueError(f"labels must be below {classes}, not {labels[outside][0].item()}")
        view = copy.copy(self)
        view.given = labels.to(self.device)
        return view

    def draw_labels(self, num_samples: int) -> Tensor:
        """Returns the labels that the model is conditioned on, or draws (num_samples,) int64 by their frequencies.

        Raises:
            ValueError: another number of samples than of labels.
        """
        if self.given is None:
            return torch.multinomial(self.frequencies, num_samples, replacement=True)
        if len(self.given) != num_samples:
            raise ValueError(f"a GAN conditioned on {len(self.given)} labels draws as many images, not {num_samples}")
        return self.given
