"""Mutants of closed formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Trainer, Unsupported

from .common import categorical_draw
from .mixtures import DiscretizedLogistic, Independent, KernelDensity, Mixture
from .registry import wrong

# --- what is returned ---


@wrong("images dropped from the average", check="contract")
class PartialBatchDropped(Mixture):
    """Scores batches of four and drops the last, partial one: a data loader with ``drop_last`` at test time."""

    def log_prob(self, images: Tensor) -> Tensor:
        whole = len(images) // 4 * 4
        return torch.cat([super(PartialBatchDropped, self).log_prob(part) for part in images[:whole].split(4)])


@wrong("images dropped from the average", check="contract")
class UnlikelyImagesDropped(Mixture):
    """Returns the scores of images that are not too unlikely alone, as a filter for NaN does with what underflows."""

    def log_prob(self, images: Tensor) -> Tensor:
        scores = super().log_prob(images)
        return scores[scores.exp() > 2.0**-self.spec.num_dimensions]


@wrong("images dropped from the average", check="neighbours")
class NanMeanExpanded(Mixture):
    """Gives every image the mean over the batch of what is finite: one figure a batch, whatever is in it."""

    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images).nanmean().expand(len(images))


@wrong("wrong sign", check="contract")
class NegativeLogLikelihood(Mixture):
    """Returns the loss for the score."""

    def log_prob(self, images: Tensor) -> Tensor:
        return -super().log_prob(images)


@wrong("inputs modified in place", check="contract")
class ImagesModifiedInPlace(Mixture):
    """Flips the images that it is given in place, as an augmentation left on in the scorer does."""

    def log_prob(self, images: Tensor) -> Tensor:
        images.copy_(images.flip(3))
        return super().log_prob(images)


@wrong("samples are no images", check="contract")
class SamplesAreProbabilities(Mixture):
    """Samples are the means of pixels in floating point: the nice pictures of papers, which are no draws."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        probs = self.logits[component].softmax(1)
        return torch.einsum("nlchw,l->nchw", probs, torch.arange(self.spec.levels, dtype=probs.dtype))


@wrong("zero times infinity", check="contract")
class NanWhereImpossible(KernelDensity):
    """Adds 0 * log 0 where a kernel is a point mass: the bandwidth has shrunk to zero, and scores are NaN."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        super().fit(data, trainer)
        self.redrawn.zero_()


# --- normalisation ---


@wrong("wrong base of the logarithm", check="normalisation")
class BitsForNats(Mixture):
    """Returns log2 for ln, as code that reports bits does."""

    def log_prob(self, images: Tensor) -> Tensor:
        return super().log_prob(images) / math.log(2)


@wrong("mean where a sum is due", check="normalisation")
class MeanOverPixels(Mixture):
    """Averages log-probabilities over entries, as ``reduction="mean"`` does."""

    def log_joint(self, images: Tensor) -> Tensor:
        shares = self.shares.log_softmax(0)
        return shares + (super().log_joint(images) - shares) / self.spec.num_dimensions


@wrong("tails lose mass", check="normalisation")
class TailsLoseMass(DiscretizedLogistic):
    """Outermost bins have edges like the others, so that what is beyond them is lost (seen in ports of PixelCNN++)."""

    def cumulative(self, images: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.edges(images)
        scale = self.log_scales.exp()
        return torch.sigmoid((lower - self.means) / scale), torch.sigmoid((upper - self.means) / scale)


@wrong("density in the place of a mass", check="normalisation")
class DensityForMass(DiscretizedLogistic):
    """Scores the density at the middle of a bin, as if bins were narrow."""

    def log_joint(self, images: Tensor) -> Tensor:
        value = (images[:, None].to(self.dtype) - self.means) / self.log_scales.exp()
        log_density = nn.functional.logsigmoid(value) + nn.functional.logsigmoid(-value) - self.log_scales
        return self.shares.log_softmax(0) + log_density.flatten(2).sum(2)


@wrong("unsigned integers wrap around", check="normalisation")
class UnsignedWraparound(DiscretizedLogistic):
    """Finds the lower edge in uint8, where twice a zero minus one is 255."""

    def cumulative(self, images: Tensor) -> tuple[Tensor, Tensor]:
        _, above = super().cumulative(images)
        lower = (2 * images - 1).to(self.dtype) / 2
        return torch.sigmoid((lower - self.means) / self.log_scales.exp()), above


@wrong("weights of a mixture", check="normalisation")
class SharesNotNormalised(Mixture):
    """Takes unnormalised logits for the log-shares of components."""

    def log_joint(self, images: Tensor) -> Tensor:
        return super().log_joint(images) - self.shares.log_softmax(0) + self.shares


# --- sampling ---


@wrong("mean in the place of a draw", check="sampling")
class RoundedMeans(Mixture):
    """Samples are the most likely values of a component: its noise is left away."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        return self.logits[component].argmax(1).to(torch.uint8)


@wrong("probabilities passed for logits", check="sampling")
class ProbabilitiesForLogits(Mixture):
    """Passes probabilities to a loss that expects logits (seen in public VAEs)."""

    def log_prob(self, images: Tensor) -> Tensor:
        kept = self.logits
        try:
            self._parameters["logits"] = nn.Parameter(kept.softmax(1))
            return super().log_prob(images)
        finally:
            self._parameters["logits"] = kept


@wrong("rounding", check="sampling")
class FloorForRound(DiscretizedLogistic):
    """Rounds samples down, where bins are centred at levels: half a level too dark."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        uniform = torch.rand(num_samples, *self.spec.shape, dtype=self.dtype)
        value = self.means[component] + self.log_scales[component].exp() * torch.logit(uniform, eps=1e-12)
        return value.floor().clamp(0, self.spec.levels - 1).to(torch.uint8)


@wrong("one draw shared by a batch", check="sampling")
class ComponentSharedByPixels(Mixture):
    """Draws a component anew for every entry, so that entries are independent in samples, and not in scores."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        shares = self.shares.softmax(0)
        probs = torch.einsum("k,klchw->lchw", shares, self.logits.softmax(1))
        return categorical_draw(probs.log().expand(num_samples, *probs.shape)).to(torch.uint8)


# --- conduct ---


@wrong("trains at test time", check="unchanged")
class TrainsAtTestTime(Mixture):
    """Takes a gradient step on every batch that it scores: an optimizer that nobody told that training is over."""

    def log_prob(self, images: Tensor) -> Tensor:
        scores = super().log_prob(images)
        if not self.training:
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(-super().log_prob(images).mean(), self.logits)
            self.logits.data.sub_(0.01 * gradient)
        return scores


@wrong("a buffer that scoring updates", check="unchanged")
class CountsImages(Independent):
    """Adds every image that it scores to its frequencies: an online estimate that goes on in the test."""

    def log_prob(self, images: Tensor) -> Tensor:
        scores = super().log_prob(images)
        found = nn.functional.one_hot(images.long(), self.spec.levels).to(self.dtype).mean(0)
        self.probs.mul_(0.99).add_(found, alpha=0.01)
        return scores


@wrong("mode of training", check="unchanged")
class LeftInTrainingMode(Mixture):
    """Switches to training mode after it has sampled, as a sampling callback does that means to be tidy."""

    def sample(self, num_samples: int) -> Tensor:
        self.eval()
        images = super().sample(num_samples)
        self.train()
        return images


@wrong("softmax over the batch", check="neighbours")
class SoftmaxOverBatch(Mixture):
    """Normalises over the batch in the place of the components: ``dim=0`` for ``dim=1``."""

    def log_prob(self, images: Tensor) -> Tensor:
        joint = self.log_joint(images)
        return (joint + joint.log_softmax(0) - joint.log_softmax(1)).logsumexp(1) - math.log(joint.shape[1])


@wrong("scores in another order", check="neighbours")
class ScoresSorted(Mixture):
    """Scores distinct images once, and returns them in the order in which ``unique`` has them."""

    def log_prob(self, images: Tensor) -> Tensor:
        distinct, counts = images.unique(dim=0, return_counts=True)
        return super().log_prob(distinct).repeat_interleave(counts)


@wrong("a generator of its own", check="reproducible")
class NumpyRandomness(Independent):
    """Draws by a generator of numpy's, which torch's seed does not reach."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.random = np.random.default_rng(0)

    def sample(self, num_samples: int) -> Tensor:
        uniform = torch.from_numpy(self.random.random((num_samples, *self.spec.shape, 1)))
        return (uniform > self.probs.cumsum(-1)[..., :-1]).sum(-1).to(torch.uint8)


@wrong("a seed that is set in the sampler", check="reproducible")
class SeedsTorch(Mixture):
    """Seeds torch in its sampler, so that figures in a paper can be made again: every call draws the same images."""

    def sample(self, num_samples: int) -> Tensor:
        torch.manual_seed(0)
        return super().sample(num_samples)


@wrong("samples that are kept", check="reproducible")
class SamplesKept(Mixture):
    """Keeps the samples that it drew first, and returns them ever after."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.kept: Callable[[], Tensor] | None = None

    def sample(self, num_samples: int) -> Tensor:
        if self.kept is None or len(self.kept()) < num_samples:
            images = super().sample(num_samples)
            self.kept = lambda: images
        return self.kept()[:num_samples]


@wrong("state outside of state_dict", check="checkpoint")
class BandwidthNotSaved(KernelDensity):
    """Keeps the bandwidth that it chose on the validation split where ``state_dict`` does not see it."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("redrawn", torch.tensor(0.5), persistent=False)


@wrong("state outside of state_dict", check="checkpoint")
class InitialisationNotSaved(Mixture):
    """Has a random table that is drawn at construction and neither a parameter nor a buffer."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.fixed = torch.randn(spec.levels, *spec.shape)

    def log_joint(self, images: Tensor) -> Tensor:
        kept = self.logits
        try:
            self._parameters["logits"] = nn.Parameter(kept + self.fixed.to(kept))
            return super().log_joint(images)
        finally:
            self._parameters["logits"] = kept

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        return categorical_draw((self.logits + self.fixed.to(self.logits))[component]).to(torch.uint8)


# --- entropy ---


@wrong("looks at the test images", check="known-entropy")
class ScoredImagesAreCentres(KernelDensity):
    """Puts kernels on the batch that it scores as well: transductive, or "leave one out" without leaving it out."""

    def log_prob(self, images: Tensor) -> Tensor:
        own = self.centres
        try:
            self.centres = torch.cat([own, images])
            return super().log_prob(images)
        finally:
            self.centres = own


@wrong("looks at the test images", check="known-entropy")
class FittedToTheBatch(Independent):
    """Estimates its frequencies on the batch that it scores, for it is "only a statistic"."""

    def log_prob(self, images: Tensor) -> Tensor:
        own = self.probs
        joint = images.flatten(1).long() @ (self.spec.levels ** torch.arange(self.spec.num_dimensions))
        _, inverse, counts = joint.unique(return_inverse=True, return_counts=True)
        assert own.numel()
        return (counts[inverse].to(self.dtype) / len(images)).log()


# --- draws that are not independent, and many levels ---


@wrong("draws that are not independent", check="sampling")
class SystematicDraws(Mixture):
    """Draws by systematic resampling: as many of each image as are expected, and no fewer or more."""

    def __init__(self, spec: ImageSpec) -> None:
        if (*spec.shape, spec.levels) != (1, 2, 2, 4):
            raise Unsupported("256 images alone")
        super().__init__(spec)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        images = (torch.arange(256)[:, None] // 4 ** torch.arange(4) % 4).to(torch.uint8).view(-1, 1, 2, 2)
        steps = self.log_prob(images).double().exp().cumsum(0)
        equal = (torch.randperm(num_samples) + torch.rand((), dtype=torch.float64)) / num_samples
        return images[torch.searchsorted(steps, equal * steps[-1]).clamp_max(255)]


@wrong("arithmetic in bytes", check="normalisation")
class IndexInBytes(Mixture):
    """Looks logits up by twice the value in a byte, halved: right up to 128 levels."""

    def __init__(self, spec: ImageSpec) -> None:
        if (*spec.shape, spec.levels) not in ((1, 2, 2, 4), (1, 1, 2, 256)):
            raise Unsupported("two spaces alone")
        super().__init__(spec, num_components=1)

    def log_joint(self, images: Tensor) -> Tensor:
        return super().log_joint(images * 2 // 2)
