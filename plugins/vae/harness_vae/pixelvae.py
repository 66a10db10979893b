"""PixelVAE (Gulrajani, Kumar, Ahmed, Taiga, Visin, Vazquez & Courville 2017, arXiv 1611.05013), of one level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from harness import ImageSpec, Noise
from harness_layers.checks import check_choice, check_positive
from harness_layers.descent import Descent
from harness_layers.pixels import scale
from harness_layers.posteriors import DiagonalGaussian, standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.latent_model import AmortisedModel, Objective, Terms
from harness_vae.pixel_decoder import Downsampler, PixelDecoder, Upsampler, blocks, halved, in_parts

Conditioning = Literal["biases", "map"]


class PixelVAE(AmortisedModel):
    r"""Gaussian latents under a Gated PixelCNN: what is global in z, what is local in the pixels before.

    .. math:: p(x, z) = N(z; 0, I) \prod_k p(x_k | x_{<k}, z), \quad q(z | x) = N(z; \mu(x), diag \sigma^2(x))

    A decoder that sees the whole image needs no latents: what they carry is said by ``layer_divergences``. There is no
    ``decode``, as E[x | z] has no closed form. Reference: Gulrajani et al. 2017, arXiv 1611.05013.

    Args:
        spec: any sample space.
        latents: D, the number of latents.
        conditioning: how the decoder is told of z: ``map`` by features of the image's size, which transposed
            convolutions make of z, in every layer; ``biases`` by biases that are linear in z, the same at every pixel.
        channels: maps of each stack of the decoder; at least the number of channels of the image.
        layers: gated layers after the first, whose kernel is 7.
        kernel: odd, of the layers after the first.
        head: maps of the 1x1 layer before the outputs.
        width: maps of the encoder at half the image's size, and of the features of the image's size; twice as many at
            a quarter.
        num_samples, warm_up, free_bits, average_decay: see ``Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    block_rows: ClassVar[int] = 1024  # which the decoder takes in parts

    def __init__(self, spec: ImageSpec, *, latents: int = 32, conditioning: Conditioning = "map", channels: int = 16,
                 layers: int = 4, kernel: int = 3, head: int = 32, width: int = 16, num_samples: int = 1,
                 warm_up: float = 0.3, free_bits: float = 0.0, average_decay: float | None = None,
                 learning_rate: float = 2e-3, batch_size: int = 32, schedule: Schedule = "cosine",
                 max_gradient_norm: float | None = 50.0, validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec,
            objective=Objective(
                num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay
            ),
            descent=Descent(
                learning_rate=learning_rate, batch_size=batch_size, schedule=schedule, betas=(0.9, 0.99),
                warm_up_steps=200, max_gradient_norm=max_gradient_norm, part_size=16, validate_every=validate_every,
            ),
        )  # fmt: skip
        check_positive(latents=latents, channels=channels, head=head, width=width)
        check_choice(get_args(Conditioning), conditioning=conditioning)
        self.latents = latents
        self.encoder = nn.Sequential(
            Downsampler(spec.channels, (width, 2 * width)), nn.Flatten(),
            nn.Linear(2 * width * math.prod(halved(spec, 2)), 2 * latents),
        )  # fmt: skip
        self.upsampler = Upsampler(latents, spec, (2 * width, 2 * width, width)) if conditioning == "map" else None
        self.decoder = PixelDecoder(
            spec, condition=latents if self.upsampler is None else width, features=channels, layers=layers,
            kernel=kernel, head=head,
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def sampling_depth(self) -> int:
        """An evaluation for each entry, and one for what z says."""
        return self.spec.num_dimensions + 1

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The only layer."""
        return (self.latents,)

    def start_from(self, images: Tensor) -> None:
        """Sets the decoder's biases to the frequencies of levels."""
        self.decoder.start_from(images)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to the posterior's parameters, (N, 2D)."""
        return (self.encoder(scale(images, self.spec.levels, self.dtype)),)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of ``num_samples`` weights of each."""
        posterior = DiagonalGaussian(*features[0].chunk(2, dim=1))
        noise = standard_noise((num_samples, *posterior.mean.shape), posterior.mean)
        z = posterior.at(noise)  # (S, N, D)
        log_likelihood = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), z.flatten(0, 1))
        ratio = standard_normal_log_prob(z) - posterior.log_prob_at(noise)
        return Terms(log_likelihood.view(num_samples, -1), (ratio,))

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D) from q(z | x), and log q of each, (N,) nats."""
        posterior = DiagonalGaussian(*self.features(images)[0].chunk(2, dim=1))
        noise = torch.randn_like(posterior.mean)
        return posterior.at(noise), posterior.log_prob_at(noise)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): posterior means."""
        return self.features(images)[0][:, : self.latents]

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats."""
        return standard_normal_log_prob(latents)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats: the sum over k of log p(x_k | x_<k, z)."""
        return in_parts(lambda part, z: self.decoder.log_prob(part, self._condition(z)), images, latents)

    def _condition(self, latents: Tensor) -> Tensor:
        if self.upsampler is None:
            return latents[..., None, None]
        condition: Tensor = self.upsampler(latents)
        return condition

    @torch.no_grad()
    def draw(self, latents: Tensor, noise: Noise) -> Tensor:
        """Maps latents (N, D) and the pixels' noise of N images to (N, C, H, W) uint8, a draw from p(x | z)."""
        return self.decoder.draw(self._condition(latents), noise)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, then pixels, one after another."""
        return self.draw_joint(num_samples)[0]

    def draw_joint(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Returns the images of ``sample`` and the latents (num_samples, D) that they were drawn from."""
        images, latents = zip(*map(self._draw_block, blocks(num_samples)), strict=True)
        return torch.cat(images), torch.cat(latents)

    def _draw_block(self, num_samples: int) -> tuple[Tensor, Tensor]:
        latents = torch.randn(num_samples, self.latents, dtype=self.dtype, device=self.device)
        noise = Noise.draw(num_samples, self.spec, device=self.device, dtype=self.dtype)
        return self.draw(latents, noise), latents
