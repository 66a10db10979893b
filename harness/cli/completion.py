"""What a shell completes after TAB: names of suites, models, metrics, datasets, rows and runs. Imports no torch.

A shell asks by running ``harness`` itself, so that this has to be quick and silent: whatever goes wrong, there is
nothing to complete. Some shells evaluate what they are offered: only words that mean nothing to any shell are.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from harness.cli import lazy
from harness.cli.context import suite_path

PREFERENCES = ("ours", "theirs", "newest")
FORMATS = ("markdown", "csv", "latex")
MODEL_KINDS = ("exact", "latent", "implicit")

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._/+-]*")
_LEADERBOARDS = Path("leaderboards")
_NO_SUITES = ("published.toml", "pyproject.toml")


def _quietly(*finders: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            names = {name for find in finders for name in find(ctx)}
        except Exception:  # a broken plugin or store is said by the command itself
            return []
        return sorted(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name))

    return complete


def _read(paths: Iterable[Path], *, profiles: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the suites of trainings, or the profiles, among TOML files."""
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            content = {} if path.name in _NO_SUITES else tomllib.loads(path.read_text(encoding="utf-8"))
            if content and ("profile" in content) == profiles:
                yield path, content


def _files(*, profiles: bool) -> list[str]:
    """Suites or profiles: those in the folder of boards by their names, and those here by their files'."""
    paths = [*_LEADERBOARDS.glob("*.toml"), *Path().glob("*.toml")]
    return [path.stem if path.parent.name else path.name for path, _ in _read(paths, profiles=profiles)]


def _in_suites(key: str, suite: str | None = None) -> list[str]:
    paths = [suite_path(suite)] if suite else _LEADERBOARDS.glob("*.toml")
    found = [item for _, content in _read(paths) for item in content.get(key, [])]
    return [name for item in found if isinstance(name := item["name"] if isinstance(item, dict) else item, str)]


def _registered(kind: lazy.Kind) -> Callable[[typer.Context], list[str]]:
    def find(ctx: typer.Context) -> list[str]:
        blocked = (item[3:] for item in ctx.find_root().params.get("plugin") or [])
        entries = lazy.plugin_manager(tuple(blocked)).entries(kind)
        # A family of names, such as iwae-K, is offered as the suites write it.
        written = _in_suites("metrics") if kind == "metric" else []
        names = [*(entry.name for entry in entries), *written]
        return [name for name in names if any(entry.match(name) is not None for entry in entries)]

    return find


def _kinds(_: typer.Context) -> list[str]:
    return [f"{kind}s" for kind in lazy.KINDS]


def _only(ctx: typer.Context) -> list[str]:
    """Models and datasets of the suite that stands on the command line; of all suites without one."""
    suite = ctx.params.get("suite")
    return [*_in_suites("models", suite), *_in_suites("datasets", suite)]


def _runs(ctx: typer.Context) -> list[str]:
    """Those with a folder, and those in the store, which is read alone: completing makes none, and migrates none."""
    root = Path(ctx.find_root().params.get("artifacts") or ".harness")
    found = [path.name for path in (root / "runs").glob("*")]
    with contextlib.suppress(sqlite3.Error):
        uri = f"{(root / 'store.sqlite').resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0.5)) as connection:
            found += [str(run) for (run,) in connection.execute("select run from runs")]
    return found


suites = _quietly(lambda _: _files(profiles=False))
profiles = _quietly(lambda _: _files(profiles=True))
metrics, datasets = _quietly(_registered("metric")), _quietly(_registered("dataset"))
figures, executors = _quietly(_registered("figure")), _quietly(_registered("executor"))
runs, only, kinds = _quietly(_runs), _quietly(_only), _quietly(_kinds)
rows = _quietly(lambda _: _in_suites("models"), _runs)
audited = _quietly(_registered("model"), _runs)
figured = _quietly(lambda _: _files(profiles=False), _registered("model"))
preferences, formats = _quietly(lambda _: PREFERENCES), _quietly(lambda _: FORMATS)
model_kinds = _quietly(lambda _: MODEL_KINDS)

SUITE_ARGUMENT = typer.Argument(
    help="A suite: a TOML file, or the name of one in leaderboards/.", autocompletion=suites
)
RUN_ARGUMENT = typer.Argument(help="A run's name, or its beginning.", autocompletion=runs)
