"""What a suite names by where its code is, before there is a package: ``my_model.py:KDE``, or ``my.package:KDE``.

A file is imported as a module of its own, and may import its neighbours, as ``python my_model.py`` could. It is
imported again once it, or a neighbour, has changed: who tries a model from a notebook edits the file and runs it again.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.discovery.distributions import describe_error
from harness.interface.entries import Entry, EntryError
from harness.support.names import did_you_mean

_NAME = re.compile(r"([^:]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")
_CHANGED = "__harness_changed__"
_came_along = set[str]()  # modules that files imported from beside them


def says_where(name: str) -> bool:
    """Tells whether a name says where its code is: ``path/file.py:Attribute`` or ``package.module:Attribute``."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class CodeEntry(Entry):
    """What a name that says where its code is stands for.

    Attributes:
        folder: what the file is relative to; a package is looked for here first.

    Raises:
        EntryError: there is no such file.
    """

    folder: Path = Path()

    def __post_init__(self) -> None:
        if self.file is not None and not self.file.is_file():
            raise EntryError(f"{self.name!r}: there is no file {self.folder / self.where}")

    @property
    def where(self) -> str:
        """The file or module, as it is written."""
        return self.name.rpartition(":")[0]

    @property
    def file(self) -> Path | None:
        """The file; None for a module."""
        return (self.folder / self.where).resolve() if self.where.endswith(".py") else None

    @property
    def module(self) -> str:
        """The name of the module; that of a file is made up, for a file may be called as a module that is needed."""
        return self.where if self.file is None else "file_" + re.sub(r"\W", "_", self.where.removesuffix(".py"))

    @property
    def packages(self) -> frozenset[str]:
        """What may be imported from the folder: the file's neighbours."""
        return frozenset() if self.file is None else _importable(self.file.parent)

    def load(self) -> Any:
        """Imports and returns what is named.

        Raises:
            EntryError: the file cannot be imported, or has nothing of this name.
        """
        try:
            module = _import_module(self.where, self.folder) if self.file is None else _import_file(self)
        except (Exception, SystemExit) as error:  # somebody's first draft: anything can happen
            raise EntryError(f"{self.name!r}: {self.where} cannot be imported: {describe_error(error)}") from error
        attribute = self.name.rpartition(":")[2]
        if not hasattr(module, attribute):
            own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            hint = did_you_mean(attribute, own) if own else ""
            raise EntryError(f"{self.name!r}: {self.where} has no {attribute!r}{hint}")
        return getattr(module, attribute)


def _import_module(name: str, folder: Path) -> ModuleType:
    _look_first_in(folder.resolve())
    return importlib.import_module(name)


def _import_file(entry: CodeEntry) -> ModuleType:
    assert entry.file is not None
    folder = entry.file.parent
    module = sys.modules.get(entry.module)
    if (
        module is not None
        and module.__file__ == str(entry.file)
        and vars(module)[_CHANGED] == _last_changed(entry.file)
    ):
        return module
    for name in _came_along:
        sys.modules.pop(name, None)
    _came_along.clear()
    _look_first_in(folder)
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(entry.module, entry.file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[entry.module] = module  # dataclasses and annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[entry.module]
        raise
    finally:
        _came_along.update(_imported_from(folder).keys() - before)
    vars(module)[_CHANGED] = _last_changed(entry.file)
    return module


def _look_first_in(folder: Path) -> None:
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    importlib.invalidate_caches()


def _importable(folder: Path) -> frozenset[str]:
    """Returns the names of the modules and packages in a folder, but for the harness's own."""
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    return frozenset({*packages, *(file.stem for file in folder.glob("*.py"))} - {"harness"})


def _imported_from(folder: Path) -> dict[str, Path]:
    """Returns the imported modules of a folder, and their files."""
    own = _importable(folder)
    files = {name: vars(module).get("__file__") for name, module in list(sys.modules.items()) if _top(name) in own}
    return {name: Path(file) for name, file in files.items() if file and Path(file).is_relative_to(folder)}


def _top(module: str) -> str:
    return module.partition(".")[0]


def _last_changed(file: Path) -> dict[Path, int]:
    """Returns when a file and its imported neighbours were last changed, in nanoseconds."""
    files = [file, *_imported_from(file.parent).values()]
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}
