"""Installed distributions: their entry points for the harness, and the packages that plugins share."""

import contextlib
import importlib.metadata
import re
from functools import lru_cache

from harness.discovery.targets import MODULES

OWN = "genharness"
GROUP = "harness"
UNKNOWN = "(unknown distribution)"


def installed() -> tuple[list[importlib.metadata.EntryPoint], list[tuple[str, Exception]]]:
    """Returns the entry points of the group ``harness``, and whose cannot be read, with what went wrong."""
    points, unreadable, seen = list[importlib.metadata.EntryPoint](), list[tuple[str, Exception]](), set[str]()
    for distribution in importlib.metadata.distributions():
        name, _ = name_and_version(distribution)
        try:
            if _registers(distribution) and name not in seen:
                seen |= {name} - {UNKNOWN}
                points += distribution.entry_points.select(group=GROUP)
        except Exception as error:  # one malformed file takes no other down
            unreadable.append((name, error))
    return points, unreadable


@lru_cache(maxsize=64)
def modules_of(distribution: str) -> frozenset[str]:
    """Returns the top-level modules of a distribution and of the plugins, or users of the harness, it requires."""
    found, pending, seen = set[str](), [distribution], set[str]()
    while pending:
        current = pending.pop()
        seen.add(current)
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
            files = importlib.metadata.files(current) or []  # an editable installation lists no module of its own
            found |= {file.parts[0].partition(".")[0] for file in files if file.suffix in MODULES}
        found.add(current.replace("-", "_"))
        for name in _required(current) - seen - {OWN}:
            if OWN in _required(name) or any(map(_registers, importlib.metadata.distributions(name=name))):
                pending.append(name)
    return frozenset(found)


def _registers(distribution: importlib.metadata.Distribution) -> bool:
    return f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or "")


def _required(distribution: str) -> set[str]:
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return set()
    names = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name is not None}


def name_and_version(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Returns both, whatever is wrong with the metadata: the version may be empty, the name say that it is unknown."""
    found = {"Name": "", "Version": ""}
    for field in found:
        # some versions of importlib.metadata raise where others return None
        with contextlib.suppress(Exception):
            found[field] = (distribution.metadata[field] if distribution is not None else "") or ""
    return found["Name"] or UNKNOWN, found["Version"]
