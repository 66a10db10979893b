"""Pixels in and out of a network: how integer entries become inputs, and outputs become distributions over levels.

Binary entries take one input and one output, the logit of a one. Entries of more levels take a one-hot vector or one
value in [0, 1] as input, and one output a level, the unnormalised log-probabilities.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec, Split

Inputs = Literal["scaled", "one-hot"]


def check_inputs(inputs: Inputs) -> None:
    """Raises ValueError for anything but the two encodings."""
    if inputs not in ("scaled", "one-hot"):
        raise ValueError(f"inputs must be 'scaled' or 'one-hot', not {inputs!r}")


def num_inputs(inputs: Inputs, levels: int) -> int:
    """Returns E, the number of inputs an entry."""
    check_inputs(inputs)
    return levels if inputs == "one-hot" else 1


def num_outputs(levels: int) -> int:
    """Returns O, the number of outputs an entry: 1 for binary entries, ``levels`` otherwise."""
    return 1 if levels == 2 else levels


def encode(values: Tensor, inputs: Inputs, levels: int, dtype: torch.dtype) -> Tensor:
    """Maps integers of any shape (...) in {0, ..., levels-1} to network inputs (..., E) of ``dtype``."""
    if inputs == "one-hot":
        return F.one_hot(values.long(), levels).to(dtype)
    return (values.to(dtype) / (levels - 1)).unsqueeze(-1)


def value_logits(outputs: Tensor) -> Tensor:
    """Maps outputs (..., O) to (..., levels), unnormalised log-probabilities; a binary entry's zero has logit 0."""
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1) if outputs.shape[-1] == 1 else outputs


def image_logits(outputs: Tensor, spec: ImageSpec) -> Tensor:
    """Maps outputs (N, D, O), entries in the order of ``images.flatten(1)``, to (N, levels, C, H, W)."""
    return value_logits(outputs).transpose(1, 2).reshape(len(outputs), spec.levels, *spec.shape)


def entry_log_probs(outputs: Tensor, values: Tensor) -> Tensor:
    """Maps outputs (..., O) and integers (...) to (...) nats, the log-probability of each entry's value."""
    if outputs.shape[-1] == 1:
        logits = outputs.squeeze(-1)
        return -F.binary_cross_entropy_with_logits(logits, values.to(logits.dtype), reduction="none")
    return outputs.log_softmax(-1).gather(-1, values.long().unsqueeze(-1)).squeeze(-1)


def marginal_outputs(split: Split, spec: ImageSpec) -> Tensor:
    """Returns (D, O) float64, the outputs that give every entry its marginal frequencies in a split.

    Every value counts once more than it occurs (Laplace 1774). As the biases that training starts from, they spare the
    thousands of steps in which pixels that are nearly always black would learn no more than that.
    """
    images = split.draw(0).images.flatten(1)
    counts = torch.stack([(images == value).sum(0) for value in range(spec.levels)], dim=1) + 1.0
    log_probs = (counts / counts.sum(1, keepdim=True)).to(torch.float64).log()  # (D, levels)
    return log_probs[:, 1:] - log_probs[:, :1] if num_outputs(spec.levels) == 1 else log_probs
