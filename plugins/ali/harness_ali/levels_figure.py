"""The figure ``reconstructions-by-level``: what each level of latents keeps of an image."""

from __future__ import annotations

import torch
from PIL import Image

from harness import ImageSpec, ShownModel, derive_seed, image_grid, isolated_rng
from harness_ali.joint_game import JointGame

_COLUMNS, _SIDE = 10, 56


@torch.no_grad()
def draw_reconstructions_by_level(shown: ShownModel) -> Image.Image | None:
    """Draws 10 test images above what comes back from z_1, from z_2 and so on; None where there is one level.

    Latents are drawn on the way up and on the way down. Belghazi et al. 2018, arXiv 1802.01071.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, JointGame)
    if len(model.latents) == 1:
        return None
    images = shown.data.test.draw(0).images[:_COLUMNS].to(model.device)
    with isolated_rng(derive_seed(shown.seed, "reconstructions-by-level"), model.device):
        rows = [model.reconstruct(images, level=level) for level in range(1, len(model.latents) + 1)]
    shades = (torch.cat([images.to(model.dtype), *rows]) * (255 / (spec.levels - 1))).round().to(torch.uint8)
    picture = image_grid(
        shades, ImageSpec(spec.channels, spec.height, spec.width, 256), columns=len(images), gap=1,
        scale=max(1, _SIDE // max(spec.height, spec.width)),
    )  # fmt: skip
    picture.info["Description"] = "test images, and below them what comes back from each level of latents, bottom first"
    return picture
