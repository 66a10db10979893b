"""The noise in an image, as the mean of a posterior that knows of levels, of the outermost in particular.

    z = alpha f + sigma noise,    alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma)

Given z, a pixel f may be the lowest level, the highest one, the one nearest to z / alpha, or any value. For the first
three, its noise is known: u = (z - alpha f) / sigma. The network says how likely each is but for the pixel's own noise,
that is odds, and what the noise is otherwise. E[noise | z] mixes the four, with weights

    odds_lowest exp(-u_lowest^2 / 2),  odds_highest exp(-u_highest^2 / 2),  odds_nearest exp(-u_nearest^2 / 2),  1.

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
        self.network = ImageNetwork(spec, features=4, outputs=4 + extra, width=width, blocks=blocks)

    def forward(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z (N, C, H, W) and gamma (N,) or (1,) to the noise (N, C, H, W) and the rest (N, extra, C, H, W)."""
        alpha, sigma = ((sign * gamma).sigmoid().sqrt()[:, None, None, None] for sign in (-1, 1))
        low, high = self.ends
        nearest = low + self.spacing * ((z / alpha).clamp(low, high) - low).div(self.spacing).round()
        known = torch.stack([(z - alpha * value) / sigma for value in (low, high, nearest)], dim=1)  # (N, 3, C, H, W)
        out = self.network(torch.cat([z[:, None], known.clamp(-_CLIP, _CLIP) / _CLIP], dim=1), gamma)
        shares = torch.cat([out[:, :3] - known.square() / 2, torch.zeros_like(z[:, None])], dim=1).softmax(dim=1)
        other = sigma * z + out[:, 3]
        return (shares[:, :3] * known).sum(1) + shares[:, 3] * other, out[:, 4:]
