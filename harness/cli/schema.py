"""``harness schema``: the JSON schemas of suites, profiles and published figures, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("schema")(schema)


def schemas() -> dict[str, dict[str, Any]]:
    """Returns the schemas by the names of their files."""
    from harness.boards.published import PublishedFigure
    from harness.profiling.profile import GenerationProfile
    from harness.suites.schema import schema_of, schema_of_tables
    from harness.suites.suite import Suite

    return {
        "suite.schema.json": schema_of(Suite),
        "profile.schema.json": schema_of(GenerationProfile),
        "published.schema.json": schema_of_tables(PublishedFigure, key="slug"),
    }


def schema(folder: Path = typer.Argument(Path(), help="Where to write them; here without it.")) -> None:  # noqa: B008
    """Write the JSON schemas that let an editor complete, explain and check suites: '#:schema ./suite.schema.json'."""
    for name, content in schemas().items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        typer.echo(str(folder / name))
