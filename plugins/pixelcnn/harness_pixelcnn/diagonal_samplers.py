"""The cached sampler of Diagonal BiLSTM: one LSTM once for each row, the other for each entry."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from harness import Noise, SamplingTrace
from harness_layers.rowwise import draw_by_rows
from harness_pixelcnn.diagonal_bilstm import DiagonalBiLSTM, DiagonalLayer
from harness_pixelcnn.pixel_rnn import PixelRNN
from harness_pixelcnn.recurrent_rows import RecurrentRows, flat


class DiagonalBiLSTMRows(RecurrentRows):
    """What a Diagonal BiLSTM has computed of N images, row by row; see ``harness_layers.rowwise``.

    The state from the right that a pixel reads is of the row above. It is computed when that row is complete, from its
    last column to its first, in all layers at once.

    Args:
        model: whose weights are read.
        num_samples: N.
    """

    def __init__(self, model: PixelRNN, num_samples: int) -> None:
        size = model.layers[0].size
        super().__init__(model, num_samples, extras=1 + size, carried_from_left=True)
        layers = [cast("DiagonalLayer", layer) for layer in model.layers]
        self.own = torch.stack([self.gate_weight(layer.input.masked_weight()[:, :, 0, 0]) for layer in layers])
        biases = [layer.input.bias for layer in layers]
        self.bias = torch.stack([self.gate_bias(bias) for bias in biases if bias is not None]).unsqueeze(1)
        # states are kept negative
        self.left = torch.stack([-self.gate_weight(layer.state_weight[0, 0]) for layer in layers])
        self.above = torch.stack([-self.gate_weight(layer.state_weight[0, 1]) for layer in layers])
        ups = [flat(layer.up) for layer in layers]
        self.up = torch.stack([torch.cat([bias.unsqueeze(0), -weight, -weight]) for weight, bias in ups])

        # from the right, gates lie as in training: o, f, i, candidate
        doubled = layers[0].doubled
        self.right_input = torch.stack([(layer.from_right.weight * doubled.unsqueeze(1)).T for layer in layers])
        self.right_bias = torch.stack([layer.from_right.bias * doubled for layer in layers]).unsqueeze(1)
        taps = torch.stack([-layer.doubled_state_weight()[1].transpose(1, 2) for layer in layers])
        self.right_left, self.right_above = taps[:, 0].contiguous(), taps[:, 1].contiguous()
        self.right = self.hidden.new_zeros(self.depth, self.width, num_samples, size)
        self.plan()

    def _from_left(self, column: int) -> Tensor:
        return self.hidden[column]

    def _enter(self) -> None:
        if self.started:
            self._sweep()
        hidden = self.hidden.transpose(0, 1).flatten(1, 2)  # zero above the first row
        above = torch.baddbmm(self.bias, hidden, self.above)
        self.gates.copy_(above.view(self.depth, self.width, self.num_samples, -1).transpose(0, 1))
        self.states[..., 1 : 1 + self.size] = self.right.transpose(0, 1)

    def _sweep(self) -> None:
        # the states from the right of the row that was completed, in place of those of the row above it
        maps = self.maps[:, :-1].transpose(0, 1)
        pixels = self.row[:, self.reach :].transpose(0, 1).expand(self.depth, -1, -1, -1)
        inputs = torch.cat([maps, pixels], dim=-1).flatten(1, 2)
        pre = torch.baddbmm(self.right_bias, inputs, self.right_input)
        pre = pre.baddbmm_(self.right.flatten(1, 2), self.right_above)
        pre = pre.view(self.depth, self.width, self.num_samples, -1)
        cell = None
        for column in reversed(range(self.width)):
            gates = pre[:, column]
            if cell is not None:
                gates.baddbmm_(self.right[:, column + 1], self.right_left)
            out, forget, into, candidate = gates.sigmoid_().chunk(4, dim=-1)
            new = torch.addcmul(into, into, candidate, value=-2)
            cell = new if cell is None else new.addcmul_(forget, cell)
            torch.mul(out, cell.tanh(), out=self.right[:, column])


@torch.no_grad()
def cached(model: DiagonalBiLSTM, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
           mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws entry by entry; see ``harness.Sampler``."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    return draw_by_rows(DiagonalBiLSTMRows(model, num_samples), model.spec, noise, known=known, mask=mask, trace=trace)
