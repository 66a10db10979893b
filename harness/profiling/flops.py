"""Floating-point operations: how many a computation has, and how many a second the machine manages at best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode

_CPU_SIZES = (256, 512, 1024)
_ACCELERATOR_SIZES = (1024, 2048, 4096, 8192)
_REPEATS = 5


def count_flops(call: Callable[[], object]) -> int:
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each; nothing else."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _unfused(), counter:
        call()
    return int(counter.get_total_flops())


@contextmanager
def _unfused() -> Iterator[None]:
    """Keeps torch from fused CPU kernels, such as an LSTM's, which hide the matrix products that they consist of."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before


def gemm_peak(device: torch.device, *, sizes: Sequence[int] | None = None, repeats: int = _REPEATS) -> float:
    """Measures the most float32 operations a second that a square matrix product reaches, with the threads in force.

    Each size is multiplied ``repeats`` times after one product of warm-up; the fastest product of all counts. A product
    of two n x n matrices is 2 n^3 operations.
    """
    sizes = sizes or (_CPU_SIZES if device.type == "cpu" else _ACCELERATOR_SIZES)
    best = 0.0
    for size in sizes:
        left, right = (torch.ones(size, size, device=device) for _ in range(2))
        out = torch.mm(left, right)
        for _ in range(repeats):
            start = timer()
            torch.mm(left, right, out=out)
            best = max(best, 2.0 * size**3 / max(timer() - start, 1e-9))
    return best
