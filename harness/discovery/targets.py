"""Where the code behind a module or a target is, found without importing it."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

from harness.interface.entries import Entry


def source_file(module: str) -> Path | None:
    """Returns the Python file of a module, or None: no such module, or one that is no Python file."""
    spec = _find(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return path if path.exists() else None


def loaded_target(entry: Entry) -> object:
    """Returns an entry's target if its module is imported already, else None."""
    if not isinstance(entry.target, str):
        return entry.target
    return getattr(sys.modules.get(entry.module), entry.attribute, None)


def missing_target(entry: Entry) -> str | None:
    """Returns what is wrong with an entry's target, as far as its source tells; None where nothing is."""
    if not isinstance(entry.target, str):
        return None
    loaded = sys.modules.get(entry.module)
    if loaded is not None:
        found = hasattr(loaded, entry.attribute)
    elif _find(entry.module) is None:
        return f"{entry.kind} {entry.name!r}: there is no module {entry.module!r}"
    else:
        source = source_file(entry.module)
        found = source is None or _binds(source, entry.attribute)
    return (
        None if found else f"{entry.kind} {entry.name!r}: module {entry.module!r} has no attribute {entry.attribute!r}"
    )


def _find(module: str) -> ModuleSpec | None:
    top, *rest = module.split(".")
    try:
        # find_spec of a dotted name would import its parents, so only the top level goes through it
        loaded = sys.modules.get(top)
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(top)
        name = top
        for part in rest:
            if spec is None:
                return None
            name = f"{name}.{part}"
            spec = _find_in(name, spec.submodule_search_locations or [])
    except (ImportError, AttributeError, ValueError):
        return None
    return spec


def _find_in(name: str, folders: Iterable[str]) -> ModuleSpec | None:
    """Finds a module in its package's folders; ``PathFinder`` would ask for the imported parent of a namespace."""
    portions = list[str]()
    for folder in folders:
        finder = pkgutil.get_importer(folder)
        spec = None if finder is None else finder.find_spec(name)
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or []
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace if portions else None


def _binds(source: Path, name: str) -> bool:
    """Whether a file may bind a name: too generous by names that it binds inside functions, never too strict."""
    try:
        tree = ast.parse(source.read_bytes(), filename=str(source))
    except SyntaxError:
        return False
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return bool(bound & {name, "*", "__getattr__"})
