"""Draws from the joint distribution of a model with latents: its own, or made of what else it promises."""

import math

import torch
from torch import Tensor

import harness

_PROBES = 64


def num_latents(model: harness.LatentVariable, images: Tensor) -> int:
    """Returns D, the width of the latents of images (N, C, H, W) uint8; Unsupported where nothing says it."""
    if isinstance(model, harness.Inference):
        return model.encode(images[:1]).shape[1]
    try:
        latents, _ = model.draw_posterior(images[:8])
    except NotImplementedError as error:
        raise harness.Unsupported(f"{type(model).__name__} has neither encode nor draw_posterior") from error
    if bool((latents == latents.round()).all()):
        raise harness.Unsupported(f"{type(model).__name__}: its latents are discrete")
    return latents.shape[1]


def draw_joint(model: harness.LatentVariable, num_samples: int) -> tuple[Tensor, Tensor]:
    """Draws images (num_samples, C, H, W) uint8 and the latents (num_samples, D) that they were drawn from.

    A model that does not do so itself is drawn from where its densities show that its prior is N(0, I), and its pixels
    are independent, binary, with the means that ``decode`` gives. Raises ``Unsupported`` where they do not.
    """
    try:
        return model.draw_joint(num_samples)
    except NotImplementedError as error:
        if not isinstance(model, harness.Inference) or model.spec.levels != 2:
            raise harness.Unsupported(f"{error}, nor are its pixels binary, with means that decode gives") from error
    latents = draw_prior(model, num_samples)
    means = model.decode(latents).double()
    images = (torch.rand_like(means) < means).to(torch.uint8)
    expected = torch.where(images > 0, means, 1 - means).log().flatten(1).sum(1)
    if not _same(model.log_likelihood(images, latents), expected):
        raise harness.Unsupported(f"{type(model).__name__} has no draw_joint, and its pixels are not independent")
    return images, latents


def draw_prior(model: harness.LatentVariable, num_samples: int) -> Tensor:
    """Draws latents (num_samples, D) of N(0, I) where the prior's density is that, else by ``model.draw_joint``."""
    width = num_latents(model, torch.zeros(8, *model.spec.shape, dtype=torch.uint8, device=model.device))
    latents = torch.randn(max(num_samples, _PROBES), width, dtype=model.dtype, device=model.device)
    expected = -0.5 * (latents.double().square() + math.log(2 * math.pi)).sum(1)
    if _same(model.log_prior(latents[:_PROBES]), expected[:_PROBES]):
        return latents[:num_samples]
    try:
        return model.draw_joint(num_samples)[1]
    except NotImplementedError as error:
        raise harness.Unsupported(f"{error}, and its prior is not N(0, I)") from error


def _same(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-3)
