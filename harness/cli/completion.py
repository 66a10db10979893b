"""What a shell completes after TAB: names of suites, models, metrics, datasets, rows and runs. Imports no torch.

A shell asks by running ``harness`` itself, so that this has to be quick and silent: whatever goes wrong, there is
nothing to complete. Some shells evaluate what they are offered: only words that mean nothing to any shell are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from harness.discovery.manager import Kind

PREFERENCES = ("ours", "theirs", "newest")
FORMATS = ("markdown", "csv", "latex")
KINDS = ("datasets", "models", "metrics", "samplers", "boards", "figures", "executors")

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._/+-]*")
_LEADERBOARDS = Path("leaderboards")
_NO_SUITES = ("published.toml", "pyproject.toml")


def _quietly(find: Callable[[typer.Context], Iterable[str]]) -> Callable[[typer.Context, str], list[str]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            names = sorted(set(find(ctx)))
        except Exception:  # a broken plugin or store is said by the command itself
            return []
        return [name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)]

    return complete


def _suites(ctx: typer.Context) -> list[str]:
    return _toml_files(profiles=False)


def _profiles(ctx: typer.Context) -> list[str]:
    return _toml_files(profiles=True)


def _toml_files(*, profiles: bool) -> list[str]:
    """Suites of trainings, or profiles, in the folder of boards by their names and here by their files'."""
    boards = [path for path in _LEADERBOARDS.glob("*.toml") if path.name not in _NO_SUITES]
    here = [path for path in Path().glob("*.toml") if path.name not in _NO_SUITES]
    return [
        *(path.stem for path in boards if _is_profile(path) == profiles),
        *(path.name for path in here if _is_profile(path) == profiles),
    ]


def _is_profile(path: Path) -> bool:
    import tomllib

    try:
        return "profile" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _registered(kind: Kind) -> Callable[[typer.Context], list[str]]:
    def find(ctx: typer.Context) -> list[str]:
        from harness.discovery.manager import plugin_manager

        entries = plugin_manager(_blocked(ctx)).entries(kind)
        # A family of names, such as iwae-K, is offered as the suites write it.
        families = [entry for entry in entries if entry.pattern is not None]
        written = _in_suites("metrics") if kind == "metric" and families else []
        known = [name for name in written if any(entry.match(name) is not None for entry in families)]
        return [*(entry.name for entry in entries if entry.match(entry.name) is not None), *known]

    return find


def _rows(ctx: typer.Context) -> list[str]:
    return [*_in_suites("models"), *_runs(ctx)]


def _only(ctx: typer.Context) -> list[str]:
    """Models and datasets of the suite that stands on the command line; of all suites without one."""
    suite = ctx.params.get("suite")
    return [*_in_suites("models", suite), *_in_suites("datasets", suite)]


def _runs(ctx: typer.Context) -> list[str]:
    root = Path(_option(ctx, "artifacts") or ".harness")
    folders = [path.name for path in (root / "runs").iterdir()] if (root / "runs").is_dir() else []
    return [*folders, *_in_store(root)]


def _in_store(root: Path) -> list[str]:
    """Read alone: completing makes no store, and migrates none."""
    import sqlite3

    file = root / "store.sqlite"
    if not file.is_file():
        return []
    try:
        connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=0.5)
        try:
            return [str(run) for (run,) in connection.execute("select run from runs")]
        finally:
            connection.close()
    except sqlite3.Error:
        return []


def _in_suites(key: str, suite: str | None = None) -> list[str]:
    import tomllib

    from harness.cli.context import suite_path

    paths = [suite_path(suite)] if suite else list(_LEADERBOARDS.glob("*.toml"))
    names: list[str] = []
    for path in paths:
        if path.name in _NO_SUITES:
            continue
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if "profile" in content:
            continue
        found = content.get(key, [])
        names += [item["name"] if isinstance(item, dict) else item for item in found]
    return [name for name in names if isinstance(name, str)]


def _option(ctx: typer.Context, name: str) -> str | None:
    value = ctx.find_root().params.get(name)
    return value if isinstance(value, str) else None


def _blocked(ctx: typer.Context) -> tuple[str, ...]:
    items = ctx.find_root().params.get("plugin") or []
    return tuple(item[3:] for item in items if isinstance(item, str) and item.startswith("no:"))


suites = _quietly(_suites)
profiles = _quietly(_profiles)
models = _quietly(_registered("model"))
metrics = _quietly(_registered("metric"))
datasets = _quietly(_registered("dataset"))
figures = _quietly(_registered("figure"))
executors = _quietly(_registered("executor"))
runs = _quietly(_runs)
rows = _quietly(_rows)
audited = _quietly(lambda ctx: [*_registered("model")(ctx), *_runs(ctx)])
figured = _quietly(lambda ctx: [*_suites(ctx), *_registered("model")(ctx)])
only = _quietly(_only)
preferences = _quietly(lambda _: PREFERENCES)
kinds = _quietly(lambda _: KINDS)
formats = _quietly(lambda _: FORMATS)

SUITE_ARGUMENT = typer.Argument(
    help="A suite: a TOML file, or the name of one in leaderboards/.", autocompletion=suites
)
