"""GAN: a generator against a discriminator, by the non-saturating loss (Goodfellow et al. 2014)."""

from __future__ import annotations

from typing import ClassVar

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Schedule
from harness_gan.networks import Network
from harness_gan.non_saturating import discriminator_loss, generator_loss
from harness_gan.objective import Objective


class GAN(Adversarial):
    r"""A generator G whose images a discriminator D cannot tell from the data.

    .. math:: \min_D E_{data}[-\log D(x)] + E_z[-\log(1 - D(G(z)))], \quad \min_G E_z[-\log D(G(z))]

    Reference: Goodfellow et al. 2014, arXiv 1406.2661; with the networks and settings of Radford, Metz & Chintala 2016,
    arXiv 1511.06434.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        network, latents, width, learning_rate, betas, schedule, batch_size, critic_steps, averaging, dropout: see
            ``Adversarial``. Dropout keeps a fully connected discriminator from winning, as in the paper.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999), schedule: Schedule = "linear",
                 batch_size: int = 64, critic_steps: int = 1, averaging: float = 0.99,
                 dropout: float = 0.3) -> None:  # fmt: skip
        super().__init__(
            spec, Objective(discriminator_loss, generator_loss), network=network, latents=latents, width=width,
            learning_rate=learning_rate, betas=betas, schedule=schedule, batch_size=batch_size,
            critic_steps=critic_steps, averaging=averaging, dropout=dropout,
        )  # fmt: skip
