"""AM-GAN: activation maximization (Zhou et al. 2018, arXiv 1703.02000)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, Scores
from harness_zoo.conditional import needed, num_classes
from harness_zoo.outputs import build_heads


class AMGAN(Adversarial):
    r"""A classifier of K classes and of generated images; these want to be of the one class that they are nearest to.

    .. math:: \min_D E_{data}[-\log p(y | x)] - E_z[\log p(K + 1 | G(z))], \quad
        \min_G -E_z[\log p(t | G(z))], \quad t = \arg\max_{k \leq K} p(k | G(z))

    p is the softmax of K + 1 logits. The target t is found anew for each image in each step, and is no path for
    gradients: the authors' dynamic labelling. The generator is told no class. Reference: Zhou et al. 2018, arXiv
    1703.02000, and the authors' code, with DCGANs and a learning rate of 4e-4 that falls linearly.

    Its arguments are those of ``Adversarial``.
    """

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network of K + 1 logits, the last that of generated images."""
        return build_heads(
            network, self.spec, outputs=num_classes(self.spec) + 1, width=width, normalization=normalization,
            dropout=dropout,
        )  # fmt: skip

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the cross-entropies with the labels and with class K + 1, in nats."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)
        generated = torch.full((len(fake),), fake.shape[1] - 1, device=fake.device)
        return cross_entropy(real, needed(shown.labels)) + cross_entropy(fake, generated)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the cross-entropy with the likeliest of the K classes, in nats."""
        fake = self.judge(shown.fake)
        return cross_entropy(fake, fake[:, :-1].argmax(1))
