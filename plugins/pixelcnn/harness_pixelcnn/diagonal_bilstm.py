"""PixelRNN with Diagonal BiLSTM (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_layers.causal import CausalConv2d
from harness_pixelcnn.pixel_rnn import PixelRNN, RecurrentLayer, pointwise
from harness_pixelcnn.recurrence import diagonal_order, diagonals_schedule, recurrence


class _Reorder(torch.autograd.Function):
    # cells in another order; the gradient goes back by the inverse order, without the sum of a general index
    @staticmethod
    def forward(ctx: Any, maps: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return _take_cells(maps, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _take_cells(gradients[0].contiguous(), ctx.inverse), None, None


def _take_cells(maps: Tensor, order: Tensor) -> Tensor:
    features, cells, images = maps.shape
    rows = (torch.arange(features, device=maps.device).unsqueeze(1) * cells + order).flatten()
    return maps.reshape(-1, images).index_select(0, rows).view(maps.shape)


def _reorder(maps: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    result: Tensor = _Reorder.apply(maps, order, inverse)  # type: ignore[no-untyped-call]
    return result


class DiagonalLayer(RecurrentLayer):
    r"""A layer of two LSTMs that run along the diagonals, from the upper left and from the upper right corner.

    .. math:: x' = x + U (l_{r,c} + d_{r-1,c})

    The state l of a pixel comes from the pixels left of it and above it, by a 1x1 kernel of mask B on x. The state d
    comes from the pixels right of it and above it; it is shifted down by one row, and so knows rows above alone.
    It reads the image as well as x, both without a mask: without the image, the last pixel of the row above, which no
    feature of that row knows, would be unseen.

    Args:
        wide: (2P,) int64, the groups of the maps between layers.
        narrow: (P,) int64, the groups of the state.
        image_channels: C.
    """

    def __init__(self, wide: Tensor, narrow: Tensor, *, image_channels: int) -> None:
        super().__init__(narrow, directions=2, taps=2)
        size, features = len(narrow), len(wide)
        self.input = CausalConv2d(wide, narrow.repeat(4), above=0, reach=0, mask="B")
        self.from_right = nn.Linear(features + image_channels, 4 * size)
        bound = (3 / (features + image_channels)) ** 0.5
        nn.init.uniform_(self.from_right.weight, -bound, bound)
        nn.init.zeros_(self.from_right.bias)
        self.up = CausalConv2d(narrow, wide, above=0, reach=0, mask="B")
        assert self.input.bias is not None
        self.start_to_remember(self.input.bias)
        self.start_to_remember(self.from_right.bias)

    def forward(self, maps: Tensor, scaled: Tensor, height: int, width: int) -> Tensor:
        """Maps (2P, cells, N) and the image (C, cells, N) to (2P, cells, N)."""
        assert self.input.bias is not None
        order = diagonal_order(height, width).to(maps.device)
        mirrored = order // width * width + (width - 1 - order % width)
        inverse, mirrored_inverse = order.argsort(), mirrored.argsort()
        images = maps.shape[-1]
        doubled = self.doubled.unsqueeze(1)
        by_left = _reorder(maps, order, inverse)
        by_right = _reorder(torch.cat([maps, scaled]), mirrored, mirrored_inverse)
        left = torch.addmm(
            self.input.bias.unsqueeze(1) * doubled, self.input.masked_weight()[:, :, 0, 0] * doubled, by_left.flatten(1)
        )
        right = torch.addmm(
            self.from_right.bias.unsqueeze(1) * doubled, self.from_right.weight * doubled, by_right.flatten(1)
        )
        pre = torch.stack([left, right]).view(2, -1, height * width, images)
        hidden = recurrence(pre, self.doubled_state_weight(), diagonals_schedule(height, width))
        shifted = _reorder(hidden[1], mirrored_inverse, mirrored)[:, : (height - 1) * width]
        both = _reorder(hidden[0], inverse, order) + F.pad(shifted, (0, 0, width, 0))
        return maps + pointwise(self.up, both)

    def spread(self, reached: Tensor, image: Tensor) -> Tensor:
        """Follows zeros and ones (N, groups, H, W), and the image's own (N, C, H, W), through the layer."""
        own = self.input.spread(reached)
        before = _corner(own.amax(1, keepdim=True))
        left = torch.maximum(
            own, torch.maximum(F.pad(before, (0, 0, 1, 0))[:, :, :-1], F.pad(before, (1, 0))[..., :-1])
        )
        seen = torch.cat([reached, image], 1).amax(1, keepdim=True)
        right = F.pad(_corner(seen.flip(3)).flip(3), (0, 0, 1, 0))[:, :, :-1]
        return torch.maximum(reached, self.up.spread(torch.maximum(left, right)))


def _corner(reached: Tensor) -> Tensor:
    # one where there is a one in the rectangle from the upper left corner to the pixel
    return reached.cummax(2).values.cummax(3).values


class DiagonalBiLSTM(PixelRNN):
    """A product of conditionals by LSTMs that run along the diagonals of an image, from both upper corners.

    Every pixel sees the whole past. Gates and states are in groups, one for each channel of the image; of its own
    pixel, a channel sees earlier ones. Reference: van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759.

    See ``PixelRNN`` for the hyperparameters.
    """

    def __init__(self, spec: ImageSpec, *, channels: int = 32, layers: int = 1, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, channels=channels, layers=layers, head=head, learning_rate=learning_rate, batch_size=batch_size,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip

    def recurrent_layer(self, wide: Tensor, narrow: Tensor) -> DiagonalLayer:
        """Builds a layer from the groups of the maps between layers (2P,) and of the state (P,), int64."""
        return DiagonalLayer(wide, narrow, image_channels=self.spec.channels)
