"""Games that look at a discriminator's features: what its last layer takes."""

from __future__ import annotations

from torch import Tensor, nn

from harness_gan.adversarial import Adversarial
from harness_gan.networks import Scores


class Featured(Adversarial):
    """Players that see the discriminator's last hidden layer. Its arguments are those of ``Adversarial``."""

    discriminator: Scores

    def features(self, images: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] to phi (N, F)."""
        return self.discriminator.features(images).to(self.dtype)


def mean_difference(real: Tensor, fake: Tensor) -> Tensor:
    """Maps features (N, F) of real and (M, F) of generated images to E phi(x) - E phi(G(z)), (F,)."""
    return real.mean(0) - fake.mean(0)


def with_features(scores: Scores, num_features: int) -> nn.Sequential:
    """Returns a discriminator with ``num_features`` outputs in place of one: maps images to (N, num_features)."""
    return nn.Sequential(*list(scores)[:-1], nn.Linear(scores.num_features, num_features))
