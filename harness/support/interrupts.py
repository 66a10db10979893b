"""Ctrl-C: the first is a note, so that no start of a job and no write is cut in two by it; the second interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupts:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.noted = False

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Makes the first Ctrl-C a note; the second raises KeyboardInterrupt wherever the program is."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield  # only the main thread may set handlers; and who ignores Ctrl-C is left alone
            return

        def note(*_: object) -> None:
            if self.noted:
                raise KeyboardInterrupt
            self.noted = True

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self.noted:
            raise KeyboardInterrupt
