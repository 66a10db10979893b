"""Many images through a network, few at a time: on a processor, the activations of few images stay in its caches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK = 8


def in_chunks(function: Callable[[Tensor, Tensor | None], Tensor], images: Tensor, labels: Tensor | None) -> Tensor:
    """Returns ``function(images, labels)``; on a processor without gradients, computed from 8 images at a time.

    Args:
        function: maps (N, ...) and labels (N,) to (N, ...), image by image.
        images: (N, ...).
        labels: (N,) int64, or None.
    """
    if len(images) <= _CHUNK or images.device.type != "cpu" or torch.is_grad_enabled():
        return function(images, labels)
    starts = range(0, len(images), _CHUNK)
    parts = [slice(start, start + _CHUNK) for start in starts]
    return torch.cat([function(images[part], None if labels is None else labels[part]) for part in parts])
