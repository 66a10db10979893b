"""Where code is: that of a target, found without importing it, and what a suite names by its place.

``my_model.py:KDE`` names what there is no package for yet. The file is a module of its own, and may import its
neighbours; once it or one of them has changed, as between two runs in a notebook, it is imported again.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.interface.entries import STORED, Entry, EntryError
from harness.support.guard import describe_error, guarded, survive
from harness.support.names import did_you_mean

MODULES = (".py", ".so", ".pyd")  # the files of modules: source, and what is compiled
_NO_DATA = {".py", ".pyc", ".pyi", ".typed", ".md", ".rst", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".log"}
_PLACE = re.compile(r"([^:]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*")
_CHANGED = "__harness_changed__"
_came_along = set[str]()  # modules that files imported from beside them


def source_file(module: str) -> Path | None:
    """Returns the Python file of a module, or None: no such module, or one that is no Python file."""
    spec = _find(module)
    path = Path((spec and spec.origin) or "")
    return path if path.suffix == ".py" and path.exists() else None


def data_files(top: str) -> Iterator[tuple[str, Path, int, int]]:
    """Yields what a package holds that is no source, or the file of a compiled module: its name, size and last change.

    Hidden files, byte code, documents, logs, and sources of other languages are left out.
    """
    spec = _find(top)
    places = [] if spec is None else spec.submodule_search_locations or [spec.origin or "built-in"]
    for place in map(Path, places):
        for file in [place] if place.is_file() else _files_in(place, place.resolve()):
            name, found = str(file.relative_to(place)), file.stat() if file.is_file() else None
            if found is not None and file.suffix not in _NO_DATA and not re.search(r"(^|/)(\.\w|__pycache__)", name):
                yield name, file, found.st_size, found.st_mtime_ns


def _files_in(folder: Path, *above: Path) -> Iterator[Path]:
    """Yields the files in a folder and those below it, also in linked folders, unless these lead back ``above``."""
    for path in folder.iterdir():
        if not path.is_dir():
            yield path
        elif (real := path.resolve()) not in above:
            yield from _files_in(path, *above, real)


def loaded_target(entry: Entry) -> object:
    """Returns an entry's target if its module is imported already, else None."""
    imported = getattr(sys.modules.get(entry.module), entry.attribute, None)
    return imported if isinstance(entry.target, str) else entry.target


def missing_target(entry: Entry) -> str | None:
    """Returns what is wrong with an entry's target, as far as its source tells; None where nothing is."""
    if not isinstance(entry.target, str):
        return None
    who, loaded = f"{entry.kind} {entry.name!r}", sys.modules.get(entry.module)
    if loaded is not None:
        found = hasattr(loaded, entry.attribute)
    elif _find(entry.module) is None:
        return f"{who}: there is no module {entry.module!r}"
    else:
        source = source_file(entry.module)
        found = source is None or _binds(source, entry.attribute)
    return None if found else f"{who}: module {entry.module!r} has no attribute {entry.attribute!r}"


def _find(module: str) -> ModuleSpec | None:
    """Finds a module where ``find_spec`` of a dotted name would import its parents."""
    top, *rest = module.split(".")
    try:
        spec = sys.modules[top].__spec__ if top in sys.modules else importlib.util.find_spec(top)
        for part in rest:  # by this part alone: of a dotted name, PathFinder asks for the imported parent
            spec = None if spec is None else PathFinder.find_spec(part, spec.submodule_search_locations or [])
    except (ImportError, AttributeError, ValueError):
        return None
    return spec


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


def says_where(name: str) -> bool:
    """Tells whether a name says where its code is: ``path/file.py:Attribute`` or ``package.module:Attribute``."""
    return _PLACE.fullmatch(name) is not None


@dataclass(frozen=True)
class CodeEntry(Entry):
    """What a name that says where its code is stands for, relative to ``folder``; no such file is an EntryError."""

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

    def load(self) -> Any:
        """Imports and returns what is named; what cannot be imported, or is not there, is an EntryError."""
        try:
            with guarded(self.where):
                module = self._import()
        except Exception as error:  # somebody's first draft: anything can happen
            raise EntryError(f"{self.name!r}: {self.where} cannot be imported: {describe_error(error)}") from error
        attribute = self.name.rpartition(":")[2]
        if not hasattr(module, attribute):
            own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
            hint = did_you_mean(attribute, own) if own else ""
            raise EntryError(f"{self.name!r}: {self.where} has no {attribute!r}{hint}")
        return getattr(module, attribute)

    def _import(self) -> ModuleType:
        file = self.file
        if file is None:
            _look_first_in(self.folder.resolve())  # a package is looked for here first
            if self.where not in sys.modules:
                survive(partial(importlib.import_module, self.where))
            return importlib.import_module(self.where)
        known = sys.modules.get(self.module)
        if known is not None and known.__file__ == str(file) and vars(known)[_CHANGED] == _last_changed(file):
            return known
        for name in _came_along:
            sys.modules.pop(name, None)
        _came_along.clear()
        _look_first_in(file.parent)
        before = set(sys.modules)
        spec = importlib.util.spec_from_file_location(self.module, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module  # dataclasses and annotations are looked up there
        try:
            survive(partial(spec.loader.exec_module, module))
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[self.module]
            raise
        finally:
            _came_along.update(_imported_from(file.parent).keys() - before)
        vars(module)[_CHANGED] = _last_changed(file)
        return module


class SamplesEntry(CodeEntry):
    """What ``samples:PATH`` stands for: a class of ``harness.StoredSamples``, which reads the path when it is used."""

    where, file, module = STORED.rstrip(":"), None, "harness.builtin.datasets.images"

    def load(self) -> Any:
        """Returns the class."""
        path = re.sub(r" as [^/\\]+$", "", self.name.removeprefix(STORED))
        if not path.strip():
            raise EntryError(f"{self.name!r}: write {STORED}PATH, a folder of images or an .npz file")
        return importlib.import_module(self.module).samples_at(self.folder / Path(path).expanduser())


def _look_first_in(folder: Path) -> None:
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    importlib.invalidate_caches()


def neighbours(module: str) -> frozenset[str]:
    """Returns the modules and packages in a top-level one's folder, unless distributions were installed into that."""
    spec = _find(module.partition(".")[0])
    places = [] if spec is None else spec.submodule_search_locations or [spec.origin or "built-in"]
    folders = [Path(place).parent for place in places if Path(place).is_absolute()]
    return frozenset().union(*(importable(item) for item in folders if not any(item.glob("*.dist-info/RECORD"))))


def importable(folder: Path) -> frozenset[str]:
    """Returns the names of the modules and packages in a folder, but for the harness's own."""
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    modules = {file.name.partition(".")[0] for ending in MODULES for file in folder.glob(f"*{ending}")}
    return frozenset(packages | modules - {"harness"})


def _imported_from(folder: Path) -> dict[str, Path]:
    """Returns the imported modules of a folder, and their files."""
    own, loaded = importable(folder), list(sys.modules.items())
    files = {name: vars(module).get("__file__") for name, module in loaded if name.partition(".")[0] in own}
    return {name: Path(file) for name, file in files.items() if file and Path(file).is_relative_to(folder)}


def _last_changed(file: Path) -> dict[Path, int]:
    """Returns when a file and its imported neighbours were last changed, in nanoseconds."""
    files = [file, *_imported_from(file.parent).values()]
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}
