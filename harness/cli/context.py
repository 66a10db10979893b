"""What every command needs: the folders, the blocklist, and ways to speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from json import dumps
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand

from harness.cli import lazy
from harness.support.names import did_you_mean, printable

JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for scripts.")


@dataclass(frozen=True)
class Context:
    """The options that stand before the command."""

    artifacts_root: Path
    data: Path | None
    blocked: tuple[str, ...]
    store_url: str | None = field(default=None, repr=False)

    @property
    def plugins(self) -> lazy.PluginManager:
        """The installed plugins; files that names mention are relative to the working folder."""
        manager = lazy.plugin_manager(self.blocked)
        found = {info.name: info for info in manager.plugins}
        for name in self.blocked:
            if name not in found or not found[name].blocked:
                others = [info.name for info in found.values() if info.distribution != "genharness"]
                why = "is built in" if name in found else f"is not installed{did_you_mean(name, others)}"
                raise ValueError(f"-p no:{name}: the plugin {name!r} {why}")
        return manager

    def plugins_of(self, run: str) -> lazy.PluginManager:
        """The same; files that names mention are those that a run was trained with."""
        return self.plugins.at(self.artifacts.folder(run).code_folder())

    def dataset(self, name: str, run: lazy.RunRecord | None = None) -> lazy.Dataset:
        """Loads a dataset by its name, as a suite writes it or, if one is given, as a run was trained on it."""
        plugins = self.plugins if run is None else self.plugins_of(run.run)
        name = name if run is None else self.artifacts.folder(run.run).located(run.spec).dataset
        return lazy.load_dataset(plugins, name, lazy.DataFolder.resolve(self.data))

    @cached_property
    def artifacts(self) -> lazy.Artifacts:
        """The artifact folder, and the store."""
        return lazy.Artifacts(self.artifacts_root, self.store_url)

    def close(self) -> None:
        """Closes the store, if a command has opened it."""
        artifacts = vars(self).get("artifacts")
        if artifacts is not None and "store" in vars(artifacts):
            artifacts.store.close()
            for problem in list(artifacts.store.unreadable.values())[:3]:
                echo(f"note: {problem}; of {len(artifacts.store.unreadable)} that are left out", err=True)

    def settings(self, **changes: Any) -> lazy.Settings:
        """Returns settings for the coordinator."""
        return lazy.Settings(self.artifacts, self.data, blocked=self.blocked, **changes)

    @property
    def has_store(self) -> bool:
        """Whether there is a store, which to ask for it would make."""
        return self.store_url is not None or lazy.store_file(self.artifacts_root).exists()

    def run_names(self) -> list[str]:
        """Returns the names of all runs; where there is no store, none is made."""
        return self.artifacts.store.run_names() if self.has_store else []

    def find_run(self, prefix: str) -> lazy.RunRecord:
        """Returns the record of the one run whose name begins with ``prefix``."""
        names, store = self.artifacts.store.run_names(), self.artifacts.store
        found = [prefix] if prefix in names else [run for run in names if run.startswith(prefix)]
        if not found:
            hint = did_you_mean(prefix, names) if names else ": the store is empty"
            where = self.artifacts_root if self.store_url is None else store.name
            raise ValueError(f"no run {prefix!r} in {where}{hint}")
        if len(found) > 1:
            raise ValueError(f"{prefix!r} is the beginning of {len(found)} runs: {', '.join(found[:5])}")
        if (record := store.get(found[0])) is None:
            raise ValueError(store.unreadable.get(found[0], f"the run {found[0]!r} has just been removed"))
        return record


def suite_path(name: str) -> Path:
    """Returns the file of a suite given by path or by name."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return path
    named = Path("leaderboards") / f"{name}.toml"
    return named if named.is_file() else Path(f"{path}.toml")


def read_suite(name: str) -> lazy.Suite:
    """Reads a suite given by path or by name."""
    return lazy.Suite.read(suite_path(name))


def parse_setting(text: str) -> tuple[str, Any]:
    """Reads ``HYPERPARAMETER=VALUE``, the value as in TOML or, where it is none, as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--set {text!r}: write HYPERPARAMETER=VALUE")
    return name.strip(), lazy.toml_value(value.strip())


def spread(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Returns a command line in which each option stands before every value up to the next one, also between commas.

    >>> spread(["a", "--sizes", "8", "16,32", "-n", "1"], ["--sizes"])
    ['a', '--sizes', '8', '--sizes', '16', '--sizes', '32', '-n', '1']
    """
    found, option = list[str](), ""
    for word in arguments:
        name, _, values = word.partition("=")
        if word.startswith("-") or not option:
            option = name if name in options else ""
            found.append(option or word)  # should no value follow, the parser says so
            word = values if option else ""
        for item in filter(None, word.split(",")):
            found += [item] if found[-1] == option else [option, item]
    return found


class VariadicCommand(TyperCommand):
    """A command whose options that can be repeated take several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line."""
        options = [name for param in self.params for name in param.opts if getattr(param, "multiple", False)]
        return list(super().parse_args(ctx, spread(args, options)))


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    typer.echo(dumps(value, indent=2, sort_keys=True, default=str))


def echo(text: str = "", *, err: bool = False) -> None:
    """Prints text that may come from a file, without what a terminal would obey."""
    typer.echo(printable(text), err=err)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a plain table, aligned, cells as wide as they need; each cell is one line."""
    lines = [list(header), *([printable(" ".join(cell.split())) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in [lines[0], ["-" * width for width in widths], *lines[1:]]:
        echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, json: bool) -> None:
    """Prints values as JSON, or as a table of those under the keys of ``columns``, headed by its values."""
    if json:
        print_json(rows)
    else:
        print_table(list(columns.values()), [[str(row[key] or "") for key in columns] for row in rows])


def fail(message: str) -> NoReturn:
    """Prints one line on standard error, and ends the command with status 2."""
    complain(message)
    raise typer.Exit(2)


def complain(message: str) -> None:
    """Prints one line on standard error."""
    echo(f"error: {' '.join(message.split())[:2000]}", err=True)
