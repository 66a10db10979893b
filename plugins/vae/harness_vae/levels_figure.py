"""The figure ``pixelvae-levels``: what each level of a hierarchical PixelVAE decides."""

from __future__ import annotations

from typing import get_args

import torch
from PIL import Image

from harness import ShownModel, derive_seed, image_grid, isolated_rng
from harness_vae.pixelvae_hierarchical import HierarchicalPixelVAE, Level

_COLUMNS, _ROWS_EACH, _SIDE = 10, 2, 56


@torch.no_grad()
def draw_pixelvae_levels(shown: ShownModel) -> Image.Image:
    """Draws two rows for each level: samples that differ in its noise alone. Gulrajani et al. 2017, arXiv 1611.05013.

    The first two rows share all but the top latents, the next two all but the noise of the bottom ones, the last two
    all but that of the pixels.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, HierarchicalPixelVAE)
    with isolated_rng(derive_seed(shown.seed, "pixelvae-levels"), model.device):
        rows = [model.vary(level, _COLUMNS) for level in get_args(Level) for _ in range(_ROWS_EACH)]
    scale = max(1, _SIDE // max(spec.height, spec.width))
    picture = image_grid(torch.cat(rows), spec, columns=_COLUMNS, gap=2, scale=scale)
    words = f"from above, {_ROWS_EACH} rows each: other top latents, other noise of the bottom latents, of the pixels"
    picture.info["Description"] = f"{words}; all else is the same within a row"
    return picture
