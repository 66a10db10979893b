"""How much memory a computation holds at one time, watched for a while."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from harness.interface.model import Model
from harness.support.observers import AllocationTally, TimeIsUp, unique_tensors


@dataclass(frozen=True)
class WorkingMemory:
    """Bytes allocated beyond the model's own, and whether the computation was watched to its end."""

    num_bytes: int
    finished: bool


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
