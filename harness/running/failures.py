"""What is known of a stage that failed: from the exception that stopped it, or, where its process did not end as it
should, from signal, limits, the log's last lines and a stack.
"""

import re
import signal
import traceback
from pathlib import Path

import torch

from harness.interface.executor import NO_SPACE, Ended
from harness.interface.metric import DegenerateSamples
from harness.interface.model import Unsupported
from harness.interface.training import Diverged
from harness.records.record import Failure, FailureStatus
from harness.support.guard import shown

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


def failure_from(stage: str, error: BaseException) -> Failure:
    """Returns what an exception says of a stage that it stopped."""
    if isinstance(error, Unsupported):
        return Failure(stage=stage, type="Unsupported", message=shown(error, str))
    name, text = type(error).__name__, "".join(traceback.format_exception(error))
    # torch's allocator for the CPU raises a RuntimeError that only its text tells apart
    no_memory = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in shown(error, str)
    status: FailureStatus = "failed"
    if isinstance(error, Diverged):
        status = "diverged"
    elif isinstance(error, DegenerateSamples):
        status = "degenerate"
    elif no_memory or isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        status = "out-of-memory"
    return Failure(stage=stage, type=name, message=shown(error, str) or name, traceback=text, status=status)


def failure_of(stage: str, code: int, ended: Ended | None, log: Path, *, oom_kills: int = 0) -> Failure:
    """Returns what is known of a child that ended before its work was done, with the exit status ``code``, or killed by
    the signal ``-code``; its log need not be there. ``oom_kills``: of the system, for lack of memory, while it ran.
    """
    text = _tail(log)
    stacks = _STACK.findall(text)
    words = _EXTENSIONS.sub("", _STACK.sub("", text))
    name = _signal_name(code)
    status: FailureStatus = "failed"
    if ended is not None:
        status, how = ended.status, f"was ended: {ended.message}"
    elif code == -signal.SIGKILL and oom_kills:
        status, how = "out-of-memory", "was killed by SIGKILL: the system had no memory left"
    elif name is not None:
        status, how = "killed", f"was killed by {name}"
    elif code == NO_SPACE:
        how = "ended: no space left where the run's folder lies"
    else:
        how = f"ended with exit status {code}" + " before its work was done" * (code == 0)
    return Failure(
        stage=stage,
        type="Died",
        message=f"the child process {how}",
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
    try:
        return signal.Signals(-code).name if code < 0 else None
    except ValueError:
        return f"signal {-code}"


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _MAX_LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
