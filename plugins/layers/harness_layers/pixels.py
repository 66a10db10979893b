"""Images in and out of a convolutional network: integers to inputs, outputs to distributions over levels.

A channel of an image has one input, its value scaled to [-1, 1], so that the zeros around an image are none of its
values where it is binary. It has one output, the logit of a one, where it is binary, and one output a level otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec, Split


def num_outputs(spec: ImageSpec) -> int:
    """Returns O, the number of outputs a channel: 1 for binary images, ``levels`` otherwise."""
    return 1 if spec.levels == 2 else spec.levels


def scale(images: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Maps (N, C, H, W) integers in {0, ..., levels-1} to (N, C, H, W) in [-1, 1], channels last in memory."""
    scaled = images.to(dtype).mul_(2 / max(1, levels - 1)).sub_(1)
    return scaled.contiguous(memory_format=torch.channels_last)


def image_logits(outputs: Tensor, spec: ImageSpec) -> Tensor:
    """Maps outputs (N, C * O, H, W) to (N, levels, C, H, W), unnormalised log-probabilities; a binary zero has 0."""
    if spec.levels == 2:
        return torch.stack([torch.zeros_like(outputs), outputs], dim=1)
    return _by_level(outputs, spec).transpose(1, 2)


def _by_level(outputs: Tensor, spec: ImageSpec) -> Tensor:
    return outputs.reshape(len(outputs), spec.channels, spec.levels, *outputs.shape[2:])


def entry_log_probs(outputs: Tensor, images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps outputs (N, C * O, H, W) and images (N, C, H, W) to (N, C, H, W) nats: log p of each entry's value."""
    if spec.levels == 2:
        return -F.binary_cross_entropy_with_logits(outputs, images.to(outputs.dtype), reduction="none")
    log_probs = _by_level(outputs, spec).log_softmax(dim=2)
    return log_probs.gather(2, images.long().unsqueeze(2)).squeeze(2)


def marginal_outputs(split: Split, spec: ImageSpec) -> Tensor:
    """Returns (C * O,) float64, the outputs that give every channel the frequencies of its values in a split.

    Every value counts once more than it occurs (Laplace 1774).
    """
    images = split.draw(0).images
    counts = torch.stack([(images == value).sum((0, 2, 3)) for value in range(spec.levels)], dim=1) + 1.0
    log_probs = (counts / counts.sum(1, keepdim=True)).to(torch.float64).log()  # (C, levels)
    return log_probs[:, 1] - log_probs[:, 0] if spec.levels == 2 else log_probs.flatten()
