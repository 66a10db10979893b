"""How images of any size become those that a pretrained network has learned to look at.

The filter of the resize is part of a figure: Parmar, Zhang & Zhu 2022, arXiv 2104.11222, whose clean resize this is.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

import harness

SIDE = 224
WORDS = f"bicubic to {SIDE}x{SIDE}, antialiased, clipped to [0, 1]"


def prepared(images: Tensor, spec: harness.ImageSpec, name: str) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, 3, 224, 224) float32 in [0, 1]; C is 1, for grey that is repeated, or 3.

    Bicubic, with a filter that widens where images shrink, as Pillow's does. Where it overshoots it is clipped. Images
    of other channels are Unsupported by the network ``name``.
    """
    if spec.channels not in (1, 3):
        raise harness.Unsupported(f"{name} is for images of 1 or 3 channels, these have {spec.channels}")
    resized = functional.interpolate(images.float() / (spec.levels - 1), (SIDE, SIDE), mode="bicubic", antialias=True)
    return resized.clamp(0, 1).expand(-1, 3, -1, -1)
