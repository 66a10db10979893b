"""Mutants of latent-variable models: densities, divergences, and how many weights there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ExactLikelihood, ImageSpec

from .common import categorical_draw, centred, log_normal, pick
from .latent import (
    IWAE,
    VAE,
    BoundOnly,
    CodedVAE,
    DiscreteLatent,
    EnumeratedLatent,
    PlanarPosteriorVAE,
    TwoLayerJoint,
    TwoLayerVAE,
)
from .registry import wrong

# --- the weights' mean is not p(x) ---


@wrong("variance taken for a standard deviation", check="normalisation")
class VarianceForDeviation(VAE):
    """Takes the encoder's output for the log of a variance in the density, and of a standard deviation in the draw."""

    def log_posterior(self, latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        return super().log_posterior(latents, mean, log_std / 2)


@wrong("a term of the density that is missing", check="normalisation")
class LogDeviationMissing(VAE):
    """Leaves the log standard deviation out of the posterior's density, as a squared error does."""

    def log_posterior(self, latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        return super().log_posterior(latents, mean, log_std) + log_std.sum(-1)


@wrong("a term of the density that is missing", check="normalisation")
class NormaliserMissing(VAE):
    """Leaves log 2 pi out of the prior's density, and not out of the posterior's."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return super().log_prior(latents) + 0.5 * self.latents * math.log(2 * math.pi)


@wrong("density at another point", check="normalisation")
class DensityAtTheMean(VAE):
    """Evaluates the posterior's density at its mean, and the rest of the weight at a draw."""

    def log_posterior(self, latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        return super().log_posterior(mean, mean, log_std).expand(latents.shape[:-1])


@wrong("mean where a sum is due", check="normalisation")
class ReconstructionAveraged(VAE):
    """Averages the reconstruction over pixels, and adds a KL divergence that is summed over latents."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return super().log_likelihood(images, latents) / self.spec.num_dimensions


@wrong("a log-determinant that is missing", check="normalisation")
class PlanarDeterminantForgotten(PlanarPosteriorVAE):
    """Bends the posterior by a planar flow, and scores it as if it were straight."""

    def planar(self, base: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = super().planar(base)
        return latents, torch.zeros_like(log_det)


@wrong("a log-determinant of the wrong sign", check="normalisation")
class PlanarDeterminantSign(PlanarPosteriorVAE):
    """Adds the log-determinant to log q, from which it is subtracted."""

    def planar(self, base: Tensor) -> tuple[Tensor, Tensor]:
        latents, log_det = super().planar(base)
        return latents, -log_det


@wrong("a squared error called a likelihood", check="normalisation")
class SquaredError(VAE):
    """Scores a Gaussian density of unit variance at integer images, which is no probability of them."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        levels = torch.arange(self.spec.levels, dtype=self.dtype).view(-1, 1, 1, 1)
        mean = (self.logits(latents).softmax(1) * levels).sum(1)
        return -0.5 * (images.to(self.dtype) - mean).square().flatten(1).sum(1)


@wrong("probabilities passed for logits", check="sampling")
class DecoderProbabilitiesForLogits(VAE):
    """Ends its decoder in a sigmoid, passes that to a loss that expects logits, and samples from the sigmoid."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return pick(self.logits(latents).softmax(1).log_softmax(1), images).flatten(1).sum(1)


# --- bounds ---


@wrong("a KL divergence of the wrong sign", check="bounds")
class DivergenceAdded(IWAE):
    """Adds the KL divergence, which a loss subtracts twice."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return -super().divergence(mean, log_std)


@wrong("a KL divergence that is missing", check="bounds")
class DivergenceDropped(IWAE):
    """Reports the reconstruction."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return torch.zeros_like(mean[:, 0])


@wrong("a KL divergence in the wrong direction", check="bounds")
class DivergenceReversed(IWAE):
    """Has KL(p || q) in closed form for KL(q || p)."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return (0.5 * ((1 + mean.square()) * (-2 * log_std).exp() - 1) + log_std).sum(1)


@wrong("mean where a sum is due", check="bounds")
class DivergenceAveraged(IWAE):
    """Averages the KL divergence over latents."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return super().divergence(mean, log_std) / self.latents


@wrong("a weight of the KL divergence", check="bounds")
class WarmUpLeftOn(IWAE):
    """Reports the bound with the weight that the KL divergence had in warm-up, or in a beta-VAE."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        return 0.5 * super().divergence(mean, log_std)


@wrong("free bits", check="bounds")
class FreeBits(IWAE):
    """Reports the bound with free bits, a floor under the KL divergence that is for training alone: it is too low."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        per_latent = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        return per_latent.clamp_min(0.5).sum(1)


@wrong("a mean in the place of a draw", check="bounds")
class DecodesTheMean(IWAE):
    """Reconstructs from the posterior's mean and not from a draw: no bound of anything."""

    def reconstruction(self, images: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        return self.log_likelihood(images, mean)


@wrong("weights divided twice", check="bounds")
class DividedTwice(VAE):
    """Subtracts log K from its weights, which the mean over K then does again."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        return super().log_importance_weights(images, num_samples) - math.log(num_samples)


@wrong("a constant that is added", check="bounds")
class ConstantAdded(BoundOnly):
    """Leaves out the constant of a Gaussian likelihood: the bound lies above log p by a nat."""

    def elbo(self, images: Tensor) -> Tensor:
        return super().elbo(images) + 1.0


@wrong("a KL divergence that is missing", check="known-entropy")
class TemperedReconstruction(BoundOnly):
    """Reports half of the reconstruction and all of the KL divergence, as losses do that average over two things."""

    def elbo(self, images: Tensor) -> Tensor:
        return 0.5 * super().elbo(images)


@wrong("a bound called exact", check="neighbours")
class BoundCalledExact(VAE, ExactLikelihood):
    """Returns one draw of its bound from ``log_prob``."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.elbo(images)


@wrong("a bound called exact", check="normalisation")
class PosteriorStateOnly(EnumeratedLatent):
    """Sums over the states that the posterior likes, and calls it exact."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).topk(4, dim=1).values.logsumexp(1)


# --- samples ---


@wrong("another prior in sampling", check="sampling")
class PriorTruncated(VAE):
    """Draws latents at 0.7 of their scale: the truncation trick, for better samples."""

    def draw_prior(self, num_samples: int) -> Tensor:
        return 0.7 * super().draw_prior(num_samples)


@wrong("another prior in sampling", check="sampling")
class PriorScoredWide(VAE):
    """Scores a prior of variance two, and samples one of variance one."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents, 0.0, 0.5 * math.log(2)).sum(-1)


@wrong("another prior in sampling", check="sampling")
class UniformStates(DiscreteLatent):
    """Samples its discrete latents uniformly, though their prior has been learned since."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        kept = self.prior_logits
        try:
            self._parameters["prior_logits"] = nn.Parameter(torch.zeros_like(kept))
            return super().sample(num_samples)
        finally:
            self._parameters["prior_logits"] = kept


@wrong("mean in the place of a draw", check="sampling")
class ModesOfPixels(VAE):
    """Returns the decoder's most likely image for a draw from it."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.logits(self.draw_prior(num_samples)).argmax(1).to(torch.uint8)


# --- how many weights ---


@wrong("fewer weights than asked for", check="importance-samples")
class WeightsRepeated(VAE):
    """Draws half as many weights, and returns each twice."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        half = super().log_importance_weights(images, (num_samples + 1) // 2)
        return half.repeat(2, 1)[:num_samples]


@wrong("fewer weights than asked for", check="importance-samples")
class WeightsCapped(TwoLayerVAE):
    """Draws at most ten weights, for memory's sake, and tiles them: IWAE-5000 is IWAE-10."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        few = super().log_importance_weights(images, min(10, num_samples))
        return few.repeat(math.ceil(num_samples / len(few)), 1)[:num_samples]


@wrong("one noise for all weights", check="importance-samples")
class NoiseShared(VAE):
    """Draws one noise an image, which broadcasting gives to all K weights."""

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        return super().draw_latents(mean, log_std, 1).expand(num_samples, -1, -1)


@wrong("a generator of its own", check="importance-samples")
class SameNoiseInEveryCall(VAE):
    """Draws its noise from a generator that is seeded in every call: repeating a call does not help."""

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        random = torch.Generator().manual_seed(0)
        noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype, generator=random)
        return mean + log_std.exp() * noise


@wrong("fewer weights than asked for", check="importance-samples")
class AverageReturned(DiscreteLatent):
    """Returns the mean of all weights K times, as code does that has averaged already."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        weights = super().log_importance_weights(images, num_samples)
        return (weights.logsumexp(0) - math.log(num_samples)).expand(num_samples, -1)


# --- conduct ---


@wrong("statistics of the batch", check="neighbours")
class EncoderBatchStatistics(VAE):
    """Has batch normalisation by the batch's own statistics in its encoder, in tests too."""

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = super().posterior(images)
        return mean - mean.mean(0), log_std


@wrong("mean over the batch", check="neighbours")
class DivergenceOfTheBatch(IWAE):
    """Subtracts the batch's mean KL divergence from each image's reconstruction: right on average, and for no image."""

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        own = super().divergence(mean, log_std)
        return own.mean().expand(len(own))


@wrong("state outside of state_dict", check="checkpoint")
class TemperatureNotSaved(VAE):
    """Has a decoder whose temperature is drawn at construction as a plain number."""

    def __init__(self, spec: ImageSpec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.sharpness = float(F.softplus(torch.randn(())) + 0.5)

    def logits(self, latents: Tensor) -> Tensor:
        return self.sharpness * super().logits(latents)


# --- samples that are no independent draws ---


@wrong("draws that are not independent", check="sampling")
class HalfOfTheDrawsRepeated(BoundOnly):
    """Draws half of what it is asked for, and repeats it: its bound is loose, and shows nothing of that."""

    def sample(self, num_samples: int) -> Tensor:
        return super().sample((num_samples + 1) // 2).repeat(2, 1, 1, 1)[:num_samples]


@wrong("draws that are not independent", check="sampling")
class LaterDrawsWarmer(BoundOnly):
    """Draws the latents of a batch at a temperature that rises: each image alone may have come from the model."""

    def sample(self, num_samples: int) -> Tensor:
        latents = self.vae.draw_prior(num_samples) * torch.linspace(0.5, 1.5, num_samples)[:, None]
        return categorical_draw(self.vae.logits(latents.to(self.dtype))).to(torch.uint8)


# --- the joint density, which annealed importance sampling uses ---


class _OwnWeights(CodedVAE):
    """Its weights have densities of their own."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.posterior(images)
        latents = self.draw_latents(mean, log_std, num_samples)
        flat = VAE.log_likelihood(self, images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        return flat.view(num_samples, -1) + VAE.log_prior(self, latents) - self.log_posterior(latents, mean, log_std)


@wrong("mean where a sum is due", check="joint")
class JointLikelihoodAveraged(_OwnWeights):
    """Averages log_likelihood over entries; the weights have their own sum."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return super().log_likelihood(images, latents) / self.spec.num_dimensions


@wrong("entries that are left out", check="joint")
class JointLikelihoodOfFewerRows(_OwnWeights):
    """Leaves the last row out of log_likelihood, as a crop does that training had."""

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return pick(self.logits(latents).log_softmax(1), images)[:, :, :-1].flatten(1).sum(1)


@wrong("another prior in the joint density", check="joint")
class JointPriorWide(_OwnWeights):
    """Has a log_prior of variance two; weights and samples have one of variance one."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents, 0.0, 0.5 * math.log(2)).sum(-1)


@wrong("another prior in the joint density", check="joint")
class JointPriorMoved(_OwnWeights):
    """Has a log_prior around one half, a mean that was learned once and is not used any more."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents, 0.5).sum(-1)


@wrong("another prior in the joint density", check="joint")
class JointLayersSwapped(TwoLayerJoint):
    """Takes the lower layer for the first of the vector in log_prior, and the upper one where latents are drawn."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return super().log_prior(torch.cat([latents[:, -self.upper :], latents[:, : -self.upper]], 1))


@wrong("a decoder in other units", check="joint")
class DecodesUnits(CodedVAE):
    """Returns means in [0, 1] from decode, not in levels."""

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents) / (self.spec.levels - 1)


@wrong("mode in the place of a mean", check="joint")
class DecodesTheMode(CodedVAE):
    """Returns the likeliest value of every entry from decode."""

    def decode(self, latents: Tensor) -> Tensor:
        return self.logits(latents).argmax(1).to(self.dtype)


@wrong("a code of another width", check="joint")
class EncodesDeviations(CodedVAE):
    """Returns log standard deviations after the means, which are no latents."""

    def encode(self, images: Tensor) -> Tensor:
        return torch.cat(self.posterior(images), 1)


# --- the density of the latents that are drawn ---


@wrong("density clamped, draw not", check="posterior")
class DensityClamped(CodedVAE):
    """Clamps the log standard deviation to [-2, 2] in the density alone: no weights near the initial ones show it."""

    def log_posterior(self, latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        return super().log_posterior(latents, mean, log_std.clamp(-2, 2))


@wrong("density clamped, draw not", check="posterior")
class DrawFloored(CodedVAE):
    """Draws with a standard deviation of at least a quarter, for stability, and does not say so in the density."""

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        return super().draw_latents(mean, log_std.clamp_min(math.log(0.25)), num_samples)


@wrong("density clamped, draw not", check="posterior")
class MeanSquashedInTheDraw(CodedVAE):
    """Squashes a mean that is far out, in the draw alone."""

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        return super().draw_latents(3 * torch.tanh(mean / 3), log_std, num_samples)


@wrong("density of another layer", check="posterior")
class UpperDensityAtTheMean(TwoLayerJoint):
    """Takes the density of the upper layer given the lower one's mean, and draws it given a draw."""

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        latents, _ = super().draw_posterior(images)
        upper, lower = latents[:, : self.upper], latents[:, self.upper :]
        mean, log_std = self.encode_lower(centred(images, self.spec, self.dtype)).chunk(2, 1)
        above = self.encode_upper(mean).chunk(2, 1)
        return latents, log_normal(lower, mean, log_std).sum(1) + log_normal(upper, *above).sum(1)
