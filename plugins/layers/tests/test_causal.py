from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from harness_layers.causal import CausalConv2d, RowsAbove, group_mask, groups_of

KERNELS = [(0, 0, "B"), (0, 2, "A"), (0, 2, "B"), (1, 1, "B"), (2, 2, "A"), (3, 3, "A")]


def full_masked_convolution(layer, x):
    """The textbook's way: a square kernel, multiplied by its mask, entry by entry."""
    reach = max(layer.above, layer.reach)
    size = 2 * reach + 1
    kernel = torch.zeros(len(layer.out_groups), len(layer.in_groups), size, size, dtype=x.dtype)
    weight = layer.masked_weight()
    columns = weight.shape[3]
    kernel[:, :, reach - layer.above : reach + 1, reach - layer.reach : reach - layer.reach + columns] = weight
    return F.conv2d(x, kernel, layer.bias, padding=reach)


def layer_of(channels, above, reach, mask, in_features=4, out_features=5):
    layer = CausalConv2d(
        groups_of(in_features, channels), groups_of(out_features, channels), above=above, reach=reach, mask=mask
    ).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("above", "reach", "mask"), KERNELS)
@pytest.mark.parametrize("size", [(5, 6), (1, 4), (4, 1)])
def test_a_cropped_convolution_is_the_square_masked_one(channels, above, reach, mask, size):
    layer = layer_of(channels, above, reach, mask)
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), full_masked_convolution(layer, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("above", "reach", "mask"), KERNELS)
def test_an_output_sees_rows_above_and_columns_to_the_left_within_reach_and_groups_of_its_pixel_by_the_mask(
    channels, above, reach, mask
):
    layer = layer_of(channels, above, reach, mask)
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(layer, x)[0, :, :, :, 0] != 0  # (out, H, W, in, H, W)
    within = group_mask(layer.out_groups, layer.in_groups, mask)
    for row, column, other_row, other_column in torch.cartesian_prod(*map(torch.arange, (5, 6, 5, 6))).tolist():
        down, right = other_row - row, other_column - column
        seen = jacobian[:, row, column, :, other_row, other_column]
        if down == right == 0:
            assert torch.equal(seen, within)
        elif -above <= down < 0 and abs(right) <= reach:
            assert seen.all()
        else:
            assert torch.equal(seen, torch.full_like(seen, down == 0 and -reach <= right < 0))


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(5, 4), (1, 3), (3, 1)])
def test_rows_above_sees_whole_rows_and_nothing_below_its_shift(shift, size):
    layer = RowsAbove(2, 3, rows=2, reach=1, shift=shift).double()
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(layer, x)[0, :, :, :, 0] != 0
    for row, column, other_row, other_column in torch.cartesian_prod(*map(torch.arange, (*size, *size))).tolist():
        seen = jacobian[:, row, column, :, other_row, other_column]
        expected = shift <= row - other_row < shift + 2 and abs(column - other_column) <= 1
        assert torch.equal(seen, torch.full_like(seen, expected))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("above", "reach", "mask"), KERNELS)
def test_spread_is_what_the_jacobian_of_the_groups_shows(channels, above, reach, mask):
    layer = layer_of(channels, above, reach, mask)
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(layer, x)[0, :, :, :, 0] != 0
    for channel in range(channels):
        for row, column in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
            entry = torch.zeros(1, channels, 4, 5)
            entry[0, channel, row, column] = 1
            reached = layer.spread(entry)[0]
            into = jacobian[:, :, :, layer.in_groups == channel, row, column].any(-1)
            for out in range(channels):
                assert torch.equal(reached[out] > 0, into[layer.out_groups == out].any(0))


def test_groups_are_ascending_and_as_equal_as_they_can_be():
    assert groups_of(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_fewer_features_than_channels_are_refused_by_number():
    with pytest.raises(ValueError, match="2 features cannot be split into 3 groups"):
        groups_of(2, 3)
