"""The commands of ``harness``. They import what they need when they run: listing what is installed loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from harness.cli import audit, boards, comparing, inspect, profiling, running
from harness.cli.context import Context, fail
from harness.support.guard import no_exit


class _Commands(TyperGroup):
    """Commands that end by themselves alone: what they call of a plugin ends none of them."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        with no_exit():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Commands,
    name="harness",
    help="Benchmark generative image models: train, score, rank.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(inspect.list_entries)
app.command("plugins")(inspect.list_plugins)
_RUNS = (running.run, running.status, running.show, running.sample, inspect.doctor, inspect.clean)
_BOARDS = (boards.leaderboard, boards.export, boards.figure, comparing.compare, comparing.merge)
for _command in (*_RUNS, *_BOARDS, audit.audit, inspect.new_plugin, inspect.schema):
    app.command()(_command)  # by the function's name
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
    context.obj = Context(Path(artifacts), Path(data) if data else None, tuple(map(_blocked, plugin)), store or None)
    context.call_on_close(context.obj.close)


def _blocked(plugin: str) -> str:
    if not plugin.startswith("no:") or len(plugin) == 3:
        fail(f"-p {plugin!r}: write -p no:NAME to block the plugin NAME")
    return plugin[3:]
