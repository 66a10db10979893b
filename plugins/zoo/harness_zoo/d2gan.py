"""D2GAN: two discriminators, one for each direction of the Kullback-Leibler divergence (Nguyen et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import softplus

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization
from harness_layers.checks import check_positive

_LEAST = -20.0  # below it softplus(s) is e^s to the last digit, and log softplus(s) is s


def log_softplus(values: Tensor) -> Tensor:
    """Maps (...) to log softplus (...), also where softplus is zero in floating point."""
    return softplus(values.clamp(min=_LEAST)).log() + (values - _LEAST).clamp(max=0)


def first_loss(real: Tensor, fake: Tensor, alpha: float) -> Tensor:
    """Maps outputs s, (N,) on real and (M,) on generated images, to what D_1 = softplus(s) minimises, ().

    It is E[D_1(G(z))] - alpha E[log D_1(x)]. The second discriminator minimises the same with real and generated
    images exchanged.
    """
    return softplus(fake).mean() - alpha * log_softplus(real).mean()


class D2GAN(Adversarial):
    r"""A discriminator that is high on real images, a second one that is high on generated ones.

    .. math:: \min_G \max_{D_1, D_2} \alpha E[\log D_1(x)] - E[D_1(G(z))] - E[D_2(x)] + \beta E[\log D_2(G(z))]

    D_1 and D_2 are positive, a softplus of the networks' outputs. The best are D_1 = alpha p / q and D_2 = beta q / p,
    of the densities p of the data and q of the generator, and leave the generator alpha KL(p, q) + beta KL(q, p) to
    minimise: the first punishes images of the data that it does not make, the second images that are not the data's.
    Reference: Nguyen et al. 2017, arXiv 1709.03831, and the authors' code.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        alpha, beta: weights of the divergences; 1 in the authors' code.
        network, normalization, latents, width, learning_rate, batch_size: see ``Adversarial``; both discriminators are
            of one kind.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, alpha: float = 1.0, beta: float = 1.0, network: Network = "dcgan",
                 normalization: Normalization = "batch", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_positive(alpha=alpha, beta=beta)
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size,
        )  # fmt: skip
        self.alpha, self.beta = alpha, beta
        self.second = self.build_discriminator(network, width=width, normalization=normalization, dropout=0.0)

    def players(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Returns the generator, and both discriminators."""
        return [self.generator], [self.discriminator, self.second]

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the sum of both discriminators' losses."""
        first = first_loss(self.judge(shown.real), self.judge(shown.fake), self.alpha)
        return first + first_loss(self._judge_again(shown.fake), self._judge_again(shown.real), self.beta)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the terms of the game's value that depend on generated images."""
        second = log_softplus(self._judge_again(shown.fake)).mean()
        return self.beta * second - softplus(self.judge(shown.fake)).mean()

    def _judge_again(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.second(images)
        return outputs.to(self.dtype)
