"""A discriminator: a stack of layers to one number an image, how its layers are normalised, and how weights begin."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

Normalization = Literal["batch", "layer", "spectral", "none"]

SLOPE = 0.2  # of leaky ReLUs

_Network = TypeVar("_Network", bound=nn.Module)


class Scores(nn.Sequential):
    """A discriminator: maps images (N, C, H, W) to one number each, (N,); its last layer is linear."""

    @property
    def num_features(self) -> int:
        """F, what the last layer takes."""
        last = self[-1]
        assert isinstance(last, nn.Linear)
        return last.in_features

    def features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, F): what the last layer takes."""
        for layer in list(self)[:-1]:
            images = layer(images)
        return images

    def score(self, features: Tensor) -> Tensor:
        """Maps features (N, F) to (N,)."""
        outputs: Tensor = self[-1](features)
        return outputs.squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N,)."""
        return self.score(self.features(images))


def norm_of_maps(normalization: Normalization, num_maps: int) -> list[nn.Module]:
    """Returns the layer that normalises a discriminator's maps, if there is one.

    Batch norm normalises by the batch at hand and keeps no running statistics: judging a batch never changes it.
    """
    if normalization == "batch":
        return [nn.BatchNorm2d(num_maps, track_running_stats=False)]
    return [nn.GroupNorm(1, num_maps)] if normalization == "layer" else []


def normalized(scores: Scores, normalization: Normalization) -> Scores:
    """Puts spectral norm on every layer of weights, if asked for: one power iteration in each pass in training."""
    if normalization == "spectral":
        for module in list(scores.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d):
                spectral_norm(module)
    return scores


def narrow(network: _Network) -> _Network:
    """Draws weights from N(0, 0.02) and batch norm's scales from N(1, 0.02), as DCGAN does; biases are zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            _zero_bias(module)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return network


def unit_gain(network: _Network) -> _Network:
    """Draws weights that keep a signal's size (He et al. 2015, arXiv 1502.01852): no batch norm would restore it."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, SLOPE)
            _zero_bias(module)
        elif isinstance(module, nn.ConvTranspose2d):  # an output has the inputs that a stride apart see it
            taken = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
            deviation = nn.init.calculate_gain("leaky_relu", SLOPE) * math.prod(module.stride) ** 0.5 / taken**0.5
            nn.init.normal_(module.weight, 0.0, deviation)
            _zero_bias(module)
    return network


def _zero_bias(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
