"""The players' networks, whatever they play for: fully connected ones, and convolutional ones in the manner of DCGAN.

DCGAN: Radford, Metz & Chintala 2016, arXiv 1511.06434. Kernels are 4x4 here, a multiple of the stride, so that every
output of a transposed convolution has as many inputs as its neighbours.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from harness import ImageSpec, Unsupported
from harness_layers.checks import check_choice

Network = Literal["mlp", "dcgan"]

_SLOPE = 0.2  # of leaky ReLUs
_SMALLEST = 8  # pixels a side of the images that a DCGAN takes
_BASE = 4  # pixels a side of its smallest maps, as far as the image's sides are even


class Scores(nn.Sequential):
    """A discriminator: maps images (N, C, H, W) to one number each, (N,)."""

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N,)."""
        for layer in self:
            images = layer(images)
        return images.squeeze(1)


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
    network: Network, spec: ImageSpec, *, width: int, batch_norm: bool, dropout: float
) -> nn.Module:
    """Returns a network that maps images (N, C, H, W) in [-1, 1] to (N,).

    Batch norm, where it is allowed, normalises by the batch at hand and keeps no running statistics: a discriminator
    has no buffers, and judging a batch never changes it.

    Args:
        network, spec, width: as for the generator, whose mirror image it is.
        batch_norm: whether a ``dcgan`` has batch norm, in all hidden layers but the first; an ``mlp`` has none.
        dropout: the share of an ``mlp``'s hidden units that is dropped; a ``dcgan`` drops none.

    Raises:
        ValueError, Unsupported: as for the generator.
    """
    check_choice(get_args(Network), network=network)
    if network == "mlp":
        return Scores(
            nn.Flatten(),
            nn.Linear(spec.num_dimensions, width), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
            nn.Linear(width, width), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
            nn.Linear(width, 1),
        )  # fmt: skip
    depth = halvings(spec)
    layers: list[nn.Module] = []
    for before, after in pairwise([spec.channels, *reversed(maps(width, depth))]):
        layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1))
        if batch_norm and len(layers) > 1:
            layers.append(nn.BatchNorm2d(after, track_running_stats=False))
        layers.append(nn.LeakyReLU(_SLOPE))
    scores = Scores(*layers, nn.Flatten(), nn.Linear(width * (spec.height >> depth) * (spec.width >> depth), 1))
    return _narrow(scores) if batch_norm else _unit_gain(scores)


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


def _narrow(network: nn.Module) -> nn.Module:
    """Draws weights from N(0, 0.02) and batch norm's scales from N(1, 0.02), as DCGAN does; biases are zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            _zero_bias(module)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    return network


def _unit_gain(network: nn.Module) -> nn.Module:
    """Draws weights that keep a signal's size (He et al. 2015, arXiv 1502.01852): no batch norm would restore it."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, _SLOPE)
            _zero_bias(module)
    return network


def _zero_bias(module: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)
