"""GAN: a generator against a discriminator, by the non-saturating loss (Goodfellow et al. 2014)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from harness import ImageSpec
from harness_gan.adversarial import Adversarial
from harness_gan.networks import Network
from harness_layers.schedules import Schedule


class GAN(Adversarial):
    r"""A generator G whose images a discriminator D cannot tell from the data.

    .. math:: \min_D E_{data}[-\log D(x)] + E_z[-\log(1 - D(G(z)))], \quad \min_G E_z[-\log D(G(z))]

    With s = log D - log(1 - D) the discriminator's output, -log D = softplus(-s) and -log(1 - D) = softplus(s).
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
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, critic_steps=critic_steps, averaging=averaging, dropout=dropout,
        )  # fmt: skip

    def discriminator_objective(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""Maps logits, (N,) on real and (M,) on generated images, to E[-log D(x)] + E[-log(1 - D(G(z)))], in nats.

        At the optimal discriminator p / (p + q) it is 2 log 2 - 2 JSD(p, q). Here m = (p + q) / 2, and
        JSD(p, q) = KL(p, m) / 2 + KL(q, m) / 2 is at most log 2.
        """
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_objective(self, fake: Tensor) -> Tensor:
        r"""Maps logits (M,) on generated images to E[-log D(G(z))], in nats.

        Its gradient in a logit s is -sigmoid(-s) / M: it does not vanish where the discriminator is sure that an image
        is generated, unlike that of the minimax game's log(1 - D(G(z))).
        """
        return softplus(-fake).mean()
