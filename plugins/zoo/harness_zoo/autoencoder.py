"""A discriminator that is an autoencoder: what it reconstructs badly has a high energy (Zhao et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from harness import ImageSpec
from harness_gan.adversarial import Adversarial
from harness_gan.networks import Network, build_generator
from harness_gan.scores import Normalization, unit_gain
from harness_zoo.encoder import build_encoder


class Autoencoder(nn.Module):
    """Maps images to energies: how far an image is from its reconstruction.

    Args:
        encoder: maps images (N, C, H, W) in [-1, 1] to codes (N, K).
        decoder: maps codes (N, K) to images (N, C, H, W).
        power: of the absolute error whose mean over an image's entries is its energy: 1 or 2.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, power: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.power = encoder, decoder, power

    def codes(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, K)."""
        codes: Tensor = self.encoder(images)
        return codes

    def energies(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N,): the mean over an image's entries of |x - A(x)|^power."""
        errors: Tensor = images - self.decoder(self.codes(images))  # (N, C, H, W)
        return errors.abs().pow(self.power).flatten(1).mean(1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to energies (N,)."""
        return self.energies(images)


class EnergyBased(Adversarial):
    """A game whose discriminator is an autoencoder: ``judge`` maps images (N, C, H, W) to energies (N,).

    It has as many codes as the generator has latents, and no batch norm: an energy is one image's own. Its arguments
    are those of ``Adversarial``, of which ``normalization`` and ``dropout`` are unused.

    Class attributes:
        power: of the absolute error whose mean is an energy.
    """

    power: ClassVar[int] = 2
    discriminator: Autoencoder

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Autoencoder:
        """Returns the autoencoder: the usual discriminator up to its last layer, and the usual generator."""
        return Autoencoder(
            build_encoder(network, self.spec, outputs=self.latents, width=width),
            build_decoder(network, self.spec, codes=self.latents, width=width),
            power=self.power,
        )


def build_decoder(network: Network, spec: ImageSpec, *, codes: int, width: int) -> nn.Module:
    """Returns a network that maps codes (N, codes) to images (N, C, H, W) in [-1, 1]: a generator, without batch norm.

    Raises:
        ValueError: another network.
        Unsupported: images that the network cannot double to.
    """
    decoder = build_generator(network, spec, latents=codes, width=width)
    for module in list(decoder.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return unit_gain(decoder)
