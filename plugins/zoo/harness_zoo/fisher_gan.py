"""Fisher GAN: a critic whose second moment is held at one by a multiplier (Mroueh & Sercu 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization
from harness_layers.checks import check_positive


def second_moment(real: Tensor, fake: Tensor) -> Tensor:
    """Maps outputs f, (N,) on real and (M,) on generated images, to E[f(x)^2] / 2 + E[f(G(z))^2] / 2, ()."""
    return real.square().mean() / 2 + fake.square().mean() / 2


def augmented_lagrangian(real: Tensor, fake: Tensor, multiplier: Tensor, rho: float) -> Tensor:
    """Maps outputs f, and the multiplier (), to what the critic maximises, ()."""
    excess = second_moment(real, fake) - 1
    return real.mean() - fake.mean() - multiplier * excess - rho / 2 * excess.square()


class FisherGAN(Adversarial):
    r"""The critic's difference of means, in units of its own standard deviation.

    .. math:: \max_f E[f(x)] - E[f(G(z))] - \lambda (\Omega - 1) - \tfrac{\rho}{2} (\Omega - 1)^2, \quad
              \min_G -E[f(G(z))], \quad \Omega = \tfrac12 E[f(x)^2] + \tfrac12 E[f(G(z))^2]

    After each step of the critic the multiplier rises by rho times (Omega - 1), so that Omega comes to 1: no weights
    are clipped, no slopes penalised. Under that constraint the best difference is the square root of
    sum_x 2 (p - q)^2 / (p + q), of the densities p of the data and q of the generator. Reference: Mroueh & Sercu 2017,
    arXiv 1705.09675, with the signs of the authors' code.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        rho: 1e-6 in the paper, whose trainings are a hundred times as long.
        network, normalization, latents, width, learning_rate, batch_size, critic_steps: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    multiplier: Tensor

    def __init__(self, spec: ImageSpec, *, rho: float = 1e-2, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64, critic_steps: int = 2) -> None:  # fmt: skip
        check_positive(rho=rho)
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, critic_steps=critic_steps,
        )  # fmt: skip
        self.rho = rho
        self.register_buffer("multiplier", torch.zeros(()))

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns less the augmented Lagrangian."""
        return -augmented_lagrangian(self.judge(shown.real), self.judge(shown.fake), self.multiplier, self.rho)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns less the mean output on generated images."""
        return -self.judge(shown.fake).mean()

    def after_discriminator(self, shown: Round) -> None:
        """Moves the multiplier."""
        self.multiplier += self.rho * (second_moment(self.judge(shown.real), self.judge(shown.fake)) - 1)
