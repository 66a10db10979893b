"""MADE for binary images: linear layers under masks, weight times mask at every forward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_nade.made import MADE


class MaskedLinear(nn.Linear):
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class PlainMADE(nn.Module):
    """The network of Germain et al. 2015, arXiv 1502.03509, with one ordering and one mask a layer."""

    def __init__(self, masks: list[Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for mask in masks:
            layers += [MaskedLinear(mask), nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) float, zeros and ones, to logits (N, 1, H, W)."""
        return self.network(images.flatten(1)).view_as(images)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) uint8 to (N,) nats."""
        x = images.float()
        return -F.binary_cross_entropy_with_logits(self(x), x, reduction="none").sum((1, 2, 3))


def plain_of(model: MADE) -> PlainMADE:
    """Returns the plain formulation of a model of binary images with one member, with its weights."""
    assert model.num_orderings == 1
    assert model.spec.levels == 2
    layers = [*model.layers, model.output]
    plain = PlainMADE([mask.float() for mask in model.masks(0)[: len(layers)]])
    theirs = [module for module in plain.network if isinstance(module, MaskedLinear)]
    with torch.no_grad():
        for ours, other in zip(layers, theirs, strict=True):
            other.weight.copy_(ours.weight)
            other.bias.copy_(ours.bias)
    return plain.eval()
