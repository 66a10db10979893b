"""Right models that take labels: a transformer's prefix, embeddings in convolutions, a naive classifier."""

from __future__ import annotations

import torch
from museum.common import categorical_draw, fit_by_gradient, pick
from museum.conditional import Labelled
from torch import Tensor, nn

from harness import Dataset, ExactLikelihood, ImageSpec, Noise, Split, Trainer
from harness.interface.sampling import raster_sample

from .common import at_most_entries, sequence
from .masked import Pixels
from .registry import kind
from .sequences import PixelTransformer


class Joint(Labelled, ExactLikelihood):
    """p(x) = sum_y p(y) p(x | y), with a prior of labels that is learned by counting them."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("log_prior", torch.full((self.num_classes,), 1 / self.num_classes).log())

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        """Maps images and labels (N,) to (N,) nats."""
        raise NotImplementedError

    def log_prob(self, images: Tensor) -> Tensor:
        if self.given is not None:
            return self.log_prob_given(images, self.given)
        count, classes = len(images), self.num_classes
        labels = torch.arange(classes).repeat_interleave(count)
        each = self.log_prob_given(images.repeat(classes, 1, 1, 1), labels).view(classes, count)
        return (each + self.log_prior.log_softmax(0)[:, None]).logsumexp(0)

    def labels_for(self, num_images: int) -> Tensor:
        if self.given is not None:
            return self.given
        return torch.multinomial(self.log_prior.exp(), num_images, replacement=True)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        assert data.train.labels is not None
        counts = torch.bincount(data.train.labels, minlength=self.num_classes) + 1
        self.log_prior.copy_((counts / counts.sum()).log())

        def loss(batch: Split) -> Tensor:
            assert batch.labels is not None
            return -self.log_prob_given(batch.images, batch.labels).mean()

        fit_by_gradient(self, data, trainer, loss)


class ConditionalLogits(Joint):
    """One whose p(x | y) is a product of conditionals."""

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """Maps images and labels (N,) to logits (N, levels, C, H, W)."""
        raise NotImplementedError

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        return pick(self.logits(images, labels).log_softmax(1), images).flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        labels, noise = self.labels_for(num_samples), Noise.draw(num_samples, self.spec, dtype=self.dtype)
        steps = torch.arange(self.spec.num_dimensions).view(self.spec.height, self.spec.width, self.spec.channels)
        return raster_sample(
            lambda images, _: self.logits(images, labels), lambda _: steps.permute(2, 0, 1), self.spec, noise
        )


@kind("class-conditional transformer")
class PrefixTransformer(ConditionalLogits):
    """The label is the token that starts the sequence."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64)
        self.network = PixelTransformer(spec)
        del self.network.blocks[1]  # one is enough, and quick
        self.prefix = nn.Embedding(self.num_classes, len(self.network.start))

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        network = self.network
        embedded = network.embedding(sequence(images)[:, :-1])
        tokens = torch.cat([self.prefix(labels)[:, None] + network.start, embedded], 1) + network.positions
        return network.logits_of(tokens)


@kind("class-conditional convolutions")
class LabelledPixels(ConditionalLogits):
    """The label's embedding is added to all features after the first convolution."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.network = Pixels(spec)
        self.embedding = nn.Embedding(self.num_classes, self.network.width)

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.network.logits_of(images, self.embedding(labels)[:, :, None, None])


@kind("generative classifier")
class NaiveBayes(Joint):
    """Independent entries given the label (Maron 1961)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.tables = nn.Parameter(torch.randn(self.num_classes, spec.levels, *spec.shape))

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        return pick(self.tables.log_softmax(1)[labels], images).flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.tables[self.labels_for(num_samples)]).to(torch.uint8)
