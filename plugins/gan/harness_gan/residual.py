"""Residual networks of both players (He et al. 2016, arXiv 1603.05027; Gulrajani et al. 2017, arXiv 1704.00028)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from harness import ImageSpec
from harness_gan.dcgan import halvings
from harness_gan.scores import Normalization, Scores, norm_of_maps, normalized, unit_gain


class Residual(nn.Module):
    """Maps (N, M, H, W) to (N, M', H', W'): two 3x3 convolutions, each behind a norm and a ReLU, and a shortcut.

    Args:
        before, after: M and M'.
        resample: ``up`` doubles the sides, each pixel repeated; ``down`` halves them by means; ``none`` keeps them.
        norms: what normalises the inputs of either convolution, if anything.
    """

    def __init__(self, before: int, after: int, *, resample: Literal["up", "down", "none"],
                 norms: tuple[list[nn.Module], list[nn.Module]]) -> None:  # fmt: skip
        super().__init__()
        up: list[nn.Module] = [nn.Upsample(scale_factor=2)] if resample == "up" else []
        down: list[nn.Module] = [nn.AvgPool2d(2)] if resample == "down" else []
        self.body = nn.Sequential(
            *norms[0], nn.ReLU(), *up, nn.Conv2d(before, after, 3, padding=1),
            *norms[1], nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), *down,
        )  # fmt: skip
        is_identity = before == after and resample == "none"
        self.shortcut = nn.Identity() if is_identity else nn.Sequential(*up, nn.Conv2d(before, after, 1), *down)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, M, H, W) to (N, M', H', W')."""
        outputs: Tensor = self.shortcut(inputs) + self.body(inputs)
        return outputs


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


def residual_generator(spec: ImageSpec, *, latents: int, width: int, plain: int) -> nn.Module:
    """Returns a network that maps latents (N, latents) to images (N, C, H, W) in [-1, 1].

    Args:
        spec: the sample space, as for a DCGAN.
        latents: the number of inputs.
        width: maps of every layer.
        plain: blocks that keep the resolution, behind each block that doubles it.
    """
    depth = halvings(spec)
    height, breadth = spec.height >> depth, spec.width >> depth
    layers: list[nn.Module] = [nn.Linear(latents, width * height * breadth), nn.Unflatten(1, (width, height, breadth))]
    for resample in (["up"] + ["none"] * plain) * depth:
        norms: tuple[list[nn.Module], list[nn.Module]] = ([nn.BatchNorm2d(width)], [nn.BatchNorm2d(width)])
        layers.append(Residual(width, width, resample=resample, norms=norms))  # type: ignore[arg-type]
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, spec.channels, 3, padding=1), nn.Tanh()]
    return unit_gain(nn.Sequential(*layers))


def residual_discriminator(spec: ImageSpec, *, width: int, normalization: Normalization, plain: int) -> Scores:
    """Returns a network that maps images (N, C, H, W) in [-1, 1] to (N,): halvings, and a mean over what is left.

    Args:
        spec: the sample space, as for a DCGAN.
        width: maps of every layer.
        normalization: of all convolutions but the first, as of ``build_discriminator``.
        plain: blocks that keep the resolution, behind each block that halves it.
    """
    layers: list[nn.Module] = [nn.Conv2d(spec.channels, width, 3, padding=1)]
    for resample in (["down"] + ["none"] * plain) * halvings(spec):
        norms = (norm_of_maps(normalization, width), norm_of_maps(normalization, width))
        layers.append(Residual(width, width, resample=resample, norms=norms))  # type: ignore[arg-type]
    return normalized(unit_gain(Scores(*layers, nn.ReLU(), _Mean(), nn.Linear(width, 1))), normalization)
