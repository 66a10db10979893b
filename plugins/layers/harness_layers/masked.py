"""A masked multilayer perceptron: all its outputs in one pass, or entry by entry at the cost of one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_layers.checks import check_widths
from harness_layers.degrees import draw_degrees

_PARTS, _LARGE = 4, 2**16  # of the units of a layer with so many weights: what none of a part sees is not multiplied


class MaskedLinear(nn.Module):
    """A linear layer whose output k sees the inputs of at most its degree; both are sorted by degree.

    Args:
        below, above: the degrees of inputs (I,) and outputs (O,), int64, ascending.
    """

    parts: Sequence[nn.Linear]

    def __init__(self, below: Tensor, above: Tensor) -> None:
        super().__init__()
        rows = above.chunk(_PARTS if len(above) * len(below) >= _LARGE else 1)
        self.num_inputs = len(below)
        parts = []
        for index, row in enumerate(rows):
            seen = max(1, int(torch.searchsorted(below, row[-1:], right=True)))
            parts.append(nn.Linear(seen, len(row)))
            mask = row[:, None] >= below[None, :seen]
            self.register_buffer(f"mask_{index}", mask.to(torch.get_default_dtype()), persistent=False)
        self.parts = cast("Sequence[nn.Linear]", nn.ModuleList(parts))

    def _weights(self) -> list[Tensor]:
        return [part.weight * self.get_buffer(f"mask_{index}") for index, part in enumerate(self.parts)]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, I) to (N, O)."""
        parts = zip(self._weights(), self.parts, strict=True)
        return torch.cat([F.linear(x[:, : weight.shape[1]], weight, part.bias) for weight, part in parts], 1)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Returns the weights (O, I), zero where they are masked, and the biases (O,)."""
        weights = [F.pad(weight, (0, self.num_inputs - weight.shape[1])) for weight in self._weights()]
        return torch.cat(weights), torch.cat([part.bias for part in self.parts])


class MaskedMLP(nn.Module):
    """Maps x (N, D) to outputs (N, D, O), of which those of entry d depend on the entries before d alone.

    The weights are those of MADE (Germain et al. 2015, arXiv 1502.03509), in natural order. Units are sorted by degree:
    so those that see the first m entries are the first ones of their layer.

    Args:
        size: D.
        num_outputs: O, for each entry.
        hidden: the widths of the ReLU layers, at least one. One below D - 1 leaves some of the past out of sight.

    Raises:
        ValueError: a width that is not positive, or none.
    """

    layers: Sequence[MaskedLinear]

    def __init__(self, size: int, num_outputs: int, hidden: Sequence[int]) -> None:
        super().__init__()
        check_widths(hidden=hidden)
        self.size, self.num_outputs = size, num_outputs
        drawn = draw_degrees(size, hidden, torch.Generator().manual_seed(0))
        inputs = torch.arange(1, size + 1)
        degrees = [inputs, *(layer.sort().values for layer in drawn), (inputs - 1).repeat_interleave(num_outputs)]
        self.layers = cast("Sequence[MaskedLinear]", nn.ModuleList(MaskedLinear(*pair) for pair in pairwise(degrees)))
        # how many units of each hidden layer see the first 0, ..., D - 1 entries at most
        self._counts = [torch.searchsorted(layer, inputs - 1, right=True).tolist() for layer in degrees[1:-1]]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, D) to (N, D, O)."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return cast("Tensor", self.layers[-1](x)).view(len(x), self.size, self.num_outputs)

    def one_by_one(self, entry: Callable[[int, Tensor], Tensor], num_rows: int) -> Tensor:
        """Builds x (N, D) of N = ``num_rows``: ``entry`` maps d and the outputs of entry d, (O, N), to x_d, (N,).

        No unit is computed twice, as none sees what is yet to come.
        """
        layers = [(weight, bias[:, None]) for weight, bias in (layer.whole() for layer in self.layers)]
        *below, (last, last_bias) = layers
        kept = [last.new_empty(0, num_rows) for _ in layers]  # x, and the hidden units that are known
        for d in range(self.size):
            for depth, ((weight, bias), counts) in enumerate(zip(below, self._counts, strict=True)):
                seen, new = kept[depth], slice(len(kept[depth + 1]), counts[d])
                if new.start < new.stop:
                    units = torch.addmm(bias[new], weight[new, : len(seen)], seen).relu()
                    kept[depth + 1] = torch.cat([kept[depth + 1], units])
            own = slice(d * self.num_outputs, (d + 1) * self.num_outputs)
            outputs = torch.addmm(last_bias[own], last[own, : len(kept[-1])], kept[-1])
            kept[0] = torch.cat([kept[0], entry(d, outputs)[None]])
        return kept[0].T
