"""The command ``harness``. What it needs is imported within ``main``: Ctrl-C is one line from the first moment on."""

import os
import sys
from io import TextIOWrapper


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(name)
    from harness.cli.commands import app

    return app


def main() -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # not every pipe's encoding has all that is said
    try:
        from harness.cli.commands import app, in_words
        from harness.cli.context import complain
        from harness.support.guard import end_with_main_thread

        end_with_main_thread()
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
