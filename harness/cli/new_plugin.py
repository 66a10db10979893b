"""``harness new-plugin NAME``: writes the package of a plugin with one model, ready to install and to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.context import JSON_OPTION, echo, print_json

if TYPE_CHECKING:
    from harness.cli.context import Context


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("new-plugin")(new_plugin)


def _kinds() -> list[str]:
    return ["exact", "latent", "implicit"]


def new_plugin(
    context: typer.Context,
    name: str = typer.Argument(help="The model's name: lower-case words joined by hyphens."),
    kind: str = typer.Option(
        "exact",
        "--kind",
        help="What the model has: exact (a likelihood), latent (a bound) or implicit (samples alone).",
        autocompletion=_kinds,
    ),
    directory: str = typer.Option(None, "--directory", metavar="DIR", help="Make the folder NAME in this one."),
    json: bool = JSON_OPTION,
) -> None:
    """Write the package of a plugin: a working model to start from, its tests, and a suite that trains it."""
    from harness.testing.scaffold import write_plugin

    options: Context = context.obj
    written = write_plugin(name, options.plugins, kind=kind, directory=None if directory is None else Path(directory))
    if json:
        files = [str(written.folder / file) for file in written.files]
        print_json({"folder": str(written.folder), "files": files, "next": list(written.next_steps)})
        return
    for file in written.files:
        echo(str(written.folder / file))
    echo("\nNext:")
    for step in written.next_steps:
        echo(f"  {step}")
