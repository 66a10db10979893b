"""For the samplers, under the names that they use."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness_layers.pixels import level_logits as value_logits

__all__ = ["encode", "value_logits"]


def encode(values: Tensor, inputs: str, levels: int, dtype: torch.dtype) -> Tensor:
    """Maps integers of any shape (...) in {0, ..., levels-1} to network inputs (..., E) of ``dtype``."""
    if inputs == "one-hot":
        return F.one_hot(values.long(), levels).to(dtype)
    return (values.to(dtype) / (levels - 1)).unsqueeze(-1)
