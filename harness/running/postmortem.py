"""What can be known of a child process that did not end as it should: signal, limits, the log's last lines, a stack."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from harness.interface.executor import NO_SPACE, Ended
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
        status, type_, how = ended.status, "Died", f"the child process was ended: {ended.message}"
    elif code == -signal.SIGKILL and oom_kills:
        status, type_ = "out-of-memory", "Died"
        how = "the child process was killed by SIGKILL: the system had no memory left"
    elif code == NO_SPACE:
        status, type_, how = "failed", "Died", "the child process ended: no space left where the run's folder lies"
    elif name is not None:
        status, type_, how = "killed", "Died", f"the child process was killed by {name}"
    else:
        status, type_, how = "failed", "Died", f"the child process ended with exit status {code}"
        if code == 0:
            how += " before its work was done"
    return Failure(
        stage=stage,
        type=type_,
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
