"""One layer of latents with a standard normal prior, between any encoder, posterior and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.descent import Descent
from harness_layers.pixels import (
    by_entry,
    draw_levels,
    entry_log_probs,
    level_counts,
    level_logits,
    num_outputs,
    scale,
    smoothed_outputs,
)
from harness_layers.posteriors import standard_noise, standard_normal_log_prob
from harness_vae.latent_model import LatentModel, Objective, Terms
from harness_vae.posteriors.posterior import Posterior
from harness_vae.weight_norm import standardise

_STARTING_IMAGES = 500


class SingleLayerVAE(LatentModel):
    """p(x, z) = N(z; 0, I) p(x | z); pixels are independent given z: Bernoulli, or a softmax over more levels.

    Args:
        spec: the sample space.
        encoder: maps images (N, C, H, W) in [-1, 1] to features (N, F).
        posterior: q(z | x), given features.
        decoder: maps z (N, D) to (N, C * O, H, W), see ``harness_layers.pixels``; a bias is added for each pixel.
        objective, descent: see ``LatentModel``.
    """

    def __init__(self, spec: ImageSpec, *, encoder: nn.Module, posterior: Posterior, decoder: nn.Module,
                 objective: Objective, descent: Descent) -> None:  # fmt: skip
        super().__init__(spec, objective=objective, descent=descent)
        self.encoder, self.posterior, self.decoder = encoder, posterior, decoder
        self.pixel_bias = nn.Parameter(torch.zeros(spec.channels * num_outputs(spec), spec.height, spec.width))

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The number of latents."""
        return (self.posterior.size,)

    def start_from(self, images: Tensor) -> None:
        """Sets the pixels' biases to their frequencies, then all scales and biases of the networks by some images."""
        counts = level_counts(images, self.spec.levels).movedim(0, -1)  # (C, H, W, levels)
        outputs = smoothed_outputs(counts).movedim(-1, 1)  # (C, O, H, W)
        self.pixel_bias.data.copy_(outputs.reshape(self.pixel_bias.shape))
        some = self.starting_images(images)
        standardise(self, lambda: SingleLayerVAE.terms(self, some, SingleLayerVAE.features(self, some), 1))

    @staticmethod
    def starting_images(images: Tensor) -> Tensor:
        """Returns some 500 of (M, C, H, W), evenly spread: enough for the means and deviations to start from."""
        return images[:: max(1, len(images) // _STARTING_IMAGES)]

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to what the posterior needs of each."""
        return self.posterior.of(self.encode_features(images))

    def encode_features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to what the encoder says of each, (N, F)."""
        return cast("Tensor", self.encoder(scale(images, self.spec.levels, self.dtype)))

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of (S, N) weights."""
        z, log_q = self._draw(features, num_samples)
        return self._terms_at(images, z, standard_normal_log_prob(z) - log_q)

    def _draw(self, features: Sequence[Tensor], num_samples: int) -> tuple[Tensor, Tensor]:
        noise = standard_noise((num_samples, len(features[0]), self.posterior.size), features[0])
        return self.posterior.draw(features, noise)

    def _terms_at(self, images: Tensor, z: Tensor, ratio: Tensor) -> Terms:
        repeated = images.repeat(len(z), 1, 1, 1)
        return Terms(self.log_likelihood(repeated, z.flatten(0, 1)).view(ratio.shape), (ratio,))

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D), and log q of each, (N,) nats."""
        z, log_q = self._draw(self.features(images), 1)
        return z[0], log_q[0]

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats."""
        return standard_normal_log_prob(latents)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats."""
        return self._log_likelihood(images, latents)

    def _log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return entry_log_probs(self._outputs(latents), images, self.spec).flatten(1).sum(1)

    def _outputs(self, latents: Tensor) -> Tensor:
        return cast("Tensor", self.decoder(latents) + self.pixel_bias)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): posterior means."""
        return self.posterior.mean(self.features(images))

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C, H, W) float: E[x | z], in levels."""
        probabilities = level_logits(by_entry(self._outputs(latents), self.spec), dim=2).softmax(2)
        levels = torch.arange(self.spec.levels, dtype=latents.dtype, device=latents.device)
        return torch.einsum("nclhw,l->nchw", probabilities, levels)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8."""
        latents = standard_noise((num_samples, self.posterior.size), self.pixel_bias)
        parts = torch.split(latents, self.block_rows)
        return torch.cat([draw_levels(by_entry(self._outputs(part), self.spec), dim=2) for part in parts])
