"""From an exception to what a record keeps of it."""

from __future__ import annotations

import traceback

import torch

from harness.interface.metric import DegenerateSamples
from harness.interface.training import Diverged
from harness.records.record import Failure, FailureStatus


def failure_from(stage: str, error: BaseException, *, with_traceback: bool = True) -> Failure:
    """Returns what an exception says of a stage that it stopped."""
    text = "".join(traceback.format_exception(error)) if with_traceback else None
    message = str(error) or type(error).__name__
    return Failure(stage=stage, type=type(error).__name__, message=message, traceback=text, status=_status_of(error))


def _status_of(error: BaseException) -> FailureStatus:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, DegenerateSamples):
        return "degenerate"
    # torch's allocator for the CPU raises a RuntimeError that only its text tells apart
    no_memory = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    if no_memory or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "out-of-memory"
    return "failed"
