"""What Row LSTM and Diagonal BiLSTM share (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759).

Maps lie as (features, cells, images), the cells of a map in raster order: a 1x1 layer is one matrix product.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from harness import Autoregressive, Dataset, ImageSpec, Split, Trainer, mean_over
from harness_layers.causal import CausalConv2d, groups_of
from harness_layers.chunks import in_chunks
from harness_layers.optimisation import check_positive, descend
from harness_layers.pixels import entry_log_probs, image_logits, marginal_outputs, num_outputs, scale
from harness_layers.reach import dependence_by

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


class PixelRNN(Autoregressive):
    """A product of conditionals by LSTM layers between a convolution and a head of two 1x1 layers; see subclasses."""

    default_budget: ClassVar[str] = "20 epochs"

    def __init__(self, spec: ImageSpec, layer: Callable[[Tensor, Tensor], RecurrentLayer], *, channels: int,
                 layers: int, head: int, learning_rate: float, batch_size: int, max_gradient_norm: float,
                 validate_every: str) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(channels=channels, head=head, learning_rate=learning_rate, batch_size=batch_size)
        check_positive(max_gradient_norm=max_gradient_norm)
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        self.learning_rate, self.batch_size = learning_rate, batch_size
        self.max_gradient_norm, self.validate_every = max_gradient_norm, validate_every
        image, wide, narrow, between = (
            groups_of(count, spec.channels) for count in (spec.channels, 2 * channels, channels, head)
        )
        out = torch.arange(spec.channels).repeat_interleave(num_outputs(spec))
        self.first = CausalConv2d(image, wide, above=_FIRST_REACH, reach=_FIRST_REACH, mask="A")
        self._layers = nn.ModuleList(layer(wide, narrow) for _ in range(layers))
        self.hidden = CausalConv2d(wide, between, above=0, reach=0, mask="B")
        self.output = CausalConv2d(between, out, above=0, reach=0, mask="B")

    @property
    def layers(self) -> Sequence[RecurrentLayer]:
        """The LSTM layers."""
        return cast("Sequence[RecurrentLayer]", self._layers)

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C * O, H, W); there are no labels."""
        scaled = scale(images, self.spec.levels, self.dtype)
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

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        return image_logits(in_chunks(self.outputs, images, None), self.spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) nats."""
        return entry_log_probs(in_chunks(self.outputs, images, None), images, self.spec)

    def dependence(self, ordering: int = 0) -> Tensor | None:
        """Returns (D, D) bool where the reach of the network is less than the whole past, else None."""
        return dependence_by(self.spread, self.spec, self.device)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood."""
        bias = self.output.bias
        assert bias is not None
        with torch.no_grad():
            bias.copy_(marginal_outputs(data.train, self.spec))

        def loss(batch: Split) -> Tensor:
            return -entry_log_probs(self.outputs(batch.images), batch.images, self.spec).flatten(1).sum(1)

        descend(
            self, data, trainer, loss, learning_rate=self.learning_rate, batch_size=self.batch_size,
            max_gradient_norm=self.max_gradient_norm, every=self.validate_every,
            score=lambda split: -mean_over(split, self.log_prob, batch_size=100),
        )  # fmt: skip
