"""The command ``harness``. What it needs is imported within ``main``: Ctrl-C is one line from the first moment on."""

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from io import TextIOWrapper


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(name)
    from harness.cli.commands import app

    return app


def _end_what_is_left(pid: int, wait: Callable[[], None]) -> None:
    """Ends what plugins started in the command's own process: threads and processes that may never end.

    In place of the wait for all threads, with which Python ends; a process that was forked waits as ever.
    """
    if os.getpid() == pid:
        from harness.support.guard import end_children

        end_children()
    else:
        wait()


def main() -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    vars(threading)["_shutdown"] = partial(_end_what_is_left, os.getpid(), threading._shutdown)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every pipe's encoding has all that is said
    try:
        from harness.cli.commands import app, in_words
        from harness.cli.context import complain

        try:
            app(standalone_mode=True)
        except Exception as error:
            if os.environ.get("HARNESS_DEBUG") or not (said := in_words(error)):
                raise
            complain(said)
            sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # typer makes an exit with status 130 of it, without a word
        if not any(isinstance(it, KeyboardInterrupt) for it in (end, getattr(end.__context__, "__cause__", None))):
            raise
        print("interrupted", file=sys.stderr)  # noqa: T201 (the command line)
        sys.exit(130)
