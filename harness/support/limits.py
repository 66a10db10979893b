"""What ends a run before it is done: its limits of time and memory, and Ctrl-C."""

import math
import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Self

from harness.support.guard import at_ctrl_c

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)")
_SECONDS = {
    "s": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hour": 3600, "hours": 3600,
    "day": 86400, "days": 86400,
}  # fmt: skip
_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@dataclass(frozen=True)
class Limits:
    """What a run may take.

    Attributes:
        seconds: how long a child process may work on it, in seconds; None: as long as it likes.
        memory_bytes: how much memory it and its own children may have resident, in bytes.
    """

    seconds: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def parse(cls, time: str | None, memory: str | None) -> Self:
        """Reads ``"30 minutes"`` and ``"4 GB"``; anything else is a ValueError."""
        seconds = None if time is None else _read(time, _SECONDS, "time limit", "'90 s', '30 minutes' or '2 hours'")
        memory_bytes = None if memory is None else _read(memory, _BYTES, "memory limit", "'512 MiB' or '4 GB'")
        return cls(seconds, None if memory_bytes is None else int(memory_bytes))

    def or_else(self, other: Self) -> Self:
        """Returns these limits, and another's where these say nothing."""
        return replace(other, **{name: value for name, value in vars(self).items() if value is not None})


def _read(text: str, units: dict[str, int], what: str, right: str) -> float:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or found[2] not in units or float(found[1]) <= 0:
        raise ValueError(f"{what} {text!r} is not an amount such as {right}")
    return float(found[1]) * units[found[2]]


def seconds_of_variable(variable: str, default: float, meaning: str, *, most: float = math.inf) -> float:
    """Returns the positive seconds, below ``most``, of an environment variable; a ValueError says the ``meaning``."""
    text = os.environ.get(variable, str(default))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < most:
        raise ValueError(f"{variable}={text!r}: {meaning}, such as {default:g}")
    return seconds


class Interrupts:
    """Ctrl-C: the first is a note, so that no start of a job and no write is cut in two; the second interrupts."""

    def __init__(self) -> None:
        self.noted = False

    def noting(self) -> AbstractContextManager[None]:
        """Makes the first Ctrl-C a note; the second raises KeyboardInterrupt wherever the program is."""

        def note(*_: object) -> None:
            self.check()
            self.noted = True

        return at_ctrl_c(note)

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self.noted:
            raise KeyboardInterrupt
