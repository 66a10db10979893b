"""The network of Gated PixelCNN: a vertical and a horizontal stack, and no blind spot (arXiv 1606.05328)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness_layers.causal import CausalConv2d, MaskType, RowsAbove, groups_of
from harness_layers.checks import check_at_least, check_odd
from harness_layers.gate import gated

FIRST_KERNEL = 7


class GatedLayer(nn.Module):
    r"""A gated layer of both stacks.

    .. math:: a = V * v, \quad v' = g(a), \quad h' = h + U g(H * h + L a + c), \quad g(p, q) = tanh(p) \sigma(q)

    The vertical features of a pixel know the rows above it; the horizontal ones also what is left of it, and its own
    earlier channels. The first layer reads the image, of which it must not see the pixel itself, and has no residual.

    Args:
        in_groups: (in,) int64, the groups of the input's features: the channels of the image in the first layer.
        groups: (P,) int64, the groups of the layer's features.
        kernel: odd, the width of the kernels; (kernel + 1) / 2 rows or columns are left of them.
        first: whether this is the first layer.
    """

    def __init__(self, in_groups: Tensor, groups: Tensor, *, kernel: int, first: bool) -> None:
        super().__init__()
        self.first = first
        reach, wide = kernel // 2, len(groups)
        both = torch.cat([groups, groups])
        rows = reach if first else reach + 1
        self.vertical = RowsAbove(len(in_groups), 2 * wide, rows=rows, reach=reach, shift=int(first))
        self.link = nn.Conv2d(2 * wide, 2 * wide, 1)
        mask: MaskType = "A" if first else "B"
        self.horizontal = CausalConv2d(in_groups, both, above=0, reach=reach, mask=mask, bias=False)
        self.output = CausalConv2d(groups, groups, above=0, reach=0, mask="B")

    def forward(self, vertical: Tensor, horizontal: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Maps features (N, in, H, W) of both stacks to (N, P, H, W); ``bias`` is (N, 2P, 1, 1)."""
        above = self.vertical(vertical)
        if bias is not None:
            above = above + bias
        pre = self.horizontal(horizontal) + self.link(above)
        output: Tensor = self.output(gated(pre))
        return gated(above), output if self.first else horizontal + output

    def spread(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        """Follows zeros and ones (N, groups, H, W) through both stacks."""
        above = self.vertical.spread(vertical)
        new = (self.horizontal.spread(horizontal) + above).clamp(max=1)
        output = self.output.spread(new)
        return above, output if self.first else (horizontal + output).clamp(max=1)


class GatedStack(nn.Module):
    """Gated layers and a head of two masked 1x1 layers.

    Args:
        channels: of the image.
        outputs: the number of outputs for each channel of the image.
        features: P, the number of maps of each stack.
        layers: how many gated layers follow the first, which has a kernel of 7.
        kernel: odd, of the layers that follow.
        head: the number of maps between the two layers of the head.
        num_classes: of the class conditional biases, which each layer adds to both stacks; 0 for none.

    Raises:
        ValueError: a number out of its range, an even kernel, fewer maps than channels.
    """

    def __init__(self, channels: int, outputs: int, *, features: int, layers: int, kernel: int, head: int,
                 num_classes: int = 0) -> None:  # fmt: skip
        super().__init__()
        check_at_least(0, layers=layers)
        check_odd(kernel=kernel)
        image, groups, between = (groups_of(count, channels) for count in (channels, features, head))
        out = torch.arange(channels).repeat_interleave(outputs)
        kernels = [FIRST_KERNEL, *[kernel] * layers]
        self._layers = nn.ModuleList(
            GatedLayer(groups if depth else image, groups, kernel=width, first=depth == 0)
            for depth, width in enumerate(kernels)
        )
        self.hidden = CausalConv2d(groups, between, above=0, reach=0, mask="B")
        self.output = CausalConv2d(between, out, above=0, reach=0, mask="B")
        self.classes = nn.Parameter(torch.zeros(num_classes, len(kernels), 2 * features)) if num_classes else None

    @property
    def layers(self) -> Sequence[GatedLayer]:
        """The gated layers."""
        return cast("Sequence[GatedLayer]", self._layers)

    def forward(self, scaled: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) in [-1, 1] and labels (N,) int64 to outputs (N, C * O, H, W)."""
        vertical = horizontal = scaled
        for layer, bias in zip(self.layers, self.biases(labels), strict=True):
            vertical, horizontal = layer(vertical, horizontal, bias)
        hidden: Tensor = self.hidden(horizontal.relu())
        output: Tensor = self.output(hidden.relu())
        return output

    def biases(self, labels: Tensor | None) -> Iterable[Tensor | None]:
        """Returns the class conditional bias of every layer, (N, 2P, 1, 1), or None where there are no classes."""
        if self.classes is None or labels is None:
            return [None] * len(self.layers)
        return self.classes[labels][..., None, None].unbind(1)

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""
        vertical = horizontal = reached
        for layer in self.layers:
            vertical, horizontal = layer.spread(vertical, horizontal)
        return self.output.spread(self.hidden.spread(horizontal))
