"""What every command needs: the folders, the blocklist, and ways to speak."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from harness.coordinator import Settings
    from harness.planning import Artifacts
    from harness.plugins import PluginManager
    from harness.record import RunRecord
    from harness.suite import Suite

JSON_OPTION = typer.Option(False, "--json", help="Print JSON, for scripts.")
SUITE_ARGUMENT = typer.Argument(help="A suite: a TOML file, or the name of one in leaderboards/.")


@dataclass(frozen=True)
class Context:
    """The options that stand before the command."""

    artifacts_root: Path
    data: Path | None
    blocked: tuple[str, ...]

    @classmethod
    def make(cls, artifacts: str, data: str | None, plugins: Sequence[str]) -> Context:
        """Reads the global options."""
        blocked = []
        for item in plugins:
            if not item.startswith("no:") or len(item) == 3:
                fail(f"-p {item!r}: write -p no:NAME to block the plugin NAME")
            blocked.append(item[3:])
        return cls(Path(artifacts), Path(data) if data else None, tuple(blocked))

    @property
    def plugins(self) -> PluginManager:
        """The installed plugins.

        Raises:
            ValueError: ``-p`` blocks something that is not installed, or is built in.
        """
        from harness.plugins import did_you_mean, plugin_manager

        manager = plugin_manager(self.blocked)
        found = {info.name: info.blocked for info in manager.plugins}
        for name in self.blocked:
            if not found.get(name, False):
                others = [info.name for info in manager.plugins if info.distribution != "genharness"]
                why = "is built in" if name in found else f"is not installed{did_you_mean(name, others)}"
                raise ValueError(f"-p no:{name}: the plugin {name!r} {why}")
        return manager

    @property
    def artifacts(self) -> Artifacts:
        """The artifact folder."""
        from harness.planning import Artifacts

        return Artifacts(self.artifacts_root)

    def settings(self, **changes: Any) -> Settings:
        """Returns settings for the coordinator."""
        from harness.coordinator import Settings

        return Settings(self.artifacts, self.data, blocked=self.blocked, **changes)

    def find_run(self, prefix: str) -> RunRecord:
        """Returns the record of the one run whose name begins with ``prefix``."""
        from harness.plugins import did_you_mean

        records = self.artifacts.store.records()
        found = [record for record in records if record.run == prefix] or [
            record for record in records if record.run.startswith(prefix)
        ]
        if not found:
            hint = did_you_mean(prefix, [record.run for record in records]) if records else ": the store is empty"
            raise ValueError(f"no run {prefix!r} in {self.artifacts_root}{hint}")
        if len(found) > 1:
            raise ValueError(f"{prefix!r} is the beginning of {len(found)} runs: {', '.join(r.run for r in found[:5])}")
        return found[0]


def suite_path(name: str) -> Path:
    """Returns the file of a suite given by path or by name."""
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    named = Path("leaderboards") / f"{name}.toml"
    return named if named.exists() else path.with_suffix(".toml")


def read_suite(name: str) -> Suite:
    """Reads a suite given by path or by name."""
    from harness.suite import Suite

    return Suite.read(suite_path(name))


def print_json(value: Any) -> None:
    """Prints a value as JSON."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a plain table, aligned, cells as wide as they need."""
    widths = [max(len(line[index]) for line in [list(header), *map(list, rows)]) for index in range(len(header))]
    for line in [list(header), ["-" * width for width in widths], *map(list, rows)]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fail(message: str) -> NoReturn:
    """Prints one line on standard error and exits with status 2."""
    first, *_ = message.strip().splitlines() or [""]
    typer.echo(f"error: {first}", err=True)
    sys.exit(2)
