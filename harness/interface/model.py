"""Model and its capabilities. A capability is a base class: what a model can be measured by is what it derives from.

``log_prob`` has one meaning: nats of the *integer* image. A density on dequantized pixels is a bound, and a model that
has only such a density derives from ``ImportanceWeighted``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from harness.interface.dataset import Dataset
from harness.interface.sampling import BoundSampler, Noise, Sampler, SamplingTrace, raster_sample
from harness.interface.spec import ImageSpec
from harness.interface.training import Trainer


class Unsupported(ValueError):
    """A model cannot do what was asked, by its nature; the message says why. It is recorded as skipped, not failed."""


class Model(nn.Module, ABC):
    """A generative model of images. Alone, an implicit model, such as a GAN's generator.

    A subclass takes ``spec`` and keyword-only, annotated hyperparameters with defaults, and calls
    ``super().__init__(spec)``. It depends on its constructor's arguments alone, raises ``Unsupported(reason)`` for a
    spec that it cannot do, changes no parameter or buffer outside ``fit``, and keeps all that it learns in
    ``state_dict``, whose names are complete after construction; a buffer registered empty takes the shape that a
    checkpoint has. What a call makes when it is first needed, such as a cache, is a plain attribute or a buffer with
    ``persistent=False``.

    Class attributes:
        default_budget: how long it trains where neither suite nor row says so.
        draws_jointly: whether the images of one call of ``sample`` depend on one another, such as draws without
            replacement: then all that are needed are asked for at once.
    """

    default_budget: ClassVar[str] = "20 epochs"
    draws_jointly: ClassVar[bool] = False
    _registered: tuple[Mapping[str, Sampler], Mapping[str, Sampler]] = ({}, {})
    _anchor: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the model's parameters."""
        return self._anchor.dtype

    @property
    def sampling_depth(self) -> int:
        """How many evaluations of a network ``sample`` makes one after another: one, unless a model says otherwise."""
        return 1

    @abstractmethod
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Learns from ``data.train``; hyperparameters may look at ``data.valid``, nothing may look at ``data.test``."""

    @abstractmethod
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, drawn with torch's global generators."""

    def project_(self) -> None:
        """Moves parameters, in place, into the range that ``fit`` keeps them in; the default does nothing.

        An audit calls it after it drew random weights, so that it looks at none that no training reaches.
        """

    def samplers(self) -> Mapping[str, BoundSampler]:
        """Returns the ways to draw from this distribution by name, the default first.

        They are the class's own and, where a run, ``harness.load`` or ``harness.with_samplers`` gave the model, those
        that plugins registered for it (``harness.SamplerEntry``).
        """
        own, others = self._bound()
        return {"default": self._default, **own, **others}

    def add_samplers(self, own: Mapping[str, Sampler], others: Mapping[str, Sampler]) -> Self:
        """Takes registered samplers by name: those of the model's plugin, and others', which never become a default."""
        self._registered = (own, others)
        return self

    def _bound(self) -> tuple[Mapping[str, BoundSampler], Mapping[str, BoundSampler]]:
        own, others = ({name: partial(draw, self) for name, draw in given.items()} for given in self._registered)
        return own, others

    def _default(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        if noise is not None or known is not None or mask is not None:
            raise Unsupported(f"{type(self).__name__} draws its own noise and cannot clamp pixels")
        if trace is not None:
            trace.network_evaluations += self.sampling_depth
            trace.sequential_depth += self.sampling_depth
        return self.sample(num_samples)


class StoredSamples(Model):
    """Images that somebody else made, in place of a model, a class for each file: only samples are measured."""

    draws_jointly = True
    images: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("images", torch.empty(0, *spec.shape, dtype=torch.uint8))

    @classmethod
    @abstractmethod
    def stored(cls) -> tuple[Tensor, int, str]:
        """Returns the images, (N, C, H, W) uint8, their number of levels, and the SHA-256 of both."""

    @classmethod
    def as_of(cls, spec: ImageSpec) -> Tensor:
        """Returns (N, C, H, W) uint8 in levels of ``spec``, the same as 8 bits; a ValueError says how they differ."""
        images, levels, _ = cls.stored()
        if (found := tuple(images.shape[1:])) != spec.shape:
            raise ValueError(f"images of {cls.__name__} are {found}, expected {spec.shape}: channels, height, width")
        own, theirs = ((torch.arange(count).double() * 255 / (count - 1)).round() for count in (levels, spec.levels))
        near = (own * (spec.levels - 1) / 255).round()
        if (wrong := torch.isin(images, torch.arange(levels)[theirs[near.long()] != own])).any():
            what = f"{cls.__name__} holds {int(images[wrong][0])} of 0 to {levels - 1}, none of {spec.levels} levels"
            raise ValueError(f"{what}: save 0 to {spec.levels - 1} in an .npz, and 'levels' {spec.levels} beside them")
        return torch.from_numpy(near.to(torch.uint8).numpy()[images.numpy()])

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Reads the images."""
        self.images = self.as_of(self.spec).to(self.device)

    def sample(self, num_samples: int) -> Tensor:
        """Returns the first (num_samples, C, H, W) uint8; that there are no more of them is a ValueError."""
        if num_samples > len(self.images):
            raise ValueError(f"{num_samples:,} samples are asked for, {type(self).__name__} has {len(self.images):,}")
        return self.images[:num_samples].clone()


class ExactLikelihood(Model):
    """A model whose log-likelihood can be computed."""

    @abstractmethod
    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the log-probability of the integer image."""


class VariationalBound(Model):
    """A model with a lower bound on its log-likelihood."""

    @abstractmethod
    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: one stochastic estimate, at most log p(image) in expectation.

        The images of one call may share their noise; what another call draws is independent of it.
        """


class ImportanceWeighted(VariationalBound):
    """A model with unbiased importance weights: E[exp w] = p(image). The harness computes IWAE-K from them."""

    @abstractmethod
    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats.

        The weights of one image are independent of one another, and of those of other calls. Images of one call may
        share their noise, which is drawn anew for each of ``num_samples``.
        """

    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: one log-weight for each image."""
        return self.log_importance_weights(images, 1)[0]


class LatentVariable(ImportanceWeighted):
    """A model with an explicit joint p(latents) p(images | latents), as annealed importance sampling needs it."""

    @abstractmethod
    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats."""

    @abstractmethod
    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats: log p(image | latents), of the integer image."""

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D) from q(latents | image), and log q of each, (N,) nats.

        Optional, for audits: where ``log_importance_weights`` calls neither of the other two, nothing else shows which
        latents a weight is made of.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how its latents are drawn")

    def draw_joint(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Draws images (num_samples, C, H, W) uint8, and the latents (num_samples, D) that they were drawn from.

        Optional, for bounds from both sides on what the model makes, and for draws from its prior. Where the prior is
        N(0, I), and ``decode`` gives the means of independent binary pixels, it is not needed.
        """
        raise NotImplementedError(f"{type(self).__name__} has no draw_joint")

    def layer_divergences(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, L) nats: what each layer of latents costs, the top first.

        One draw of log q(z_l | ...) - log p(z_l | z above). Over all layers, its expectation is the Kullback-Leibler
        divergence from the prior to the posterior. Optional, for figures of how much each layer is used.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what its layers of latents cost")


class Invertible(ImportanceWeighted):
    """A normalizing flow: a density on dequantized images, by an invertible map to latents whose density is known.

    With x = image + noise from q, and latents z = transform(x), the weight of an image is

        log w = log_prior(z) + log |det dz/dx| - log q(x | image).

    E[exp w] is the density's mass on the image's cell, x in [image, image + 1). What the map puts beyond [0, levels)
    belongs to no image: such samples are clamped, and log w bounds log p(image) from below for images at the edges.
    """

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to x (N, C, H, W) in [0, levels), and log q(x | image) (N,) nats: uniform noise.

        Every image has noise of its own, as ``log_importance_weights`` repeats images; where that is overridden, they
        may share it.
        """
        noise = torch.rand(images.shape, dtype=self.dtype, device=images.device)
        return images.to(self.dtype) + noise, torch.zeros(len(images), dtype=self.dtype, device=images.device)

    @abstractmethod
    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, C, H, W) in [0, levels) to latents (N, D) and log |det dz/dx| (N,) nats, all of it included."""

    @abstractmethod
    def inverse(self, latents: Tensor) -> Tensor:
        """Maps latents (N, D) to x (N, C, H, W): the inverse of ``transform``."""

    @abstractmethod
    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats."""

    @abstractmethod
    def sample_prior(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D) from the distribution that ``log_prior`` scores."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats, one draw of the noise each."""
        x, log_noise = self.dequantize(images.repeat(num_samples, 1, 1, 1))
        latents, log_det = self.transform(x)
        return (self.log_prior(latents) + log_det - log_noise).view(num_samples, len(images))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, mapped back, rounded down and clamped."""
        x = self.inverse(self.sample_prior(num_samples))
        return x.floor().clamp(0, self.spec.levels - 1).to(torch.uint8).view(num_samples, *self.spec.shape)


class Autoregressive(ExactLikelihood):
    """A product of conditionals in some order; with several orderings, the equal mixture over them."""

    num_orderings: int = 1

    @abstractmethod
    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W): unnormalised log-probabilities of each entry's values.

        An entry's logits depend on entries of earlier generation steps alone.
        """

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) nats: log p(entry | entries of earlier steps)."""
        log_probs = self.conditional_logits(images, ordering).log_softmax(dim=1)
        return log_probs.gather(1, images.long().unsqueeze(1)).squeeze(1)

    def generation_steps(self, ordering: int = 0) -> Tensor:
        """Returns (C, H, W) int64, when each entry is drawn; entries of one step are conditionally independent.

        The default is raster order, the channels of a pixel one after another.
        """
        channels, height, width = self.spec.shape
        return torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1).contiguous()

    def dependence(self, ordering: int = 0) -> Tensor | None:
        """Returns (D, D) bool, row i true where entry i's conditional sees entry j; None: all of the past is seen."""
        return None

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: log of the mean over orderings of the product of conditionals."""
        per_ordering = [self.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(self.num_orderings)]
        return torch.stack(per_ordering).logsumexp(0) - math.log(self.num_orderings)

    def draw_noise(self, num_samples: int) -> Noise:
        """Draws the noise of ``num_samples`` images on the model's device."""
        return Noise.draw(
            num_samples, self.spec, num_orderings=self.num_orderings, device=self.device, dtype=self.dtype
        )

    def samplers(self) -> Mapping[str, BoundSampler]:
        """Returns the samplers registered by the model's own plugin, then ``raster``, then those of other plugins."""
        own, others = self._bound()
        return {**own, "raster": self.raster, **others}

    def raster(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        """Draws (num_samples, C, H, W) uint8, with one full evaluation for each generation step; see ``Sampler``."""
        noise = self.draw_noise(num_samples) if noise is None else noise
        return raster_sample(
            self.conditional_logits, self.generation_steps, self.spec, noise, known=known, mask=mask, trace=trace
        )

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8 by the first of ``samplers()``."""
        return next(iter(self.samplers().values()))(num_samples)


class ClassConditional(Model):
    """A model that can be conditioned on labels; without them, labels are marginalised."""

    @abstractmethod
    def condition_on(self, labels: Tensor) -> Self:
        """Takes (N,) int64 and returns a view of the model for exactly N images, one for each label."""


class Inference(Model):
    """A model with an encoder and a decoder: VAEs, ALI."""

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The number of latent units of each stochastic layer, top level first; their sum is ``encode``'s width."""
        raise NotImplementedError(f"{type(self).__name__} does not say its latent_sizes")

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): posterior means, top level first."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C, H, W) float: the expected image, in levels."""
