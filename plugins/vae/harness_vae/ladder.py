"""Layers of latents whose posterior and prior run down the same networks: what ladders share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harness_layers.posteriors import DiagonalGaussian, standard_noise
from harness_vae.latent_model import LatentModel, Terms

Choose = Callable[[DiagonalGaussian, DiagonalGaussian | None], Tensor]


class Draw(NamedTuple):
    """Latents of all layers, the top first: values (..., size), nats (...) under q and p, and what the pixels see."""

    values: list[Tensor]
    log_q: list[Tensor]
    log_p: list[Tensor]
    seen: Tensor


class Pixels(Protocol):
    """Pixels that are independent given what they see; what is computed once for an image is its projection."""

    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to what scoring needs of each image, (N, ...)."""
        ...

    def log_likelihood(self, projection: tuple[Tensor, Tensor], seen: Tensor) -> Tensor:
        """Maps ``project(images)`` and (..., N, ...) to (..., N) nats."""
        ...

    def draw(self, seen: Tensor) -> Tensor:
        """Maps (N, ...) to (N, C, H, W) uint8."""
        ...

    def expected(self, seen: Tensor) -> Tensor:
        """Maps (N, ...) to (N, C, H, W) float, in levels."""
        ...


class LadderModel(LatentModel):
    """A model that a subclass describes by its way down, of which everything else is made.

    ``latent_sizes``, and the latents (N, D) of all methods, have the top layer first.
    """

    pixels: Pixels

    @abstractmethod
    def bottom_up(self, images: Tensor) -> list[DiagonalGaussian]:
        """Maps (N, C, H, W) uint8 to what they say of each layer's latents, parameters (N, size), the top first."""

    @abstractmethod
    def top_down(self, choose: Choose, evidence: Sequence[DiagonalGaussian] | None = None) -> Tensor:
        """Runs the generative networks, and returns what the pixels see, (..., N, ...).

        Args:
            choose: maps the prior and the posterior of a layer to its latents (..., N, size); called for the top first.
            evidence: of N images, by ``bottom_up``; without it there are no posteriors.
        """

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to their evidence and their pixels' projection."""
        evidence = [value for found in self.bottom_up(images) for value in (found.mean, found.log_variance)]
        return (*evidence, *self.pixels.project(images))

    def draw_at(self, features: Sequence[Tensor], noise: Sequence[Tensor]) -> Draw:
        """Maps ``features`` of N images, and noise (..., N, size) of each layer, to latents of q."""
        evidence = [DiagonalGaussian(*pair) for pair in zip(features[:-2:2], features[1:-2:2], strict=True)]
        values, log_q, log_p, left = list[Tensor](), list[Tensor](), list[Tensor](), iter(noise)

        def choose(prior: DiagonalGaussian, posterior: DiagonalGaussian | None) -> Tensor:
            assert posterior is not None
            own = next(left)
            values.append(posterior.at(own))
            log_q.append(posterior.log_prob_at(own))
            log_p.append(prior.log_prob(values[-1]))
            return values[-1]

        return Draw(values, log_q, log_p, self.top_down(choose, evidence))

    def noise(self, *shape: int) -> list[Tensor]:
        """Draws noise (*shape, size) for each layer."""
        return [standard_noise((*shape, size), self._anchor) for size in self.latent_sizes]

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of ``num_samples`` weights of each."""
        drawn = self.draw_at(features, self.noise(num_samples, len(images)))
        ratios = [p - q for p, q in zip(drawn.log_p, drawn.log_q, strict=True)]
        return Terms(self.pixels.log_likelihood((features[-2], features[-1]), drawn.seen), ratios)

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D) of q, and log q of each, (N,) nats."""
        drawn = self.draw_at(self.features(images), self.noise(len(images)))
        return torch.cat(drawn.values, 1), torch.stack(drawn.log_q).sum(0)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): means, of every layer given the mean of those above."""
        zeros = [torch.zeros_like(noise) for noise in self.noise(len(images))]
        return torch.cat(self.draw_at(self.features(images), zeros).values, 1)

    def given(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to log p of them, (N,) nats, and to what the pixels see."""
        parts, log_p = iter(torch.split(latents, list(self.latent_sizes), 1)), list[Tensor]()

        def choose(prior: DiagonalGaussian, posterior: DiagonalGaussian | None) -> Tensor:
            values = next(parts)
            log_p.append(prior.log_prob(values))
            return values

        seen = self.top_down(choose)
        return torch.stack(log_p).sum(0), seen

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats: the sum over layers of log p(z_l | z above)."""
        return self.given(latents)[0]

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats."""
        return self.pixels.log_likelihood(self.pixels.project(images), self.given(latents)[1])

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C, H, W) float: E[x | z], in levels."""
        return self.pixels.expected(self.given(latents)[1])

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, top down, then a draw of the pixels."""
        return self.draw_joint(num_samples)[0]

    @torch.no_grad()
    def draw_joint(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Returns the images of ``sample`` and the latents (num_samples, D) that they were drawn from."""
        blocks = [self._draw(len(part)) for part in torch.split(torch.empty(num_samples), self.block_rows)]
        images, latents = zip(*blocks, strict=True)
        return torch.cat(images), torch.cat(latents)

    def _draw(self, num_samples: int) -> tuple[Tensor, Tensor]:
        drawn = list[Tensor]()

        def choose(prior: DiagonalGaussian, posterior: DiagonalGaussian | None) -> Tensor:
            drawn.append(prior.at(standard_noise((num_samples, prior.mean.shape[-1]), prior.mean)))
            return drawn[-1]

        return self.pixels.draw(self.top_down(choose)), torch.cat(drawn, dim=1)
