"""What is known of a stage that failed: from the exception that stopped it, or, where its process did not end as it
should, from signal, limits, the log's last lines and a stack.
"""

from __future__ import annotations

import re
import signal
import traceback
from pathlib import Path

import torch

from harness.interface.executor import NO_SPACE, Ended
from harness.interface.metric import DegenerateSamples
from harness.interface.training import Diverged
from harness.records.record import Failure, FailureStatus

_LOG_LINES = 20
_MAX_LOG_BYTES = 64 * 1024
# What faulthandler writes: "Current thread 0x... (most recent call first):", and at a crash "Fatal Python error: ..."
# before it.
_STACK = re.compile(
    r"(?:^Fatal Python error: .*\n(?:.*\n)*?)?"
    r"(?:^(?:Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):\n(?:^  .*\n?)+\n?)+",
    re.MULTILINE,
)
_EXTENSIONS = re.compile(r"^Extension modules: .*\n?", re.MULTILINE)
_CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


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


def failure_of(stage: str, code: int, ended: Ended | None, log: Path, *, oom_kills: int = 0) -> Failure:
    """Returns what is known of a child that ended before its work was done.

    Args:
        stage: what it was at.
        code: its exit status; negative: the signal that killed it.
        ended: the limit for which the executor ended it, if it did.
        log: the file that its output went to; it need not be there.
        oom_kills: how many processes the system has killed for lack of memory while this one ran.
    """
    text = _tail(log)
    stacks = _STACK.findall(text)
    words = _EXTENSIONS.sub("", _STACK.sub("", text))
    name = _signal_name(code)
    status: FailureStatus
    if ended is not None:
        status, how = ended.status, f"the child process was ended: {ended.message}"
    elif code == -signal.SIGKILL and oom_kills:
        status, how = "out-of-memory", "the child process was killed by SIGKILL: the system had no memory left"
    elif code == NO_SPACE:
        status, how = "failed", "the child process ended: no space left where the run's folder lies"
    elif name is not None:
        status, how = "killed", f"the child process was killed by {name}"
    else:
        status, how = "failed", f"the child process ended with exit status {code}"
        if code == 0:
            how += " before its work was done"
    return Failure(
        stage=stage,
        type="Died",
        message=how,
        status=status,
        signal=name,
        stack=stacks[-1].strip() if stacks else None,
        log="\n".join(words.splitlines()[-_LOG_LINES:]) or None,
    )


def count_oom_kills() -> int:
    """Returns how many processes of this control group the system has killed for lack of memory; 0 if nobody counts."""
    try:
        found = re.search(r"^oom_kill (\d+)$", _CGROUP_EVENTS.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 0 if found is None else int(found[1])


def _signal_name(code: int) -> str | None:
    if code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _MAX_LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
