"""BiGAN: the bidirectional GAN, with a deterministic encoder (Donahue, Krähenbühl & Darrell 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from harness import ImageSpec
from harness_ali.joint_game import JointGame
from harness_ali.networks import Network
from harness_layers.schedules import Schedule


class BiGAN(JointGame):
    r"""A generator G and an encoder E against a discriminator of the pairs (x, E(x)) and (G(z), z).

    .. math:: \min_D E_{data}[-\log D(x, E(x))] + E_z[-\log(1 - D(G(z), z))], \quad z \sim U(-1, 1)^D

    Encoder and generator minimise the same with both labels flipped. Where both are optimal, they are one another's
    inverses. Reference: Donahue, Krähenbühl & Darrell 2017, arXiv 1605.09782.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        latents: independent uniform numbers that an image is made from.
        network, width, learning_rate, betas, schedule, batch_size, averaging, dropout, penalty: see ``JointGame``.
            The paper's networks for MNIST are an ``mlp`` with a width of 1024.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    default_budget: ClassVar[str] = "50 epochs"
    noisy: ClassVar[bool] = False

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", latents: int = 50, width: int = 64,
                 learning_rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999), schedule: Schedule = "linear",
                 batch_size: int = 128, averaging: float = 0.99, dropout: float = 0.0,
                 penalty: float = 1.0) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, latents=(latents,), width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, averaging=averaging, dropout=dropout,
            penalty=penalty,
        )  # fmt: skip

    def draw_top(self, num_samples: int) -> Tensor:
        """Draws (num_samples, latents) uniformly from -1 to 1."""
        return torch.rand(num_samples, self.latents[0], dtype=self.dtype, device=self.device) * 2 - 1
