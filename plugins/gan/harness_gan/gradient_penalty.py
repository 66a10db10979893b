"""The gradient penalty (Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville 2017, arXiv 1704.00028)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


@dataclass(frozen=True)
class GradientPenalty:
    r"""``weight`` times E[(||grad_x f(x)||_2 - 1)^2], x uniform on segments between real and generated images.

    Attributes:
        weight: lambda.
    """

    weight: float = 10.0

    def __call__(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Maps images (N, C, H, W) float, real and generated, to a scalar."""
        norms = gradient_norms(discriminator, interpolate(real, fake))
        return self.weight * (norms - 1).square().mean()
