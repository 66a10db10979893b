"""The command ``harness``. Commands import what they need when they run: listing what is installed loads no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from harness.cli import audit, authoring, boards, comparing, figures, inspect, listing, profiling, running
from harness.cli.context import Context, fail

app = typer.Typer(
    name="harness",
    help="Benchmark generative image models: train, score, rank.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing.list_entries,
    "plugins": listing.list_plugins,
    "run": running.run,
    "status": running.status,
    "show": running.show,
    "sample": inspect.sample,
    "doctor": inspect.doctor,
    "clean": inspect.clean,
    "leaderboard": boards.leaderboard,
    "export": boards.export,
    "figure": figures.figure,
    "compare": comparing.compare,
    "merge": comparing.merge,
    "audit": audit.audit,
    "new-plugin": authoring.new_plugin,
    "schema": authoring.schema,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(profiling.profile, name="profile")


@app.callback()
def _options(
    context: typer.Context,
    artifacts: str = typer.Option(
        ".harness", "--artifacts", envvar="HARNESS_ARTIFACTS", help="Folder that holds runs and the store."
    ),
    store: str = typer.Option(
        None,
        "--store",
        metavar="URL",
        envvar="HARNESS_STORE",
        help="Database that holds the records, such as postgresql://USER@HOST/DATABASE; else a file in --artifacts.",
    ),
    data: str = typer.Option(None, "--data", envvar="HARNESS_DATA", help="Data folder; else the user's cache folder."),
    plugin: list[str] = typer.Option(
        [], "-p", "--plugin", metavar="no:NAME", help="Block a plugin before it is imported; can be repeated."
    ),
) -> None:
    context.obj = Context.make(artifacts, data, plugin, store)
    context.call_on_close(context.obj.close)


def main() -> None:
    """Runs the command line; a user's mistake is one line on standard error and exit status 2."""
    try:
        app(standalone_mode=True)
    except (ValueError, OSError) as error:
        if os.environ.get("HARNESS_DEBUG"):
            raise
        fail(str(error) or type(error).__name__)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201 (the command line)
        sys.exit(130)
