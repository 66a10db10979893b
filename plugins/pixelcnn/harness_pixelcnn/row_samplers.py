"""The cached sampler of Row LSTM: its state-to-state kernel once for each row, the rest once for each entry."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import Noise, SamplingTrace
from harness_layers.rowwise import draw_by_rows
from harness_pixelcnn.pixel_rnn import PixelRNN
from harness_pixelcnn.recurrent_rows import RecurrentRows, flat
from harness_pixelcnn.row_lstm import RowLayer, RowLSTM


class RowLSTMRows(RecurrentRows):
    """What a Row LSTM has computed of N images, row by row; see ``harness_layers.rowwise``.

    Args:
        model: whose weights are read.
        num_samples: N.
    """

    def __init__(self, model: PixelRNN, num_samples: int) -> None:
        super().__init__(model, num_samples, extras=1, carried_from_left=False)
        layers = [cast("RowLayer", layer) for layer in model.layers]
        kernels = [layer.input.masked_weight()[:, :, 0] for layer in layers]
        self.left = torch.stack([self.gate_weight(kernel[..., 0]) for kernel in kernels])
        self.own = torch.stack([self.gate_weight(kernel[..., 1]) for kernel in kernels])
        biases = [layer.input.bias for layer in layers]
        self.bias = torch.stack([self.gate_bias(bias) for bias in biases if bias is not None]).unsqueeze(1)
        # of (above, above left, above right), side by side; reads negative states
        self.above = torch.stack(
            [torch.cat([-self.gate_weight(tap) for tap in layer.state_weight[0]]) for layer in layers]
        )
        ups = [flat(layer.up) for layer in layers]
        self.up = torch.stack([torch.cat([bias.unsqueeze(0), -weight]) for weight, bias in ups])
        self.plan()

    def _from_left(self, column: int) -> Tensor:
        return self.maps[column, :-1]

    def _enter(self) -> None:
        layers_first = self.hidden.transpose(0, 1)  # (layers, W, N, P); zero above the first row
        padded = F.pad(layers_first, (0, 0, 0, 0, 1, 1))
        seen = torch.cat([layers_first, padded[:, :-2], padded[:, 2:]], dim=-1).flatten(1, 2)
        above = torch.baddbmm(self.bias, seen, self.above)
        self.gates.copy_(above.view(self.depth, self.width, self.num_samples, -1).transpose(0, 1))


@torch.no_grad()
def cached(model: RowLSTM, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
           mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws entry by entry; see ``harness.Sampler``."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    return draw_by_rows(RowLSTMRows(model, num_samples), model.spec, noise, known=known, mask=mask, trace=trace)
