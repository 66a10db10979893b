"""What Row LSTM and Diagonal BiLSTM share (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759).

Maps lie as (features, cells, images), the cells of a map in raster order: a 1x1 layer is one matrix product.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.causal import CausalConv2d, groups_of
from harness_layers.causal_model import CausalModel
from harness_layers.checks import check_positive
from harness_layers.pixels import num_outputs

_FIRST_REACH = 3  # a kernel of 7
_FORGET_BIAS = 1.0


def pointwise(layer: CausalConv2d, maps: Tensor) -> Tensor:
    """Runs a 1x1 layer on maps (in, cells, N) and returns (out, cells, N)."""
    weight = layer.masked_weight()[:, :, 0, 0]
    assert layer.bias is not None
    return torch.addmm(layer.bias.unsqueeze(1), weight, maps.flatten(1)).view(-1, *maps.shape[1:])


class RecurrentLayer(nn.Module):
    """An LSTM layer with a residual connection. Its gates, in four groups of P: output, forget, input, candidate.

    Args:
        narrow: (P,) int64, the groups of the state.
        directions: how many LSTMs there are.
        taps: of the state-to-state kernel.
    """

    def __init__(self, narrow: Tensor, *, directions: int, taps: int) -> None:
        super().__init__()
        size = len(narrow)
        self.state_weight = nn.Parameter(torch.empty(directions, taps, 4 * size, size))
        bound = math.sqrt(1 / (taps * size))
        nn.init.uniform_(self.state_weight, -bound, bound)
        doubled = torch.ones(4 * size)
        doubled[3 * size :] = 2  # tanh(a) = 2 sigmoid(2a) - 1
        self.register_buffer("doubled", doubled, persistent=False)
        self.size = size

    doubled: Tensor

    def start_to_remember(self, bias: Tensor) -> None:
        """Sets the bias (4P,) of the forget gate, so that a layer keeps what it knows from the start."""
        with torch.no_grad():
            bias[self.size : 2 * self.size] = _FORGET_BIAS

    def doubled_state_weight(self) -> Tensor:
        """Returns (directions, taps, 4P, P), with the 2 of the candidate's sigmoid."""
        return self.state_weight * self.doubled.unsqueeze(1)

    @abstractmethod
    def forward(self, maps: Tensor, scaled: Tensor, height: int, width: int) -> Tensor:
        """Maps (2P, cells, N), and the image (C, cells, N) in [-1, 1], to (2P, cells, N)."""

    @abstractmethod
    def spread(self, reached: Tensor, image: Tensor) -> Tensor:
        """Follows zeros and ones (N, groups, H, W), and the image's own (N, C, H, W), through the layer."""


class PixelRNN(CausalModel):
    """A product of conditionals by LSTM layers between a convolution and a head of two 1x1 layers.

    Gates and states are in groups, one for each channel of the image; of its own pixel, a channel sees earlier ones.

    Args:
        spec: any sample space.
        channels: P, the size of an LSTM's state; there are twice as many maps between layers.
        layers: LSTM layers after the first convolution, whose kernel is 7, of mask A.
        head: maps of the 1x1 layer before the outputs.
        learning_rate, batch_size, max_gradient_norm, validate_every: see ``CausalModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, channels: int = 32, layers: int = 2, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, learning_rate=learning_rate, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
            validate_every=validate_every,
        )  # fmt: skip
        check_positive(channels=channels, head=head, layers=layers)
        image, wide, narrow, between = (
            groups_of(count, spec.channels) for count in (spec.channels, 2 * channels, channels, head)
        )
        out = torch.arange(spec.channels).repeat_interleave(num_outputs(spec))
        self.first = CausalConv2d(image, wide, above=_FIRST_REACH, reach=_FIRST_REACH, mask="A")
        self._layers = nn.ModuleList(self.recurrent_layer(wide, narrow) for _ in range(layers))
        self.hidden = CausalConv2d(wide, between, above=0, reach=0, mask="B")
        self.output = CausalConv2d(between, out, above=0, reach=0, mask="B")

    @abstractmethod
    def recurrent_layer(self, wide: Tensor, narrow: Tensor) -> RecurrentLayer:
        """Builds a layer from the groups of the maps between layers (2P,) and of the state (P,), int64."""

    @property
    def layers(self) -> Sequence[RecurrentLayer]:
        """The LSTM layers."""
        return cast("Sequence[RecurrentLayer]", self._layers)

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C * O, H, W); there are no labels."""
        scaled = self.scaled(images)
        maps = self.first(scaled).flatten(2).permute(1, 2, 0).contiguous()  # (2P, cells, N)
        by_cell = scaled.flatten(2).permute(1, 2, 0).contiguous()
        for layer in self.layers:
            maps = layer(maps, by_cell, self.spec.height, self.spec.width)
        outputs = pointwise(self.output, pointwise(self.hidden, maps.relu()).relu_())
        return outputs.permute(2, 0, 1).reshape(len(images), -1, self.spec.height, self.spec.width)

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""
        x = self.first.spread(reached)
        for layer in self.layers:
            x = layer.spread(x, reached)
        return self.output.spread(self.hidden.spread(x))
