"""The semi-supervised GAN of "Improved techniques for training GANs" (Salimans et al. 2016, arXiv 1606.03498)."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import softplus

from harness import Dataset, ImageSpec, Trainer
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, Scores
from harness_layers.checks import check_positive
from harness_zoo.conditional import num_classes
from harness_zoo.outputs import build_heads
from harness_zoo.semi_supervised import cross_entropy_of_labelled, keep_labels


class ImprovedGANSemi(Adversarial):
    r"""A classifier of K classes that knows generated images as one more; the generator matches its features.

    .. math:: \min_D E_{labelled}[-\log p(y | x)] + (E_{data}[\mathrm{softplus}(-s(x))] +
        E_z[\mathrm{softplus}(s(G(z)))]) / 2, \quad \min_G \|E_{data}[\phi(x)] - E_z[\phi(G(z))]\|^2

    The logit of class K + 1 is 0: it would be one too many. So D(x) = Z / (Z + 1) with Z = sum_k exp(l_k(x)), the logit
    of being real is s = logsumexp_k l_k, and p(y | x) is the softmax of the K logits. phi are the features that the
    last layer takes. Reference: Salimans et al. 2016, arXiv 1606.03498, section 5, with weight normalization, noise in
    the discriminator's layers, 100 labels on MNIST and batches of labelled images of their own; here they are those of
    the batch that have labels.

    Args:
        spec: a sample space with classes.
        labels_per_class: the first so many training images of each class have labels, the others none.
        network, normalization, latents, width, learning_rate, batch_size: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, labels_per_class: int = 10, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size,
        )  # fmt: skip
        check_positive(labels_per_class=labels_per_class)
        self.labels_per_class = labels_per_class

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network of K logits."""
        return build_heads(
            network, self.spec, outputs=num_classes(self.spec), width=width, normalization=normalization,
            dropout=dropout,
        )  # fmt: skip

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Hides most of the labels, and plays the game."""
        super().fit(replace(data, train=keep_labels(data.train, self.labels_per_class)), trainer)

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the losses of labelled, of real and of generated images."""
        logits = self.judge(shown.real)  # (N, K)
        game = softplus(-logits.logsumexp(1)).mean() + softplus(self.judge(shown.fake).logsumexp(1)).mean()
        return cross_entropy_of_labelled(logits, shown.labels) + game / 2

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the squared distance of the mean features."""
        scores = self.discriminator
        assert isinstance(scores, Scores)
        real, fake = scores.features(shown.real), scores.features(shown.fake)  # (N, F)
        return (real.mean(0).detach() - fake.mean(0)).square().sum()
