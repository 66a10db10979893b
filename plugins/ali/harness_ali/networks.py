"""The players' networks: encoder and generator, and a discriminator of images with their latents.

The generator of images is that of ``harness_gan``; the encoder mirrors it. Encoders have batch norm with running
statistics, so that in evaluation mode an image's code is its own. The discriminator has none, so that it judges every
pair by itself, and what the two players show it never mixes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_ali.chain import Chain, Conditional
from harness_gan.dcgan import halvings, maps
from harness_gan.networks import build_generator
from harness_layers.checks import check_choice

Network = Literal["mlp", "dcgan"]

_SLOPE = 0.2  # of leaky ReLUs
_UNITS = 4  # in a fully connected layer of latents, for each map of a DCGAN's smallest resolution


class JointDiscriminator(nn.Module):
    """Maps images and latents to one number for each pair: a logit, high where the encoder made the pair.

    Args:
        of_images: maps (N, C, H, W) to (N, A).
        of_latents: maps (N, D) to (N, B).
        of_both: maps (N, A + B) to (N, 1).
    """

    def __init__(self, of_images: nn.Module, of_latents: nn.Module, of_both: nn.Module) -> None:
        super().__init__()
        self.of_images, self.of_latents, self.of_both = of_images, of_latents, of_both

    def forward(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [-1, 1] and the latents of all levels (N, D) to (N,)."""
        scores: Tensor = self.of_both(torch.cat([self.of_images(images), self.of_latents(latents)], dim=1))
        return scores.squeeze(1)


def build_chain(network: Network, spec: ImageSpec, *, latents: tuple[int, ...], width: int, noisy: bool) -> Chain:
    """Returns encoder and generator through the levels of ``latents``, the bottom first.

    Args:
        network: ``mlp`` or ``dcgan``, of what has an image at one end; between latents are fully connected layers.
        spec: the sample space.
        latents: units of each level.
        width: ``mlp``: units of all hidden layers, of which a network has two. ``dcgan``: maps at the smallest
            resolution, half as many at every doubling of it, and 4 units a map between latents.
        noisy: whether the conditionals of latents are Gaussians, not points.

    Raises:
        ValueError: another network.
        Unsupported: images that a ``dcgan`` cannot halve.
    """
    check_choice(get_args(Network), network=network)
    picture = build_generator(network, spec, latents=latents[0], width=width)
    units, outputs = _units(network, width), 2 if noisy else 1
    up = [Conditional(_encoder(network, spec, outputs * latents[0], width), latents[0], noisy=noisy)]
    down = []
    for below, above in pairwise(latents):
        up.append(Conditional(_between(below, units, outputs * above), above, noisy=noisy))
        down.append(Conditional(_between(above, units, outputs * below), below, noisy=noisy))
    return Chain(up, down, picture)


def build_discriminator(
    network: Network, spec: ImageSpec, *, latents: int, width: int, dropout: float
) -> JointDiscriminator:
    """Returns a discriminator of images and ``latents`` numbers, of all levels, besides.

    Args:
        network: ``mlp``: two hidden layers see pixels and latents side by side. ``dcgan``: convolutions see the image,
            two fully connected layers the latents, and two more what comes of both.
        spec, width: as for the chain.
        latents: of all levels together.
        dropout: the share of hidden units, a map's entries among them, that is dropped in training.

    Raises:
        ValueError, Unsupported: as for the chain.
    """
    check_choice(get_args(Network), network=network)
    units = _units(network, width)
    if network == "mlp":
        images, features, latent_features = nn.Sequential(nn.Flatten()), spec.num_dimensions, nn.Sequential()
        size = latents
    else:
        depth, layers = halvings(spec), list[nn.Module]()
        for before, after in pairwise([spec.channels, *reversed(maps(width, depth))]):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout)]
        images, features = nn.Sequential(*layers, nn.Flatten()), _smallest(spec, width)
        latent_features, size = nn.Sequential(*_judging(latents, units, dropout)), units
    both = nn.Sequential(*_judging(features + size, units, dropout), nn.Linear(units, 1))
    return _unit_gain(JointDiscriminator(images, latent_features, both))


def _units(network: Network, width: int) -> int:
    return width if network == "mlp" else _UNITS * width


def _smallest(spec: ImageSpec, width: int) -> int:
    """Returns how many numbers the maps of the smallest resolution hold."""
    depth = halvings(spec)
    return width * (spec.height >> depth) * (spec.width >> depth)


def _encoder(network: Network, spec: ImageSpec, outputs: int, width: int) -> nn.Module:
    if network == "mlp":
        return nn.Sequential(nn.Flatten(), _between(spec.num_dimensions, width, outputs))
    layers: list[nn.Module] = []
    for before, after in pairwise([spec.channels, *reversed(maps(width, halvings(spec)))]):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(_smallest(spec, width), outputs))


def _between(inputs: int, units: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, units), nn.BatchNorm1d(units), nn.LeakyReLU(_SLOPE),
        nn.Linear(units, units), nn.BatchNorm1d(units), nn.LeakyReLU(_SLOPE),
        nn.Linear(units, outputs),
    )  # fmt: skip


def _judging(inputs: int, units: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Linear(inputs, units), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
        nn.Linear(units, units), nn.LeakyReLU(_SLOPE), nn.Dropout(dropout),
    ]  # fmt: skip


def _unit_gain(network: JointDiscriminator) -> JointDiscriminator:
    """Draws weights that keep a signal's size (He et al. 2015, arXiv 1502.01852): no batch norm would restore it."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, _SLOPE)
            nn.init.zeros_(module.bias) if module.bias is not None else None
    return network
