"""WGAN-GP: a critic of the Wasserstein distance, kept Lipschitz by a gradient penalty (Gulrajani et al. 2017)."""

from __future__ import annotations

from harness import ImageSpec
from harness_gan.gan import GAN
from harness_gan.networks import Network
from harness_layers.checks import check_positive
from harness_layers.schedules import Schedule


class WGANGP(GAN):
    r"""A generator G that minimises a critic's estimate of the Wasserstein-1 distance to the data.

    .. math:: \min_f E_z[f(G(z))] - E_{data}[f(x)] + \lambda E_{\hat x}[(||\nabla f(\hat x)||_2 - 1)^2],
              \quad \min_G -E_z[f(G(z))]

    For a critic f of Lipschitz constant at most one, E_data[f(x)] - E_z[f(G(z))] is a lower bound on the distance
    (Kantorovich & Rubinstein 1958; Arjovsky, Chintala & Bottou 2017, arXiv 1701.07875). The points x^ lie uniformly on
    segments between real and generated images. The critic has no batch norm: its gradient at an image must be that
    image's own. Reference: Gulrajani et al. 2017, arXiv 1704.00028.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        penalty: lambda.
        network, latents, width, learning_rate, betas, schedule, batch_size, critic_steps, averaging: see
            ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", penalty: float = 10.0, latents: int = 64,
                 width: int = 64, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.0, 0.9),
                 schedule: Schedule = "linear", batch_size: int = 64, critic_steps: int = 2,
                 averaging: float = 0.99) -> None:  # fmt: skip
        check_positive(penalty=penalty)
        super().__init__(
            spec, objective="wasserstein", penalty="gradient", penalty_weight=penalty, network=network,
            normalization="none", latents=latents, width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, critic_steps=critic_steps, averaging=averaging, dropout=0.0,
        )  # fmt: skip
