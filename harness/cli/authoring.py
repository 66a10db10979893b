"""``harness new-plugin`` and ``schema``: files for those who write a plugin or a suite."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Any

import typer

from harness.cli.context import JSON_OPTION, echo, print_json


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
    directory: Path = typer.Option(None, "--directory", metavar="DIR", help="Make the folder NAME in this one."),
    json: bool = JSON_OPTION,
) -> None:
    """Write the package of a plugin: a working model to start from, its tests, and a suite that trains it."""
    from harness.testing.scaffold import write_plugin

    written = write_plugin(
        name, context.obj.plugins, kind=kind, directory=None if directory is None else Path(directory)
    )
    if json:
        files = [str(written.folder / file) for file in written.files]
        print_json({"folder": str(written.folder), "files": files, "next": list(written.next_steps)})
        return
    for file in written.files:
        echo(str(written.folder / file))
    echo("\nNext:")
    for step in written.next_steps:
        echo(f"  {step}")


def schemas() -> dict[str, dict[str, Any]]:
    """Returns the schemas by the names of their files."""
    from harness.boards.published import PublishedFigure
    from harness.profiling.profile import GenerationProfile
    from harness.suites.suite import Suite
    from harness.suites.toml import schema_of, schema_of_tables

    return {
        "suite.schema.json": schema_of(Suite),
        "profile.schema.json": schema_of(GenerationProfile),
        "published.schema.json": schema_of_tables(PublishedFigure, key="slug"),
    }


def schema(folder: Path = typer.Argument(Path(), help="Where to write them; here without it.")) -> None:
    """Write the JSON schemas that let an editor complete, explain and check suites: '#:schema ./suite.schema.json'."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        (folder / name).write_text(dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        typer.echo(str(folder / name))
