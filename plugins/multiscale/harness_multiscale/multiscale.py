"""Parallel multiscale autoregressive density estimation (Reed, van den Oord, Kalchbrenner et al. 2017, 1703.03664)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.causal import CausalConv2d
from harness_layers.causal_model import CausalModel
from harness_layers.checks import check_at_least, check_positive
from harness_layers.gated_stack import GatedStack
from harness_layers.pixels import num_outputs
from harness_multiscale.pyramid import Pyramid
from harness_multiscale.upscaling import GroupNetwork


class Multiscale(CausalModel):
    r"""A small image drawn pixel by pixel, then doubled again and again, a group of pixels at a time.

    .. math:: p(x) = p(x^{(1)}) \prod_g \prod_{k \in g} p(x_k | x_{groups before g})

    The base image is every 2^d-th pixel of the image, modelled by a Gated PixelCNN. A doubling has three groups: the
    upper right pixels of all 2 x 2 blocks, the lower left and the lower right ones; pixels of a group are independent
    given all earlier groups, their channels are drawn one after another. So an image of N pixels takes the base's steps
    and three for each doubling: O(log N). Sides that are no multiple of 2^d are padded at the bottom and at the right;
    what is padded is no part of the image, costs nothing, and is seen as neither black nor white. Reference: Reed et
    al. 2017, arXiv 1703.03664, whose second network draws both lower pixels of a block at once.

    Args:
        spec: any sample space.
        base: the largest side of the base image, in pixels.
        base_channels, base_layers: of the base's Gated PixelCNN, see ``gated-pixelcnn``.
        channels: maps of the residual network of each group.
        blocks: its residual blocks, of two 3 x 3 convolutions.
        head: maps of the 1x1 layers before the outputs.
        learning_rate, batch_size, max_gradient_norm, validate_every: see ``CausalModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, base: int = 4, base_channels: int = 32, base_layers: int = 4,
                 channels: int = 32, blocks: int = 4, head: int = 32, learning_rate: float = 3e-3,
                 batch_size: int = 32, max_gradient_norm: float = 50.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, learning_rate=learning_rate, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
            validate_every=validate_every,
        )  # fmt: skip
        check_positive(base=base, base_channels=base_channels, channels=channels, head=head)
        check_at_least(0, blocks=blocks)
        self.pyramid = Pyramid.of(spec, base)
        outputs = num_outputs(spec)
        self.base = GatedStack(
            spec.channels, outputs, features=base_channels, layers=base_layers, kernel=3, head=head
        )  # fmt: skip
        self._networks = nn.ModuleList(
            GroupNetwork(
                spec.channels, outputs, given=len(group.given), features=channels, blocks=blocks, head=head
            )
            for group in self.pyramid.groups
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def networks(self) -> Sequence[GroupNetwork]:
        """The networks of the pyramid's groups, in their order."""
        return cast("Sequence[GroupNetwork]", self._networks)

    def outputs(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C * O, H, W), every network once; there are no labels."""
        pyramid = self.pyramid
        scaled = pyramid.pad(self.scaled(images))
        base = self.base(pyramid.base.of(scaled).contiguous(memory_format=torch.channels_last))
        outputs = scaled.new_zeros(len(images), base.shape[1], *scaled.shape[2:])
        pyramid.base.of(outputs).copy_(base)
        for group, network in zip(pyramid.groups, self.networks, strict=True):
            given = torch.cat([grid.of(scaled) for grid in group.given], dim=1)
            features = network.features(given.contiguous(memory_format=torch.channels_last))
            group.target.of(outputs).copy_(network.outputs(features, group.target.of(scaled)))
        return pyramid.crop(outputs)

    def generation_steps(self, ordering: int = 0) -> Tensor:
        """Returns (C, H, W) int64: the base image in raster order, then group after group."""
        return self.pyramid.steps()

    def spread(self, reached: Tensor) -> Tensor:
        """Follows zeros and ones (N, C, H, W) from the image to the outputs of its channels."""
        pyramid = self.pyramid
        reached = pyramid.pad(reached)
        seen = torch.zeros_like(reached)
        pyramid.base.of(seen).copy_(self.base.spread(pyramid.base.of(reached)))
        for group, network in zip(pyramid.groups, self.networks, strict=True):
            given = torch.cat([grid.of(reached) for grid in group.given], dim=1)
            group.target.of(seen).copy_(network.spread(given, group.target.of(reached)))
        return pyramid.crop(seen)

    def output_layers(self) -> Sequence[CausalConv2d]:
        """Returns the base's and every group's."""
        return [self.base.output, *(network.output for network in self.networks)]
