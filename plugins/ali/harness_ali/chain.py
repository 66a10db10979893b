"""Two ways through levels of latents: from an image up to the top, and from the top down to an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness_layers.posteriors import DiagonalGaussian, standard_noise


class Conditional(nn.Module):
    """The distribution of one level given its neighbour: a Gaussian, or a point.

    Args:
        network: maps a batch of the neighbour's values to (N, 2 D), means and log-variances, or of a point to (N, D).
        size: D, the units of the level.
        noisy: whether it is a Gaussian.
    """

    def __init__(self, network: nn.Module, size: int, *, noisy: bool) -> None:
        super().__init__()
        self.network, self.size, self.noisy = network, size, noisy

    def forward(self, given: Tensor) -> DiagonalGaussian:
        """Maps values of the neighbour to N distributions of (D,); a point has the variance zero."""
        outputs = self.network(given)
        if self.noisy:
            return DiagonalGaussian(*outputs.split(self.size, dim=1))
        return DiagonalGaussian(outputs, outputs.new_tensor(-torch.inf))


class Chain(nn.Module):
    r"""Encoder and generator through levels z_1, ..., z_L of latents, the bottom one first.

    .. math:: q(z | x) = q(z_1 | x) \prod_l q(z_{l+1} | z_l), \quad p(x, z) = p(z_L) \prod_l p(z_l | z_{l+1}) p(x | z_1)

    Args:
        up: q(z_1 | x), q(z_2 | z_1), and so on.
        down: p(z_1 | z_2), p(z_2 | z_3), and so on.
        picture: maps z_1 (N, D_1) to the one image (N, C, H, W) in [-1, 1] that it stands for.
    """

    def __init__(self, up: Sequence[Conditional], down: Sequence[Conditional], picture: nn.Module) -> None:
        super().__init__()
        self.up, self.down, self.picture = nn.ModuleList(up), nn.ModuleList(down), picture

    def infer(self, images: Tensor) -> list[Tensor]:
        """Maps images (N, C, H, W) in [-1, 1] to a draw of their latents, (N, D_l) for each level, the bottom first."""
        levels = [images]
        for conditional in self.up:
            levels.append(_draw(conditional(levels[-1])))
        return levels[1:]

    def means(self, images: Tensor) -> list[Tensor]:
        """Maps images to latents as ``infer`` does, with the mean of each level at the means of the one below."""
        levels = [images]
        for conditional in self.up:
            levels.append(conditional(levels[-1]).mean)
        return levels[1:]

    def generate(self, top: Tensor, *, level: int) -> tuple[Tensor, list[Tensor]]:
        """Maps latents (N, D_l) of a level, 1 being the bottom, to images in [-1, 1] and the latents down from there.

        The latents are as ``infer`` returns them, of the levels 1 to ``level``.
        """
        levels = [top]
        for conditional in list(self.down)[: level - 1][::-1]:
            levels.append(_draw(conditional(levels[-1])))
        return self.picture(levels[-1]), levels[::-1]


def _draw(conditional: DiagonalGaussian) -> Tensor:
    """Returns one draw of each, (N, D); gradients go through it."""
    return conditional.at(standard_noise(conditional.mean.shape, conditional.mean))
