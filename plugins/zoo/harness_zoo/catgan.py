"""CatGAN: a discriminator of categories, and no word for fake (Springenberg 2016, arXiv 1511.06390)."""

from __future__ import annotations

from torch import Tensor

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, Scores
from harness_layers.checks import check_at_least
from harness_zoo.outputs import build_heads


def conditional_entropy(logits: Tensor) -> Tensor:
    """Maps logits (N, K) to the mean entropy of their N distributions, in nats: how unsure single images leave us."""
    logs = logits.log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean()


def marginal_entropy(logits: Tensor) -> Tensor:
    """Maps logits (N, K) to the entropy of the mean distribution, in nats: how evenly categories are used."""
    mean = logits.softmax(1).mean(0)
    return -(mean * mean.clamp_min(1e-12).log()).sum()


class CatGAN(Adversarial):
    r"""A discriminator that is sure of the category of real images, unsure of generated ones, and uses all evenly.

    .. math:: \min_D -H(E_{data}[p(y | x)]) + E_{data}[H(p(y | x))] - E_z[H(p(y | G(z)))], \quad
        \min_G -H(E_z[p(y | G(z))]) + E_z[H(p(y | G(z)))]

    p(y | x) is the softmax of K logits and H the entropy; expectations are means over the batch. The generator wants
    the discriminator sure of each of its images, and all categories used evenly. The categories are found without
    labels. Reference: Springenberg 2016, arXiv 1511.06390.

    Args:
        spec: any sample space.
        categories: K; at least 2.
        network, normalization, latents, width, learning_rate, batch_size, dropout: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, categories: int = 10, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64, dropout: float = 0.3) -> None:  # fmt: skip
        check_at_least(2, categories=categories)
        self.categories = categories  # the discriminator's size follows from it
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, dropout=dropout,
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network of K logits."""
        return build_heads(
            network, self.spec, outputs=self.categories, width=width, normalization=normalization, dropout=dropout
        )  # fmt: skip

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns what the discriminator minimises, in nats."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)
        return -marginal_entropy(real) + conditional_entropy(real) - conditional_entropy(fake)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns what the generator minimises, in nats."""
        fake = self.judge(shown.fake)
        return -marginal_entropy(fake) + conditional_entropy(fake)
