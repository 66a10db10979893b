"""Causal convolutions, cropped to what their masks leave: rows above, pixels to the left, earlier channels.

Features are split into as many groups as the image has channels: group c may see channels up to c of its own pixel
(mask B) or before c (mask A), and all of earlier pixels (van den Oord et al. 2016, arXiv 1601.06759). Weights are
masked where a kernel is not a rectangle, on the way into the convolution, and never edited.

Every layer says by ``spread`` where something can get to: the same map between groups, on zeros and ones.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MaskType = Literal["A", "B"]


def groups_of(features: int, num_groups: int) -> Tensor:
    """Returns (features,) int64, ascending: the group of every feature, groups as equal as they can be.

    Raises:
        ValueError: fewer features than groups.
    """
    if features < num_groups:
        raise ValueError(f"{features} features cannot be split into {num_groups} groups, one for each channel")
    return torch.arange(features) * num_groups // features


def group_mask(out_groups: Tensor, in_groups: Tensor, mask: MaskType) -> Tensor:
    """Returns (out, in) bool: which features of a pixel may see which features of the same pixel."""
    if mask == "A":
        return out_groups[:, None] > in_groups[None, :]
    return out_groups[:, None] >= in_groups[None, :]


class CausalConv2d(nn.Module):
    """A convolution whose kernel has ``above`` rows above the pixel's own, and ends at the pixel in its own row.

    The kernel is cropped to (above + 1) rows and, where nothing is above, to the columns up to the pixel's. With mask
    A in one group, the pixel itself is cropped away as well where the kernel is a single row.

    Args:
        in_groups, out_groups: (in,) and (out,) int64, ascending, the group of every feature.
        above: rows above the pixel's own.
        reach: columns to the left, and in the rows above to the right as well.
        mask: what of the pixel itself is seen.
        bias: whether there is one.
    """

    mask: Tensor | None
    in_groups: Tensor
    out_groups: Tensor

    def __init__(self, in_groups: Tensor, out_groups: Tensor, *, above: int, reach: int, mask: MaskType,
                 bias: bool = True) -> None:  # fmt: skip
        super().__init__()
        self.above, self.reach = above, reach
        blind = mask == "A" and int(in_groups.max()) == 0  # nothing of the pixel itself is seen
        # a single row may end before the pixel; the kernel keeps one column at least
        self.right = reach if above else -1 if blind and reach else 0
        width = reach + 1 + self.right
        kernel = torch.zeros(len(out_groups), len(in_groups), above + 1, width, dtype=torch.bool)
        kernel[:, :, :above] = True
        kernel[:, :, above, :reach] = True
        if self.right >= 0:
            kernel[:, :, above, reach] = group_mask(out_groups, in_groups, mask)
        self.register_buffer("mask", None if kernel.all() else kernel, persistent=False)
        self.register_buffer("in_groups", in_groups, persistent=False)
        self.register_buffer("out_groups", out_groups, persistent=False)
        self.weight = nn.Parameter(torch.empty(kernel.shape))
        self.bias = nn.Parameter(torch.zeros(len(out_groups))) if bias else None
        seen = kernel.sum((1, 2, 3)).clamp_min(1).float().mean().item()
        nn.init.uniform_(self.weight, -math.sqrt(3 / seen), math.sqrt(3 / seen))

    def masked_weight(self) -> Tensor:
        """Returns (out, in, above + 1, columns), zero where the mask is."""
        return self.weight if self.mask is None else self.weight * self.mask

    def _pad(self, x: Tensor) -> Tensor:
        if self.right < 0:
            x = x[..., : x.shape[-1] - 1]
        if self.above == self.reach == 0:
            return x
        return F.pad(x, (self.reach, max(self.right, 0), self.above, 0) if self.right >= 0 else (self.reach, 0, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in, H, W) to (N, out, H, W)."""
        return F.conv2d(self._pad(x), self.masked_weight(), self.bias)

    def spread(self, reached: Tensor) -> Tensor:
        """Maps (N, groups, H, W) of zeros and ones to the same, one where a one is seen."""
        groups = reached.shape[1]
        seen = torch.ones_like(self.weight, dtype=torch.bool) if self.mask is None else self.mask
        kernel = reached.new_zeros(groups, groups, *seen.shape[2:])
        for out in range(groups):
            for into in range(groups):
                part = seen[self.out_groups == out][:, self.in_groups == into]
                kernel[out, into] = part.flatten(0, 1).any(0).to(reached.dtype)
        return (F.conv2d(self._pad(reached), kernel) > 0).to(reached.dtype)


class RowsAbove(nn.Module):
    """A convolution over rows above the pixel's own: k columns wide, all channels seen.

    Args:
        in_features, out_features: widths.
        rows: how many rows the kernel has.
        reach: columns to either side.
        shift: 1 where the last row of the kernel is the one above the pixel; 0 where it is the pixel's own, for inputs
            that know rows above alone already.
    """

    def __init__(self, in_features: int, out_features: int, *, rows: int, reach: int, shift: int) -> None:
        super().__init__()
        self.rows, self.reach, self.shift = rows, reach, shift
        self.weight = nn.Parameter(torch.empty(out_features, in_features, rows, 2 * reach + 1))
        self.bias = nn.Parameter(torch.zeros(out_features))
        fan_in = in_features * rows * (2 * reach + 1)
        nn.init.uniform_(self.weight, -math.sqrt(3 / fan_in), math.sqrt(3 / fan_in))

    def _pad(self, x: Tensor) -> Tensor:
        kept = x[:, :, : x.shape[2] - self.shift] if self.shift else x
        return F.pad(kept, (self.reach, self.reach, self.rows - 1 + self.shift, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in, H, W) to (N, out, H, W)."""
        return F.conv2d(self._pad(x), self.weight, self.bias)

    def spread(self, reached: Tensor) -> Tensor:
        """Maps (N, groups, H, W) of zeros and ones to the same, one where a one is seen."""
        kernel = reached.new_ones(reached.shape[1], reached.shape[1], self.rows, 2 * self.reach + 1)
        return (F.conv2d(self._pad(reached), kernel) > 0).to(reached.dtype)
