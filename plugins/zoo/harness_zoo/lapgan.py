"""LAPGAN: a GAN for each level of a Laplacian pyramid (Denton et al. 2015, arXiv 1506.05751)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, softplus

from harness import ImageSpec, Split, Unsupported
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, build_discriminator, build_generator
from harness_gan.objectives import non_saturating
from harness_layers.checks import check_positive
from harness_layers.pixels import scale


@dataclass(frozen=True)
class Pyramid(Round):
    """A round of all levels, the coarsest first.

    Attributes:
        inputs: what is judged: (N, C, h, w) images at the coarsest level, (N, 2 C, h, w) residuals with the image that
            they are added to at the others; in pairs, of the data and generated.
    """

    inputs: tuple[tuple[Tensor, Tensor], ...] = ()

    def detached(self) -> Self:
        """Returns the round without the generators' graphs."""
        inputs = tuple((real, fake.detach()) for real, fake in self.inputs)
        return replace(self, fake=self.fake.detach(), inputs=inputs)


class Generators(nn.ModuleList):
    """Maps latents (N, L * D) to images (N, C, H, W): an image, twice its size with a residual added, and so on."""

    def forward(self, latents: Tensor) -> Tensor:
        """See above; the latents of the coarsest of the L levels come first."""
        parts = latents.chunk(len(self), dim=1)
        images: Tensor = self[0](parts[0])
        for level in range(1, len(self)):
            below = double(images)
            images = below + self.residual(level, parts[level], below)
        return images

    def residual(self, level: int, latents: Tensor, below: Tensor) -> Tensor:
        """Maps latents (N, D) and blurred images (N, C, h, w) to residuals (N, C, h, w) in [-2, 2]."""
        made: Tensor = self[level](torch.cat([latents, below.flatten(1)], dim=1))
        return 2 * made


def halve(images: Tensor) -> Tensor:
    """Maps (N, C, H, W) to the means of 2 x 2 pixels, (N, C, H / 2, W / 2)."""
    return avg_pool2d(images, 2)


def double(images: Tensor) -> Tensor:
    """Maps (N, C, H, W) to (N, C, 2 H, 2 W), each pixel four times."""
    return interpolate(images, scale_factor=2, mode="nearest")


class LAPGAN(Adversarial):
    r"""A coarse image, and at each finer level a residual given the coarser image, each by a GAN of its own.

    .. math:: h_k = x_k - u(x_{k+1}), \quad x_{k+1} = d(x_k), \quad \tilde h_k = G_k(z_k, u(x_{k+1}))

    d halves an image and u doubles it. D_k sees residuals together with u(x_{k+1}), of the data or with a generated
    residual; the coarsest GAN has no condition. In training the condition is real, so the levels are trained
    independently: at once here, one after the other in the paper. A sample goes through all levels. Reference: Denton,
    Chintala, Szlam & Fergus 2015, arXiv 1506.05751, where blurring is by a Gaussian and networks are convolutional.

    Args:
        spec: sides that can be halved ``levels - 1`` times.
        levels: GANs; 3 in the paper for 28x28 pixels, of 7, 14 and 28.
        network: of levels of at least 8 pixels a side, ``mlp`` of others, see ``harness_gan.networks``.
        latents: of each level.
        width, learning_rate, batch_size: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that cannot be halved so often, or that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, levels: int = 2, network: Network = "dcgan", latents: int = 32,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_positive(levels=levels)
        if spec.height % 2 ** (levels - 1) or spec.width % 2 ** (levels - 1):
            raise Unsupported(f"{spec.height}x{spec.width} pixels cannot be halved {levels - 1} times: take fewer")
        self.levels = levels
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip

    def build_generator(self, network: Network, *, width: int) -> nn.Module:
        """Returns a generator for each level."""
        return Generators(
            build_generator(
                _of_size(network, spec), spec, latents=self.latents + bool(level) * spec.num_dimensions, width=width
            )
            for level, spec in enumerate(self.specs())
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> nn.Module:
        """Returns a discriminator for each level."""
        return nn.ModuleList(
            build_discriminator(
                _of_size(network, spec), replace(spec, channels=spec.channels * (1 + bool(level))), width=width,
                normalization=normalization, dropout=dropout,
            )
            for level, spec in enumerate(self.specs())
        )  # fmt: skip

    def specs(self) -> Iterator[ImageSpec]:
        """Yields the images of each level, the coarsest first."""
        for halvings in reversed(range(self.levels)):
            yield replace(self.spec, height=self.spec.height >> halvings, width=self.spec.width >> halvings)

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws (num_samples, levels * latents) from the standard Gaussian."""
        return torch.randn(num_samples, self.levels * self.latents, device=self.device, dtype=self.dtype)

    def show(self, batch: Split) -> Pyramid:
        """Makes a round: each level generates given real images of the level below."""
        real = scale(batch.images, self.spec.levels, self.dtype)
        latents = self.draw_latents(len(real))
        images, parts, generator = [real], latents.chunk(self.levels, dim=1), self.generator
        assert isinstance(generator, Generators)
        for _ in range(1, self.levels):
            images.insert(0, halve(images[0]))
        inputs = [(images[0], generator[0](parts[0]))]
        fake = inputs[0][1]
        for level in range(1, self.levels):
            below = double(images[level - 1])
            made = generator.residual(level, parts[level], below)
            fake = below + made
            inputs.append((torch.cat([images[level] - below, below], 1), torch.cat([made, below], 1)))
        return Pyramid(real, fake, latents, batch.labels, tuple(inputs))

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the sum over levels of the GAN's."""
        return torch.stack([non_saturating(real, fake) for real, fake in self._outputs(shown)]).sum()

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the sum over levels of the GAN's, non-saturating."""
        return torch.stack([softplus(-fake).mean() for _, fake in self._outputs(shown)]).sum()

    def _outputs(self, shown: Round) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields outputs (N,) on the data and on what was generated, level by level."""
        assert isinstance(shown, Pyramid)
        assert isinstance(self.discriminator, nn.ModuleList)
        for judge, (real, fake) in zip(self.discriminator, shown.inputs, strict=True):
            yield judge(real).to(self.dtype), judge(fake).to(self.dtype)


def _of_size(network: Network, spec: ImageSpec) -> Network:
    return network if min(spec.height, spec.width) >= 8 else "mlp"
