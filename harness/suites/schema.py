"""JSON schemas of the files that users write, so that an editor completes, explains and checks them.

A TOML file says which is its own in a first line such as ``#:schema ./suite.schema.json``.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

DIALECT = "http://json-schema.org/draft-07/schema#"  # which every editor's TOML extension knows


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: a key that may be None is one that may be left out. Titles only repeat the keys."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        if schema.get("default", ()) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Returns the JSON schema of a TOML file that holds one ``model``."""
    return {"$schema": DIALECT, **model.model_json_schema(schema_generator=_TomlSchema)}


def schema_of_tables(model: type[BaseModel], key: str) -> dict[str, Any]:
    """Returns the JSON schema of a TOML file of tables, each one ``model`` whose field ``key`` is the table's name."""
    table = model.model_json_schema(schema_generator=_TomlSchema)
    definitions = table.pop("$defs", {})
    name = table["properties"].pop(key)
    table["required"].remove(key)
    return {
        "$schema": DIALECT,
        "type": "object",
        "propertyNames": {"pattern": name["pattern"]},
        "additionalProperties": table,
        "$defs": definitions,
    }
