"""Weight normalisation, w = g v / |v|, with scales and biases that start from data.

Salimans & Kingma 2016, arXiv 1602.07868. Every output of a layer has its own scale g and direction v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONSTANT = 1e-6  # the deviation below which an output does not vary, and is left alone


class WeightNorm(nn.Module):
    """What the layers below share; ``deviation`` is that of each output once ``standardise`` was called."""

    weight: Tensor
    bias: Any  # a tensor; the layers below do not agree on what else it may be
    outputs_at, channel_at = 0, -1  # the dimension of outputs in the weights, and in what the layer returns
    deviation = 1.0

    def set_scale(self) -> None:
        """Registers g, so that the weights are what they are."""
        self.scale = nn.Parameter(self._norm(self.direction()).detach().clone())

    def normed(self) -> Tensor:
        """Returns the weights, g v / |v|."""
        direction = self.direction()
        return direction * (self.scale / self._norm(direction).clamp_min(_CONSTANT))

    def direction(self) -> Tensor:
        """Returns v."""
        return self.weight

    def _norm(self, direction: Tensor) -> Tensor:
        dims = [dim for dim in range(direction.ndim) if dim != self.outputs_at]
        norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
        return norm

    @torch.no_grad()
    def standardise_outputs(self, outputs: Tensor) -> Tensor:
        """Maps what the layer returned to what it returns from now on: mean 0, and ``deviation``, of each output."""
        at = self.channel_at % outputs.ndim
        dims = [dim for dim in range(outputs.ndim) if dim != at]
        mean, deviation = outputs.mean(dims, keepdim=True), outputs.std(dims, correction=0, keepdim=True)
        factor = torch.where(deviation > _CONSTANT, self.deviation / deviation.clamp_min(_CONSTANT), 1.0)
        self.scale.mul_(factor.view_as(self.scale))
        self.bias.sub_(mean.flatten()).mul_(factor.flatten())
        return (outputs - mean) * factor


class NormedLinear(WeightNorm, nn.Linear):
    """A weight-normalised linear layer.

    Args:
        inputs, outputs: I and O.
        deviation: of its outputs on the data that ``standardise`` is called with.
        mask: (O, I), zero where a weight stays zero; None has all.
    """

    mask: Tensor | None

    def __init__(self, inputs: int, outputs: int, *, deviation: float = 1.0, mask: Tensor | None = None) -> None:
        nn.Linear.__init__(self, inputs, outputs)
        self.deviation = deviation
        self.register_buffer("mask", None if mask is None else mask.to(self.weight), persistent=False)
        self.set_scale()

    def direction(self) -> Tensor:
        """Returns v (O, I), zero where it is masked."""
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, values: Tensor) -> Tensor:
        """Maps (..., I) to (..., O)."""
        return F.linear(values, self.normed(), self.bias)


class NormedConv(WeightNorm, nn.Conv2d):
    """A weight-normalised 3x3 convolution; ``stride`` 2 maps height and width to their halves, rounded up."""

    channel_at = 1

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, deviation: float = 1.0) -> None:
        nn.Conv2d.__init__(self, inputs, outputs, 3, stride=stride, padding=1)
        self.deviation = deviation
        self.set_scale()

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, H', W')."""
        return F.conv2d(maps, self.normed(), self.bias, stride=self.stride, padding=1)


class NormedTransposedConv(WeightNorm, nn.ConvTranspose2d):
    """A weight-normalised transposed 3x3 convolution of stride 2, onto a ``size`` from its halves, rounded up."""

    outputs_at, channel_at = 1, 1

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], *, deviation: float = 1.0) -> None:
        last = (1 - size[0] % 2, 1 - size[1] % 2)
        nn.ConvTranspose2d.__init__(self, inputs, outputs, 3, stride=2, padding=1, output_padding=last)
        self.last, self.deviation = last, deviation
        self.set_scale()

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, *size)."""
        return F.conv_transpose2d(maps, self.normed(), self.bias, stride=2, padding=1, output_padding=self.last)


@torch.no_grad()
def standardise(network: nn.Module, run: Callable[[], object]) -> None:
    """Sets the scales and biases of all weight-normalised layers of a network that ``run`` calls, at their first call.

    Layers further up are given what those below return once they are set.
    """
    handles: list[torch.utils.hooks.RemovableHandle] = []
    for layer in network.modules():
        if isinstance(layer, WeightNorm):
            handles.append(layer.register_forward_hook(_once(handles, len(handles))))
    run()
    for handle in handles:
        handle.remove()


def _once(handles: list[torch.utils.hooks.RemovableHandle], index: int) -> Callable[..., Tensor]:
    def hook(layer: WeightNorm, inputs: object, outputs: Tensor) -> Tensor:
        handles[index].remove()
        return layer.standardise_outputs(outputs)

    return hook
