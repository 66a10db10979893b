"""Cramer GAN: the energy distance of learned features (Bellemare et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.linalg import vector_norm

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, build_discriminator
from harness_gan.penalties import gradient_penalty
from harness_layers.checks import check_at_least, check_positive
from harness_zoo.features import with_features


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Maps features (N, F) each to the mean Euclidean distance of pairs, ()."""
    distances: Tensor = vector_norm(first - second, dim=1)
    return distances.mean()


def energy(real: Tensor, fake: Tensor) -> Tensor:
    """Maps features (N, F) of real and of generated images to their energy distance without the generator's constant.

    It is 2 E|h(x) - h(x~)| - E|h(x~) - h(x~')|, () and unbiased; neighbours of the batch are the pairs x~, x~'.
    """
    other = fake.roll(1, 0)
    return distance(real, fake) + distance(real, other) - distance(fake, other)


def surrogate(real: Tensor, fake: Tensor) -> Tensor:
    """Maps features (N, F) of real and of generated images to what the critic maximises, ().

    It is E[f(x)] - E[f(x~)] with f(x) = |h(x) - h(x~')| - |h(x)|: the energy distance with zero in the place of a
    second real image, which one batch need not have.
    """
    other = fake.roll(1, 0)
    zero = real.new_zeros(())
    return distance(real, other) - distance(real, zero) - distance(fake, other) + distance(fake, zero)


class CramerGAN(Adversarial):
    r"""A generator that minimises the energy distance to the data, in features h that a critic learns.

    .. math:: \min_G 2 E|h(x) - h(\tilde x)| - E|h(\tilde x) - h(\tilde x')|, \quad
              \max_h E[f(x)] - E[f(\tilde x)] - \lambda E[(||\nabla g(\hat x)||_2 - 1)^2]

    f(x) = |h(x) - h(x~')| - |h(x)| and g(x) = |h(x) - h(x~)| - |h(x) - h(x_real)|; x^ lies uniformly on segments
    between real and generated images. Unlike the Wasserstein distance's, the gradients of batches are unbiased. In one
    dimension the distance is twice that of Cramer; in more the paper uses the energy distance as well. Reference:
    Bellemare et al. 2017, arXiv 1705.10743, as in two public implementations (jiamings/cramer-gan; pidgan).

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        features: the dimensions of h.
        penalty: lambda.
        network, latents, width, learning_rate, batch_size, critic_steps: see ``Adversarial``. The critic has no batch
            norm: a gradient at an image must be that image's own.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, features: int = 64, penalty: float = 10.0, network: Network = "dcgan",
                 latents: int = 64, width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64,
                 critic_steps: int = 2) -> None:  # fmt: skip
        check_positive(features=features)
        check_at_least(0, penalty=penalty)
        self.features, self.penalty_weight = features, penalty
        super().__init__(
            spec, network=network, normalization="none", latents=latents, width=width, learning_rate=learning_rate,
            betas=(0.5, 0.9), batch_size=batch_size, critic_steps=critic_steps,
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> nn.Module:
        """Returns h: the usual discriminator, but with ``features`` outputs."""
        scores = build_discriminator(network, self.spec, width=width, normalization=normalization, dropout=dropout)
        return with_features(scores, self.features)

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns less the critic's surrogate of the distance."""
        return -surrogate(self.judge(shown.real), self.judge(shown.fake))

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the energy distance, but for a constant."""
        return energy(self.judge(shown.real), self.judge(shown.fake))

    def penalty(self, shown: Round) -> Tensor:
        """Returns the weighted gradient penalty of g."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)

        def g(images: Tensor) -> Tensor:
            features = self.judge(images)
            difference: Tensor = vector_norm(features - fake, dim=1) - vector_norm(features - real, dim=1)
            return difference

        return self.penalty_weight * gradient_penalty(g, shown.real, shown.fake.to(self.dtype))
