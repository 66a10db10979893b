"""The noise in an image, as the mean of a posterior that knows of levels, of the outermost in particular.

    z = alpha f + sigma noise,    alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)

Given z, a pixel f may be the lowest level, the highest one, or any. For the first two, its noise is known: it is
u = (z - alpha f) / sigma. The network says how likely they are but for the pixel's own noise, that is odds, and what
the noise is otherwise, beside its mean if all levels were alike. E[noise | z] mixes the three, with weights

    odds_lowest exp(-u_lowest^2 / 2),    odds_highest exp(-u_highest^2 / 2),    1.

Without it, a network has to learn to magnify differences from levels by 1 / sigma, up to a thousand.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_diffusion.unet import ImageNetwork

_CLIP = 4.0


class Denoiser(nn.Module):
    """Maps noisy images and their noise level to an estimate of the noise, and to further numbers for each entry.

    Args:
        spec: of the images.
        lowest, highest: what the levels 0 and levels - 1 are as f.
        width, blocks: see ``ImageNetwork``.
        extra: how many further numbers.
    """

    def __init__(self, spec: ImageSpec, *, lowest: float, highest: float, width: int, blocks: int,
                 extra: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.ends, self.spacing = (lowest, highest), (highest - lowest) / (spec.levels - 1)
        self.network = ImageNetwork(spec, features=4, outputs=3 + extra, width=width, blocks=blocks)

    def forward(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (N, C, H, W) and gamma (N,) or (1,) to the noise (N, C, H, W) and the rest (N, extra, C, H, W)."""
        alpha, sigma = ((sign * gamma).sigmoid().sqrt()[:, None, None, None] for sign in (-1, 1))
        lowest, highest = ((z - alpha * end) / sigma for end in self.ends)
        alike = self._alike(lowest, alpha * self.spacing / sigma)
        features = torch.stack([_CLIP * z, lowest, highest, alike], dim=1)  # (N, 4, C, H, W)
        out = self.network(features.clamp(-_CLIP, _CLIP) / _CLIP, gamma)
        odds = torch.stack([out[:, 0] - lowest.square() / 2, out[:, 1] - highest.square() / 2, torch.zeros_like(z)])
        shares = odds.softmax(dim=0)
        other = alike + sigma * z + out[:, 2]
        return shares[0] * lowest + shares[1] * highest + shares[2] * other, out[:, 3:]

    def _alike(self, lowest: Tensor, spacing: Tensor) -> Tensor:
        """Returns the mean of the noise if all levels, whose noises lie ``spacing`` apart, were alike: (N, C, H, W).

        That is zero but for rounding where the noise is wider than the spacing.
        """
        nearest = lowest - spacing * (lowest / spacing).round()
        noises = torch.stack([nearest + count * spacing for count in range(-2, 3)])
        mean = ((-noises.square() / 2).softmax(dim=0) * noises).sum(0)
        return torch.where(spacing > 1, mean, torch.zeros_like(mean))
