"""PixelCNN row by row: what the rows above say once for each row, the rest once for each entry or once for each row.

Features lie as (columns, layers, images, features), so that what the rows above and the pixels to the left add to every
block is one batched product for all blocks: these read what was computed before, and wait for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from harness_pixelcnn.pixelcnn import PixelCNN


@dataclass(frozen=True, slots=True)
class _Step:
    """The views that a block works on for one channel of one column."""

    wide: Tensor
    down: Tensor
    down_bias: Tensor
    kept: Tensor
    seen: Tensor
    own: Tensor
    pre: Tensor
    hidden: Tensor
    hidden_seen: Tensor
    up: Tensor
    residual: Tensor
    result: Tensor


class PixelCNNRows:
    """What a PixelCNN has computed of N images, row by row; see ``harness_layers.rowwise``.

    Args:
        model: whose weights are read.
        num_samples: N.
    """

    def __init__(self, model: PixelCNN, num_samples: int) -> None:
        spec = model.spec
        self.width, self.channels, self.num_samples = spec.width, spec.channels, num_samples
        blocks, first = model.blocks, model.first
        self.depth, columns = len(blocks), spec.width
        weight = first.weight
        new = weight.new_zeros
        wide, narrow = weight.shape[0], blocks[0].down.weight.shape[0] if blocks else 0
        self.wide, self.narrow = wide, narrow
        self.first_reach, self.reach = first.reach, blocks[0].causal.reach if blocks else 0
        self.wide_spans = _spans(first.out_groups, spec.channels)
        self.narrow_spans = _spans(blocks[0].down.out_groups, spec.channels) if blocks else []
        self.between = _spans(model.hidden.out_groups, spec.channels)

        kernel = first.masked_weight()
        self.first_above = _rows(kernel[:, :, :-1])
        self.first_bias = _flat(first.bias)
        self.first_left = _rows(kernel[:, :, -1:, : self.first_reach])
        self.first_own = kernel[:, :, -1, self.first_reach].T.contiguous()
        causal = [block.causal.masked_weight() for block in blocks]
        if blocks:
            self.above = torch.stack([_rows(kernel[:, :, :-1]) for kernel in causal])  # (L, rows K in, P)
            self.above_bias = torch.stack([_flat(block.causal.bias) for block in blocks]).unsqueeze(1)  # (L, 1, P)
            self.left = [
                torch.stack([kernel[:, :, -1, tap].T for kernel in causal]).contiguous() for tap in range(self.reach)
            ]
        self.own = [kernel[:, :, -1, self.reach].T.contiguous() for kernel in causal]
        self.down = [block.down.masked_weight()[..., 0, 0].T.contiguous() for block in blocks]
        self.down_bias = [_flat(block.down.bias) for block in blocks]
        # the bias of a residual is the weight of a feature that is always one
        self.up = [
            torch.cat([block.up.masked_weight()[..., 0, 0].T, _flat(block.up.bias).unsqueeze(0)]) for block in blocks
        ]
        self.hidden, self.hidden_bias = model.hidden.masked_weight()[..., 0, 0].T.contiguous(), _flat(model.hidden.bias)
        self.last, self.last_bias = model.output.masked_weight()[..., 0, 0].T.contiguous(), _flat(model.output.bias)
        self.num_outputs = len(self.last_bias) // spec.channels

        self.image_rows = new(first.above, columns + 2 * self.first_reach, num_samples, spec.channels)
        self.row = new(num_samples, self.first_reach + columns, spec.channels)
        self.x = new(columns, self.depth + 1, num_samples, wide)  # the first is filled by what is above
        self.kept_rows = new(self.reach, columns + 2 * self.reach, self.depth, num_samples, narrow)
        self.kept = new(self.reach + columns, self.depth, num_samples, narrow)  # inputs of the causal convolutions
        self.pre = new(columns, self.depth, num_samples, narrow)
        self.after = new(self.depth, num_samples, narrow + 1)
        self.after[..., -1] = 1
        self.between_buffer = new(num_samples, self.hidden.shape[1])
        self.started = False
        self._steps = [[self._plan(column, channel) for channel in range(spec.channels)] for column in range(columns)]

    def _plan(self, column: int, channel: int) -> list[_Step]:
        steps = []
        x, kept, pre = self.x[column], self.kept[self.reach + column], self.pre[column]
        span = self.wide_spans[channel]
        for depth in range(self.depth):
            narrow = self.narrow_spans[channel]
            steps.append(
                _Step(
                    wide=x[depth, :, : span.stop],
                    down=self.down[depth][: span.stop, narrow].contiguous(),
                    down_bias=self.down_bias[depth][narrow],
                    kept=kept[depth, :, narrow],
                    seen=kept[depth, :, : narrow.stop],
                    own=self.own[depth][: narrow.stop, narrow].contiguous(),
                    pre=pre[depth, :, narrow],
                    hidden=self.after[depth, :, narrow],
                    hidden_seen=self.after[depth],  # later channels are not there yet, and have no weight
                    up=self.up[depth][:, span].contiguous(),
                    residual=x[depth, :, span],
                    result=x[depth + 1, :, span],
                )
            )
        return steps

    def begin_row(self) -> None:
        """Takes in the row that was completed, and computes what the rows above add to every layer."""
        columns, samples, reach = self.width, self.num_samples, self.reach
        if self.started:
            _push(self.image_rows, self.row[:, self.first_reach :].transpose(0, 1), self.first_reach)
            if reach:
                _push(self.kept_rows, self.kept[reach:], reach)
        self.started = True
        taps = [
            self.image_rows[row, column : column + columns]
            for row in range(self.image_rows.shape[0])
            for column in range(2 * self.first_reach + 1)
        ]
        seen = torch.cat(taps, dim=-1).view(columns * samples, -1)
        above = torch.addmm(self.first_bias, seen, self.first_above)
        self.x[:, 0] = above.view(columns, samples, self.wide)
        if not self.depth:
            return
        if not reach:
            self.pre.copy_(self.above_bias)
            return
        taps = [
            self.kept_rows[row, column : column + columns] for row in range(reach) for column in range(2 * reach + 1)
        ]
        stacked = torch.cat(taps, dim=-1).transpose(0, 1).reshape(self.depth, columns * samples, -1)
        pre = torch.baddbmm(self.above_bias, stacked, self.above).view(self.depth, columns, samples, -1)
        self.pre.copy_(pre.transpose(0, 1))

    def outputs(self, column: int, channel: int) -> Tensor:
        """Returns (N, O): what is left of the network for one channel of one pixel."""
        if channel == 0:
            self.x[column, 0].addmm_(self.row[:, column : column + self.first_reach].flatten(1), self.first_left)
            for tap in range(self.reach if self.depth else 0):
                self.pre[column].baddbmm_(self.kept[column + tap], self.left[tap])
        else:
            span = self.wide_spans[channel]
            earlier = self.row[:, self.first_reach + column, :channel]
            self.x[column, 0, :, span].addmm_(earlier, self.first_own[:channel, span])
        for step in self._steps[column][channel]:
            torch.clamp_min(torch.addmm(step.down_bias, step.wide.relu(), step.down), 0, out=step.kept)
            torch.clamp_min(step.pre.addmm_(step.seen, step.own), 0, out=step.hidden)
            torch.addmm(step.residual, step.hidden_seen, step.up, out=step.result)
        seen, between = slice(0, self.wide_spans[channel].stop), self.between[channel]
        last = self.x[column, -1, :, seen].relu()
        hidden = torch.addmm(self.hidden_bias[between], last, self.hidden[seen, between])
        torch.clamp_min(hidden, 0, out=self.between_buffer[:, between])
        through = slice(0, between.stop)
        out = slice(channel * self.num_outputs, (channel + 1) * self.num_outputs)
        return torch.addmm(self.last_bias[out], self.between_buffer[:, through], self.last[through, out])

    def put(self, column: int, channel: int, scaled: Tensor) -> None:
        """Takes the values (N, 1) of an entry, scaled to [-1, 1]."""
        self.row[:, self.first_reach + column, channel] = scaled[:, 0]

    def row_outputs(self, scaled: Tensor) -> Tensor:
        """Maps a whole row (W, C, N, 1), scaled to [-1, 1], to its outputs (W, C, N, O)."""
        columns, samples = self.width, self.num_samples
        flat = columns * samples
        self.row[:, self.first_reach :] = scaled[..., 0].permute(2, 0, 1)
        image = self.row.transpose(0, 1)  # (K + W, N, C)
        taps = [image[tap : tap + columns] for tap in range(self.first_reach)]
        x = torch.addmm(self.x[:, 0].reshape(flat, self.wide), torch.cat(taps, dim=-1).view(flat, -1), self.first_left)
        x.addmm_(image[self.first_reach :].reshape(flat, -1), self.first_own)
        for depth in range(self.depth):
            kept = torch.addmm(self.down_bias[depth], x.relu(), self.down[depth]).relu_()
            self.kept[self.reach :, depth] = kept.view(columns, samples, -1)
            pre = torch.addmm(self.pre[:, depth].reshape(flat, -1), kept, self.own[depth])
            for tap in range(self.reach):
                pre.addmm_(self.kept[tap : tap + columns, depth].reshape(flat, -1), self.left[tap][depth])
            x = x.addmm_(F.pad(pre.relu_(), (0, 1), value=1.0), self.up[depth])
        hidden = torch.addmm(self.hidden_bias, x.relu_(), self.hidden).relu_()
        outputs = torch.addmm(self.last_bias, hidden, self.last)
        return outputs.view(columns, samples, self.channels, self.num_outputs).transpose(1, 2)


def _spans(groups: Tensor, num_groups: int) -> list[slice]:
    ends = torch.bincount(groups, minlength=num_groups).cumsum(0).tolist()
    return [slice(low, high) for low, high in zip([0, *ends], ends, strict=False)]


def _rows(kernel: Tensor) -> Tensor:
    """Maps a kernel (out, in, rows, columns) to (rows columns in, out)."""
    return kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def _flat(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias


def _push(rows: Tensor, row: Tensor, margin: int) -> None:
    """Moves rows (R, columns + 2 margin, ...) up by one, and puts a row (columns, ...) below."""
    for index in range(rows.shape[0] - 1):
        rows[index].copy_(rows[index + 1])
    rows[-1, margin : margin + row.shape[0]] = row
