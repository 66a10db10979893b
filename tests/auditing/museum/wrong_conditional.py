"""Mutants of models that take labels, and of what they do without them."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Noise, Split
from harness.interface.sampling import raster_sample

from .conditional import ConditionalGAN, ConditionalMADE, ConditionalVAE
from .registry import wrong


@wrong("labels ignored", check="labels")
class LabelsIgnored(ConditionalMADE):
    """Takes labels, and scores the same whatever they are."""

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().logits(images, torch.zeros_like(labels))


@wrong("labels paired with other images", check="labels")
class LabelsRolled(ConditionalMADE):
    """Scores an image with the label of the one before it in the batch."""

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().log_prob_given(images, labels.roll(1))


@wrong("labels paired with other images", check="labels")
class FirstLabelForAll(ConditionalMADE):
    """Uses the first label for the whole batch, as a one-hot vector of one row does by broadcasting."""

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().logits(images, labels[:1].expand(len(labels)))


@wrong("log p(x | y) called log p(x)", check="labels")
class BestLabel(ConditionalMADE):
    """Returns the largest log p(x | y) for log p(x), which is what a label would have told."""

    def marginal(self, log_probs: Tensor) -> Tensor:
        return log_probs.amax(0)


@wrong("average of logarithms", check="labels")
class LabelsAveragedInLogs(ConditionalMADE):
    """Averages log p(x | y) over labels."""

    def marginal(self, log_probs: Tensor) -> Tensor:
        return log_probs.mean(0)


@wrong("log p(x | y) called log p(x)", check="sampling")
class FirstLabelWithoutLabels(ConditionalMADE):
    """Scores log p(x | y = 0) where no label is given, and draws from all labels."""

    def marginal(self, log_probs: Tensor) -> Tensor:
        return log_probs[0]


@wrong("labels ignored", check="labels")
class SamplerIgnoresLabels(ConditionalMADE):
    """Draws random labels, whatever it was conditioned on."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        labels = torch.randint(self.num_classes, (num_samples,))
        noise = Noise.draw(num_samples, self.spec, dtype=self.dtype)
        return raster_sample(
            lambda images, ordering: self.logits(images, labels), self.made.generation_steps, self.spec, noise
        )


@wrong("labels shuffled in training", check="labels")
class FitShufflesLabels(ConditionalMADE):
    """Shuffles images and not their labels in training, so that labels teach it nothing."""

    def loss(self, batch: Split) -> Tensor:
        assert batch.labels is not None
        return super().loss(Split(batch.images, batch.labels[torch.randperm(len(batch))]))


@wrong("labels ignored", check="labels")
class DecoderIgnoresLabels(ConditionalVAE):
    """Has an encoder and a decoder whose label inputs are always zero."""

    def with_label(self, values: Tensor, labels: Tensor) -> Tensor:
        return torch.cat([values, torch.zeros(len(values), self.num_classes, dtype=values.dtype)], 1)


@wrong("labels paired with other images", check="labels")
class LabelsInterleaved(ConditionalVAE):
    """Repeats labels one by one where images are repeated batch by batch: right for one weight, and for no more."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        if self.given is None:
            return super().log_importance_weights(images, num_samples)
        kept = self.given
        interleaved = kept.repeat_interleave(num_samples).view(num_samples, -1)
        parts = [self.condition_on(labels)._one_weight(images) for labels in interleaved]
        return torch.cat(parts)

    def _one_weight(self, images: Tensor) -> Tensor:
        return super().log_importance_weights(images, 1)


@wrong("labels ignored", check="labels")
class GeneratorIgnoresLabels(ConditionalGAN):
    """Has a generator that was never told the label."""

    def labels_for(self, num_images: int) -> Tensor:
        return torch.zeros(num_images, dtype=torch.int64)


@wrong("labels paired with other images", check="labels")
class LabelsSorted(ConditionalGAN):
    """Draws samples class by class, and returns them so, whatever the order of the labels."""

    def labels_for(self, num_images: int) -> Tensor:
        return super().labels_for(num_images).sort().values
