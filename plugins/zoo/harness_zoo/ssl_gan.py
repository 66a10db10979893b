"""SSL-GAN: a GAN whose discriminator classifies as well (Denton, Gross & Fergus 2016, arXiv 1611.06430)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import softplus

from harness import Dataset, ImageSpec, Trainer
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, Scores
from harness_layers.checks import check_at_least, check_positive
from harness_zoo.conditional import num_classes
from harness_zoo.outputs import build_heads
from harness_zoo.semi_supervised import cross_entropy_of_labelled, keep_labels


class SSLGAN(Adversarial):
    r"""A discriminator with a second head that learns the classes of the few labelled images.

    .. math:: \min_D E_{data}[\mathrm{softplus}(-s(x))] + E_z[\mathrm{softplus}(s(G(z)))] -
        w E_{labelled}[\log c_y(x)], \quad \min_G E_z[\mathrm{softplus}(-s(G(z)))]

    Both heads are linear in the same features; c is the softmax of K logits. The generator is told no class, and looks
    at the first head alone. Reference: Denton, Gross & Fergus 2016, arXiv 1611.06430, where it is what their
    context-conditional GAN is compared with, and that GAN's code by the authors: w = 1, Adam with 2e-4 and 0.5.

    Args:
        spec: a sample space with classes.
        class_weight: w.
        labels_per_class: the first so many training images of each class have labels, the others none.
        network, normalization, latents, width, learning_rate, batch_size, dropout: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, class_weight: float = 1.0, labels_per_class: int = 10,
                 network: Network = "dcgan", normalization: Normalization = "batch", latents: int = 64,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64,
                 dropout: float = 0.3) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, dropout=dropout,
        )  # fmt: skip
        check_at_least(0, class_weight=class_weight)
        check_positive(labels_per_class=labels_per_class)
        self.class_weight, self.labels_per_class = class_weight, labels_per_class

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network of K + 1 outputs: the logits of the classes, and that of being real."""
        return build_heads(
            network, self.spec, outputs=num_classes(self.spec) + 1, width=width, normalization=normalization,
            dropout=dropout,
        )  # fmt: skip

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Hides most of the labels, and plays the game."""
        super().fit(replace(data, train=keep_labels(data.train, self.labels_per_class)), trainer)

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the GAN's loss and the weighted one of labelled images."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)
        told = cross_entropy_of_labelled(real[:, :-1], shown.labels)
        return softplus(-real[:, -1]).mean() + softplus(fake[:, -1]).mean() + self.class_weight * told

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the non-saturating loss."""
        return softplus(-self.judge(shown.fake)[:, -1]).mean()
