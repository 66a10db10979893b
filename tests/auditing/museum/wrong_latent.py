"""Mutants of latent-variable models: densities, divergences, and how many weights there are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ExactLikelihood, ImageSpec

from .common import categorical_draw, log_normal, pick
from .latent import IWAE, VAE, BoundOnly, DiscreteLatent, EnumeratedLatent, PlanarPosteriorVAE, TwoLayerVAE
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
