from __future__ import annotations

import torch

from harness_layers.degrees import draw_degrees


def test_degrees_of_a_wide_layer_cover_every_value_and_of_a_narrow_one_are_spread_evenly():
    generator = torch.Generator().manual_seed(0)
    wide, narrow = draw_degrees(100, [150, 10], generator)
    assert set(wide.tolist()) == set(range(1, 100))
    gaps = narrow.sort().values.diff()
    assert gaps.min() >= 9
    assert gaps.max() <= 10
