"""Improved GAN: a generator that matches the mean of a discriminator's features (Salimans et al. 2016)."""

from __future__ import annotations

from torch import Tensor

from harness_gan.adversarial import Round
from harness_gan.objectives import non_saturating
from harness_zoo.features import Featured, mean_difference


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """Maps features (N, F) of real and (M, F) of generated images to the squared distance of their means, ()."""
    return mean_difference(real, fake).square().sum()


class ImprovedGAN(Featured):
    r"""The generator does not look at the discriminator's verdict, but at its last hidden layer phi.

    .. math:: \min_D E[-\log D(x)] + E[-\log(1 - D(G(z)))], \quad
              \min_G ||E[\phi(x)] - E[\phi(G(z))]||_2^2

    The means are those of a batch, so that small batches add noise to the generator's loss. phi is the discriminator's:
    it is trained to tell images apart, not to match. Reference: Salimans et al. 2016, arXiv 1606.03498, section 3.1.

    Its arguments are those of ``Adversarial``.
    """

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the discriminator's cross-entropy."""
        return non_saturating(self.judge(shown.real), self.judge(shown.fake))

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the squared distance of mean features."""
        return feature_matching(self.features(shown.real), self.features(shown.fake))
