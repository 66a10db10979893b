"""The commands of ``harness``. They import what they need when they run: listing what is installed loads no torch."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from harness.cli import audit, bisecting, boards, comparing, history, inspect, lazy, profiling, report, running
from harness.cli.context import Context, VariadicCommand, fail
from harness.support.guard import Escaped, no_exit, shown
from harness.support.names import what_is_wrong

_UsageError: Any = typer.BadParameter.__mro__[1]  # click's own, which typer may bring along


def in_words(error: BaseException) -> str:
    """Returns what a user's mistake says; nothing if it is none."""
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
    if isinstance(error, ValueError | OSError | Escaped):
        return shown(error, str) or type(error).__name__
    no_memory = lazy.failure_from("", error).status == "out-of-memory"
    return f"there is not enough memory, ask for less at once: {error}" if no_memory else ""


@contextmanager
def _usage_in_a_line() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        said, command = error.format_message(), error.ctx.command_path if error.ctx else "harness"
        if hasattr(error.__cause__, "errors"):  # typer passes on what pydantic says
            said = said.replace(error.message, what_is_wrong({**error.__cause__.errors()[0], "loc": ()}))
        fail(f"{said.rstrip('.?')}; '{command} --help' says what there is")


class _Commands(TyperGroup):
    """Commands that end by themselves alone: what they call of a plugin ends none of them."""

    def make_context(self, info_name: str | None, *args: Any, **settings: Any) -> Any:
        """Reads what stands before the command."""
        with _usage_in_a_line():
            return super().make_context("harness", *args, **settings)

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        with no_exit(), _usage_in_a_line():
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
_RUNS = (running.run, running.status, running.show, running.sample, running.score, inspect.doctor, inspect.clean)
_BOARDS = (boards.leaderboard, boards.export, boards.figure, report.report, comparing.compare, comparing.merge)
for _command in (*_RUNS, *_BOARDS, audit.audit, inspect.new_plugin, inspect.schema):
    app.command()(_command)  # by the function's name
app.command(cls=VariadicCommand)(history.history)
app.command()(bisecting.bisect)
app.add_typer(profiling.profile, name="profile")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genharness {importlib.metadata.version('genharness')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    artifacts: str = typer.Option(".harness", envvar="HARNESS_ARTIFACTS", help="Folder that holds runs and the store."),
    store: str = typer.Option(
        None, metavar="URL", envvar="HARNESS_STORE",
        help="Database that holds the records, such as postgresql://USER@HOST/DATABASE; else a file in --artifacts."),
    data: str = typer.Option(None, "--data", envvar="HARNESS_DATA", help="Data folder; else the user's cache folder."),
    plugin: list[str] = typer.Option(
        [], "-p", "--plugin", metavar="no:NAME", help="Block a plugin before it is imported; can be repeated."),
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_say_version, help="Say which this is."),
) -> None:  # fmt: skip
    folder = Path(artifacts or fail("--artifacts '': name a folder"))
    context.obj = Context(folder, Path(data) if data else None, tuple(map(_blocked, plugin)), store or None)
    context.call_on_close(context.obj.close)


def _blocked(plugin: str) -> str:
    if not plugin.startswith("no:") or len(plugin) == 3:
        fail(f"-p {plugin!r}: write -p no:NAME to block the plugin NAME")
    return plugin[3:]
