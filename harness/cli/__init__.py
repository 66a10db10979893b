"""The command ``harness``. What it needs is imported within ``main``: Ctrl-C is one line from the first moment on."""

from __future__ import annotations

import os
import sys


def __getattr__(name: str) -> object:
    if name != "app":
        raise AttributeError(name)
    from harness.cli.commands import app

    return app


def main() -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    try:
        from harness.cli.commands import app
        from harness.cli.context import complain
        from harness.support.guard import Escaped, shown

        try:
            app(standalone_mode=True)
        except (ValueError, OSError, Escaped) as error:
            if os.environ.get("HARNESS_DEBUG"):
                raise
            complain(shown(error, str) or type(error).__name__)
            sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # typer makes an exit with status 130 of it, without a word
        if not isinstance(getattr(end.__context__, "__cause__", None) or end, KeyboardInterrupt):
            raise
        print("interrupted", file=sys.stderr)  # noqa: T201 (the command line)
        sys.exit(130)
