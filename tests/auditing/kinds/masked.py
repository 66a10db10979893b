"""Right masked networks: with norms of weights, of layers and of batches, with dropout, residual blocks and scripts."""

from __future__ import annotations

import warnings

import torch
from museum.pixel_cnn import Kind, causal_mask, logits_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

import harness
from harness import Dataset, ImageSpec, Trainer

from .common import Trained, as_logits, at_most_entries, sequence, signed
from .registry import kind


class InPlaceMask(nn.Conv2d):
    """Zeroes its weights in place each time it is applied, as many public ones do; the mask is a buffer."""

    def __init__(self, into: int, out: int, size: int, *, groups: int, kind: Kind) -> None:
        super().__init__(into, out, size, padding=size // 2)
        self.register_buffer("mask", causal_mask((out, into), groups, (size, size), kind))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, in, H, W) to (N, out, H, W)."""
        self.weight.data *= self.mask
        return super().forward(inputs)


class ChannelNorm(nn.Module):
    """Normalises each pixel's features, those of each channel of the image apart, so that no later channel is seen."""

    def __init__(self, features: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.scale, self.shift = nn.Parameter(torch.ones(features, 1, 1)), nn.Parameter(torch.zeros(features, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (N, F, H, W) to the same."""
        blocks = features.unflatten(1, (self.groups, -1))
        variance, mean = torch.var_mean(blocks, dim=2, keepdim=True, correction=0)
        return ((blocks - mean) / (variance + 1e-5).sqrt()).flatten(1, 2) * self.scale + self.shift


class Pixels(Trained):
    """Masked 3x3 convolutions with something between them; their reach ends, and is declared by probing."""

    def __init__(self, spec: ImageSpec, *, width: int = 4, layers: int = 2) -> None:
        super().__init__(spec)
        at_most_entries(spec, 200, 4)
        self.width, channels = width * spec.channels, spec.channels
        kinds: list[Kind] = ["A", *["B"] * layers]
        self.layers = nn.ModuleList(
            [self.convolution(self.width if number else channels, 3, each) for number, each in enumerate(kinds)]
        )
        self.between = nn.ModuleList([self.activation() for _ in self.layers])
        self.out = InPlaceMask(self.width, channels * spec.levels, 1, groups=channels, kind="B")

    def convolution(self, into: int, size: int, kind: Kind) -> nn.Module:
        """Makes a layer."""
        return InPlaceMask(into, self.width, size, groups=self.spec.channels, kind=kind)

    def activation(self) -> nn.Module:
        """Makes what follows a layer."""
        return nn.ReLU()

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        return self.logits_of(images, 0.0)

    def logits_of(self, images: Tensor, bias: Tensor | float) -> Tensor:
        """Maps images to logits (N, levels, C, H, W); a bias is added to the first features, (N, F, H, W)."""
        features = signed(images, self.spec, self.dtype)
        for number, (layer, between) in enumerate(zip(self.layers, self.between, strict=True)):
            new = between(layer(features))
            features = features + new if number else new + bias
        return logits_of(self.out(features), self.spec)

    def dependence(self, ordering: int = 0) -> Tensor:
        return harness.probe_dependence(self, ordering)


@kind("masked convolutions")
class BatchNormPixels(Pixels):
    """Batch norm that has running statistics in evaluation, and dropout that is off in it; masks are in place."""

    def activation(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm2d(self.width), nn.ReLU(), nn.Dropout2d(0.2))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        self.train()
        super().fit(data, trainer)
        self.eval()


@kind("masked convolutions")
class LayerNormPixels(Pixels):
    """A norm over the features of each pixel, and GELU."""

    def activation(self) -> nn.Module:
        return nn.Sequential(ChannelNorm(self.width, self.spec.channels), nn.GELU())


@kind("masked convolutions")
class WeightNormPixels(Pixels):
    """Weights are a direction and a length, the mask on the direction, by torch's older hooks (1602.07868)."""

    def convolution(self, into: int, size: int, kind: Kind) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layer = weight_norm(nn.Conv2d(into, self.width, size, padding=size // 2))
        mask = causal_mask((self.width, into), self.spec.channels, (size, size), kind)
        with torch.no_grad():
            layer.weight_v.mul_(mask)
        layer.register_buffer("mask", mask, persistent=False)
        layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", module.weight * module.mask))
        return layer


@kind("masked dense network")
class ResMADE(Trained):
    """Masked residual blocks, whose weights have norms of their own (Nash & Durkan 2019, arXiv 1904.05626)."""

    def __init__(self, spec: ImageSpec, *, blocks: int = 2, copies: int = 2) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64, 16)
        size = spec.num_dimensions
        degrees = torch.arange(size - 1).repeat_interleave(copies)  # unit of degree k sees entries up to k
        places = torch.arange(size)
        self.register_buffer("into", (places <= degrees[:, None]).float(), persistent=False)
        self.register_buffer("across", (degrees <= degrees[:, None]).float(), persistent=False)
        self.register_buffer(
            "out", (degrees < places.repeat_interleave(spec.levels)[:, None]).float(), persistent=False
        )
        self.first, self.last = nn.Linear(size, len(degrees)), nn.Linear(len(degrees), size * spec.levels)
        self.blocks = nn.ModuleList(
            [
                nn.ModuleList([parametrizations.weight_norm(nn.Linear(len(degrees), len(degrees))) for _ in range(2)])
                for _ in range(blocks)
            ]
        )

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values = signed(sequence(images), self.spec, self.dtype)
        features = F.linear(values, self.first.weight * self.into, self.first.bias)
        for one, other in self.blocks:
            hidden = F.linear(features.relu(), one.weight * self.across, one.bias)
            features = features + F.linear(hidden.relu(), other.weight * self.across, other.bias)
        return as_logits(F.linear(features, self.last.weight * self.out, self.last.bias), self.spec)


@kind("logistic regressions")
class SigmoidBeliefNetwork(Trained):
    """Each entry is a regression on the ones before it (Frey 1998; Gan et al. 2015)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 4)
        size = spec.num_dimensions
        self.weight = nn.Parameter(torch.randn(spec.levels, size, size) * 0.1)
        self.bias = nn.Parameter(torch.zeros(spec.levels, size))
        self.register_buffer("past", torch.ones(size, size).tril(-1))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values = signed(sequence(images), self.spec, self.dtype)
        logits = torch.einsum("lij,nj->nil", self.weight * self.past, values) + self.bias.T
        return as_logits(logits, self.spec)


@kind("hypernetwork")
class Hypernetwork(Trained):
    """A network of the places makes the weights of each entry's regression on the past."""

    def __init__(self, spec: ImageSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 4)
        places = torch.arange(spec.num_dimensions)
        waves = torch.stack([(places / 2.0**power).sin() for power in range(6)], 1)
        self.register_buffer("waves", waves, persistent=False)
        self.keys = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width))
        self.queries = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, spec.levels * width))
        self.bias = nn.Linear(6, spec.levels)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values, waves = signed(sequence(images), self.spec, self.dtype) + 0.1, self.waves.to(self.dtype)
        queries = self.queries(waves).unflatten(1, (self.spec.levels, -1))
        weights = torch.einsum("ilw,jw->lij", queries, self.keys(waves)).tril(-1)
        return as_logits(torch.einsum("lij,nj->nil", weights, values) + self.bias(waves), self.spec)
