"""Integer images in and out of a network: levels as inputs, outputs as distributions over levels.

An entry has one output, the logit of a one, where images are binary, and one output for each level otherwise,
unnormalised log-probabilities. Which dimension holds the O outputs of an entry is said by ``dim``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec

_COUNTED_IMAGES = 1000


def num_outputs(spec: ImageSpec) -> int:
    """Returns O, the number of outputs for each entry: 1 for binary images, ``levels`` otherwise."""
    return 1 if spec.levels == 2 else spec.levels


def scale(images: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Maps integers (...) in {0, ..., levels-1} to (...) in [-1, 1], linearly: 0 to -1 and levels-1 to 1."""
    return images.to(dtype) * (2 / (levels - 1)) - 1


def quantize(images: Tensor, levels: int) -> Tensor:
    """Maps (...) in [-1, 1] to (...) uint8, every value to the nearest level; of two levels by its sign."""
    return ((images + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).to(torch.uint8)


def level_logits(outputs: Tensor, dim: int = -1) -> Tensor:
    """Maps outputs with O at ``dim`` to the same with the levels there; the logit of a binary zero is 0."""
    return torch.cat([torch.zeros_like(outputs), outputs], dim) if outputs.shape[dim] == 1 else outputs


def level_log_probs(outputs: Tensor, values: Tensor, dim: int = -1) -> Tensor:
    """Maps outputs with O at ``dim``, and integers of their shape without it, to nats: log p of each entry's value."""
    if outputs.shape[dim] == 1:
        logits = outputs.squeeze(dim)
        return -F.binary_cross_entropy_with_logits(logits, values.to(logits.dtype), reduction="none")
    return outputs.log_softmax(dim).gather(dim, values.long().unsqueeze(dim)).squeeze(dim)


def draw_levels(outputs: Tensor, dim: int = -1) -> Tensor:
    """Maps outputs with O at ``dim`` to uint8 without it: one draw for each entry, with torch's global generator."""
    if outputs.shape[dim] == 1:
        probabilities = outputs.squeeze(dim).sigmoid()
        return (torch.rand_like(probabilities) < probabilities).to(torch.uint8)
    # a race of exponential clocks
    log_clocks: Tensor = torch.empty_like(outputs).exponential_().clamp_min(torch.finfo(outputs.dtype).tiny).log()
    return (outputs - log_clocks).argmax(dim).to(torch.uint8)


def outputs_of(probabilities: Tensor, dim: int = -1) -> Tensor:
    """Maps probabilities with the levels at ``dim`` to outputs with O there: what gives just these probabilities."""
    log_probs = probabilities.log()
    return log_probs.narrow(dim, 1, 1) - log_probs.narrow(dim, 0, 1) if log_probs.shape[dim] == 2 else log_probs


def level_counts(images: Tensor, levels: int) -> Tensor:
    """Maps (N, C, H, W) uint8 to (levels, C, H, W) int64: how many images have each level at each entry."""
    size = images[0].numel()
    entries = torch.arange(size, device=images.device)
    counts = torch.zeros(levels * size, dtype=torch.int64, device=images.device)
    for part in torch.split(images.flatten(1), _COUNTED_IMAGES):
        counts += torch.bincount((part.long() * size + entries).flatten(), minlength=levels * size)
    return counts.view(levels, *images.shape[1:])


def smoothed_outputs(counts: Tensor) -> Tensor:
    """Maps counts (..., levels) to outputs (..., O) float64 with these frequencies, each count one higher (Laplace).

    As the biases that training starts from, they spare the thousands of steps in which pixels that are nearly always
    black would learn no more than that.
    """
    counts = counts.contiguous() + 1.0
    return outputs_of((counts / counts.sum(-1, keepdim=True)).to(torch.float64))


def by_entry(outputs: Tensor, spec: ImageSpec) -> Tensor:
    """Maps the outputs (N, C * O, H, W) of a convolution to (N, C, O, H, W)."""
    return outputs.reshape(len(outputs), spec.channels, num_outputs(spec), *outputs.shape[2:])


def image_logits(outputs: Tensor, spec: ImageSpec) -> Tensor:
    """Maps the outputs (N, C * O, H, W) of a convolution to (N, levels, C, H, W), unnormalised log-probabilities."""
    return level_logits(by_entry(outputs, spec), dim=2).transpose(1, 2)


def entry_log_probs(outputs: Tensor, images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps the outputs (N, C * O, H, W) of a convolution and images (N, C, H, W) to (N, C, H, W) nats."""
    return level_log_probs(by_entry(outputs, spec), images, dim=2)
