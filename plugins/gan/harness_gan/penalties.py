"""Penalties on the slopes of a discriminator, a further term of its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

Judge = Callable[[Tensor], Tensor]  # (N, C, H, W) float to (N,)


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """Draws one point uniformly on the segment between every pair of images, (N, C, H, W) each."""
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=real.dtype)  # (N, 1, 1, 1)
    return real + share * (fake - real)


def gradient_norms(judge: Judge, images: Tensor) -> Tensor:
    """Maps (N, C, H, W) float to (N,): ||grad_x f(x)||_2 over an image's entries; can be differentiated once more.

    It is the gradient at one image only if the discriminator judges each by itself.
    """
    # the norm of a zero gradient has the derivative zero here, as torch defines it, and not NaN
    norms: Tensor = torch.linalg.vector_norm(_gradients(judge, images), dim=1)
    return norms


def _gradients(judge: Judge, images: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    [gradient] = torch.autograd.grad(judge(images).sum(), images, create_graph=True)  # (N, C, H, W)
    return gradient.flatten(1)


def gradient_penalty(judge: Judge, real: Tensor, fake: Tensor) -> Tensor:
    """Maps images (N, C, H, W) float, real and generated, to the mean of (||grad_x f||_2 - 1)^2 between them.

    Gulrajani et al. 2017, arXiv 1704.00028.
    """
    return (gradient_norms(judge, interpolate(real, fake)) - 1).square().mean()


def dragan_penalty(judge: Judge, real: Tensor, fake: Tensor) -> Tensor:
    """Maps images (N, C, H, W) float to the mean of (||grad_x f||_2 - 1)^2 near the real ones.

    Near is x + a d: a uniform on [0, 1] for each image, d uniform on [0, s / 2] for each entry, with s the standard
    deviation of all entries of the batch (Kodali et al. 2017, arXiv 1705.07215, as in their code).
    """
    near = real + real.std() / 2 * torch.rand_like(real)
    return (gradient_norms(judge, interpolate(real, near)) - 1).square().mean()


def r1_penalty(judge: Judge, real: Tensor, fake: Tensor) -> Tensor:
    """Maps images (N, C, H, W) float to the mean of ||grad_x f||^2 / 2 at the real ones.

    Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406.
    """
    return _gradients(judge, real).square().sum(1).mean() / 2


def no_penalty(judge: Judge, real: Tensor, fake: Tensor) -> Tensor:
    """Returns zero."""
    return real.new_zeros(())


PENALTIES: Mapping[str, Callable[[Judge, Tensor, Tensor], Tensor]] = MappingProxyType(
    {"none": no_penalty, "gradient": gradient_penalty, "dragan": dragan_penalty, "r1": r1_penalty}
)
