"""What users write in TOML: whole files, single values on the command line, and the JSON schemas of the files.

By its schema an editor completes, explains and checks a file; a first line such as ``#:schema ./suite.schema.json``
says which is its own.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)  # TOML wants a digit on either side
_DIALECT = "http://json-schema.org/draft-07/schema#"  # which every editor's TOML extension knows


def read_toml(path: Path, what: str, error: type[ValueError]) -> dict[str, Any]:
    """Returns a file's content; if it is missing, malformed or misnamed, an ``error`` says so, and ``what`` it is."""
    if not _NAME.fullmatch(path.stem):
        raise error(f"{what} name {path.stem!r} may hold only letters, digits, hyphens and underscores")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError as reason:
        raise error(f"no {what} at {path}: it is a folder") from reason
    except FileNotFoundError as reason:
        beside = f", and none at leaderboards/{path}: give its path, or go to the folder that holds leaderboards"
        raise error(f"no {what} at {path}{beside if path.parent == Path() else ''}") from reason
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from reason
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: cannot be read as TOML: {reason}") from reason


def toml_value(text: str) -> Any:
    """Reads a value as in TOML, or a number such as ``.001`` or ``1.``; what is neither, such as a word, is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return float(text) if _NUMBER.fullmatch(text) else text


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
    return {"$schema": _DIALECT, **model.model_json_schema(schema_generator=_TomlSchema)}


def schema_of_tables(model: type[BaseModel], key: str) -> dict[str, Any]:
    """Returns the JSON schema of a TOML file of tables, each one ``model`` whose field ``key`` is the table's name."""
    table = model.model_json_schema(schema_generator=_TomlSchema)
    definitions = table.pop("$defs", {})
    name = table["properties"].pop(key)
    table["required"].remove(key)
    return {
        "$schema": _DIALECT,
        "type": "object",
        "propertyNames": {"pattern": name["pattern"]},
        "additionalProperties": table,
        "$defs": definitions,
    }
