"""The figure ``latent-walk``: images on the way from one draw of the latents to another."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from harness import ShownModel, derive_seed, image_grid, isolated_rng
from harness_gan.adversarial import Adversarial, evaluating
from harness_layers.pixels import quantize

_WALKS, _STOPS = 8, 10


@torch.no_grad()
def draw_walk(shown: ShownModel) -> Image.Image | None:
    """Draws 8 rows of 10 images, each from one Gaussian draw to another along a great circle.

    Straight lines pass near the origin, where a Gaussian of many dimensions has no mass (White 2016, arXiv 1609.04468).
    None for a generator that is told classes.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, Adversarial)
    with isolated_rng(derive_seed(shown.seed, "latent-walk"), model.device):
        if model.draw_labels(1) is not None:
            return None
        first, last = model.draw_latents(_WALKS), model.draw_latents(_WALKS)
    shares = torch.linspace(0, 1, _STOPS, device=first.device, dtype=first.dtype)
    latents = torch.stack([between(first, last, share) for share in shares], dim=1).flatten(0, 1)
    with evaluating(model.generator if model.average is None else model.average) as generator:
        images = quantize(model.generate(generator, latents, None), spec.levels).to(torch.uint8)
    picture = image_grid(images, spec, columns=_STOPS, gap=1, scale=max(1, 40 // max(spec.height, spec.width)))
    picture.info["Description"] = "each row: from one draw of the latents (left) to another, along a great circle"
    return picture


def between(first: Tensor, last: Tensor, share: Tensor) -> Tensor:
    """Maps latents (N, D) and a share to (N, D): spherical interpolation (Shoemake 1985)."""
    cosine = torch.nn.functional.cosine_similarity(first, last, dim=1).clamp(-1 + 1e-7, 1 - 1e-7)
    angle = cosine.arccos()[:, None]
    return ((1 - share) * angle).sin() / angle.sin() * first + (share * angle).sin() / angle.sin() * last
