"""AC-GAN: an auxiliary head of the discriminator tells classes (Odena, Olah & Shlens 2017, arXiv 1610.09585)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.networks import Network, Normalization, Scores
from harness_layers.checks import check_at_least
from harness_zoo.conditional import Conditional, needed, num_classes
from harness_zoo.outputs import build_heads


class ACGAN(Conditional):
    r"""A discriminator that is not told the class, but tells it; both players want it told correctly.

    .. math:: L_S = E[\mathrm{softplus}(-s(x)) + \mathrm{softplus}(s(G(z, y)))], \quad
        L_C = E[-\log c_y(x) - \log c_y(G(z, y))]

    The discriminator minimises L_S + w L_C, the generator E[softplus(-s(G(z, y)))] - w E[log c_y(G(z, y))]. c is the
    softmax of K logits, taken once, in the cross-entropy. Reference: Odena, Olah & Shlens 2017, arXiv 1610.09585, with
    w = 1 and a learning rate of 2e-4. A large w makes every class one of its easiest images.

    Args:
        spec: a sample space with classes.
        class_weight: w.
        network, normalization, latents, width, learning_rate, batch_size, dropout: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, class_weight: float = 1.0, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64, dropout: float = 0.3) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, dropout=dropout,
        )  # fmt: skip
        check_at_least(0, class_weight=class_weight)
        self.class_weight = class_weight

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network of K + 1 outputs: the logits of the classes, and that of being real."""
        return build_heads(
            network, self.spec, outputs=num_classes(self.spec) + 1, width=width, normalization=normalization,
            dropout=dropout,
        )  # fmt: skip

    def losses(self, images: Tensor, labels: Tensor | None, *, sign: float) -> Tensor:
        """Returns E softplus(sign * s) - w E log c_y of images (N, C, H, W) and their labels (N,)."""
        outputs = self.judge(images)  # (N, K + 1)
        told = cross_entropy(outputs[:, :-1], needed(labels))
        return softplus(sign * outputs[:, -1]).mean() + self.class_weight * told

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns both parts, of real and of generated images."""
        return self.losses(shown.real, shown.labels, sign=-1) + self.losses(shown.fake, shown.labels, sign=1)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the loss of generated images as if they were real."""
        return self.losses(shown.fake, shown.labels, sign=-1)
