"""The digest of the code that a figure depends on: what the code does, not where it stands or how it is written.

What counts is the module that defines a target and, through its imports, the plugins' own modules (``harness_layers``
and the like) and the training loop. The rest of the core is covered by versions: a metric states its own. No plugin is
imported: source files are found and parsed.

A module is its syntax tree without comments, docstrings, layout and the order of its imports. Wherever it names another
module of a plugin, in an import or as in ``pkg.mod.function``, that module's *content* stands in place of its name. So
to move or rename a module changes nothing, in the modules that import it neither; a changed line changes every digest
that it takes part in. Imports for type checkers alone are left out, for they never run.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.discovery.targets import source_file

_CORE = "harness"
_MODULE = re.compile("\0(.*?)\0")  # where a tree names a module; no text of a tree has such a character


def code_digest(module: str, packages: Collection[str]) -> str:
    """Returns the SHA-256, in hexadecimal, of a module, of what it imports from ``packages`` and of the trainer.

    Args:
        module: the dotted name of the module that defines the model.
        packages: top-level names of plugin packages; the module's own is always among them.
    """
    followed = frozenset({*packages, module.partition(".")[0]} - {_CORE})
    trees, pending = dict[str, _Tree](), [module]
    while pending:
        name = pending.pop()
        source = source_file(name)
        if name not in trees and source is not None:
            trees[name] = _parse(source, source.stat().st_mtime_ns, name, followed)
            pending += trees[name].modules
    # Modules may import one another in circles, so contents spread step by step, as far as there are modules.
    contents = dict.fromkeys(trees, "")
    for _ in trees:
        contents = {name: tree.digest(contents) for name, tree in trees.items()}
    return _sha256([contents.get(module, ""), _training_loop()])


@dataclass(frozen=True)
class _Tree:
    """A module's source, with a mark for every module that it names.

    Attributes:
        imports: one text for each name that an import binds.
        body: the text of all the rest.
        modules: the plugins' modules that are named.
    """

    imports: tuple[str, ...]
    body: str
    modules: frozenset[str]

    def digest(self, contents: dict[str, str]) -> str:
        """Returns the digest of the source with the contents of the modules that it names."""
        imports, body = ([_MODULE.sub(lambda found: contents.get(found[1], found[1]), text) for text in texts]
                         for texts in (self.imports, [self.body]))  # fmt: skip
        return _sha256([*sorted(set(imports)), *body])


def _sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _training_loop() -> str:
    """Returns the digest of the module that defines the trainer, whatever it is called."""
    from harness import Trainer  # imports torch

    source = Path(inspect.getfile(Trainer))
    return _parse(source, source.stat().st_mtime_ns, Trainer.__module__, frozenset()).digest({})


@lru_cache(maxsize=512)
def _parse(source: Path, modified: int, module: str, followed: frozenset[str]) -> _Tree:
    reader = _Reader(module if source.name == "__init__.py" else module.rpartition(".")[0], followed)
    tree = ast.parse(source.read_bytes(), filename=str(source))
    reader.read_imports(tree)
    body = reader.text(tree)
    return _Tree(tuple(reader.imports), body, frozenset(reader.modules))


class _Reader:
    """Turns a syntax tree into text.

    Args:
        package: the package that relative imports start from.
        followed: packages whose modules are marked; those of the core are all the same mark.
    """

    def __init__(self, package: str, followed: frozenset[str]) -> None:
        self._package, self._followed = package, followed
        self._bound: dict[str, str] = {}  # names that stand for a marked module, and which
        self._skipped: set[ast.AST] = set()
        self.imports: list[str] = []
        self.modules: set[str] = set()

    def read_imports(self, tree: ast.Module) -> None:
        """Notes every import but those for type checkers; none of them is part of the text."""
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                self._skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
                self._skipped |= set() if node.orelse else {node}
            if isinstance(node, ast.Import | ast.ImportFrom):
                if node not in self._skipped:
                    for alias in node.names:
                        self._read_alias(node, alias)
                self._skipped.add(node)

    def _read_alias(self, node: ast.Import | ast.ImportFrom, alias: ast.alias) -> None:
        if isinstance(node, ast.Import):
            base, name = alias.name, ""
            bound = (alias.asname, base) if alias.asname else (base.partition(".")[0],) * 2
        else:
            base, name = self._absolute(node), alias.name
            bound = (alias.asname or name, f"{base}.{name}")
        if base.partition(".")[0] not in (*self._followed, _CORE):
            self.imports.append(f"{base} {name} {alias.asname}")
        elif not name or source_file(bound[1]) is not None:
            self._bound[bound[0]] = bound[1]
            self.imports.append(self._mark(base if not name else bound[1]))
        else:
            self.imports.append(f"{self._mark(base)} {name} {alias.asname}")

    def _absolute(self, node: ast.ImportFrom) -> str:
        parts = self._package.split(".")
        parents = parts[: len(parts) - node.level + 1] if node.level else []
        return ".".join([*parents, *filter(None, [node.module])])

    def _mark(self, module: str) -> str:
        if module.partition(".")[0] == _CORE:
            return _CORE
        self.modules.add(module)
        return f"\0{module}\0"

    def text(self, node: object) -> str:
        """Returns a node as text: fields that say nothing are left out, for their number differs between Pythons."""
        if isinstance(node, list):
            return f"[{','.join(self.text(item) for item in node if item not in self._skipped)}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name | ast.Attribute) and (named := self._named(node)) is not None:
            return named
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
        return f"{type(node).__name__}({','.join(self._fields(node))})"

    def _fields(self, node: ast.AST) -> Iterator[str]:
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield f"{name}={self.text(value)}"

    def _named(self, node: ast.Name | ast.Attribute) -> str | None:
        """Returns the mark of the module that a name or a chain such as ``pkg.mod`` stands for, None for others."""
        if isinstance(node, ast.Name):
            module = self._bound.get(node.id)
            return None if module is None else self._mark(module)
        module = self._module_of(node)
        return None if module is None else self._mark(module)

    def _module_of(self, node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return self._bound.get(node.id)
        parent = self._module_of(node.value) if isinstance(node, ast.Attribute) else None
        if parent is None or not isinstance(node, ast.Attribute):
            return None
        return found if source_file(found := f"{parent}.{node.attr}") is not None else None


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]
