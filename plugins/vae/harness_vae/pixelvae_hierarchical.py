"""PixelVAE with two levels of latents (Gulrajani et al. 2017, arXiv 1611.05013)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from harness_vae.pixel_decoder import (
    ConditionedRows,
    ConditionedStack,
    Downsampler,
    PixelDecoder,
    Upsampler,
    blocks,
    halved,
    in_parts,
)

Level = Literal["top", "bottom", "pixels"]


@dataclass(frozen=True)
class LevelNoise:
    """All the randomness of N images: z2 itself (N, D), standard normal noise of z1 (N, M, h, w), and the pixels'."""

    top: Tensor
    bottom: Tensor
    pixels: Noise


class HierarchicalPixelVAE(AmortisedModel):
    r"""A vector of latents z2 over a map of latents z1, whose prior is a Gaussian PixelCNN, over a PixelCNN of pixels.

    .. math:: p(x, z) = N(z_2; 0, I) \prod_j N(z_{1j}; \mu_j, \sigma_j^2)(z_{1,<j}, z_2) \prod_k p(x_k | x_{<k}, z_1)

    and q(z | x) = q(z1 | x) q(z2 | x), both diagonal. z1 has a quarter of the image's height and width; its entries are
    drawn in raster order, the maps of a place one after another. Reference: Gulrajani et al. 2017, arXiv 1611.05013.

    Args:
        spec: any sample space.
        latents: D, the number of latents of the top level.
        maps: M, the number of maps of the bottom level.
        channels: maps of each stack of the decoder; at least the number of channels of the image.
        layers: gated layers after the first, whose kernel is 7.
        kernel: odd, of the layers after the first.
        head: maps of the 1x1 layer before the outputs.
        prior_channels, prior_layers: the same of the prior of z1, which has kernels of 3; at least ``maps`` channels.
        width: see ``PixelVAE``.
        num_samples, warm_up, free_bits, average_decay: see ``Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    block_rows: ClassVar[int] = 1024  # which the decoder takes in parts

    def __init__(self, spec: ImageSpec, *, latents: int = 32, maps: int = 4, channels: int = 16, layers: int = 4,
                 kernel: int = 3, head: int = 32, prior_channels: int = 32, prior_layers: int = 2, width: int = 16,
                 num_samples: int = 1, warm_up: float = 0.3, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 2e-3, batch_size: int = 32,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
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
        check_positive(latents=latents, maps=maps, channels=channels, head=head, width=width)
        check_positive(prior_channels=prior_channels)
        self.latents, self.grid = latents, ImageSpec(maps, *halved(spec, 2), levels=2)  # of its levels, no use is made
        places = self.grid.height * self.grid.width
        self.encoder = Downsampler(spec.channels, (width, 2 * width))
        self.bottom = nn.Conv2d(2 * width, 2 * maps, 1)
        self.top = nn.Linear(2 * width * places, 2 * latents)
        self.spread = nn.Sequential(
            nn.Linear(latents, width * places), nn.Unflatten(1, (width, *halved(spec, 2))), nn.ELU()
        )
        self.prior = ConditionedStack(
            maps, 2, condition=width, features=prior_channels, layers=prior_layers, kernel=3, head=prior_channels
        )
        self.upsampler = Upsampler(maps, spec, (2 * width, 2 * width, width), dense=False)
        self.decoder = PixelDecoder(spec, condition=width, features=channels, layers=layers, kernel=kernel, head=head)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def sampling_depth(self) -> int:
        """An evaluation for each entry of the image and of z1, and one for what each of these is told."""
        return self.spec.num_dimensions + self.grid.num_dimensions + 2

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The vector z2, then the map z1."""
        return self.latents, self.grid.num_dimensions

    def start_from(self, images: Tensor) -> None:
        """Sets the decoder's biases to the frequencies of levels."""
        self.decoder.start_from(images)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to the posteriors' parameters, (N, 2D) of z2 and (N, 2 M h w) of z1."""
        maps = self.encoder(scale(images, self.spec.levels, self.dtype))
        return self.top(maps.flatten(1)), self.bottom(maps).flatten(1)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of ``num_samples`` weights of each."""
        posteriors = [DiagonalGaussian(*each.chunk(2, dim=1)) for each in features]
        noise = [standard_noise((num_samples, *each.mean.shape), each.mean) for each in posteriors]
        log_q = [each.log_prob_at(of).flatten() for each, of in zip(posteriors, noise, strict=True)]
        top, bottom = (each.at(of).flatten(0, 1) for each, of in zip(posteriors, noise, strict=True))
        log_likelihood = self._log_likelihood(images.repeat(num_samples, 1, 1, 1), bottom)
        ratios = standard_normal_log_prob(top) - log_q[0], self._log_bottom(bottom, top) - log_q[1]
        return Terms(log_likelihood.view(num_samples, -1), [ratio.view(num_samples, -1) for ratio in ratios])

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, D + M h w) of z2 and z1, and log q of each, (N,) nats."""
        posteriors = [DiagonalGaussian(*each.chunk(2, dim=1)) for each in self.features(images)]
        noise = [torch.randn_like(each.mean) for each in posteriors]
        pairs = [*zip(posteriors, noise, strict=True)]
        log_q = torch.stack([each.log_prob_at(of) for each, of in pairs]).sum(0)
        return torch.cat([each.at(of) for each, of in pairs], dim=1), log_q

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D + M h w): posterior means of z2, then of z1."""
        return torch.cat([each.chunk(2, dim=1)[0] for each in self.features(images)], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D + M h w) to (N,) nats: log p(z2) + log p(z1 | z2)."""
        top, bottom = torch.split(latents, list(self.latent_sizes), dim=1)
        return standard_normal_log_prob(top) + self._log_bottom(bottom, top)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D + M h w) to (N,) nats: log p(x | z1)."""
        return self._log_likelihood(images, latents[:, self.latents :])

    def _log_bottom(self, bottom: Tensor, top: Tensor) -> Tensor:
        maps = bottom.view(-1, *self.grid.shape)  # the draw itself, as teacher forcing has it, and not its mean
        outputs = self.prior(maps, self.spread(top)).unflatten(1, (self.grid.channels, 2))  # (N, M, 2, h, w)
        return DiagonalGaussian(*(each.flatten(1) for each in outputs.unbind(2))).log_prob(bottom)

    def _log_likelihood(self, images: Tensor, bottom: Tensor) -> Tensor:
        maps = bottom.view(-1, *self.grid.shape)
        return in_parts(lambda part, z1: self.decoder.log_prob(part, self.upsampler(z1)), images, maps)

    def draw_noise(self, num_samples: int) -> LevelNoise:
        """Draws the noise of ``num_samples`` images on the model's device."""
        own = self._anchor
        return LevelNoise(
            standard_noise((num_samples, self.latents), own),
            standard_noise((num_samples, *self.grid.shape), own),
            Noise.draw(num_samples, self.spec, device=self.device, dtype=self.dtype),
        )

    @torch.no_grad()
    def draw(self, noise: LevelNoise) -> Tensor:
        """Maps the noise of N images to (N, C, H, W) uint8: z1 is drawn entry by entry, and then the pixels are."""
        rows = ConditionedRows(self.prior, self.grid, self.spread(noise.top))
        bottom = torch.empty_like(noise.bottom)
        for row in range(self.grid.height):
            rows.begin_row()
            for column in range(self.grid.width):
                for index in range(self.grid.channels):
                    mean, log_variance = rows.outputs(column, index).unbind(1)
                    value = mean + (0.5 * log_variance).exp() * noise.bottom[:, index, row, column]
                    bottom[:, index, row, column] = value
                    rows.put(column, index, value[:, None])
        return self.decoder.draw(self.upsampler(bottom), noise.pixels)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: z2, z1 given z2, and then the pixels."""
        return torch.cat([self.draw(self.draw_noise(size)) for size in blocks(num_samples)])

    def vary(self, level: Level, num_samples: int) -> Tensor:
        """Draws (num_samples, C, H, W) uint8 that differ in the noise of one level alone: what is decided there.

        Args:
            level: ``top`` for z2, ``bottom`` for the noise of z1, ``pixels`` for that of the pixels.
            num_samples: how many.
        """
        check_choice(get_args(Level), level=level)
        one, many = self.draw_noise(1), self.draw_noise(num_samples)
        gumbel = many.pixels.gumbel if level == "pixels" else one.pixels.gumbel.expand_as(many.pixels.gumbel)
        return self.draw(
            LevelNoise(
                many.top if level == "top" else one.top.expand_as(many.top),
                many.bottom if level == "bottom" else one.bottom.expand_as(many.bottom),
                Noise(gumbel, many.pixels.ordering),
            )
        )
