"""The JSON schemas that editors read: those committed are those of the code, and they know what is right and wrong."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.cli.inspect import schemas

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"
FILES = sorted(LEADERBOARDS.rglob("*.toml"))
RIGHT = {"title": "T", "datasets": ["digits"], "models": [{"name": "uniform"}]}


def fields(schema):
    """Yields every field of a schema with its name."""
    yield from schema.get("properties", {}).items()
    for inner in [*schema.get("$defs", {}).values(), schema.get("additionalProperties")]:
        if isinstance(inner, dict):
            yield from fields(inner)


def test_the_committed_schemas_are_what_the_command_writes(tmp_path):
    assert CliRunner().invoke(app, ["schema", str(tmp_path)]).exit_code == 0
    for name in schemas():
        assert (tmp_path / name).read_bytes() == (LEADERBOARDS / name).read_bytes(), "run 'harness schema leaderboards'"


@pytest.mark.parametrize("name", schemas())
def test_every_field_is_explained(name):
    found = list(fields(schemas()[name]))
    assert found
    assert [field for field, schema in found if "description" not in schema] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_committed_file_names_its_schema_and_follows_it(file):
    text = file.read_text(encoding="utf-8")
    named = re.match(r"#:schema (\S+)\n", text)
    schema = json.loads((file.parent / named[1]).read_text(encoding="utf-8"))
    jsonschema.validate(tomllib.loads(text), schema)


def test_what_is_set_from_the_command_line_is_no_key_of_a_suite():
    assert {"name", "file", "checkpoint"}.isdisjoint(schemas()["suite.schema.json"]["properties"])


@pytest.mark.parametrize(
    "change",
    [
        {"titel": "T"},
        {"title": 3},
        {"datasets": []},
        {"datasets": ["digits", "digits"]},
        {"seeds": [-1]},
        {"budget": "20 epoques"},
        {"precision": "float16"},
        {"models": [{"name": "uniform", "hidden": 3}]},
        {"models": [{"label": "no name"}]},
        {"models": [{"name": "uniform", "grid": {"scale": []}}]},
        {"models": [{"name": "uniform", "role": "baseline"}]},
    ],
    ids=str,
)
def test_a_mistake_in_a_suite_does_not_follow_the_schema(change):
    schema = schemas()["suite.schema.json"]
    jsonschema.validate(RIGHT, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(RIGHT | change, schema)


@pytest.mark.parametrize(
    ("key", "value"), [("kind", "roughly"), ("printed", 3.5), ("tags", []), ("metric", "iwae"), ("nothing", 1)]
)
def test_a_mistake_in_a_published_figure_does_not_follow_the_schema(key, value):
    schema = schemas()["published.schema.json"]
    slug, figure = next(iter(tomllib.loads((LEADERBOARDS / "published.toml").read_text(encoding="utf-8")).items()))
    jsonschema.validate({slug: figure}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({slug: figure | {key: value}}, schema)
