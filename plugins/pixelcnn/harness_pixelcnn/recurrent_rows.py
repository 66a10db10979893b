"""The PixelRNNs row by row: what the rows above say once for each row, the rest once for each entry.

Maps lie as (columns, layers, images, features). An LSTM's tanh of the candidate is a sigmoid, as in training, and what
is kept is the negative of its states c and h, with the sign folded into the weights that read them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from harness_layers.causal import CausalConv2d, groups_of
from harness_pixelcnn.pixel_rnn import PixelRNN


@dataclass(frozen=True, slots=True)
class _Step:
    """The views that a layer works on for one channel of one column; ``left`` is of its first channel alone."""

    maps: Tensor
    own: Tensor
    gates: Tensor
    out: Tensor
    forget: Tensor
    into: Tensor
    candidate: Tensor
    carried: Tensor | None
    cell: Tensor
    hidden: Tensor
    seen: Tensor
    up: Tensor
    residual: Tensor
    result: Tensor


@dataclass(frozen=True, slots=True)
class _Entry:
    """The views that an entry works on, outside of the layers."""

    first: Tensor
    inputs: Tensor | None
    first_own: Tensor
    steps: list[_Step]
    last: Tensor
    target: Tensor


@dataclass(frozen=True, slots=True)
class _Head:
    weight: Tensor
    bias: Tensor
    target: Tensor
    seen: Tensor
    output: Tensor
    output_bias: Tensor


def flat(layer: CausalConv2d) -> tuple[Tensor, Tensor]:
    """Returns the masked weight of a 1x1 layer, (in, out), and its bias."""
    assert layer.bias is not None
    return layer.masked_weight()[:, :, 0, 0].T, layer.bias


class RecurrentRows(ABC):
    """What a PixelRNN has computed of N images, row by row; see ``harness_layers.rowwise``.

    A subclass fills ``left``, ``own``, ``up`` and ``extras``, and runs what the rows above say in ``_enter``.

    Args:
        model: whose weights are read.
        num_samples: N.
        extras: how many features, besides an LSTM's own state, ``up`` reads of each layer; the first is always one.
        carried_from_left: whether a cell's state comes from the left, or else from above.
    """

    left: Tensor  # (layers, from the left, 4P)
    own: Tensor  # (layers, 2P, 4P)
    up: Tensor  # (layers, extras + P, 2P)

    def __init__(self, model: PixelRNN, num_samples: int, *, extras: int, carried_from_left: bool) -> None:
        spec, first = model.spec, model.first
        self.width, self.channels, self.num_samples = spec.width, spec.channels, num_samples
        self.depth, self.size, self.extras = len(model.layers), model.layers[0].size, extras
        self.carried_from_left = carried_from_left
        new = first.weight.new_zeros
        wide, narrow = 2 * self.size, self.size
        layer = model.layers[0]
        self.wide_spans = _spans(first.out_groups, spec.channels)
        self.narrow_spans = _spans(groups_of(narrow, spec.channels), spec.channels)
        between = _spans(model.hidden.out_groups, spec.channels)
        # gates group by group: [o 0, f 0, i 0, candidate 0, o 1, ...]
        index = torch.arange(4 * narrow).view(4, narrow)
        self.order = torch.cat([index[:, span].flatten() for span in self.narrow_spans]).to(first.weight.device)
        self.doubled = layer.doubled[self.order]

        kernel, reach = first.masked_weight(), first.reach
        self.reach = reach
        self.first_above = kernel[:, :, : first.above].permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.first_left = kernel[:, :, -1, :reach].permute(2, 1, 0).flatten(0, 1).contiguous()  # (K C, 2P)
        self.first_own = kernel[:, :, -1, reach].T.contiguous()  # (C, 2P)
        assert first.bias is not None
        self.first_bias = first.bias

        columns, samples = spec.width, num_samples
        self.image_rows = new(first.above, columns + 2 * reach, samples, spec.channels)
        self.row = new(samples, reach + columns, spec.channels)  # the image's own row
        self.first = new(columns, samples, wide)
        self.gates = new(columns, self.depth, samples, 4 * narrow)
        self.maps = new(columns, self.depth + 1, samples, wide)
        self.cells = new(columns, self.depth, samples, narrow)
        self.states = new(columns, self.depth, samples, extras + narrow)  # what is always one, extras, then h
        self.states[..., 0] = 1
        self.hidden = self.states[..., extras:]
        self.scratch = new(samples, 4 * narrow)
        self.between = new(samples, model.hidden.weight.shape[0])
        self.started = False
        hidden, hidden_bias = flat(model.hidden)
        output, output_bias = flat(model.output)
        count = output.shape[1] // spec.channels
        self._heads = [
            _Head(
                hidden[: self.wide_spans[channel].stop, span].contiguous(), hidden_bias[span],
                self.between[:, span], self.between[:, : span.stop],
                output[: span.stop, channel * count : (channel + 1) * count].contiguous(),
                output_bias[channel * count : (channel + 1) * count],
            )
            for channel, span in enumerate(between)
        ]  # fmt: skip

    def plan(self) -> None:
        """Looks up once which part of which buffer every entry works on; the last thing that a subclass does."""
        flat_row = self.row.view(self.num_samples, -1)
        taps = self.reach * self.channels
        self._windows = [flat_row[:, c * self.channels : c * self.channels + taps] for c in range(self.width)]
        self._lefts = [None, *[self._from_left(column) for column in range(self.width - 1)]]
        self._entries = [
            [self._plan_entry(column, channel) for channel in range(self.channels)] for column in range(self.width)
        ]

    @abstractmethod
    def _from_left(self, column: int) -> Tensor:
        """Returns what the pixel to the right of a column reads there, (layers, N, features)."""

    @abstractmethod
    def _enter(self) -> None:
        """Computes what the rows above say about the gates of a row, by what the buffers hold of the row before."""

    def _plan_entry(self, column: int, channel: int) -> _Entry:
        wide, narrow = self.wide_spans[channel], self.narrow_spans[channel]
        size = narrow.stop - narrow.start
        start = 4 * narrow.start
        seen = slice(0, self.extras + narrow.stop)
        steps = []
        for depth in range(self.depth):
            gates = self.gates[column, depth][:, start : start + 4 * size]
            out, forget, into, candidate = gates.chunk(4, dim=1)
            source = column - 1 if self.carried_from_left else column
            steps.append(
                _Step(
                    self.maps[column, depth][:, : wide.stop],
                    self.own[depth][: wide.stop, start : start + 4 * size].contiguous(),
                    gates, out, forget, into, candidate,
                    self.cells[source, depth][:, narrow] if source >= 0 else None,
                    self.cells[column, depth][:, narrow], self.hidden[column, depth][:, narrow],
                    self.states[column, depth][:, seen], self.up[depth][seen, wide].contiguous(),
                    self.maps[column, depth][:, wide], self.maps[column, depth + 1][:, wide],
                )
            )  # fmt: skip
        inputs = self.row[:, self.reach + column, :channel] if channel else None
        return _Entry(
            self.first[column][:, wide], inputs, self.first_own[:channel, wide].contiguous(), steps,
            self.maps[column, -1][:, : wide.stop], self.maps[column, 0][:, wide],
        )  # fmt: skip

    def begin_row(self) -> None:
        """Takes in the row that was completed, and computes what the rows above say about the next one."""
        columns = self.width
        if self.started:
            for index in range(len(self.image_rows) - 1):
                self.image_rows[index].copy_(self.image_rows[index + 1])
            self.image_rows[-1, self.reach : self.reach + columns] = self.row[:, self.reach :].transpose(0, 1)
        seen = [
            self.image_rows[row, column : column + columns]
            for row in range(len(self.image_rows))
            for column in range(2 * self.reach + 1)
        ]
        pixels = torch.cat(seen, dim=-1).flatten(0, 1)
        above = torch.addmm(self.first_bias, pixels, self.first_above)
        self.first.copy_(above.view_as(self.first))
        self._enter()
        self.started = True

    def outputs(self, column: int, channel: int) -> Tensor:
        """Returns (N, O): all layers, for one channel of one pixel."""
        if channel == 0:
            self.first[column].addmm_(self._windows[column], self.first_left)
            left = self._lefts[column]
            if left is not None:
                self.gates[column].baddbmm_(left, self.left)
        entry = self._entries[column][channel]
        if entry.inputs is None:
            entry.target.copy_(entry.first)
        else:
            torch.addmm(entry.first, entry.inputs, entry.first_own, out=entry.target)
        for step in entry.steps:
            step.gates.addmm_(step.maps, step.own).sigmoid_()
            candidate = torch.addcmul(step.into, step.into, step.candidate, value=-2)
            if step.carried is None:
                step.cell.copy_(candidate)
            else:
                torch.addcmul(candidate, step.forget, step.carried, out=step.cell)
            torch.mul(step.out, step.cell.tanh(), out=step.hidden)
            torch.addmm(step.residual, step.seen, step.up, out=step.result)
        head = self._heads[channel]
        torch.addmm(head.bias, entry.last.relu(), head.weight, out=head.target).relu_()
        return torch.addmm(head.output_bias, head.seen, head.output)

    def put(self, column: int, channel: int, scaled: Tensor) -> None:
        """Takes the values (N, 1) of an entry, scaled to [-1, 1]."""
        self.row[:, self.reach + column, channel] = scaled[:, 0]

    def gate_weight(self, weight: Tensor) -> Tensor:
        """Maps the weight of a layer onto gates, (4P, in), to (in, 4P) with the gates group by group."""
        return (weight[self.order] * self.doubled.unsqueeze(1)).T.contiguous()

    def gate_bias(self, bias: Tensor) -> Tensor:
        """Maps the bias of gates (4P,) to the same, group by group."""
        return bias[self.order] * self.doubled


def _spans(groups: Tensor, channels: int) -> list[slice]:
    ends = torch.bincount(groups, minlength=channels).cumsum(0).tolist()
    return [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]
