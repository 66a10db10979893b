"""What a computation takes: floating-point operations, memory, and how many operations a second the machine manages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.benchmark import timer
from torch.utils.flop_counter import FlopCounterMode

from harness.interface.model import Model
from harness.support.observers import AllocationTally, TimeIsUp, unique_tensors

_CPU_SIZES = (256, 512, 1024)
_ACCELERATOR_SIZES = (1024, 2048, 4096, 8192)
_REPEATS = 5


@dataclass(frozen=True)
class WorkingMemory:
    """Bytes allocated beyond the model's own, and whether the computation was watched to its end."""

    num_bytes: int
    finished: bool


def count_flops(call: Callable[[], object]) -> int:
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each; nothing else."""
    counter, before = FlopCounterMode(display=False), torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # fused kernels, an LSTM's, hide their products
    try:
        with torch.no_grad(), counter:
            call()
    finally:
        torch.backends.mkldnn.enabled = before
    return int(counter.get_total_flops())


def gemm_peak(device: torch.device) -> float:
    """Measures the most float32 operations a second that a square matrix product reaches, with the threads in force.

    Each size is multiplied a few times after one product of warm-up; the fastest product of all counts. A product of
    two n x n matrices is 2 n^3 operations.
    """
    best = 0.0
    for size in _CPU_SIZES if device.type == "cpu" else _ACCELERATOR_SIZES:
        left, right = (torch.ones(size, size, device=device) for _ in range(2))
        out = torch.mm(left, right)
        for _ in range(_REPEATS):
            start = timer()
            torch.mm(left, right, out=out)
            best = max(best, 2.0 * size**3 / max(timer() - start, 1e-9))
    return best


def has_statistics(device: torch.device) -> bool:
    """Tells whether a device's allocator keeps its own peak."""
    return device.type != "cpu" and hasattr(torch.get_device_module(device), "max_memory_allocated")


def state_bytes(model: Model) -> int:
    """Returns the bytes of a model's ``state_dict``; tied tensors count once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in unique_tensors(model.state_dict().values()))


def working_memory(call: Callable[[], object], device: torch.device, *, max_seconds: float) -> WorkingMemory:
    """Returns the most that ``call`` had allocated at one time on ``device``.

    On an accelerator the allocator's own peak is read. On a CPU the storages that operations return are added up while
    they live, which leaves out scratch space inside one kernel; the resident set is not used, it never shrinks. The
    computation is ended after ``max_seconds``: a sampler of many steps repeats itself.
    """
    with AllocationTally(max_seconds=math.inf):
        torch.empty(1)  # the first watched operation of a process makes torch import its compiler, for seconds
    tally, finished = AllocationTally(max_seconds=max_seconds), True
    before = 0
    if has_statistics(device):
        torch.accelerator.synchronize(device)
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
    try:
        with tally:
            call()
    except TimeIsUp:
        finished = False
    if not has_statistics(device):
        return WorkingMemory(tally.peak_bytes, finished)
    torch.accelerator.synchronize(device)
    return WorkingMemory(torch.accelerator.max_memory_allocated(device) - before, finished)
