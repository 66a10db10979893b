"""A GAN with minibatch discrimination: the discriminator sees how close a batch's images are (Salimans et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_gan.gan import GAN
from harness_gan.networks import Network, Normalization, Scores, build_discriminator
from harness_layers.checks import check_positive


def closeness(projections: Tensor) -> Tensor:
    """Maps M (N, B, C) to (N, B): sum over j != i of exp(-||M_ib - M_jb||_1)."""
    kernels = projections.transpose(0, 1)  # (B, N, C)
    distances = torch.cdist(kernels, kernels, p=1.0)  # (B, N, N)
    return torch.exp(-distances).sum(2).T - 1  # an image's closeness to itself is 1


class MinibatchFeatures(nn.Module):
    """Maps features (N, F) to (N, F + B): beside an image's own stands its closeness to the others of the batch.

    Args:
        num_features: F.
        kernels: B, how many ways there are to compare two images.
        kernel_size: C, the dimensions that each way compares.
    """

    def __init__(self, num_features: int, *, kernels: int, kernel_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(num_features, kernels * kernel_size, bias=False)
        self.kernels = kernels

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, F + B)."""
        projections = self.project(features).unflatten(1, (self.kernels, -1))
        return torch.cat([features, closeness(projections)], dim=1)


class MinibatchGAN(GAN):
    r"""A GAN whose discriminator is told, for each image, how close the others of its batch are.

    .. math:: o(x_i)_b = \sum_{j \neq i} \exp(-||M_{ib} - M_{jb}||_1), \quad M_i = T \phi(x_i)

    The last layer takes phi(x_i) and o(x_i). A generator that collapses gives itself away: its images are too close.
    A batch is of one kind, real or generated; a mixed one would tell which images are which kind's neighbours.
    Reference: Salimans et al. 2016, arXiv 1606.03498, section 3.2; 50 to 100 kernels of 5 dimensions there.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        kernels, kernel_size: the number of b, and of dimensions of M_ib.
        network, normalization, latents, width, learning_rate, batch_size: see ``Adversarial``; spectral norm leaves
            the last two layers alone.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, kernels: int = 50, kernel_size: int = 5, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_positive(kernels=kernels, kernel_size=kernel_size)
        self.kernels, self.kernel_size = kernels, kernel_size
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, dropout=0.0,
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a discriminator with closeness before its last layer."""
        scores = build_discriminator(network, self.spec, width=width, normalization=normalization, dropout=dropout)
        features = MinibatchFeatures(scores.num_features, kernels=self.kernels, kernel_size=self.kernel_size)
        last = nn.Linear(scores.num_features + self.kernels, 1)
        nn.init.normal_(last.weight, 0.0, 0.02)
        nn.init.zeros_(last.bias)
        return Scores(*list(scores)[:-1], features, last)
