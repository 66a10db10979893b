from __future__ import annotations

import numpy as np
import torch

from harness import Dataset, ImageSpec, ShownModel, Split
from harness_flows.maf import MAF
from harness_flows.steps_figure import draw_flow_steps


def shown(width: int) -> ShownModel:
    spec = ImageSpec(channels=1, height=1, width=width, levels=4)
    split = Split(torch.zeros(4, *spec.shape, dtype=torch.uint8))
    return ShownModel("", MAF(spec, layers=2, hidden=[3]).eval(), Dataset("", spec, split, split, split))


def test_a_panel_of_the_figure_is_dark_where_the_samples_are():
    one = shown(2)
    picture = draw_flow_steps(one)
    first = 255 - np.asarray(picture)[:, :128].astype(float)
    rows, columns = np.indices(first.shape)
    for places in (rows, columns):  # standard Gaussians, in panels from -4 to 4
        assert abs((first * places).sum() / first.sum() - 63.5) < 2
    assert picture.size == (6 * 132 - 4, 128)  # latents, and after each of two steps, two actnorms and the logit
    assert picture.info["Description"].startswith("50,000 latents after 0, 1, 2, 3, 4, 5 steps")


def test_nothing_is_drawn_of_images_of_more_entries():
    assert draw_flow_steps(shown(3)) is None
