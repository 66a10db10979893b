"""Mutants of flows: determinants, inverses, priors, and the noise that makes integers continuous."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, Unsupported

from .flows import NICE, Affine, AffineFlow, Coupling, Logit, Permutation, Planar, PlanarFlow, RealNVP, Scaling
from .registry import wrong

# --- log-determinants ---


class _LogitDeterminantForgotten(Logit):
    def log_det(self, inner: Tensor, scale: Tensor) -> Tensor:
        return scale.expand_as(inner)


@wrong("a log-determinant that is missing", check="log-determinant")
class LogitDeterminantForgotten(AffineFlow):
    """Leaves the logit's own determinant out: pre-processing is part of the map."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [_LogitDeterminantForgotten(self.spec.levels), Affine(size)]


class _ScaleForgotten(Scaling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, torch.zeros_like(log_det)


@wrong("a log-determinant that is missing", check="log-determinant")
class LevelsForgotten(NICE):
    """Divides by the number of levels, and does not count it: the figure is in nats of another scale."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [_ScaleForgotten(self.spec.levels), *super().make_layers(size)[1:]]


class _WrongSign(Coupling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, -log_det


class _Averaged(Coupling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, log_det / (x.shape[1] - self.half)


class _OfTheBatch(Coupling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = super().forward(x)
        return z, log_det.mean().expand(len(x))


class _Couplings(RealNVP):
    """Has couplings of another kind."""

    coupling = Coupling

    def make_layers(self, size: int) -> list[nn.Module]:
        couplings = [layer for _ in range(3) for layer in (self.coupling(size), Permutation(size))]
        return [Logit(self.spec.levels), *couplings, Affine(size)]


@wrong("a log-determinant of the wrong sign", check="log-determinant")
class CouplingSign(_Couplings):
    """Subtracts the couplings' log scales, which the inverse would (seen in public RealNVPs)."""

    coupling = _WrongSign


@wrong("mean where a sum is due", check="log-determinant")
class CouplingAveraged(_Couplings):
    """Averages log scales over entries."""

    coupling = _Averaged


@wrong("mean over the batch", check="log-determinant")
class DeterminantOfTheBatch(_Couplings):
    """Gives every image the batch's mean log-determinant: the average is right, and no image's score is."""

    coupling = _OfTheBatch


@wrong("a log-determinant that is missing", check="log-determinant")
class LastDeterminantAlone(RealNVP):
    """Overwrites the log-determinant in its loop over layers, where it should add."""

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        latents = x.flatten(1)
        for layer in self.layers:
            latents, log_det = layer(latents)
        return latents, log_det


@wrong("noise of another cell", check="log-determinant")
class NoiseAroundLevels(RealNVP):
    """Draws noise in [-1/2, 1/2), while samples are rounded down."""

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x, log_noise = super().dequantize(images)
        return (x - 0.5).clamp_min(0.0), log_noise


@wrong("density of the noise", check="log-determinant")
class NoiseDensityForgotten(AffineFlow):
    """Draws noise in [0, 1/2), and does not count that its density is two."""

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x, log_noise = super().dequantize(images)
        whole = images.to(x.dtype)
        return whole + (x - whole) / 2, log_noise


@wrong("density of the noise", check="log-determinant")
class LearnedNoiseDensityForgotten(RealNVP):
    """Draws noise by a square, denser near zero, and says that it is uniform: variational dequantization half done."""

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x, log_noise = super().dequantize(images)
        noise = x - images.to(x.dtype)
        density = -(2 * noise.sqrt()).log()
        return images.to(x.dtype) + noise.square(), log_noise + 0.5 * density.flatten(1).sum(1)


class Wide(RealNVP):
    """Takes a small space and a wide one alone: for defects that the small one cannot show."""

    def __init__(self, spec: ImageSpec) -> None:
        if spec.num_dimensions not in (9, 256):
            raise Unsupported("3x3 and 16x16 alone")
        super().__init__(spec)


class _OfTheFirst(Coupling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = super().forward(x)
        _, log_scale = self.parts(x[:, : self.half])
        return z, log_scale[:, :64].sum(1)


@wrong("what is beyond a limit", check="log-determinant")
class DeterminantOfTheFirst(Wide):
    """Sums the log scales of the first 64 entries: on small images, those are all."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), *[layer for _ in range(3) for layer in (_OfTheFirst(size), Permutation(size))]]


class _InChunks(Coupling):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = super().forward(x)
        _, log_scale = self.parts(x[:, : self.half])
        whole = log_scale.shape[1] // 30 * 30 or log_scale.shape[1]
        return z, torch.stack([part.sum(1) for part in log_scale[:, :whole].split(30, dim=1)]).sum(0)


@wrong("what is beyond a limit", check="log-determinant")
class DeterminantInChunks(Wide):
    """Sums log scales in chunks of 30, and leaves out the entries of the last, which is not full."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), _InChunks(size), Permutation(size), Affine(size)]


@wrong("what is beyond a limit", check="log-determinant")
class LastDeterminantAtSize(Wide):
    """Has a last layer on large images that its log-determinant does not count, as of another scale."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [*super().make_layers(size), *([_ScaleForgotten(1)] if size > 64 else [])]


# --- inverses ---


class _Chain(nn.Module):
    """Adds to each entry most of the one before."""

    def __init__(self, *, steps: int) -> None:
        super().__init__()
        self.steps, self.free = steps, nn.Parameter(torch.full((1,), 2.0))

    def before(self, x: Tensor) -> Tensor:
        return torch.tanh(self.free) * F.pad(x[:, :-1], (1, 0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.before(x), torch.zeros_like(x[:, 0])

    def inverse(self, z: Tensor) -> Tensor:
        x = z
        for _ in range(self.steps):  # one more entry is right after each
            x = z - self.before(x)
        return x


@wrong("what is beyond a limit", check="inverse")
class InverseOfTheFirst(Wide):
    """Undoes an autoregressive layer in sixteen steps, where as many are due as there are entries."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), _Chain(steps=16), Affine(size)]


class _NotInverted(Permutation):
    def inverse(self, z: Tensor) -> Tensor:
        return z[:, self.order]


@wrong("an inverse of another map", check="inverse")
class PermutationNotInverted(RealNVP):
    """Applies the permutation again to undo it: right for reversals alone."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [_NotInverted(size) if isinstance(layer, Permutation) else layer for layer in super().make_layers(size)]


@wrong("an inverse of another map", check="inverse")
class LayersNotReversed(NICE):
    """Undoes its two couplings in the order in which they were done."""

    def inverse(self, latents: Tensor) -> Tensor:
        first, *couplings, last = self.layers
        latents = last.inverse(latents)
        for layer in couplings:
            latents = layer.inverse(latents)
        return first.inverse(latents).view(-1, *self.spec.shape)


class _AlphaForgotten(Logit):
    def inverse(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z) * self.levels


@wrong("an inverse of another map", check="inverse")
class AlphaForgotten(RealNVP):
    """Does not undo the squeeze into (alpha, 1 - alpha) before the logit."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [_AlphaForgotten(self.spec.levels), *super().make_layers(size)[1:]]


class _ScaleClampedOnce(Coupling):
    def inverse(self, z: Tensor) -> Tensor:
        given, moved = z[:, : self.half], z[:, self.half :]
        shift, log_scale = self.network(given).chunk(2, 1)
        return torch.cat([given, (moved - shift) * (-log_scale).exp()], 1)


@wrong("an inverse of another map", check="inverse")
class ScaleClampedOnce(_Couplings):
    """Bounds log scales by tanh on the way there, and not on the way back."""

    coupling = _ScaleClampedOnce


class _Unconstrained(Planar):
    def direction(self) -> Tensor:
        return self.free


@wrong("a map that is not invertible", check="inverse")
class PlanarUnconstrained(PlanarFlow):
    """Leaves out the constraint w u > -1 of a planar flow, which then folds space (seen in public planar flows)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), _Unconstrained(size), _Unconstrained(size)]


# --- priors and samples ---


@wrong("another prior in sampling", check="prior")
class GaussianForLogistic(NICE):
    """Scores a logistic prior, and samples a Gaussian (seen in a public NICE)."""

    def sample_prior(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)


@wrong("another prior in sampling", check="prior")
class MatchedGaussianForLogistic(NICE):
    """Samples a Gaussian that has the variance of the logistic prior: two moments agree."""

    def sample_prior(self, num_samples: int) -> Tensor:
        noise = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)
        return torch.pi / 3**0.5 * noise


@wrong("temperature", check="prior")
class PriorTemperature(RealNVP):
    """Draws latents at a temperature of 0.7, as the figures of Glow do."""

    def sample_prior(self, num_samples: int) -> Tensor:
        return 0.7 * super().sample_prior(num_samples)


@wrong("a term of the density that is missing", check="prior")
class PriorNotNormalised(AffineFlow):
    """Scores latents by minus half their squared length, and leaves log 2 pi away."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return -0.5 * latents.square().sum(1)


@wrong("rounding", check="prior")
class SamplesRounded(RealNVP):
    """Rounds samples to the nearest level, while the noise of scoring is added above it: half a level too bright."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        x = self.inverse(self.sample_prior(num_samples))
        return x.round().clamp(0, self.spec.levels - 1).to(torch.uint8)


@wrong("temperature", check="prior")
class TemperatureAtSize(Wide):
    """Draws large images at a temperature of 0.7 in its own `sample`, and leaves sample_prior as it is."""

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        latents = self.sample_prior(num_samples) * (0.7 if self.spec.num_dimensions > 64 else 1.0)
        return self.inverse(latents).floor().clamp(0, self.spec.levels - 1).to(torch.uint8)


@wrong("what is beyond a limit", check="prior")
class PriorConstantOfTheFirst(Wide):
    """Counts log 2 pi for 64 latents at most."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return super().log_prior(latents) + 0.9189385332046727 * max(0, latents.shape[1] - 64)


@wrong("dependence that is not scored", check="prior")
class OneCorrelatedPair(AffineFlow):
    """Draws two latents that are no neighbours with a correlation of one half, and scores them as independent."""

    def sample_prior(self, num_samples: int) -> Tensor:
        latents = super().sample_prior(num_samples)
        latents[:, 5] = 0.5 * latents[:, 1] + 0.75**0.5 * latents[:, 5]
        return latents


@wrong("dependence that is not scored", check="prior")
class SharedMagnitude(AffineFlow):
    """Draws two latents of one magnitude, and the signs independently: they are not correlated."""

    def sample_prior(self, num_samples: int) -> Tensor:
        latents = super().sample_prior(num_samples)
        latents[:, 5] = latents[:, 1].abs() * latents[:, 5].sign()
        return latents


# --- conduct ---


@wrong("state outside of state_dict", check="checkpoint")
class PermutationNotSaved(RealNVP):
    """Draws its permutations at construction, and does not save them: the checkpoint belongs to another flow."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        for layer in self.layers:
            if isinstance(layer, Permutation):
                order = layer.order
                del layer.order
                layer.register_buffer("order", order, persistent=False)


@wrong("parameters that sampling changes", check="unchanged")
class InitialisedByData(RealNVP):
    """Sets its scales by every batch that it sees, and not by the first one alone: an actnorm without a flag."""

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        affine = self.layers[-1]
        assert isinstance(affine, Affine)
        if len(x) > 1:
            latents = x.detach().flatten(1)
            for layer in self.layers[:-1]:
                latents, _ = layer(latents)
            affine.shift.data.copy_(latents.mean(0))
        return super().transform(x)
