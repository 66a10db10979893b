"""PixelRNN with Row LSTM (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness_layers.causal import CausalConv2d
from harness_pixelcnn.pixel_rnn import PixelRNN, RecurrentLayer, pointwise
from harness_pixelcnn.recurrence import recurrence, rows_schedule


class RowLayer(RecurrentLayer):
    r"""A layer of LSTMs that run down the rows, with a state-to-state kernel of 3 over the row above.

    .. math:: x' = x + U h, \quad (o, f, i, g) = K * x + S * h_a, \quad c = f c_a + i g, \quad h = o \tanh(c)

    The states a are those of the row above; K reads the pixel and its left neighbour, by mask B.

    Args:
        wide: (2P,) int64, the groups of the maps between layers.
        narrow: (P,) int64, the groups of the state.
    """

    def __init__(self, wide: Tensor, narrow: Tensor) -> None:
        super().__init__(narrow, directions=1, taps=3)
        self.input = CausalConv2d(wide, narrow.repeat(4), above=0, reach=1, mask="B")
        self.up = CausalConv2d(narrow, wide, above=0, reach=0, mask="B")
        assert self.input.bias is not None
        self.start_to_remember(self.input.bias)

    def forward(self, maps: Tensor, scaled: Tensor, height: int, width: int) -> Tensor:
        """Maps (2P, cells, N) to the same; the image is not looked at again."""
        features, cells, images = maps.shape
        left = F.pad(maps.view(features, height, width, images)[:, :, :-1], (0, 0, 1, 0)).view(maps.shape)
        weight = self.input.masked_weight()[:, :, 0] * self.doubled.view(-1, 1, 1)  # (4P, 2P, 2)
        assert self.input.bias is not None
        both = torch.cat([left, maps]).flatten(1)
        pre = torch.addmm((self.input.bias * self.doubled).unsqueeze(1), weight.permute(0, 2, 1).flatten(1), both)
        pre = pre.view(1, -1, cells, images)
        hidden = recurrence(pre, self.doubled_state_weight(), rows_schedule(height, width))
        return maps + pointwise(self.up, hidden[0])

    def spread(self, reached: Tensor, image: Tensor) -> Tensor:
        """Follows zeros and ones (N, groups, H, W) through the layer."""
        state = self.input.spread(reached)
        for row in range(1, state.shape[2]):
            above = state[:, :, row - 1].amax(1, keepdim=True)  # every group of the row above, (N, 1, W)
            state[:, :, row] = torch.maximum(state[:, :, row], F.max_pool1d(above, 3, stride=1, padding=1))
        return torch.maximum(reached, self.up.spread(state))


class RowLSTM(PixelRNN):
    """A product of conditionals by LSTMs that run down the rows of an image, all columns at once.

    The state-to-state kernel is 3 wide, so that the receptive field is a triangle above the pixel: what lies outside
    of it is not seen, and ``dependence`` says so. Gates and states are in groups, one for each channel of the image; of
    its own pixel, a channel sees earlier ones. Reference: van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv
    1601.06759.

    See ``PixelRNN`` for the hyperparameters.
    """

    def recurrent_layer(self, wide: Tensor, narrow: Tensor) -> RowLayer:
        """Builds a layer from the groups of the maps between layers (2P,) and of the state (P,), int64."""
        return RowLayer(wide, narrow)
