"""Watches a process: how long it has run, and how much memory it and its descendants have resident."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable

import psutil

from harness import Ended, Limits

_EVERY_SECONDS = 0.2


class Watch:
    """Tells when a process is beyond its limits, by a ``clock`` of seconds that only grow.

    Memory is the sum over the process and all that it started; pages that they share count for each, so that a limit is
    never exceeded unseen.
    """

    def __init__(self, pid: int, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid, self._limits, self._clock = pid, limits, clock
        self._started = self._looked_at = clock()
        self.peak_bytes = 0

    def verdict(self) -> Ended | None:
        """Returns which limit is exceeded, None if none is. Looks at memory five times a second at most."""
        now = self._clock()
        seconds = self._limits.seconds
        if seconds is not None and now - self._started > seconds:
            return Ended("timed-out", f"it worked for more than its limit of {seconds:g} s")
        most = self._limits.memory_bytes
        if most is None or now - self._looked_at < _EVERY_SECONDS:
            return None
        self._looked_at = now
        resident = resident_bytes(self._pid)
        self.peak_bytes = max(self.peak_bytes, resident)
        if resident <= most:
            return None
        return Ended("out-of-memory", f"{resident / 1e9:.2f} GB resident, more than its limit of {most / 1e9:.2f} GB")


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process and its descendants have resident, in bytes; 0 for one that is gone."""
    total = 0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def family(pid: int) -> list[psutil.Process]:
    """Returns a process and all that it started, itself last."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.Error:
        return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Ends processes at once; those that are gone are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
