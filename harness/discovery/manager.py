"""The plugin manager: what is announced in the entry-point group ``harness``, and look-up. Imports no torch.

A broken plugin never takes the others down: what is wrong with it is kept, and said by ``harness plugins``.
"""

import copy
import importlib.metadata
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

import pluggy

from harness.discovery.distributions import GROUP, OWN, installed, modules_of, name_and_version
from harness.discovery.targets import CodeEntry, SamplesEntry, missing_target, neighbours, says_where
from harness.interface import entries, hooks
from harness.interface.entries import STORED, Entry, MetricEntry, SamplerEntry
from harness.support.guard import describe_error, guarded, shown, survive
from harness.support.names import did_you_mean

BLOCK_VARIABLE = "HARNESS_DISABLE_PLUGINS"
Kind = Literal["dataset", "model", "metric", "network", "sampler", "board", "figure", "executor"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_BY_FILE = ("dataset", "model")  # what a suite can name by where its code is
_ROOMS = ("datasets", "metrics", "features", "boards", "figures", "executors")
_BUILT_IN = tuple(f"harness.builtin.{room}" for room in _ROOMS)


class UnknownName(ValueError):
    """A name that no installed plugin registers."""


class NameConflict(ValueError):
    """A name that two distributions register."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a plugin: one line, and the traceback where there is one."""

    message: str
    traceback: str | None = None


@dataclass
class PluginInfo:
    """An installed plugin: its name, where it comes from, what it registers, and what is wrong with it."""

    name: str
    distribution: str
    version: str
    value: str
    blocked: bool = False
    problems: list[Problem] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def report(self, message: str, error: BaseException | None = None) -> None:
        """Notes what is wrong, with the traceback of the exception that is being handled, if it was one."""
        told = message if error is None else f"{message}: {describe_error(error)}"
        self.problems.append(Problem(told, None if error is None else traceback.format_exc()))

    @property
    def source(self) -> str:
        """Distribution and version, as messages name it."""
        return f"{self.distribution} {self.version}".strip()


Claim = tuple[Entry, PluginInfo]


class PluginManager:
    """Finds what is installed, ``entry_points`` or all that there are, and keeps what it registers.

    Plugins named in ``blocked``, or in ``HARNESS_DISABLE_PLUGINS``, are not imported; nor any but those in ``only``, if
    it is given, and what is built in.
    """

    def __init__(
        self,
        entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
        *,
        blocked: Iterable[str] = (),
        only: Iterable[str] | None = None,
    ) -> None:
        self.plugins: list[PluginInfo] = []
        self.code_folder = Path()
        self._blocked = {*blocked, *filter(None, os.environ.get(BLOCK_VARIABLE, "").replace(",", " ").split())}
        self._only = None if only is None else set(only)
        self._names: dict[Kind, dict[str, list[Claim]]] = {kind: {} for kind in KINDS}
        self._disputed = set[tuple[Kind, str]]()
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)
        _, version = name_and_version(next(iter(importlib.metadata.distributions(name=OWN)), None))
        for module in _BUILT_IN:
            self.plugins.append(info := PluginInfo(module.rpartition(".")[2], OWN, version, module))
            self._add(info, importlib.metadata.EntryPoint(info.name, module, GROUP))
        points, unreadable = (entry_points, []) if entry_points is not None else installed()
        for name, error in unreadable:
            problem = Problem(f"entry_points.txt cannot be read: {describe_error(error)}")
            self.plugins.append(PluginInfo(name, name, "", "", problems=[problem]))
        for point in sorted(points, key=lambda point: (point.name, name_and_version(point.dist)[0])):
            self._discover(point)
        for kind in KINDS:
            self._collect(kind)
        for kind in KINDS:
            self._find_conflicts(kind)

    def _discover(self, point: importlib.metadata.EntryPoint) -> None:
        blocked = point.name in self._blocked or (self._only is not None and point.name not in self._only)
        info = PluginInfo(point.name, *name_and_version(point.dist), point.value, blocked=blocked)
        twin = next((other for other in self.plugins if other.name == info.name), None)
        if twin is not None and (twin.distribution, twin.value) == (info.distribution, info.value):
            return  # the same entry point, found twice on the path
        self.plugins.append(info)
        if twin is not None and not info.blocked:
            info.report(f"plugin name {info.name!r} is taken by {twin.source}; uninstall one of the two, or block it")
        elif not info.blocked:
            self._add(info, point)

    def _add(self, info: PluginInfo, point: importlib.metadata.EntryPoint) -> None:
        what = f"import of {point.value!r}"
        try:
            with guarded(f"plugin {info.name!r}"):
                if info.distribution != OWN and point.module not in sys.modules:
                    survive(partial(_register, point))
                plugin = point.load()
                what, other = "registration", self._manager.get_name(plugin)
                if other is None:  # pluggy refuses a second name for one object
                    self._manager.register(plugin, name=info.name)
                    self._manager.check_pending()
            if other is not None:
                info.report(f"{point.value!r} is registered already, by plugin {other!r}")
            elif not self._manager.get_hookcallers(plugin):
                info.report(f"{point.value!r} has no hook: is @harness.hookimpl missing?")
        except Exception as error:
            # what pluggy leaves half registered: its bad hook would fail every later check
            if self._manager.has_plugin(info.name):
                self._manager.unregister(name=info.name)
            for name, caller in list(vars(self._manager.hook).items()):
                if not caller.has_spec():
                    delattr(self._manager.hook, name)
            if isinstance(error, pluggy.PluginValidationError):
                info.report(_explain_validation(str(error)))
            else:
                info.report(f"{what} failed", error)

    def _collect(self, kind: Kind) -> None:
        where, wanted = f"register_{kind}s()", getattr(entries, f"{kind.capitalize()}Entry")
        implementations = getattr(self._manager.hook, f"register_{kind}s").get_hookimpls()
        for implementation in sorted(implementations, key=lambda item: str(item.plugin_name)):
            info = next(info for info in self.plugins if info.name == implementation.plugin_name and not info.blocked)
            try:
                with guarded(f"plugin {info.name!r}"):
                    answer = implementation.function()
                    if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | Mapping):
                        answer = list(answer)
                        _ = [entry.full_name for entry in answer if issubclass(type(entry), wanted)]  # may be its own
            except Exception as error:
                info.report(f"{where} failed", error)
                continue
            if not isinstance(answer, list):
                info.report(f"{where} returned {shown(answer):.80}, not a list of {kind} entries")
                continue
            for entry in answer:
                if issubclass(type(entry), wanted):
                    info.entries.append(entry)
                    self._names[kind].setdefault(entry.full_name, []).append((entry, info))
                else:
                    info.report(f"{where} returned {shown(entry):.80}, which is not a harness.{wanted.__name__}")

    def _claims(self, kind: Kind, name: str) -> list[Claim]:
        """Returns all that a name as a suite writes it could mean."""
        groups = self._names[kind].values()
        meant = [group for group in groups if any(self._arguments(entry, name) is not None for entry, _ in group)]
        return [claim for group in meant for claim in group]

    def _arguments(self, entry: Entry, name: str) -> dict[str, str] | None:
        """Returns what a name says to an entry, None if it is not its name: a metric's has a network that is there."""
        arguments = entry.match(name)
        network = (arguments or {}).get("network") if isinstance(entry, MetricEntry) else None
        return arguments if network is None or self._claims("network", network) else None

    def _find_conflicts(self, kind: Kind) -> None:
        for name, found in sorted(self._names[kind].items()):
            claims = found if len(found) > 1 else self._claims(kind, name)
            if len(claims) > 1:
                self._disputed.add((kind, name))
                for info in {id(info): info for _, info in claims}.values():
                    info.report(f"{kind} {name!r} is registered by {_sources(claims)}")

    def check_targets(self) -> None:
        """Adds a problem for every target whose code is not there; reads sources, imports nothing."""
        for info in self.plugins:
            known = {problem.message for problem in info.problems}
            missing, models = {missing_target(entry) for entry in info.entries}, self._names["model"]
            for entry in info.entries:
                if isinstance(entry, SamplerEntry) and entry.model not in models:
                    missing.add(f"sampler {entry.name!r}: no model {entry.model!r}{did_you_mean(entry.model, models)}")
            for message in sorted(filter(None, missing - known)):
                info.report(message)

    def entries(self, kind: Kind) -> list[Entry]:
        """Returns the usable entries of one kind, by name; names that two plugins claim are left out."""
        names = sorted(self._names[kind].items())
        return [claims[0][0] for name, claims in names if (kind, name) not in self._disputed]

    def at(self, folder: Path) -> Self:
        """Returns the same plugins; names such as ``my_model.py:KDE`` are of files in ``folder``."""
        other = copy.copy(self)
        other.code_folder = folder
        return other

    def has(self, kind: Kind, name: str) -> bool:
        """Tells whether a name is registered, or says where its code is."""
        by_file = kind in _BY_FILE and says_where(name) and not name.startswith(STORED)
        return bool(self._claims(kind, name)) or by_file

    def find(self, kind: Kind, name: str) -> tuple[Entry, dict[str, str]]:
        """Returns the entry for a name as a suite writes it, and the arguments that the name carries.

        Else it is an ``UnknownName``, a ``NameConflict``, or an ``EntryError`` where there is no such file. What a
        metric's name has as ``path`` is relative to the folder of the code.
        """
        claims = self._claims(kind, name)
        if len(claims) > 1:
            raise NameConflict(f"{kind} {name!r} is registered by {_sources(claims)}; uninstall or block one of them")
        if claims:
            entry, arguments = claims[0][0], claims[0][0].match(name) or {}
            if kind == "metric" and "path" in arguments:
                arguments["path"] = str(self.code_folder / arguments["path"])
            return entry, arguments
        if kind == "model" and name.startswith(STORED):
            return SamplesEntry(name, name, folder=self.code_folder), {}
        if says_where(name) and kind in _BY_FILE:
            return CodeEntry(name, name, folder=self.code_folder), {}
        if name.endswith(".py"):
            raise UnknownName(f"{kind} {name!r} is a file: say what in it is meant, {name}:NAME")
        known = [entry.display_name for entry in self.entries(kind)]
        raise UnknownName(f"unknown {kind} {name!r}{did_you_mean(name, known)}{self._broken_hint()}")

    def load(self, kind: Kind, name: str) -> Any:
        """Imports and returns the target of a name, without calling it."""
        return self.find(kind, name)[0].load()

    def provider(self, kind: Kind, name: str) -> PluginInfo:
        """Returns the plugin that registers a name."""
        return self.provider_of(kind, self.find(kind, name)[0])

    def provider_of(self, kind: Kind, entry: Entry) -> PluginInfo:
        """Returns the plugin that registers an entry; code that nobody registers stands for itself."""
        if isinstance(entry, CodeEntry):
            return PluginInfo(entry.where, entry.where, "", entry.name, entries=[entry])
        return self._names[kind][entry.full_name][0][1]

    def samplers(self, model: str) -> tuple[list[SamplerEntry], list[SamplerEntry]]:
        """Returns the samplers registered for a model: by its own plugin, in its order, and all others."""
        entry, _ = self.find("model", model)
        if isinstance(entry, CodeEntry):  # perhaps the code of a registered model
            code = (entry.module, entry.attribute)
            entry = next((item for item in self.entries("model") if (item.module, item.attribute) == code), entry)
        own = [it for it in _samplers_of(entry.name, self.provider_of("model", entry).entries) if not it.is_approximate]
        names = {item.name for item in own}
        return own, [item for item in _samplers_of(entry.name, self.entries("sampler")) if item.name not in names]

    def packages(self) -> frozenset[str]:
        """Returns the top-level modules of plugins, imported or not: their distributions', and those beside them."""
        found = set[str]()
        for info in self.plugins:
            if info.value and info.distribution != OWN:
                found |= {re.split(r"[.:\s]", info.value)[0], *modules_of(info.distribution)}
        return frozenset(found.union(*map(neighbours, found)) - {"harness"})

    def notify(self, hook: Literal["run_started", "run_finished"], **arguments: Any) -> list[Problem]:
        """Calls the observers one by one; what one raises is returned as a problem and stops neither run nor others."""
        problems = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                with guarded(f"plugin {implementation.plugin_name!r}"):
                    implementation.function(*[arguments[name] for name in implementation.argnames])
            except Exception as error:
                message = f"{implementation.plugin_name}: {hook} failed: {describe_error(error)}"
                problems.append(Problem(message, traceback.format_exc()))
        return problems

    @property
    def broken(self) -> dict[str, list[str]]:
        """What is wrong, by plugin."""
        return {info.name: [problem.message for problem in info.problems] for info in self.plugins if info.problems}

    def _broken_hint(self) -> str:
        blocked = [info.name for info in self.plugins if info.blocked]
        parts = [f"broken plugins: {', '.join(self.broken)} (see 'harness plugins')"] if self.broken else []
        parts += [f"blocked plugins: {', '.join(blocked)}"] if blocked else []
        return "".join(f"; {part}" for part in parts)


@lru_cache(maxsize=8)
def plugin_manager(blocked: tuple[str, ...] = ()) -> PluginManager:
    """Returns the process's plugin manager for one blocklist."""
    return PluginManager(blocked=blocked)


def _register(point: importlib.metadata.EntryPoint) -> None:
    plugin = point.load()
    for hook in filter(callable, (getattr(plugin, f"register_{kind}s", None) for kind in KINDS)):
        hook()


def _explain_validation(message: str) -> str:
    line = " ".join(message.split())
    found = re.search(r"unknown hook '(\w+)'", line)
    known = [hook for hook in vars(hooks) if hook.startswith(("register_", "run_"))]
    return line if found is None else f"unknown hook {found[1]!r}{did_you_mean(found[1], known)}"


def _samplers_of(model: str, items: Iterable[Entry]) -> list[SamplerEntry]:
    return [item for item in items if isinstance(item, SamplerEntry) and item.model == model]


def _sources(claims: Iterable[Claim]) -> str:
    return " and ".join(f"{info.source} (plugin {info.name!r})" for _, info in claims)
