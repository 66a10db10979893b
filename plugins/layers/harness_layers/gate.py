"""The gated activation of Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328), with its gradient by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Gate(torch.autograd.Function):
    # tanh(a) = 2 sigmoid(2a) - 1: torch's sigmoid is several times faster than its tanh on a processor. The gradient
    # needs the two factors alone, and is written where it belongs, without the copies of a split's own gradient.
    @staticmethod
    def forward(ctx: Any, pre: Tensor) -> Tensor:
        a, b = pre.chunk(2, dim=1)
        filtered = torch.sigmoid(a * 2).mul_(2).sub_(1)
        gate = torch.sigmoid(b)
        ctx.save_for_backward(filtered, gate)
        return filtered * gate

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        filtered, gate = ctx.saved_tensors
        half = filtered.shape[1]
        through_gate = gradient * gate
        nhwc = filtered.is_contiguous(memory_format=torch.channels_last)
        out = torch.empty(
            (len(filtered), 2 * half, *filtered.shape[2:]), dtype=gradient.dtype, device=gradient.device,
            memory_format=torch.channels_last if nhwc else torch.contiguous_format,
        )  # fmt: skip
        torch.mul(through_gate, 1 - filtered * filtered, out=out[:, :half])
        torch.mul(through_gate.mul_(1 - gate), filtered, out=out[:, half:])
        return out


def gated(pre: Tensor) -> Tensor:
    """Maps (N, 2P, H, W) to (N, P, H, W): tanh of the first half times the sigmoid of the second."""
    result: Tensor = _Gate.apply(pre)  # type: ignore[no-untyped-call]
    return result
