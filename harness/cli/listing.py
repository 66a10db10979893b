"""``harness list`` and ``harness plugins``: what is installed. Neither imports torch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

from harness.cli import completion
from harness.cli.context import JSON_OPTION, echo, print_json, print_rows, print_table

if TYPE_CHECKING:
    from harness.cli.context import Context


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
    from harness.discovery.manager import KINDS
    from harness.support.names import did_you_mean

    plugins = context.obj.plugins
    if kind is not None and kind.rstrip("s") not in KINDS:
        raise ValueError(f"unknown kind {kind!r}{did_you_mean(kind, [f'{item}s' for item in KINDS])}")
    kinds = [item for item in KINDS if kind is None or item == kind.rstrip("s")]
    rows = [
        {
            "kind": item,
            "name": entry.display_name,
            "summary": entry.summary,
            "paper": entry.paper,
            "plugin": plugins.provider_of(item, entry).source,
        }
        for item in kinds
        for entry in plugins.entries(item)
    ]
    if json:
        print_json(rows)
        return
    for item in kinds:
        echo(f"{item}s")
        columns = {"name": "name", "summary": "what it is", "paper": "paper"}
        print_rows([row for row in rows if row["kind"] == item], columns, json=False)
        echo()
    if plugins.broken:
        echo(f"broken plugins: {', '.join(plugins.broken)} (see 'harness plugins')", err=True)


def list_plugins(
    context: typer.Context,
    json: bool = JSON_OPTION,
    tracebacks: bool = typer.Option(False, "--tracebacks", help="Show the traceback of what is broken."),
) -> None:
    """Tell what is installed, from which distribution and version, and what is broken and why."""
    options: Context = context.obj
    manager = options.plugins
    manager.check_targets()
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
                for info in manager.plugins
            ]
        )
    else:
        rows = []
        for info in manager.plugins:
            counts = Counter(entry.kind for entry in info.entries)
            has = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items())
            state = "blocked" if info.blocked else "BROKEN" if info.problems else "ok"
            rows.append([info.name, info.distribution, info.version, state, has])
        print_table(["plugin", "distribution", "version", "state", "registers"], rows)
        for info in manager.plugins:
            for problem in info.problems:
                echo(f"\n{info.name} ({info.source}): {problem.message}")
                if tracebacks and problem.traceback:
                    echo(problem.traceback)
    if manager.broken:
        raise typer.Exit(1)
