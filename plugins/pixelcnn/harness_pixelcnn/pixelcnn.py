"""PixelCNN: residual masked convolutions (van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.causal import CausalConv2d, groups_of
from harness_layers.causal_model import CausalModel
from harness_layers.checks import check_at_least, check_odd, check_positive
from harness_layers.pixels import num_outputs

_FIRST_REACH = 3  # a kernel of 7


class ResidualBlock(nn.Module):
    r"""A residual block of masked convolutions.

    .. math:: h' = h + U relu(K * relu(D relu(h)))

    D is 1x1 from 2P to P maps, K is k x k, U is 1x1 from P to 2P, all of mask B.

    Args:
        wide: (2P,) int64, the groups of the maps between blocks.
        narrow: (P,) int64, the groups of the maps inside.
        kernel: odd, of the convolution inside.
    """

    def __init__(self, wide: Tensor, narrow: Tensor, *, kernel: int) -> None:
        super().__init__()
        reach = kernel // 2
        self.down = CausalConv2d(wide, narrow, above=0, reach=0, mask="B")
        self.causal = CausalConv2d(narrow, narrow, above=reach, reach=reach, mask="B")
        self.up = CausalConv2d(narrow, wide, above=0, reach=0, mask="B")

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 2P, H, W) to the same."""
        hidden = self.down(x.relu()).relu_()
        hidden = self.causal(hidden).relu_()
        result: Tensor = x + self.up(hidden)
        return result

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, groups, H, W) through the block."""
        return (reached + self.up.spread(self.causal.spread(self.down.spread(reached)))).clamp(max=1)


class PixelCNN(CausalModel):
    r"""A product of conditionals by one stack of masked convolutions, in raster order.

    .. math:: p(x) = \prod_k p(x_k | x_{<k})

    A single stack of masked kernels has a blind spot: pixels above, to the right of a slanting line, are never seen,
    however deep it is. ``dependence`` says which. The channels of a pixel are drawn one after another. Reference:
    van den Oord, Kalchbrenner & Kavukcuoglu 2016, arXiv 1601.06759.

    Args:
        spec: any sample space.
        channels: P, the number of maps inside a block; there are twice as many between blocks.
        layers: residual blocks after the first convolution, whose kernel is 7, of mask A.
        kernel: odd, of the convolutions inside the blocks.
        head: maps of the 1x1 layer before the outputs.
        learning_rate, batch_size, max_gradient_norm, validate_every: see ``CausalModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, channels: int = 32, layers: int = 7, kernel: int = 3, head: int = 32,
                 learning_rate: float = 3e-3, batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, learning_rate=learning_rate, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
            validate_every=validate_every,
        )  # fmt: skip
        check_positive(channels=channels, head=head)
        check_at_least(0, layers=layers)
        check_odd(kernel=kernel)
        image, wide, narrow, between = (
            groups_of(count, spec.channels) for count in (spec.channels, 2 * channels, channels, head)
        )
        out = torch.arange(spec.channels).repeat_interleave(num_outputs(spec))
        self.first = CausalConv2d(image, wide, above=_FIRST_REACH, reach=_FIRST_REACH, mask="A")
        self._blocks = nn.ModuleList(ResidualBlock(wide, narrow, kernel=kernel) for _ in range(layers))
        self.hidden = CausalConv2d(wide, between, above=0, reach=0, mask="B")
        self.output = CausalConv2d(between, out, above=0, reach=0, mask="B")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def blocks(self) -> Sequence[ResidualBlock]:
        """The residual blocks."""
        return cast("Sequence[ResidualBlock]", self._blocks)

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C * O, H, W); there are no labels."""
        x: Tensor = self.first(self.scaled(images))
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.hidden(x.relu())
        output: Tensor = self.output(hidden.relu())
        return output

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""
        x = self.first.spread(reached)
        for block in self.blocks:
            x = block.spread(x)
        return self.output.spread(self.hidden.spread(x))
