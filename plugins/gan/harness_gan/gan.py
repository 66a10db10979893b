"""GAN: a generator against a discriminator (Goodfellow et al. 2014), by any of the objectives and penalties."""

from __future__ import annotations

from torch import Tensor

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.networks import Network
from harness_gan.objectives import OBJECTIVES
from harness_gan.penalties import PENALTIES
from harness_gan.scored import Scored
from harness_gan.scores import Normalization
from harness_layers.checks import check_at_least, check_choice
from harness_layers.schedules import Schedule


class GAN(Scored):
    r"""A generator G whose images a discriminator D cannot tell from the data.

    .. math:: \min_D E_{data}[-\log D(x)] + E_z[-\log(1 - D(G(z)))], \quad \min_G E_z[-\log D(G(z))]

    With s = log D - log(1 - D) the discriminator's output, -log D = softplus(-s) and -log(1 - D) = softplus(s).
    Reference: Goodfellow et al. 2014, arXiv 1406.2661; with the networks and settings of Radford, Metz & Chintala 2016,
    arXiv 1511.06434. Other objectives and penalties take the place of these, each with any network.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        objective: what the players minimise, see ``harness_gan.objectives``.
        penalty: on the discriminator's slopes: ``none``, ``gradient`` (between real and generated images), ``dragan``
            (near real ones) or ``r1`` (at real ones), see ``harness_gan.penalties``. A slope at one image is that
            image's own only without batch norm.
        penalty_weight: what it is multiplied by.
        network, normalization, latents, width, learning_rate, betas, schedule, batch_size, critic_steps, averaging,
            dropout: see ``Adversarial``. Dropout keeps a fully connected discriminator from winning, as in the paper.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, objective: str = "non-saturating", penalty: str = "none",
                 penalty_weight: float = 10.0, network: Network = "dcgan", normalization: Normalization = "batch",
                 latents: int = 64, width: int = 64, learning_rate: float = 1e-3,
                 betas: tuple[float, float] = (0.5, 0.999), schedule: Schedule = "linear", batch_size: int = 64,
                 critic_steps: int = 1, averaging: float = 0.99, dropout: float = 0.3) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, betas=betas, schedule=schedule, batch_size=batch_size,
            critic_steps=critic_steps, averaging=averaging, dropout=dropout,
        )  # fmt: skip
        check_choice(OBJECTIVES, objective=objective)
        check_choice(PENALTIES, penalty=penalty)
        check_at_least(0, penalty_weight=penalty_weight)
        self.objective, self.penalty_name, self.penalty_weight = OBJECTIVES[objective], penalty, penalty_weight

    def penalty(self, shown: Round) -> Tensor:
        """Returns the weighted penalty."""
        if self.penalty_name == "none":
            return super().penalty(shown)
        penalty = PENALTIES[self.penalty_name]
        return self.penalty_weight * penalty(
            lambda images: self.judge(images, shown.labels), shown.real, shown.fake.to(self.dtype)
        )
