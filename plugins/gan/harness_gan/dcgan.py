"""Convolutional networks in the manner of DCGAN, and the variants of it that are hard to train.

DCGAN: Radford, Metz & Chintala 2016, arXiv 1511.06434. Kernels are 4x4 here, a multiple of the stride, so that every
output of a transposed convolution has as many inputs as its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from harness import ImageSpec, Unsupported
from harness_gan.scores import SLOPE, Normalization, Scores, narrow, norm_of_maps, normalized, unit_gain

_SMALLEST = 8  # pixels a side of the images that a DCGAN takes
_BASE = 4  # pixels a side of its smallest maps, as far as the image's sides are even


class Gate(nn.Module):
    """Maps (N, 2 M, H, W) to (N, M, H, W): tanh of the first half times the sigmoid of the second."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, 2 M, H, W) to (N, M, H, W)."""
        values, gates = inputs.chunk(2, dim=1)
        return values.tanh() * gates.sigmoid()


@dataclass(frozen=True)
class Style:
    """What the convolutional networks are made of (Gulrajani et al. 2017, arXiv 1704.00028, figure 2).

    Attributes:
        nonlinearity: between layers: ``relu``, leaky in the discriminator, ``tanh``, or ``gated``, see ``Gate``.
        batch_norm: whether the generator has any.
        is_constant: whether it has as many maps at every resolution, and not half as many at each doubling.
    """

    nonlinearity: Literal["relu", "tanh", "gated"] = "relu"
    batch_norm: bool = True
    is_constant: bool = False

    @property
    def factor(self) -> int:
        """How many maps a layer makes for each that the next one takes."""
        return 2 if self.nonlinearity == "gated" else 1

    def between(self, relu: nn.Module) -> nn.Module:
        """Returns the nonlinearity; ``relu`` where it is one."""
        return {"relu": relu, "tanh": nn.Tanh(), "gated": Gate()}[self.nonlinearity]


def dcgan_generator(spec: ImageSpec, *, latents: int, width: int, style: Style) -> nn.Module:
    """Returns a network that maps latents (N, latents) to images (N, C, H, W) in [-1, 1].

    Raises:
        Unsupported: images that it cannot double to.
    """
    depth, factor = halvings(spec), style.factor
    height, breadth = spec.height >> depth, spec.width >> depth
    layers: list[nn.Module] = [
        nn.Linear(latents, factor * width * height * breadth), nn.Unflatten(1, (factor * width, height, breadth)),
    ]  # fmt: skip
    counts = [width] * depth if style.is_constant else maps(width, depth)
    made = [factor * count for count in counts[1:]] + [spec.channels]
    for before, after in zip(counts, made, strict=True):
        layers += [nn.BatchNorm2d(factor * before)] if style.batch_norm else []
        layers += [style.between(nn.ReLU()), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
    network = nn.Sequential(*layers, nn.Tanh())
    return narrow(network) if style.batch_norm else unit_gain(network)


def dcgan_discriminator(spec: ImageSpec, *, width: int, normalization: Normalization, style: Style) -> Scores:
    """Returns the generator's mirror image, from images (N, C, H, W) to (N,).

    Raises:
        Unsupported: images that it cannot halve.
    """
    depth, factor = halvings(spec), style.factor
    layers: list[nn.Module] = []
    for before, after in pairwise([spec.channels, *reversed(maps(width, depth))]):
        layers.append(nn.Conv2d(before, factor * after, 4, stride=2, padding=1))
        if len(layers) > 1:
            layers += norm_of_maps(normalization, factor * after)
        layers.append(style.between(nn.LeakyReLU(SLOPE)))
    scores = Scores(*layers, nn.Flatten(), nn.Linear(width * (spec.height >> depth) * (spec.width >> depth), 1))
    return narrow(scores) if normalization == "batch" else normalized(unit_gain(scores), normalization)


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
