"""CGAN: both players are told the class (Mirza & Osindero 2014, arXiv 1411.1784)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness_gan.gan import GAN
from harness_gan.networks import Network, Normalization, Scores, build_discriminator
from harness_zoo.conditional import Conditional, num_classes


class CGAN(Conditional, GAN):
    r"""The game of pairs: an image with its class y, and an image that was made for this class.

    .. math:: \min_D E_{data}[-\log D(x, y)] + E_{z, y}[-\log(1 - D(G(z, y), y))], \quad
        \min_G E_{z, y}[-\log D(G(z, y), y)]

    The discriminator sees the class as K further maps of the image, zeros but for the class's map of ones. Reference:
    Mirza & Osindero 2014, arXiv 1411.1784, with maxout networks and stochastic gradient descent on MNIST.

    Its arguments are those of ``GAN``: it takes any objective and penalty.
    """

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a discriminator of images with a map for each class."""
        pairs = replace(self.spec, channels=self.spec.channels + num_classes(self.spec))
        return build_discriminator(network, pairs, width=width, normalization=normalization, dropout=dropout)

    def judge(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] and their labels (N,) to (N,)."""
        maps = self.one_hot(labels)[:, :, None, None].expand(-1, -1, *images.shape[2:])  # (N, K, H, W)
        return super().judge(torch.cat([images, maps], 1))
