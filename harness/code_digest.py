"""The digest of the code that a figure depends on: syntax trees without comments, docstrings and layout.

What counts is the module that defines a target and, through its imports, the plugins' own modules (``harness_layers``
and the like) and ``harness.training``. Nothing is imported: source files are found and parsed. The rest of the core is
covered by versions: a metric states its own.

What a method called ``samplers`` imports, itself, is code for drawing: weights do not depend on it, figures of samples
do. So a faster sampler makes no training stale.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from harness.targets import source_file

_CORE = ("harness.training",)


def code_digest(module: str, packages: Collection[str], *, drawing: bool = False) -> str:
    """Returns the SHA-256, in hexadecimal, of a module and of what it imports from ``packages`` and the trainer.

    Args:
        module: the dotted name of the module that defines the model.
        packages: top-level names of plugin packages; the module's own is always among them.
        drawing: whether what methods called ``samplers`` import counts as well.
    """
    followed = {*packages, module.partition(".")[0]} - {"harness"}
    pending, trees = [module, *_CORE], dict[str, str]()
    while pending:
        name = pending.pop()
        if name in trees:
            continue
        source = source_file(name)
        if source is None:
            continue
        text, imports, drawn = _parse(source, source.stat().st_mtime_ns, name)
        trees[name] = text
        if name not in _CORE:
            wanted = (*imports, *drawn) if drawing else imports
            pending += [item for item in wanted if item.partition(".")[0] in followed and item != name]
    sha = hashlib.sha256()
    for name in sorted(trees):
        sha.update(f"{name}\n{trees[name]}\n".encode())
    return sha.hexdigest()


@lru_cache(maxsize=512)
def _parse(source: Path, modified: int, module: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    tree = ast.parse(source.read_bytes(), filename=str(source))
    package = module if source.name == "__init__.py" else module.rpartition(".")[0]
    imports, drawn = list[str](), list[str]()
    samplers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "samplers"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = drawn if node in samplers else imports
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *filter(None, [base])])
            found.append(base)
            found += [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return ast.dump(tree, annotate_fields=False), tuple(imports), tuple(drawn)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]
