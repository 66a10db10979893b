"""A spatial LSTM over the pixels of an image, a diagonal of them at a time (Theis & Bethge 2015, arXiv 1506.03478)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialLSTM(nn.Module):
    r"""An LSTM whose state comes from the pixel to the left and from the pixel above, with a forget gate for each.

    .. math::

        (o, i, f, f') &= \sigma(W (x, h_{left}, h_{above}) + b), \quad g = \tanh(W_g (x, h_{left}, h_{above}) + b_g) \\
        c &= i g + f c_{left} + f' c_{above}, \quad h = \tanh(o c)

    Beyond the left and the upper edge, h and c are zero.

    Args:
        num_inputs: K, entries of x.
        units: P, entries of h and of c.
    """

    def __init__(self, num_inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.from_input = nn.Linear(num_inputs, 5 * units)
        self.from_states = nn.Parameter(torch.empty(2 * units, 5 * units))
        bound = math.sqrt(1 / (2 * units))
        nn.init.uniform_(self.from_states, -bound, bound)
        nn.init.zeros_(self.from_input.bias)

    def forward(self, inputs: Tensor, height: int, width: int) -> Tensor:
        """Maps x (cells, N, K), the cells in ``diagonal_order``, to h (cells, N, P)."""
        firsts = [max(0, diagonal - width + 1) for diagonal in range(height + width - 1)]  # rows
        lengths = [min(height, diagonal + 1) - first for diagonal, first in enumerate(firsts)]
        before = inputs.new_zeros(2, inputs.shape[1], 2 * self.units)  # h and c of a diagonal, between zeros
        hidden = []
        for diagonal, pre in enumerate(torch.split(self.from_input(inputs), lengths)):
            # the first of ``before`` is the one above the first row of its diagonal
            skip = int(diagonal >= width)
            above, left = before[skip : skip + len(pre)], before[skip + 1 : skip + 1 + len(pre)]
            state = self.step(pre, left, above)
            hidden.append(state[..., : self.units])
            before = F.pad(state, (0, 0, 0, 0, 1, 1))
        return torch.cat(hidden)

    def step(self, pre: Tensor, left: Tensor, above: Tensor) -> Tensor:
        """Maps what comes from x (..., 5P) and two states, h and c together (..., 2P), to the next one (..., 2P)."""
        (hidden_left, cell_left), (hidden_above, cell_above) = left.chunk(2, -1), above.chunk(2, -1)
        gates = pre + torch.cat([hidden_left, hidden_above], -1) @ self.from_states
        out, into, forget_left, forget_above = gates[..., : 4 * self.units].sigmoid().chunk(4, -1)
        cell = into * gates[..., 4 * self.units :].tanh() + forget_left * cell_left + forget_above * cell_above
        return torch.cat([(out * cell).tanh(), cell], -1)


def diagonal_order(height: int, width: int) -> Tensor:
    """Returns (H * W,) int64: raster positions, diagonal after diagonal from the upper left, each from its top row."""
    return (torch.arange(height).unsqueeze(1) + torch.arange(width)).flatten().argsort(stable=True)
