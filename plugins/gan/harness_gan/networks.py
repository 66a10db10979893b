"""The players' networks, whatever they play for: fully connected ones, and convolutional ones in the manner of DCGAN.

DCGAN: Radford, Metz & Chintala 2016, arXiv 1511.06434. Kernels are 4x4 here, a multiple of the stride, so that every
output of a transposed convolution has as many inputs as its neighbours.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeVar, get_args

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from harness import ImageSpec, Unsupported
from harness_layers.checks import check_choice

Network = Literal["mlp", "dcgan"]
Normalization = Literal["batch", "layer", "spectral", "none"]

_Network = TypeVar("_Network", bound=nn.Module)

_SLOPE = 0.2  # of leaky ReLUs
_SMALLEST = 8  # pixels a side of the images that a DCGAN takes
_BASE = 4  # pixels a side of its smallest maps, as far as the image's sides are even


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


def build_generator(network: Network, spec: ImageSpec, *, latents: int, width: int) -> nn.Module:
    """Returns a network that maps latents (N, latents) to images (N, C, H, W) in [-1, 1].

    Its batch norm keeps running statistics: in evaluation mode every image depends on its own latents alone.

    Args:
        network: ``mlp`` or ``dcgan``.
        spec: the sample space.
        latents: the number of inputs.
        width: ``mlp``: units of either hidden layer. ``dcgan``: maps at the smallest resolution, half as many at every
            doubling of it.

    Raises:
        ValueError: another network.
        Unsupported: images that a ``dcgan`` cannot halve.
    """
    check_choice(get_args(Network), network=network)
    if network == "mlp":
        return nn.Sequential(
            nn.Linear(latents, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, spec.num_dimensions), nn.Tanh(), nn.Unflatten(1, spec.shape),
        )  # fmt: skip
    depth = halvings(spec)
    height, breadth = spec.height >> depth, spec.width >> depth
    layers: list[nn.Module] = [
        nn.Linear(latents, width * height * breadth), nn.Unflatten(1, (width, height, breadth)),
    ]  # fmt: skip
    for before, after in pairwise([*maps(width, depth), spec.channels]):
        layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    return _narrow(nn.Sequential(*layers, nn.Tanh()))


def build_discriminator(
    network: Network, spec: ImageSpec, *, width: int, normalization: Normalization, dropout: float
) -> Scores:
    """Returns a network that maps images (N, C, H, W) in [-1, 1] to (N,).

    Batch norm normalises by the batch at hand and keeps no running statistics: judging a batch never changes it.

    Args:
        network, spec, width: as for the generator, whose mirror image it is.
        normalization: of hidden layers but the first: ``batch`` or ``layer`` (over an image's maps and pixels; Ba et
            al. 2016, arXiv 1607.06450), which an ``mlp`` does without; of all layers: ``spectral``, weights over their
            largest singular value (Miyato et al. 2018, arXiv 1802.05957).
        dropout: the share of an ``mlp``'s hidden units that is dropped; a ``dcgan`` drops none.

    Raises:
        ValueError, Unsupported: as for the generator.
    """
    check_choice(get_args(Network), network=network)
    check_choice(get_args(Normalization), normalization=normalization)
    if network == "mlp":
        return normalized(Scores(
            nn.Flatten(),
            nn.Linear(spec.num_dimensions, width), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
            nn.Linear(width, width), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
            nn.Linear(width, 1),
        ), normalization)  # fmt: skip
    depth = halvings(spec)
    layers: list[nn.Module] = []
    for before, after in pairwise([spec.channels, *reversed(maps(width, depth))]):
        layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
        if len(layers) > 1:
            layers += norm_of_maps(normalization, after)
        layers.append(nn.LeakyReLU(_SLOPE))
    scores = Scores(*layers, nn.Flatten(), nn.Linear(width * (spec.height >> depth) * (spec.width >> depth), 1))
    return _narrow(scores) if normalization == "batch" else normalized(unit_gain(scores), normalization)


def norm_of_maps(normalization: Normalization, num_maps: int) -> list[nn.Module]:
    """Returns the layer that normalises a discriminator's maps, if there is one."""
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


def halvings(spec: ImageSpec) -> int:
    """Returns how often a DCGAN halves an image: down to 4 pixels a side or an odd number, 8x8 down to 2x2.

    Raises:
        Unsupported: a side is odd, or shorter than 8 pixels.
    """
    height, breadth, depth = spec.height, spec.width, 0
    if min(height, breadth) >= _SMALLEST:
        while height % 2 == breadth % 2 == 0 and (min(height, breadth) > _BASE or depth < 2):
            height, breadth, depth = height // 2, breadth // 2, depth + 1
    if depth == 0:
        raise Unsupported(
            f"a DCGAN takes images of even sides of at least {_SMALLEST} pixels, not {spec.height}x{spec.width}; "
            "network = 'mlp' takes any"
        )
    return depth


def maps(width: int, depth: int) -> list[int]:
    """Returns the numbers of maps of a DCGAN's hidden layers, from the smallest resolution up."""
    return [max(1, width >> level) for level in range(depth)]


def _narrow(network: _Network) -> _Network:
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
            nn.init.kaiming_normal_(module.weight, _SLOPE)
            _zero_bias(module)
    return network


def _zero_bias(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
