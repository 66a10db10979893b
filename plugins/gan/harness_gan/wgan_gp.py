"""WGAN-GP: a critic of the Wasserstein distance, kept Lipschitz by a gradient penalty (Gulrajani et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_gan.adversarial import Adversarial
from harness_gan.networks import Network
from harness_layers.checks import check_positive
from harness_layers.schedules import Schedule


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """Draws one point uniformly on the segment between every pair of images, (N, C, H, W) each."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)  # (N, 1, 1, 1)
    return real + share * (fake - real)


def gradient_norms(critic: nn.Module, images: Tensor) -> Tensor:
    """Maps (N, C, H, W) float to (N,): ||grad_x f(x)||_2 over an image's entries; can be differentiated once more.

    It is the gradient at one image only if the critic judges each by itself.
    """
    images = images.detach().requires_grad_()
    [gradient] = torch.autograd.grad(critic(images).sum(), images, create_graph=True)  # (N, C, H, W)
    # the norm of a zero gradient has the derivative zero here, as torch defines it, and not NaN
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Maps images (N, C, H, W) float, real and generated, to the mean of (||grad_x f||_2 - 1)^2 between them."""
    return (gradient_norms(critic, interpolate(real, fake)) - 1).square().mean()


class WGANGP(Adversarial):
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

    default_budget: ClassVar[str] = "50 epochs"
    batch_norm: ClassVar[bool] = False

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", penalty: float = 10.0, latents: int = 64,
                 width: int = 64, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.0, 0.9),
                 schedule: Schedule = "linear", batch_size: int = 64, critic_steps: int = 2,
                 averaging: float = 0.99) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, critic_steps=critic_steps, averaging=averaging,
        )  # fmt: skip
        check_positive(penalty=penalty)
        self.penalty_weight = penalty

    def discriminator_objective(self, real: Tensor, fake: Tensor) -> Tensor:
        """Maps the critic's outputs, (N,) on real and (M,) on generated images, to E[f(G(z))] - E[f(x)]."""
        return fake.mean() - real.mean()

    def generator_objective(self, fake: Tensor) -> Tensor:
        """Maps the critic's outputs (M,) on generated images to -E[f(G(z))]."""
        return -fake.mean()

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1], real and generated, to lambda times the gradient penalty."""
        return self.penalty_weight * gradient_penalty(self.discriminator, real, fake)
