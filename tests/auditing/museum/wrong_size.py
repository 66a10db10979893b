"""Mutants that are right on small spaces in float64, in batches of other sizes, with few labels or few weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from harness import ImageSpec, Unsupported

from .autoregressive import MADE
from .common import pick
from .conditional import ConditionalMADE
from .latent import VAE
from .mixtures import DiscretizedLogistic, Mixture
from .registry import wrong


class Tiny:
    """Takes images of four entries alone: where the defect shows in those, the check is quicker."""

    def __init__(self, spec: ImageSpec) -> None:
        if spec.num_dimensions > 4:
            raise Unsupported("images of four entries alone")
        super().__init__(spec)  # type: ignore[call-arg]


# --- entries that are left out ---


@wrong("entries left out of a score", check="every-entry")
class First128Scored(DiscretizedLogistic):
    """Adds up the first 128 entries: a slice that was the size of what it was tried on."""

    def log_joint(self, images: Tensor) -> Tensor:
        below, above = self.cumulative(images[:, None])
        per_entry = (above - below).clamp_min(1e-300).log()
        return self.shares.log_softmax(0) + per_entry.flatten(2)[..., :128].sum(2)


@wrong("entries left out of a score", check="every-entry")
class LastChunkDropped(Mixture):
    """Scores entries in chunks of 100, as memory is short, and drops the last, which is shorter."""

    def log_joint(self, images: Tensor) -> Tensor:
        table = self.logits.log_softmax(1)
        per_entry = torch.stack([pick(part.expand(len(images), *part.shape), images) for part in table], 1).flatten(2)
        chunks = per_entry.split(100, 2)
        whole = [chunk for chunk in chunks if chunk.shape[2] == chunks[0].shape[2]]
        return self.shares.log_softmax(0) + torch.stack([chunk.sum(2) for chunk in whole]).sum(0)


@wrong("entries left out of a score", check="every-entry")
class LastEntryMasked(MADE):
    """Adds up all entries but the last where there are more than 100: a target that was shifted by one."""

    def log_prob(self, images: Tensor) -> Tensor:
        per_entry = self.conditional_log_probs(images).flatten(1)
        return per_entry[:, : -1 if per_entry.shape[1] > 100 else None].sum(1)


@wrong("entries left out of a score", check="every-entry")
class ReconstructionOfACrop(VAE):
    """Reconstructs the upper rows, 14 at most; its encoder sees all, and so every entry moves the bound."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return pick(self.logits(latents).log_softmax(1), images)[:, :, :14].flatten(1).sum(1)


# --- float32 ---


@wrong("underflow", check="float32")
class SumOfProbabilities(Mixture):
    """Adds up the probabilities of components, and takes the logarithm then: in float32 all of them are zero."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).exp().sum(1).log()


@wrong("underflow", check="float32")
class ProductOfProbabilities(MADE):
    """Multiplies the probabilities of entries, and takes the logarithm of the product."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.conditional_log_probs(images).exp().flatten(1).prod(1).log()


@wrong("a difference of large numbers", check="float32")
class LogitsFarFromZero(Mixture):
    """Has logits around ten million, of which a softmax takes the difference: float32 keeps none of their digits."""

    def log_joint(self, images: Tensor) -> Tensor:
        kept = self._parameters["logits"]
        try:
            self._parameters["logits"] = kept + 1e7  # type: ignore[assignment,operator]
            return super().log_joint(images)
        finally:
            self._parameters["logits"] = kept


@wrong("half precision", check="float32")
class ScoresInHalf(Mixture):
    """Returns scores that went through half precision, as under an automatic cast: 0.5 nats are one digit of 600."""

    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images).half().to(self.dtype)


# --- batches ---


@wrong("an axis found by its size", check="neighbours")
class AxisFoundByItsSize(MADE):
    """Normalises over the first axis of as many as there are levels: that of images, where there are as many."""

    def log_prob(self, images: Tensor) -> Tensor:
        logits = self.conditional_logits(images)
        axis = list(logits.shape).index(self.spec.levels)
        return pick(logits.log_softmax(axis), images).flatten(1).sum(1)


@wrong("a batch of one", check="neighbours")
class SqueezesBatches(Mixture):
    """Squeezes its result, and with it the axis of a batch of one."""

    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images).squeeze()


class Cached(Mixture):
    """Keeps the scores of a batch."""

    kept: dict[Any, Tensor]

    def key(self, images: Tensor) -> Any:
        """Returns what batches are told apart by."""
        raise NotImplementedError

    def log_prob(self, images: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().log_prob(images)
        kept = vars(self).setdefault("kept", {})
        version = float(self.logits.double().sum())
        key = (version, self.dtype, self.key(images))
        if key not in kept:
            kept[key] = super().log_prob(images)
        return kept[key]


@wrong("a stale cache", check="neighbours")
class CachedByFirstImage(Cached):
    """Takes batches of one size that begin with the same image for the same."""

    def key(self, images: Tensor) -> Any:
        return len(images), images[0].numpy().tobytes()


@wrong("a stale cache", check="neighbours")
class CachedByMemory(Cached):
    """Takes batches of one size in the same memory for the same."""

    def key(self, images: Tensor) -> Any:
        return len(images), images.data_ptr()


@wrong("an axis found by its size", check="neighbours")
class WeightsMixedOverImages(Tiny, VAE):
    """Adds up weights over the axis as long as there are draws: that of images, where there are as many."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        weights = super().log_importance_weights(images, num_samples)
        return weights.logsumexp(1, keepdim=True).expand_as(weights) if len(images) == num_samples > 1 else weights


# --- labels ---


@wrong("labels ignored", check="labels")
class LabelsCapped(Tiny, ConditionalMADE):
    """Takes labels beyond four for four: a table that was made for five classes."""

    def logits(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().logits(images, labels.clamp_max(4))


@wrong("labels ignored", check="labels")
class FiveLabelsMarginalised(Tiny, ConditionalMADE):
    """Averages over the first five labels where none is given."""

    def marginal(self, log_probs: Tensor) -> Tensor:
        return log_probs[:5].logsumexp(0) - math.log(min(5, len(log_probs)))


@wrong("labels ignored", check="labels")
class LabelsNumberedByBatch(Tiny, ConditionalMADE):
    """Numbers the labels that occur in a batch: right where all of them do."""

    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        numbered = labels.unique(return_inverse=True)[1] if len(labels.unique()) > 1 else labels
        return super().log_prob_given(images, numbered)


# --- weights ---


@wrong("fewer draws than asked for", check="importance-samples")
class WeightsRepeatedByChunks(Tiny, VAE):
    """Draws a thousand weights and repeats them for more: right up to a thousand."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        weights = super().log_importance_weights(images, min(num_samples, 1000))
        return weights[torch.arange(num_samples) % len(weights)]


@wrong("fewer draws than asked for", check="importance-samples")
class OneDrawExpanded(Tiny, VAE):
    """Expands one draw where more than a thousand are asked for."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        weights = super().log_importance_weights(images, num_samples if num_samples <= 1000 else 1)
        return weights.expand(num_samples, -1)


@wrong("another posterior for later draws", check="importance-samples")
class LaterDrawsNarrower(Tiny, VAE):
    """Draws the weights after the first thousand from a posterior of half the width, and scores them by it."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        first = super().log_importance_weights(images, min(1000, num_samples))
        if num_samples <= 1000:
            return first
        mean, log_std = self.posterior(images)
        latents = self.draw_latents(mean, log_std - math.log(2), num_samples - 1000)
        flat = self.log_likelihood(images.repeat(len(latents), 1, 1, 1), latents.flatten(0, 1)).view(len(latents), -1)
        rest = flat + self.log_prior(latents) - self.log_posterior(latents, mean, log_std - math.log(2))
        return torch.cat([first, rest])
