"""The network of one group: a residual network over the pixels that are there, and a head for the pixel's channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_layers.causal import CausalConv2d, groups_of


class _Block(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(features, features, 3, padding=1)
        self.second = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.second(self.first(x.relu()).relu_())
        return result


class GroupNetwork(nn.Module):
    r"""Predicts the pixels of a group from the images of other grids, all of them of the same size.

    Features come from convolutions of 3 x 3 without masks; a channel of a pixel also sees the pixel's earlier channels,
    through 1 x 1 layers with masks.

    Args:
        channels: of the image.
        outputs: the number of outputs for each channel.
        given: how many images the network sees.
        features: maps of the residual network.
        blocks: residual blocks of two convolutions.
        head: maps of the 1x1 layer before the outputs.
    """

    def __init__(self, channels: int, outputs: int, *, given: int, features: int, blocks: int, head: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(given * channels, features, 3, padding=1)
        self._blocks = nn.ModuleList(_Block(features) for _ in range(blocks))
        self.hidden = nn.Conv2d(features, head, 1)
        between = groups_of(head, channels)
        own = CausalConv2d(torch.arange(channels), between, above=0, reach=0, mask="A", bias=False)
        self.own = own if channels > 1 else None
        out = torch.arange(channels).repeat_interleave(outputs)
        self.output = CausalConv2d(between, out, above=0, reach=0, mask="B")
        self.reach = 1 + 2 * blocks

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The residual blocks."""
        return cast("Sequence[nn.Module]", self._blocks)

    def features(self, given: Tensor) -> Tensor:
        """Maps (N, given C, K, L) in [-1, 1] to the hidden layer's share of what is given (N, head, K, L)."""
        x: Tensor = self.stem(given)
        for block in self.blocks:
            x = block(x)
        hidden: Tensor = self.hidden(x.relu_())
        return hidden

    def outputs(self, features: Tensor, target: Tensor) -> Tensor:
        """Maps what is given (N, head, K, L) and the group's own pixels (N, C, K, L) to (N, C * O, K, L)."""
        hidden = features if self.own is None else features + self.own(target)
        outputs: Tensor = self.output(hidden.relu())
        return outputs

    def spread(self, given: Tensor, target: Tensor) -> Tensor:
        """Follows zeros and ones, (N, given C, K, L) and (N, C, K, L), to the outputs (N, C, K, L)."""
        seen = F.max_pool2d(given.amax(1, keepdim=True), 2 * self.reach + 1, stride=1, padding=self.reach)
        before = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], dim=1).cummax(1).values
        return torch.maximum(seen, before)
