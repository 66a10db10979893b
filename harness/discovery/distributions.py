"""Installed distributions: their entry points for the harness, and the packages that plugins share."""

from __future__ import annotations

import importlib.metadata
import re
from functools import lru_cache

OWN = "genharness"
GROUP = "harness"
UNKNOWN = "(unknown distribution)"


def installed() -> tuple[list[importlib.metadata.EntryPoint], list[tuple[str, Exception]]]:
    """Returns the entry points of the group ``harness``, and whose cannot be read, with what went wrong."""
    try:
        return list(importlib.metadata.entry_points(group=GROUP)), []
    except Exception:  # one malformed file, of any distribution, fails the whole look-up: go through them one by one
        pass
    points: list[importlib.metadata.EntryPoint] = []
    unreadable: list[tuple[str, Exception]] = []
    seen = set[str]()
    for distribution in importlib.metadata.distributions():
        name = name_of(distribution)
        if name in seen and name != UNKNOWN:
            continue
        seen.add(name)
        try:
            points += distribution.entry_points.select(group=GROUP)
        except Exception as error:
            if f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or ""):
                unreadable.append((name, error))
    return points, unreadable


@lru_cache(maxsize=64)
def shared_packages(distribution: str) -> frozenset[str]:
    """Returns the top-level packages of what a distribution requires, as far as that requires the harness itself."""
    found, pending, seen = set[str](), [distribution], set[str]()
    while pending:
        current = pending.pop()
        seen.add(current)
        for name in _required(current) - seen - {OWN}:
            if OWN in _required(name):
                pending.append(name)
                files = importlib.metadata.files(name) or []  # an editable installation lists no package
                found |= {file.parts[0] for file in files if file.suffix == ".py" and len(file.parts) > 1}
                found.add(name.replace("-", "_"))
    return frozenset(found)


def _required(distribution: str) -> set[str]:
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return set()
    names = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name is not None}


def name_of(distribution: importlib.metadata.Distribution | None) -> str:
    """Returns a distribution's name, whatever is wrong with its metadata."""
    return _field(distribution, "Name") or UNKNOWN


def version_of(distribution: importlib.metadata.Distribution | None) -> str:
    """Returns a distribution's version, or nothing."""
    return _field(distribution, "Version")


def _field(distribution: importlib.metadata.Distribution | None, name: str) -> str:
    try:
        return (distribution.metadata[name] if distribution is not None else "") or ""
    except Exception:  # some versions of importlib.metadata raise where others return None
        return ""


def describe_error(error: BaseException) -> str:
    """Returns an exception in one line, ``sys.exit`` among them."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"
