"""``harness list`` and ``harness plugins``: what is installed. Neither imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from harness.cli import completion
from harness.cli.context import JSON_OPTION, print_json, print_table
from harness.support.names import printable

if TYPE_CHECKING:
    from harness.cli.context import Context
    from harness.discovery.manager import Kind

_KINDS: tuple[Kind, ...] = ("dataset", "model", "metric", "sampler", "board", "figure", "executor")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("list")(list_entries)
    app.command("plugins")(list_plugins)


def list_entries(
    context: typer.Context,
    kind: str = typer.Argument(
        None,
        help="datasets, models, metrics, samplers, boards, figures or executors; all without it.",
        autocompletion=completion.kinds,
    ),
    json: bool = JSON_OPTION,
) -> None:
    """List what is installed: datasets, models, metrics, samplers, boards, figures and executors."""
    from harness.support.names import did_you_mean

    options: Context = context.obj
    if kind is not None and kind.rstrip("s") not in _KINDS:
        raise ValueError(f"unknown kind {kind!r}{did_you_mean(kind, [f'{item}s' for item in _KINDS])}")
    kinds = [item for item in _KINDS if kind is None or item == kind.rstrip("s")]
    found = [(item, entry) for item in kinds for entry in options.plugins.entries(item)]
    if json:
        print_json(
            [
                {
                    "kind": item,
                    "name": entry.display_name,
                    "summary": entry.summary,
                    "paper": entry.paper,
                    "plugin": options.plugins.provider_of(item, entry).source,
                }
                for item, entry in found
            ]
        )
        return
    for item in kinds:
        rows = [[entry.display_name, entry.summary, entry.paper or ""] for of, entry in found if of == item]
        typer.echo(f"{item}s")
        print_table(["name", "what it is", "paper"], rows)
        typer.echo("")
    broken = [info.name for info in options.plugins.plugins if info.problems]
    if broken:
        typer.echo(f"broken plugins: {', '.join(broken)} (see 'harness plugins')", err=True)


def list_plugins(
    context: typer.Context,
    json: bool = JSON_OPTION,
    tracebacks: bool = typer.Option(False, "--tracebacks", help="Show the traceback of what is broken."),
) -> None:
    """Tell what is installed, from which distribution and version, and what is broken and why."""
    manager = context.obj.plugins
    manager.check_targets()
    plugins = manager.plugins
    if json:
        print_json(
            [
                {
                    "name": info.name,
                    "distribution": info.distribution,
                    "version": info.version,
                    "blocked": info.blocked,
                    "registers": [f"{entry.kind} {entry.full_name}" for entry in info.entries],
                    "problems": [{"message": item.message, "traceback": item.traceback} for item in info.problems],
                }
                for info in plugins
            ]
        )
    else:
        rows = []
        for info in plugins:
            counts = [(kind, sum(entry.kind == kind for entry in info.entries)) for kind in _KINDS]
            has = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts if count)
            state = "blocked" if info.blocked else "BROKEN" if info.problems else "ok"
            rows.append([info.name, info.distribution, info.version, state, has])
        print_table(["plugin", "distribution", "version", "state", "registers"], rows)
        for info in plugins:
            for problem in info.problems:
                typer.echo(printable(f"\n{info.name} ({info.source}): {problem.message}"))
                if tracebacks and problem.traceback:
                    typer.echo(printable(problem.traceback))
    if any(info.problems for info in plugins):
        raise typer.Exit(1)
