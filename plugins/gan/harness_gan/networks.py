"""The players' networks by name, whatever they play for."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, get_args

from torch import nn

from harness import ImageSpec, Unsupported
from harness_gan.dcgan import Style, dcgan_discriminator, dcgan_generator, halvings, maps
from harness_gan.residual import residual_discriminator, residual_generator
from harness_gan.scores import SLOPE, Normalization, Scores, narrow, norm_of_maps, normalized, unit_gain
from harness_layers.checks import check_choice

__all__ = ["Network", "Normalization", "Scores", "build_discriminator", "build_generator", "halvings", "maps"]

Network = Literal[
    "mlp", "dcgan", "dcgan-constant", "dcgan-mlp", "dcgan-plain", "dcgan-gated", "dcgan-tanh", "info", "resnet",
    "deep-resnet",
]  # fmt: skip

_STYLES: Mapping[str, Style] = MappingProxyType({
    "dcgan": Style(),
    "dcgan-constant": Style(batch_norm=False, is_constant=True),
    "dcgan-plain": Style(batch_norm=False),
    "dcgan-gated": Style("gated"),
    "dcgan-tanh": Style("tanh"),
})  # fmt: skip
_PLAIN_BLOCKS = {"resnet": 0, "deep-resnet": 3}  # behind each that changes the resolution
_DENSE, _UNITS = 4, 8  # hidden layers of the dense generator of ``dcgan-mlp``, and their units for each of its width


def build_generator(network: Network, spec: ImageSpec, *, latents: int, width: int) -> nn.Module:
    """Returns a network that maps latents (N, latents) to images (N, C, H, W) in [-1, 1].

    Its batch norm keeps running statistics: in evaluation mode every image depends on its own latents alone.

    - ``mlp``: two hidden layers.
    - ``dcgan``: Radford et al. 2016, arXiv 1511.06434.
    - ``dcgan-constant``, without batch norm and with as many maps at every resolution; ``dcgan-mlp``, four layers of
      ReLUs without batch norm in place of the generator; ``dcgan-plain``, without batch norm; ``dcgan-gated`` and
      ``dcgan-tanh``, with another nonlinearity everywhere: what Gulrajani et al. 2017, arXiv 1704.00028, figure 2,
      call hard to train. Their discriminator is ``dcgan``'s, with the same nonlinearity.
    - ``info``: two dense and two transposed layers (Chen et al. 2016, arXiv 1606.03657), the network of "Are GANs
      created equal?" (Lucic et al. 2018, arXiv 1711.10337).
    - ``resnet``: a residual block at each resolution; ``deep-resnet``: four of them, which makes 18 layers at 28x28 and
      stands for the 101 of arXiv 1704.00028.

    Args:
        network: its name.
        spec: the sample space.
        latents: the number of inputs.
        width: units of each hidden layer of an ``mlp``, an eighth of those of ``dcgan-mlp``, maps of each layer of a
            residual network; else maps at the smallest resolution, half as many at every doubling of it.

    Raises:
        ValueError: another network.
        Unsupported: images that the network cannot halve.
    """
    check_choice(get_args(Network), network=network)
    if network == "mlp":
        return nn.Sequential(
            nn.Linear(latents, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, spec.num_dimensions), nn.Tanh(), nn.Unflatten(1, spec.shape),
        )  # fmt: skip
    if network == "dcgan-mlp":
        sizes = [latents, *[_UNITS * width] * _DENSE]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        last = (nn.Linear(sizes[-1], spec.num_dimensions), nn.Tanh(), nn.Unflatten(1, spec.shape))
        return unit_gain(nn.Sequential(*layers, *last))
    if network in _PLAIN_BLOCKS:
        return residual_generator(spec, latents=latents, width=width, plain=_PLAIN_BLOCKS[network])
    if network == "info":
        height, breadth = _quarters(spec)
        return narrow(nn.Sequential(
            nn.Linear(latents, 8 * width, bias=False), nn.BatchNorm1d(8 * width), nn.ReLU(),
            nn.Linear(8 * width, width * height * breadth, bias=False), nn.BatchNorm1d(width * height * breadth),
            nn.ReLU(), nn.Unflatten(1, (width, height, breadth)),
            nn.ConvTranspose2d(width, max(1, width // 2), 4, stride=2, padding=1),
            nn.BatchNorm2d(max(1, width // 2)), nn.ReLU(),
            nn.ConvTranspose2d(max(1, width // 2), spec.channels, 4, stride=2, padding=1), nn.Tanh(),
        ))  # fmt: skip
    return dcgan_generator(spec, latents=latents, width=width, style=_STYLES[network])


def build_discriminator(
    network: Network, spec: ImageSpec, *, width: int, normalization: Normalization, dropout: float
) -> Scores:
    """Returns a network that maps images (N, C, H, W) in [-1, 1] to (N,), the counterpart of the generator.

    Args:
        network, spec, width: as for the generator.
        normalization: of hidden layers but the first: ``batch`` (by the batch at hand: no statistics are kept) or
            ``layer`` (over an image's maps and pixels; Ba et al. 2016, arXiv 1607.06450), which an ``mlp`` does
            without; of all layers: ``spectral``, weights over their largest singular value (Miyato et al. 2018, arXiv
            1802.05957).
        dropout: the share of an ``mlp``'s hidden units that is dropped; the others drop none.

    Raises:
        ValueError, Unsupported: as for the generator.
    """
    check_choice(get_args(Network), network=network)
    check_choice(get_args(Normalization), normalization=normalization)
    if network == "mlp":
        return normalized(
            Scores(
                nn.Flatten(),
                nn.Linear(spec.num_dimensions, width), nn.LeakyReLU(SLOPE), nn.Dropout(dropout),
                nn.Linear(width, width), nn.LeakyReLU(SLOPE), nn.Dropout(dropout),
                nn.Linear(width, 1),
            ),
            normalization,
        )  # fmt: skip
    if network in _PLAIN_BLOCKS:
        plain = _PLAIN_BLOCKS[network]
        return residual_discriminator(spec, width=width, normalization=normalization, plain=plain)
    if network == "info":
        height, breadth = _quarters(spec)
        scores = Scores(
            nn.Conv2d(spec.channels, max(1, width // 2), 4, stride=2, padding=1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(max(1, width // 2), width, 4, stride=2, padding=1), *norm_of_maps(normalization, width),
            nn.LeakyReLU(SLOPE), nn.Flatten(), nn.Linear(width * height * breadth, 8 * width), nn.LeakyReLU(SLOPE),
            nn.Linear(8 * width, 1),
        )  # fmt: skip
        return narrow(scores) if normalization == "batch" else normalized(unit_gain(scores), normalization)
    style = _STYLES.get(network, Style())
    return dcgan_discriminator(spec, width=width, normalization=normalization, style=style)


def _quarters(spec: ImageSpec) -> tuple[int, int]:
    if spec.height % 4 or spec.width % 4:
        raise Unsupported(f"this network takes images whose sides are multiples of 4, not {spec.height}x{spec.width}")
    return spec.height // 4, spec.width // 4
