"""Reading what users write in TOML: whole files, and single values on the command line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_toml(path: Path, what: str, error: type[ValueError]) -> dict[str, Any]:
    """Returns the content of a file that is called by what it holds.

    Args:
        path: the file.
        what: it holds, for messages: ``suite``.
        error: is raised with a message that names the file.

    Raises:
        ValueError: of the given type: a missing or malformed file, or a name that is none.
    """
    if not _NAME.fullmatch(path.stem):
        raise error(f"{what} name {path.stem!r} may hold only letters, digits, hyphens and underscores")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as reason:
        raise error(f"no {what} at {path}") from reason
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as reason:
        raise error(f"{path}: cannot be read as TOML: {reason}") from reason


def toml_value(text: str) -> Any:
    """Reads a value as in TOML; what is none, such as a bare word, is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
