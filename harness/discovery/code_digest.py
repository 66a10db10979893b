"""The digest of the code that a figure depends on: what the code does, not where it stands or how it is written.

What counts is the module that defines a target and, through its imports, the plugins' own modules (``harness_layers``
and the like) and the training loop. The rest of the core is covered by versions: a metric states its own. No plugin is
imported: source files are found and parsed.

A module is its syntax tree without comments, docstrings, layout and the order of its imports. Wherever it names another
module of a plugin, in an import or as in ``pkg.mod.function``, that module's *content* stands in place of its name. So
to move or rename a module changes nothing, in the modules that import it neither; a changed line changes every digest
that it takes part in. Imports for type checkers alone are left out, for they never run.

Compiled extensions and data files, such as weights and tables, in the packages of these modules enter by name and
content, of more than 256 MiB by samples of it. Documents, and sources that something compiles, do not.
"""

import ast
import hashlib
import inspect
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from harness.discovery.targets import data_files, source_file

_CORE = "harness"
_PIECE = 2**20
_MODULE = re.compile("\0(.*?)\0")  # where a tree names a module; no text of a tree has such a character


def code_digest(module: str, packages: Collection[str]) -> str:
    """Returns the SHA-256, in hexadecimal, of a module, of what it imports from ``packages`` and of the trainer.

    ``packages`` are top-level names of plugin packages; the module's own is always among them.
    """
    from harness import Trainer  # imports torch

    followed = frozenset({*packages, module.partition(".")[0]} - {_CORE})
    trees, pending, seen = dict[str, _Source](), [module], set[str]()
    while pending:
        seen.add(name := pending.pop())
        source = source_file(name)
        if name not in trees and source is not None:
            trees[name] = _read(source, source.stat().st_mtime_ns, name, followed)
            pending += trees[name].modules
    # Modules may import one another in circles, so contents spread step by step, as far as there are modules; without
    # circles they are soon what they stay.
    contents = dict.fromkeys(trees, "")
    for _ in trees:
        before, contents = contents, {name: tree.digest(contents) for name, tree in trees.items()}
        if contents == before:
            break
    source = Path(inspect.getfile(Trainer))
    training_loop = _read(source, source.stat().st_mtime_ns, Trainer.__module__, frozenset()).digest({})
    tops = {name.partition(".")[0] for name in seen} - {_CORE}
    data = [f"{name} {_digest_of_file(*what)}" for top in tops for name, *what in data_files(top)]
    return _sha256([contents.get(module, ""), training_loop, *sorted(data)])


def _sha256(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()  # names of files may be any


@lru_cache(maxsize=512)
def _digest_of_file(file: Path, size: int, modified: int) -> str:
    """Returns the digest of 256 pieces at most; ``modified`` is there for the cache."""
    found = hashlib.sha256(str(size).encode())
    with file.open("rb") as content:
        for place in range(0, size, max(_PIECE, size // 256)):
            content.seek(place)
            found.update(content.read(_PIECE))
    return found.hexdigest()


class _Source:
    """A module as text, with a mark for every module that it names: relative imports start from its package.

    ``followed`` are the packages whose modules are marked; ``modified`` is there for the cache.
    """

    def __init__(self, file: Path, modified: int, module: str, followed: frozenset[str]) -> None:
        self._package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        self._followed = followed
        self._bound: dict[str, str] = {}  # names that stand for a marked module, and which
        self._skipped: set[ast.AST] = set()
        self._imports: set[str] = set()  # a text for each name that an import binds
        self.modules: set[str] = set()
        tree = ast.parse(file.read_bytes(), filename=str(file))
        self._read_imports(tree)
        self._body = self._text(tree)

    def digest(self, contents: dict[str, str]) -> str:
        """Returns the digest of the source with the contents of the modules that it names."""

        def filled(text: str) -> str:
            return _MODULE.sub(lambda found: contents.get(found[1], found[1]), text)

        return _sha256([*sorted({filled(text) for text in self._imports}), filled(self._body)])

    def _read_imports(self, tree: ast.Module) -> None:
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
            parts = self._package.split(".")
            parents = parts[: len(parts) - node.level + 1] if node.level else []
            base, name = ".".join([*parents, *filter(None, [node.module])]), alias.name
            bound = (alias.asname or name, f"{base}.{name}")
        if base.partition(".")[0] not in (*self._followed, _CORE):
            self._imports.add(f"{base} {name} {alias.asname}")
        elif not name or source_file(bound[1]) is not None:
            self._bound[bound[0]] = bound[1]
            self._imports.add(self._mark(base if not name else bound[1]))
        else:
            self._imports.add(f"{self._mark(base)} {name} {alias.asname}")

    def _mark(self, module: str) -> str:
        if module.partition(".")[0] == _CORE:
            return _CORE  # the core's modules are all the same mark
        self.modules.add(module)
        return f"\0{module}\0"

    def _text(self, node: object) -> str:
        """Returns a node as text: fields that say nothing are left out, for their number differs between Pythons."""
        if isinstance(node, list):
            return f"[{','.join(self._text(item) for item in node if item not in self._skipped)}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if (module := self._module_of(node)) is not None:
            return self._mark(module)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={self._text(value)}' for name, value in fields)})"

    def _module_of(self, node: ast.AST) -> str | None:
        """Returns the module that a name or a chain such as ``pkg.mod`` stands for, None for others."""
        if isinstance(node, ast.Name):
            return self._bound.get(node.id)
        parent = self._module_of(node.value) if isinstance(node, ast.Attribute) else None
        if parent is None or not isinstance(node, ast.Attribute):
            return None
        return found if source_file(found := f"{parent}.{node.attr}") is not None else None


_read = lru_cache(maxsize=512)(_Source)
