"""WGAN: a critic of the Wasserstein distance, kept Lipschitz by clipping its weights (Arjovsky et al. 2017)."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer, RMSprop

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.gan import GAN
from harness_gan.networks import Network
from harness_gan.scores import Normalization
from harness_layers.checks import check_positive
from harness_layers.schedules import Schedule


class WGAN(GAN):
    r"""A generator G against a critic f whose weights stay in [-c, c], which bounds its slope.

    .. math:: \max_f E_{data}[f(x)] - E_z[f(G(z))], \quad \min_G -E_z[f(G(z))]

    Both are trained by RMSProp: with momentum the paper's trainings were unstable. The paper makes 100 steps of the
    critic for each of the generator at the start and every 500th time; here there are ``critic_steps`` always.
    Reference: Arjovsky, Chintala & Bottou 2017, arXiv 1701.07875.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        clip: c; 0.01 in the paper.
        learning_rate: of RMSProp; 5e-5 in the paper.
        network, normalization, latents, width, schedule, batch_size, critic_steps, averaging: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", normalization: Normalization = "batch",
                 clip: float = 0.01, latents: int = 64, width: int = 64, learning_rate: float = 2e-4,
                 schedule: Schedule = "linear", batch_size: int = 64, critic_steps: int = 5,
                 averaging: float = 0.99) -> None:  # fmt: skip
        check_positive(clip=clip)
        super().__init__(
            spec, objective="wasserstein", network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, schedule=schedule, batch_size=batch_size, critic_steps=critic_steps,
            averaging=averaging, dropout=0.0,
        )  # fmt: skip
        self.clip = clip

    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Returns RMSProp for the generator and for the critic."""
        first, second = (RMSprop(nn.ModuleList(side).parameters(), lr=self.learning_rate) for side in self.players())
        return first, second

    def after_discriminator(self, shown: Round) -> None:
        """Clips the critic's weights."""
        for weight in self.discriminator.parameters():
            weight.clamp_(-self.clip, self.clip)
