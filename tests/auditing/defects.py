"""Defects of every size, down to none: what the power of each check is measured on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from museum.autoregressive import MADE, NADE
from museum.common import log_normal
from museum.conditional import ConditionalMADE
from museum.flows import NICE, RealNVP
from museum.latent import IWAE, VAE, BoundOnly, CodedVAE
from museum.mixtures import Independent, Mixture
from museum.wrong_flows import Wide
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec, Model, Noise, Sampler
from harness.interface.sampling import raster_sample


@dataclass(frozen=True)
class Defect:
    """A defect that has a size.

    Attributes:
        check: the one that should see it.
        name: what the size is of, in words.
        model: has the defect in the size of its attribute ``size``.
        sizes: that are measured.
    """

    check: str
    name: str
    model: type[Model]
    sizes: tuple[float, ...]

    def make(self, spec: ImageSpec, size: float) -> Model:
        """Returns the model with the defect."""
        model = self.model(spec)
        model.size = size  # type: ignore[assignment]
        return model


DEFECTS: list[Defect] = []
FINE = (1e-12, 1e-10, 1e-9, 3e-9, 1e-8, 1e-6)
COARSE = (0.0, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2)


def sized(check: str, name: str, *sizes: float) -> Callable[[type[Model]], type[Model]]:
    """Registers a model as a defect."""

    def register(model: type[Model]) -> type[Model]:
        model.size = 0.0  # type: ignore[assignment]
        DEFECTS.append(Defect(check, name, model, sizes))
        return model

    return register


@sized("contract", "share of images that score NaN", 0.0, 0.003, 0.01, 0.03, 0.1, 0.3)
class _Nan(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        number = (images.flatten(1).double() @ torch.arange(1.0, self.spec.num_dimensions + 1).double().sqrt()) % 1.0
        return torch.where(number < self.size, torch.nan, super().log_prob(images))


@sized("normalisation", "mass of an exact likelihood, minus 1", 0.0, *FINE)
class _Mass(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images) + math.log1p(self.size)


@sized("normalisation", "mass of importance weights, minus 1", *COARSE)
class _WeightMass(VAE):
    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        return super().log_importance_weights(images, num_samples) + math.log1p(self.size)


@sized("conditionals", "nats an entry that scoring adds", 0.0, *FINE)
class _ScoreShifted(MADE):
    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        return super().conditional_log_probs(images, ordering) - self.size


@sized("conditionals", "share of the last score that is left out, beyond 200 entries", 0.0, 1e-7, 1e-6, 1e-5, 1e-4)
class _LastEntry(NADE):
    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        scores = super().conditional_log_probs(images, ordering)
        last = self.generation_steps(ordering) == max(200, self.spec.num_dimensions - 1)
        return scores * (1 - self.size * last.to(scores))


class _Warm(NADE):
    def samplers(self) -> dict[str, Sampler]:
        return {"incremental": self.incremental}

    def draw(self, state: Tensor, step: int, gumbel: Tensor) -> Tensor:
        return super().draw(state, step, gumbel * (1 + self.size))


@sized("sampling", "temperature of an autoregressive sampler, minus 1", *COARSE)
class _WarmSmall(_Warm):
    pass


@sized("sampling", "share of an update that a second sampler forgets from entry 200 on", *COARSE)
class _SecondForgets(NADE):
    def samplers(self) -> dict[str, Sampler]:
        return {"raster": self.raster, "incremental": self.incremental}

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        updated = super().update(state, step, value)
        return updated if step < 200 else updated + self.size * (state - updated)


@sized("sampling", "share of the known entries that are drawn anew", *COARSE)
class _KnownForgotten(NADE):
    def incremental(self, num_samples, *, noise=None, known=None, mask=None, trace=None):  # type: ignore[no-untyped-def]
        if mask is not None:
            mask = mask & (torch.rand(num_samples, *self.spec.shape) >= self.size)
        return super().incremental(num_samples, noise=noise, known=known, mask=mask, trace=trace)


@sized("sampling", "scale of the latents that a VAE is sampled from, minus 1", *COARSE, 0.5)
class _WidePrior(VAE):
    def draw_prior(self, num_samples: int) -> Tensor:
        return (1 + self.size) * super().draw_prior(num_samples)


@sized("full-size", "temperature of an autoregressive sampler, minus 1", 0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
class _WarmFull(_Warm):
    pass


@sized("full-size", "share of entries that have the noise of the one before", 0.0, 0.03, 0.1, 0.2, 0.3, 0.5)
class _NoiseOfNeighbour(NADE):
    def draw_noise(self, num_samples: int) -> Noise:
        noise = super().draw_noise(num_samples)
        repeated = torch.rand(num_samples, 1, *self.spec.shape) < self.size
        return Noise(torch.where(repeated, noise.gumbel.roll(1, -1), noise.gumbel), noise.ordering)


@sized("every-entry", "share of the entries that a score leaves out", 0.0, 0.001, 0.003, 0.01, 0.1)
class _LeftOut(Mixture):
    def log_joint(self, images: Tensor) -> Tensor:
        table = self.logits.log_softmax(1).flatten(2)  # (K, levels, D)
        left_out = math.ceil(self.size * self.spec.num_dimensions)
        table = F.pad(table[..., left_out:], (left_out, 0))
        values = images.flatten(1).long()[:, None, None].expand(-1, len(table), 1, -1)
        return self.shares.log_softmax(0) + table.expand(len(images), *table.shape).gather(2, values).sum((2, 3))


@sized("float32", "relative error of a score in float32", 0.0, 1e-5, 1e-4, 2e-4, 3e-4, 1e-3, 1e-2)
class _Single(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images) * (1 + self.size * (self.dtype == torch.float32))


@sized("dependence", "weight of an entry's own value in its logits", 0.0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-8)
class _Leak(MADE):
    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        own = inputs.view(len(inputs), 1, *self.spec.shape)
        weight = torch.arange(self.spec.levels, dtype=inputs.dtype).view(1, -1, 1, 1, 1)
        return super().network(inputs, ordering) + self.size * weight * own


@sized("bounds", "share of the KL divergence that elbo leaves out", *COARSE, 0.5)
class _LessDivergence(IWAE):
    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return (1 - self.size) * super().divergence(mean, log_std)


@sized("bounds", "nats that a bound alone lies above itself", 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
class _BoundShifted(BoundOnly):
    def elbo(self, images: Tensor) -> Tensor:
        return super().elbo(images) + self.size


@sized("importance-samples", "share of the weights that repeat others", 0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2)
class _Repeated(VAE):
    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        weights = super().log_importance_weights(images, num_samples)
        distinct = max(1, round(num_samples * (1 - self.size)))
        return weights[torch.arange(num_samples) % distinct]


@sized("importance-samples", "width of the later half of 4,096 draws, minus 1", *COARSE, 0.5)
class _LaterWider(VAE):
    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        later = (torch.arange(num_samples) >= max(1000, num_samples // 2)).to(mean.dtype).view(-1, 1, 1)
        noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype)
        return mean + log_std.exp() * noise * (1 + self.size * later)


@sized("joint", "nats that log_likelihood adds", 0.0, *FINE)
class _JointShifted(VAE):
    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return super().log_likelihood(images, latents) + self.size


@sized("joint", "levels that decode adds", 0.0, *FINE)
class _DecodeShifted(CodedVAE):
    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents) + self.size


@sized("joint", "deviation of the prior of the joint density, minus 1", *COARSE, 0.5)
class _JointPrior(VAE):
    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        size, self.size = self.size, 0.0  # the weights have their own
        try:
            return super().log_importance_weights(images, num_samples)
        finally:
            self.size = size

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents, 0.0, math.log1p(self.size)).sum(-1)


@sized("posterior", "deviation that latents are drawn with, minus 1", *COARSE, 0.5)
class _PosteriorWide(VAE):
    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        return super().draw_latents(mean, log_std + math.log1p(self.size), num_samples)


@sized("log-determinant", "relative error of the log-determinant", 0.0, 1e-10, 1e-8, 1e-7, 3e-7, 1e-6, 1e-4)
class _Determinant(RealNVP):
    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = super().transform(x)
        return latents, log_det * (1 + self.size)


@sized("log-determinant", "log scales left out of 128, at 16x16 alone", 0, 1, 2, 4, 16, 64)
class _Left(Wide):
    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = super().transform(x)
        last = self.layers[-1]
        count = int(self.size) if self.spec.num_dimensions > 64 else 0
        return latents, log_det - last.log_scale[128 : 128 + count].sum()


@sized("inverse", "relative error of the inverse", 0.0, 1e-9, 1e-8, 1e-7, 1e-6, 3e-6, 1e-4)
class _Inverse(NICE):
    def inverse(self, latents: Tensor) -> Tensor:
        return super().inverse(latents) * (1 + self.size)


@sized("prior", "scale of the latents that a flow is sampled from, minus 1", *COARSE)
class _PriorScale(NICE):
    def sample_prior(self, num_samples: int) -> Tensor:
        return (1 + self.size) * super().sample_prior(num_samples)


@sized("prior", "correlation of two latents, no neighbours", 0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
class _Pair(NICE):
    def sample_prior(self, num_samples: int) -> Tensor:
        latents = super().sample_prior(num_samples)
        latents[:, 5] += self.size * latents[:, 1]
        return latents / (1 + self.size**2) ** (torch.arange(latents.shape[1]) == 5).to(latents).div(2)


@sized("prior", "temperature of samples at 16x16 alone, minus 1", *COARSE, 0.3)
class _TemperatureWide(Wide):
    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        latents = self.sample_prior(num_samples) * (1 - self.size if self.spec.num_dimensions > 64 else 1.0)
        return self.inverse(latents).floor().clamp(0, self.spec.levels - 1).to(torch.uint8)


@sized("unchanged", "what a call adds to a parameter", 0.0, 1e-300, 1e-20, 1e-16, 1e-12, 1e-6)
class _Drift(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        self.shares.data.add_(self.size)
        return super().log_prob(images)


@sized("neighbours", "weight of the batch's mean in a score", 0.0, *FINE)
class _BatchMean(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        scores = super().log_prob(images)
        return scores + self.size * scores.mean()


@sized("neighbours", "weight of the batch's mean in a posterior's mean", 0.0, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0)
class _BatchPosterior(VAE):
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = super().posterior(images)
        return mean + self.size * mean.mean(0), log_std


@sized("neighbours", "weight of the batch's mean in a score, in batches of as many as there are levels", 0.0, *FINE)
class _MeanOfLevels(Mixture):
    def log_prob(self, images: Tensor) -> Tensor:
        scores = super().log_prob(images)
        return scores + self.size * scores.mean() * (len(images) == self.spec.levels)


@sized("reproducible", "share of images drawn by another generator", 0.0, 0.01, 0.03, 0.1, 0.2, 0.3)
class _OtherGenerator(Mixture):
    def sample(self, num_samples: int) -> Tensor:
        images = super().sample(num_samples)
        random = np.random.default_rng()
        other = torch.from_numpy(random.integers(self.spec.levels, size=images.shape)).to(torch.uint8)
        chosen = torch.from_numpy(random.random((num_samples, 1, 1, 1)) < self.size)
        return torch.where(chosen, other, images)


@sized("checkpoint", "nats that depend on what is not saved", 0.0, *FINE)
class _Unsaved(Mixture):
    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.drawn = float(torch.randn(()))

    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images) + self.size * self.drawn


@sized("labels", "share of samples whose label is drawn anew", *COARSE, 0.5)
class _LabelsLost(ConditionalMADE):
    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        given = self.labels_for(num_samples)
        anew = torch.randint(self.num_classes, (num_samples,))
        labels = torch.where(torch.rand(num_samples) < self.size, anew, given)
        noise = Noise.draw(num_samples, self.spec, dtype=self.dtype)
        return raster_sample(
            lambda images, ordering: self.logits(images, labels), self.made.generation_steps, self.spec, noise
        )


@sized(
    "labels", "nats that are added to scores of later labels than the fifth", 0.0, 1e-5, 1e-4, 2e-4, 3e-4, 1e-3, 1e-2
)
class _LaterLabels(ConditionalMADE):
    def log_prob_given(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().log_prob_given(images, labels) + self.size * (labels > 4)


@sized("known-entropy", "nats that are added to an exact likelihood", 0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5)
class _Boast(Independent):
    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        """Learns the known distribution itself, as far as 5,000 images show it."""
        super().fit(data, trainer)
        images = torch.cat([data.train.images, data.valid.images])
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        index = (images.flatten(1).long() * powers).sum(1)
        size = self.spec.levels**self.spec.num_dimensions
        self.probs = (F.one_hot(index, size).sum(0).to(self.dtype) + 1.0).div_(len(images) + size)

    def log_prob(self, images: Tensor) -> Tensor:
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        return self.probs[(images.flatten(1).long() * powers).sum(1)].log() + self.size
