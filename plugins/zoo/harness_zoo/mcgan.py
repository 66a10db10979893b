"""McGan: a generator that matches the mean, or the second moments, of bounded features (Mroueh et al. 2017)."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, RMSprop

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, build_discriminator
from harness_layers.checks import check_at_least, check_positive
from harness_zoo.features import mean_difference, with_features


def mean_distance(real: Tensor, fake: Tensor, q: float) -> Tensor:
    """Maps features (N, F) of real and (M, F) of generated images to ||E phi(x) - E phi(G(z))||_q, ()."""
    distance: Tensor = torch.linalg.vector_norm(mean_difference(real, fake), q)
    return distance


def covariance_distance(real: Tensor, fake: Tensor, components: int) -> Tensor:
    """Maps features (N, F) and (M, F) to the sum of the largest singular values of S(x) - S(G(z)), ().

    S is E[phi phi^T], about zero and not about the mean, (F, F).
    """
    difference = real.T @ real / len(real) - fake.T @ fake / len(fake)
    values: Tensor = torch.linalg.svdvals(difference)
    return values[:components].sum()


class _McGan(Adversarial):
    """A critic phi that sets a statistic of real and generated images apart, its weights clipped.

    Its arguments are those of its subclasses.
    """

    def __init__(self, spec: ImageSpec, *, features: int, clip: float, network: Network,
                 normalization: Normalization, latents: int, width: int, learning_rate: float, batch_size: int,
                 critic_steps: int) -> None:  # fmt: skip
        check_positive(features=features, clip=clip)
        self.features, self.clip = features, clip
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size, critic_steps=critic_steps,
        )  # fmt: skip

    @abstractmethod
    def distance(self, real: Tensor, fake: Tensor) -> Tensor:
        """Maps features (N, F) and (M, F) to what the critic maximises and the generator minimises, ()."""

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> nn.Module:
        """Returns phi: the usual discriminator, but with ``features`` outputs."""
        scores = build_discriminator(network, self.spec, width=width, normalization=normalization, dropout=dropout)
        return with_features(scores, self.features)

    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Returns RMSProp for the generator and for the critic."""
        first, second = (RMSprop(nn.ModuleList(side).parameters(), lr=self.learning_rate) for side in self.players())
        return first, second

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns less the distance."""
        return -self.generator_loss(shown)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the distance."""
        return self.distance(self.judge(shown.real), self.judge(shown.fake))

    def after_discriminator(self, shown: Round) -> None:
        """Clips the critic's weights."""
        for weight in self.discriminator.parameters():
            weight.clamp_(-self.clip, self.clip)


class McGanMean(_McGan):
    r"""A critic that sets mean features of real and generated images apart, a generator that brings them together.

    .. math:: \min_G \max_\phi ||E[\phi(x)] - E[\phi(G(z))]||_q

    Of one feature it is a Wasserstein GAN; phi is bounded by its clipped weights. The distance is the largest
    difference of means of v . phi, over the v whose norm dual to q is at most one, which need not be trained therefore.
    Reference: Mroueh, Sercu & Goel 2017, arXiv 1702.08398.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        q: of the norm, from 1 on.
        features: the dimensions of phi.
        clip: the bound of a critic's weights.
        learning_rate: of RMSProp.
        network, normalization, latents, width, batch_size, critic_steps: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, q: float = 2.0, features: int = 64, clip: float = 0.01,
                 network: Network = "dcgan", normalization: Normalization = "batch", latents: int = 64,
                 width: int = 64, learning_rate: float = 2e-4, batch_size: int = 64,
                 critic_steps: int = 5) -> None:  # fmt: skip
        check_at_least(1, q=q)
        super().__init__(
            spec, features=features, clip=clip, network=network, normalization=normalization, latents=latents,
            width=width, learning_rate=learning_rate, batch_size=batch_size, critic_steps=critic_steps,
        )  # fmt: skip
        self.q = q

    def distance(self, real: Tensor, fake: Tensor) -> Tensor:
        """Returns the norm of the difference of means."""
        return mean_distance(real, fake, self.q)


class McGanCovariance(_McGan):
    r"""A critic that sets second moments of features apart, in the directions in which they differ most.

    .. math:: \min_G \max_\phi \max_{U, V} Tr(U^T (S_{data} - S_G) V)
              = \min_G \max_\phi \sum_{i \leq k} \sigma_i(S_{data} - S_G), \quad S = E[\phi \phi^T]

    U and V, (F, k), have orthonormal columns; the best are singular vectors, which are computed here and not trained.
    Of all F components it is the trace norm, as "Kernel trace distance" (a later paper on the same distance with the
    features of a kernel) recalls it. Reference: Mroueh, Sercu & Goel 2017, arXiv 1702.08398.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        components: k.
        features: F, the dimensions of phi.
        clip: the bound of a critic's weights.
        learning_rate: of RMSProp.
        network, normalization, latents, width, batch_size, critic_steps: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, components: int = 16, features: int = 64, clip: float = 0.1,
                 network: Network = "dcgan", normalization: Normalization = "batch", latents: int = 64,
                 width: int = 64, learning_rate: float = 2e-4, batch_size: int = 64,
                 critic_steps: int = 5) -> None:  # fmt: skip
        check_positive(components=components)
        check_at_least(components, features=features)
        super().__init__(
            spec, features=features, clip=clip, network=network, normalization=normalization, latents=latents,
            width=width, learning_rate=learning_rate, batch_size=batch_size, critic_steps=critic_steps,
        )  # fmt: skip
        self.components = components

    def distance(self, real: Tensor, fake: Tensor) -> Tensor:
        """Returns the sum of the largest singular values."""
        return covariance_distance(real, fake, self.components)
