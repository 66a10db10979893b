"""The scan over diagonals against the recurrence, pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness_mixtures.spatial_lstm import SpatialLSTM, diagonal_order

K, UNITS = 3, 4


def pixel_by_pixel(lstm: SpatialLSTM, inputs: Tensor, height: int, width: int) -> Tensor:
    """The formulas for inputs (H * W, N, K) in raster order."""
    zero = inputs.new_zeros(inputs.shape[1], UNITS)
    hidden, cell = {}, {}
    for i in range(height):
        for j in range(width):
            h = torch.cat([hidden.get((i, j - 1), zero), hidden.get((i - 1, j), zero)], 1)
            gates = lstm.from_input(inputs[i * width + j]) + h @ lstm.from_states
            out, into, left, above = (gates[:, UNITS * k : UNITS * (k + 1)].sigmoid() for k in range(4))
            cell[i, j] = into * gates[:, 4 * UNITS :].tanh()
            cell[i, j] = cell[i, j] + left * cell.get((i, j - 1), zero) + above * cell.get((i - 1, j), zero)
            hidden[i, j] = (out * cell[i, j]).tanh()
    return torch.stack(list(hidden.values()))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3)])
def test_a_scan_over_diagonals_is_the_recurrence_over_pixels(height: int, width: int) -> None:
    torch.manual_seed(0)
    lstm = SpatialLSTM(K, UNITS).double()
    inputs = torch.randn(height * width, 2, K, dtype=torch.float64)
    order = diagonal_order(height, width)
    torch.testing.assert_close(lstm(inputs[order], height, width), pixel_by_pixel(lstm, inputs, height, width)[order])


def test_the_order_runs_over_diagonals_each_from_its_top_row() -> None:
    assert diagonal_order(2, 3).tolist() == [0, 1, 3, 2, 4, 5]
