"""The gated stack row by row: its vertical stack once for each row, its horizontal stack for each entry or each row.

Features lie as (columns, images, features), so that what a kernel sees in a row is a slice. The tanh and the sigmoid of
a gate are one sigmoid: tanh(a) = 2 sigmoid(2a) - 1, with the 2 folded into the weights; what is kept is the gate's
negative, s_b - 2 s_2a s_b, with the sign folded into the weights that read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec
from harness_layers.gated_stack import GatedStack


@dataclass(frozen=True, slots=True)
class _Step:
    """The views that a layer works on for one channel of one column."""

    pre: Tensor
    seen: Tensor | None
    own: Tensor | None
    tanh: Tensor
    sigmoid: Tensor
    gate: Tensor
    gates: Tensor
    output: Tensor
    residual: Tensor | None
    result: Tensor


@dataclass(frozen=True, slots=True)
class _Column:
    left: tuple[Tensor, Tensor, list[tuple[Tensor, Tensor, Tensor]]]
    channels: list[list[_Step]]
    last: list[Tensor]


@dataclass(frozen=True, slots=True)
class _Head:
    weight: Tensor
    bias: Tensor
    between: Tensor
    through: Tensor
    last: Tensor
    last_bias: Tensor


class GatedRows:
    """What a gated stack has computed of N images, row by row; see ``harness_layers.rowwise``.

    Args:
        network: the stack.
        spec: the sample space.
        num_samples: N.
        labels: (N,) int64 for a class-conditional stack.
    """

    def __init__(self, network: GatedStack, spec: ImageSpec, num_samples: int, labels: Tensor | None = None) -> None:
        self.width, self.channels, self.num_samples = spec.width, spec.channels, num_samples
        layers, first, others = network.layers, network.layers[0], network.layers[1:]
        weight = first.vertical.weight
        new = weight.new_zeros
        self.features = wide = weight.shape[0] // 2
        self.depth = len(layers)
        groups = first.output.out_groups
        counts = torch.bincount(groups, minlength=spec.channels).tolist()
        ends = torch.bincount(groups, minlength=spec.channels).cumsum(0).tolist()
        self.spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        # the gate's two halves side by side, group by group: [tanh 0, sigmoid 0, tanh 1, ...]
        order = torch.cat(
            [torch.cat([torch.arange(wide)[span], wide + torch.arange(wide)[span]]) for span in self.spans]
        )
        order = order.to(weight.device)
        double = torch.cat([new(wide).add_(2), new(wide).add_(1)])  # the 2 of tanh(a) = 2 sigmoid(2a) - 1
        self.halves = [
            (slice(2 * span.start, span.start + span.stop), slice(span.start + span.stop, 2 * span.stop))
            for span in self.spans
        ]

        self.reach = [layer.vertical.reach for layer in layers]
        self.vertical_weight, self.vertical_bias, self.link_weight, self.link_bias = [], [], [], []
        first_kernel = first.horizontal.masked_weight()[:, :, 0]  # (2P, C, K)
        biases = list(network.biases(labels))
        for layer, bias in zip(layers, biases, strict=True):
            vertical = layer.vertical.weight * double.view(-1, 1, 1, 1)
            if not layer.first:
                vertical = -vertical  # reads negative gates
            self.vertical_weight.append(vertical.permute(2, 3, 1, 0).flatten(0, 2).contiguous())  # (rows K in, 2P)
            own = layer.vertical.bias if bias is None else layer.vertical.bias + bias[..., 0, 0]
            self.vertical_bias.append(own * double)  # (2P,) or (N, 2P)
            link = layer.link.weight[..., 0, 0] * double.view(-1, 1) / double
            self.link_weight.append(link[order].T.contiguous())  # (2P, 2P)
            link_bias = layer.link.bias
            assert link_bias is not None
            self.link_bias.append((link_bias * double)[order])

        # horizontal kernels: columns to the left for all layers at once, the pixel itself layer by layer
        def rows_of(kernel: Tensor) -> Tensor:  # (2P, in) -> (in, 2P)
            return (kernel * double.view(-1, 1))[order].T.contiguous()

        self.first_reach = first.horizontal.reach
        self.first_left = rows_of(first_kernel[..., : self.first_reach].permute(0, 2, 1).flatten(1))  # (K C, 2P)
        self.first_own = rows_of(first_kernel[..., self.first_reach]) if first.horizontal.right == 0 else None
        kernels = [layer.horizontal.masked_weight()[:, :, 0] for layer in others]
        self.left_reach = others[0].horizontal.reach if others else 0
        self.left = [torch.stack([rows_of(kernel[..., tap]) for kernel in kernels]) for tap in range(self.left_reach)]
        self.own = [rows_of(kernel[..., self.left_reach]) for kernel in kernels]
        # the bias of a residual is the weight of a feature that is always one; the gates read are negative
        self.output = [
            torch.cat([-layer.output.masked_weight()[..., 0, 0].T, _bias(layer.output.bias)]) for layer in layers
        ]  # (P + 1, P)
        self.hidden = network.hidden.masked_weight()[..., 0, 0].T.contiguous()
        self.hidden_bias = _flat(network.hidden.bias)
        self.last = network.output.masked_weight()[..., 0, 0].T.contiguous()
        self.last_bias = _flat(network.output.bias)
        between = torch.bincount(network.hidden.out_groups, minlength=spec.channels).cumsum(0).tolist()
        self.between = [slice(low, high) for low, high in zip([0, *between], between, strict=False)]
        self.num_outputs = len(self.last_bias) // spec.channels

        columns = spec.width
        self.image_rows = new(first.vertical.rows, columns + 2 * self.reach[0], num_samples, spec.channels)
        self.feature_rows = [
            new(layer.vertical.rows, columns + 2 * layer.vertical.reach, num_samples, wide) for layer in others
        ]
        self.row = new(num_samples, self.first_reach + columns, spec.channels)  # the image's own row
        self.pre = new(columns, self.depth, num_samples, 2 * wide)
        self.horizontal = new(self.left_reach + columns, self.depth, num_samples, wide)  # every layer's output
        self.gates = new(self.depth, num_samples, wide + 1)
        self.gates[..., -1] = 1
        self.between_buffer = new(num_samples, self.hidden.shape[1])
        self.started = False
        self._plans = [self._plan_column(column) for column in range(columns)]
        self._heads = [self._plan_head(channel) for channel in range(spec.channels)]

    def begin_row(self) -> None:
        """Takes in the row that was completed, and computes the vertical stack and its link for the next one."""
        columns, samples, wide = self.width, self.num_samples, self.features
        if self.started:
            _push(self.image_rows, self.row[:, self.first_reach :].transpose(0, 1), self.reach[0])
        self.started = True
        source = self.image_rows
        for depth in range(self.depth):
            taps = [
                source[row, column : column + columns]
                for row in range(source.shape[0])
                for column in range(2 * self.reach[depth] + 1)
            ]
            seen = torch.cat(taps, dim=-1).view(columns * samples, -1)
            bias = self.vertical_bias[depth]
            if bias.dim() == 1:
                above = torch.addmm(bias, seen, self.vertical_weight[depth])
            else:
                above = torch.mm(seen, self.vertical_weight[depth]).view(columns, samples, -1).add_(bias)
                above = above.view(columns * samples, -1)
            link = torch.addmm(self.link_bias[depth], above, self.link_weight[depth])
            self.pre[:, depth] = link.view(columns, samples, 2 * wide)
            if depth + 1 < self.depth:
                both = above.sigmoid_()
                gate = torch.addcmul(both[:, wide:], both[:, :wide], both[:, wide:], value=-2)
                source = self.feature_rows[depth]
                _push(source, gate.view(columns, samples, wide), self.reach[depth + 1])

    def outputs(self, column: int, channel: int) -> Tensor:
        """Returns (N, O): the horizontal stack for one channel of one pixel."""
        plan = self._plans[column]
        if channel == 0:
            pre, window, left = plan.left
            pre.addmm_(window, self.first_left)
            for others, neighbours, weight in left:
                others.baddbmm_(neighbours, weight)
        for step in plan.channels[channel]:
            if step.seen is not None and step.own is not None:
                step.pre.addmm_(step.seen, step.own)
            step.pre.sigmoid_()
            torch.addcmul(step.sigmoid, step.tanh, step.sigmoid, value=-2, out=step.gate)
            # the gates of later channels are not there yet, and have no weight
            if step.residual is None:
                torch.mm(step.gates, step.output, out=step.result)
            else:
                torch.addmm(step.residual, step.gates, step.output, out=step.result)
        head = self._heads[channel]
        hidden = torch.addmm(head.bias, plan.last[channel].relu(), head.weight)
        torch.clamp_min(hidden, 0, out=head.between)
        return torch.addmm(head.last_bias, head.through, head.last)

    def row_outputs(self, scaled: Tensor) -> Tensor:
        """Maps a whole row (W, C, N, 1), scaled to [-1, 1], to its outputs (W, C, N, O): the horizontal stack."""
        columns, samples, wide = self.width, self.num_samples, self.features
        self.row[:, self.first_reach :] = scaled[..., 0].permute(2, 0, 1)
        features = self.row.transpose(0, 1)  # (K + W, N, C)
        for depth in range(self.depth):
            reach = self.left_reach if depth else self.first_reach
            left = (
                [weight[depth - 1] for weight in self.left]
                if depth
                else list(self.first_left.split_with_sizes([features.shape[-1]] * reach))
            )
            taps = [*left, *([self.own[depth - 1]] if depth else [] if self.first_own is None else [self.first_own])]
            pre = self.pre[:, depth].clone(memory_format=torch.contiguous_format).view(columns * samples, 2 * wide)
            for tap, weight in enumerate(taps):
                pre.addmm_(features[tap : tap + columns].reshape(columns * samples, -1), weight)
            both = pre.sigmoid_()
            gates = [torch.addcmul(both[:, b], both[:, a], both[:, b], value=-2) for a, b in self.halves]
            gate = torch.cat([*gates, gates[0].new_ones(columns * samples, 1)], dim=1)
            new = torch.mm(gate, self.output[depth])
            if depth:
                new += features[self.left_reach :].reshape(columns * samples, wide)
            features = F.pad(new.view(columns, samples, wide), (0, 0, 0, 0, self.left_reach, 0))
        last = features[self.left_reach :].reshape(columns * samples, wide)
        hidden = torch.addmm(self.hidden_bias, last.relu(), self.hidden).relu_()
        outputs = torch.addmm(self.last_bias, hidden, self.last)
        return outputs.view(columns, samples, self.channels, self.num_outputs).transpose(1, 2)

    def _plan_column(self, column: int) -> _Column:
        # Views are expensive beside operations as small as these: every one is made once, and used in every row.
        pre, horizontal = self.pre[column], self.horizontal[self.left_reach + column]
        window = self.row[:, column : column + self.first_reach].flatten(1)
        left = [(pre[1:], self.horizontal[column + tap, :-1], weight) for tap, weight in enumerate(self.left)]
        channels = []
        for channel, span in enumerate(self.spans):
            seen, (tanh, sigmoid) = slice(0, span.stop), self.halves[channel]
            both = slice(tanh.start, sigmoid.stop)
            steps = []
            for depth in range(self.depth):
                inputs = own = residual = None
                if depth:
                    inputs, own = horizontal[depth - 1, :, seen], self.own[depth - 1][seen, both]
                    residual = horizontal[depth - 1, :, span]
                elif self.first_own is not None and channel:
                    inputs = self.row[:, self.first_reach + column, :channel]
                    own = self.first_own[:channel, both]
                steps.append(
                    _Step(
                        pre[depth, :, both], inputs, own, pre[depth, :, tanh], pre[depth, :, sigmoid],
                        self.gates[depth, :, span], self.gates[depth], self.output[depth][:, span].contiguous(),
                        residual, horizontal[depth, :, span],
                    )
                )  # fmt: skip
            channels.append(steps)
        return _Column((pre[0], window, left), channels, [horizontal[-1, :, : span.stop] for span in self.spans])

    def _plan_head(self, channel: int) -> _Head:
        seen, between = slice(0, self.spans[channel].stop), self.between[channel]
        out = slice(channel * self.num_outputs, (channel + 1) * self.num_outputs)
        through = slice(0, between.stop)
        return _Head(
            self.hidden[seen, between], self.hidden_bias[between], self.between_buffer[:, between],
            self.between_buffer[:, through], self.last[through, out], self.last_bias[out],
        )  # fmt: skip

    def put(self, column: int, channel: int, scaled: Tensor) -> None:
        """Takes the values (N, 1) of an entry, scaled to [-1, 1]."""
        self.row[:, self.first_reach + column, channel] = scaled[:, 0]


def _push(rows: Tensor, row: Tensor, margin: int) -> None:
    """Moves rows (R, columns + 2 margin, ...) up by one, and puts a row (columns, ...) below."""
    for index in range(rows.shape[0] - 1):
        rows[index].copy_(rows[index + 1])
    rows[-1, margin : margin + row.shape[0]] = row


def _flat(bias: Tensor | None) -> Tensor:
    assert bias is not None
    return bias


def _bias(bias: Tensor | None) -> Tensor:
    return _flat(bias).unsqueeze(0)
