"""The figure of the levels of a PixelVAE: two rows for each, in its order, the same again for the same seed."""

from __future__ import annotations

import numpy as np
import torch

import harness
from harness_vae.levels_figure import draw_pixelvae_levels
from harness_vae.pixelvae_hierarchical import HierarchicalPixelVAE

SPEC = harness.ImageSpec(1, 8, 8, 2)


def test_rows_differ_in_one_level_alone_and_come_again_for_the_same_seed(monkeypatch):
    torch.manual_seed(0)
    model = HierarchicalPixelVAE(SPEC, latents=2, maps=1, channels=2, layers=1, head=2, prior_channels=2, width=2)
    data = harness.Dataset("none", SPEC, *[harness.Split(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))] * 3, "none")
    asked, vary = [], model.vary
    monkeypatch.setattr(model, "vary", lambda level, count: asked.append((level, count)) or vary(level, count))
    picture = draw_pixelvae_levels(harness.ShownModel("two levels", model, data))
    assert asked == [(level, 10) for level in ("top", "bottom", "pixels") for _ in range(2)]
    assert np.array_equal(picture, draw_pixelvae_levels(harness.ShownModel("two levels", model, data)))
