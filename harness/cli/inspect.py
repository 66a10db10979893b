"""``harness list``, ``plugins``, ``doctor`` and ``clean``: what is installed, found and kept here; ``new-plugin`` and
``schema``: files to begin with. What lists imports no torch.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from json import dumps
from pathlib import Path
from typing import Any

import typer

from harness.cli import completion
from harness.cli.context import JSON_OPTION, echo, print_json, print_rows, print_table
from harness.support.names import did_you_mean, is_plain_name


def list_entries(
    context: typer.Context,
    kind: str = typer.Argument(
        None,
        help="datasets, models, metrics, samplers, boards, figures or executors; all without it.",
        autocompletion=completion.kinds,
    ),
    json: bool = JSON_OPTION,
) -> None:
    """List what is installed: datasets, models, metrics, samplers, boards, figures and executors."""
    from harness.discovery.manager import KINDS

    plugins = context.obj.plugins
    if kind is not None and kind.rstrip("s") not in KINDS:
        raise ValueError(f"unknown kind {kind!r}{did_you_mean(kind, [f'{item}s' for item in KINDS])}")
    rows: dict[str, list[dict[str, Any]]] = {}
    for item in KINDS if kind is None else [kind.rstrip("s")]:
        rows[item] = [
            {
                "kind": item,
                "name": entry.display_name,
                "summary": entry.summary,
                "paper": entry.paper,
                "plugin": plugins.provider_of(item, entry).source,
            }
            for entry in plugins.entries(item)
        ]
    if json:
        print_json([row for of_kind in rows.values() for row in of_kind])
        return
    for item, of_kind in rows.items():
        echo(f"{item}s")
        print_rows(of_kind, {"name": "name", "summary": "what it is", "paper": "paper"}, json=False)
        echo()
    if plugins.broken:
        echo(f"broken plugins: {', '.join(plugins.broken)} (see 'harness plugins')", err=True)


def list_plugins(
    context: typer.Context,
    json: bool = JSON_OPTION,
    tracebacks: bool = typer.Option(False, "--tracebacks", help="Show the traceback of what is broken."),
) -> None:
    """Tell what is installed, from which distribution and version, and what is broken and why."""
    manager = context.obj.plugins
    manager.check_targets()
    if json:
        print_json(
            [
                {
                    **{name: getattr(info, name) for name in ("name", "distribution", "version", "blocked")},
                    "registers": [f"{entry.kind} {entry.full_name}" for entry in info.entries],
                    "problems": [{"message": item.message, "traceback": item.traceback} for item in info.problems],
                }
                for info in manager.plugins
            ]
        )
    else:
        rows = []
        for info in manager.plugins:
            counts = Counter(entry.kind for entry in info.entries)
            has = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items())
            state = "blocked" if info.blocked else "BROKEN" if info.problems else "ok"
            rows.append([info.name, info.distribution, info.version, state, has])
        print_table(["plugin", "distribution", "version", "state", "registers"], rows)
        for info in manager.plugins:
            for problem in info.problems:
                echo(f"\n{info.name} ({info.source}): {problem.message}")
                if tracebacks and problem.traceback:
                    echo(problem.traceback)
    if manager.broken:
        raise typer.Exit(1)


def doctor(context: typer.Context, json: bool = JSON_OPTION) -> None:
    """Say what this machine offers: device, versions, data found, free disk, broken plugins."""
    import torch

    from harness.discovery.loading import load_dataset
    from harness.interface.data_folder import DataFolder
    from harness.support.environment import choose_device, describe_environment, fingerprint

    plugins, root = context.obj.plugins, context.obj.artifacts_root
    device, folder = choose_device("auto"), DataFolder.resolve(context.obj.data, offline=True)
    data = {}
    for name in [entry.name for entry in plugins.entries("dataset") if entry.pattern is None]:
        try:
            load_dataset(plugins, name, folder)
            data[name] = "found"
        except Exception as error:
            data[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    existing = next(path for path in (root.resolve(), *root.resolve().parents) if path.exists())
    report: dict[str, Any] = {
        "environment": describe_environment(device, torch.get_num_threads()),
        "fingerprint_one_thread": fingerprint(device, 1),
        "data_folder": folder.path,
        "data": data,
        "artifacts": root,
        "free_disk_gigabytes": round(shutil.disk_usage(existing).free / 1e9, 1),
        "broken_plugins": plugins.broken,
    }
    if json:
        print_json(report)
        return
    facts = {name: value for name, value in report["environment"].items() if value is not None and name != "command"}
    facts |= {"data folder": folder.path, "artifacts": f"{root} ({report['free_disk_gigabytes']} GB free)\n"}
    for name, value in facts.items():
        echo(f"{name:18}{value}")
    print_table(["dataset", "state"], [[name, state] for name, state in data.items()])
    for name, messages in plugins.broken.items():
        echo(f"\nbroken plugin {name}: {'; '.join(messages)}")
    if plugins.broken:
        raise typer.Exit(1)


def clean(
    context: typer.Context,
    remove: bool = typer.Option(False, "--remove", help="Remove the runs of this folder that no suite refers to."),
    json: bool = JSON_OPTION,
) -> None:
    """Say what runs and caches hold, list the runs that no suite refers to, and remove them."""
    from harness.interface.data_folder import cache_folder
    from harness.running.leases import remove_runs

    artifacts, runs_root = context.obj.artifacts, context.obj.artifacts_root / "runs"
    references = artifacts.store.references()
    gone = sorted(filter(artifacts.is_gone, references))
    sizes = {path.name: _size_of(path) for path in sorted(runs_root.glob("*")) if is_plain_name(path.name)}
    # what is in the store and not in this folder is another folder's
    unreferenced = sorted(sizes.keys() - set().union(*references.values()))
    groups = [*sorted(references.items()), ("(no suite)", unreferenced)]
    if not json:
        megabytes = [f"{sum(sizes.get(run, 0) for run in runs) / 1e6:.1f} MB" for _, runs in groups]
        rows = [[name, str(len(runs)), size] for (name, runs), size in zip(groups, megabytes, strict=True)]
        print_table(["suite", "runs", "size"], rows)
        for run in unreferenced:
            echo(f"no suite refers to {run} ({sizes.get(run, 0) / 1e6:.1f} MB)")
        for suite in gone:
            echo(f"the file of {suite} is gone: --remove forgets the suite, and the next clean lists its runs")
    removed = remove_runs(artifacts, unreferenced) if remove else []
    for suite in gone if remove else ():  # after that: what is removed was listed as a run of no suite before
        artifacts.store.refer(suite, (), anew=True)
    busy = sorted(set(unreferenced) - set(removed)) if remove else []
    cache, cached = cache_folder(), _size_of(cache_folder())
    if json:
        found = {"runs": len(sizes), "bytes": sum(sizes.values()), "unreferenced": unreferenced, "removed": removed}
        print_json({**found, "gone": gone, "running": busy, "data_cache": cache, "data_cache_bytes": cached})
        return
    typer.echo(f"data cache {cache}: {cached / 1e6:.1f} MB")
    if removed or busy:
        typer.echo(f"removed {len(removed)} runs" + (f"; {len(busy)} are in use and stay" if busy else ""))
    elif unreferenced:
        typer.echo("--remove removes the runs of no suite")


def _size_of(path: Path) -> int:
    size = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):  # a run that is being worked on removes files of its own
            size += file.stat().st_size if file.is_file() else 0
    return size


def new_plugin(
    context: typer.Context,
    name: str = typer.Argument(help="The model's name: lower-case words joined by hyphens."),
    kind: str = typer.Option(
        "exact",
        "--kind",
        help="What the model has: exact (a likelihood), latent (a bound) or implicit (samples alone).",
        autocompletion=completion.model_kinds,
    ),
    directory: Path = typer.Option(None, "--directory", metavar="DIR", help="Make the folder NAME in this one."),
    json: bool = JSON_OPTION,
) -> None:
    """Write the package of a plugin: a working model to start from, its tests, and a suite that trains it."""
    from harness.cli.scaffold import write_plugin

    written = write_plugin(name, context.obj.plugins, kind=kind, directory=directory)
    files = [str(written.folder / file) for file in written.files]
    if json:
        print_json({"folder": str(written.folder), "files": files, "next": list(written.next_steps)})
    else:
        echo("\n".join([*files, "\nNext:", *(f"  {step}" for step in written.next_steps)]))


def schemas() -> dict[str, dict[str, Any]]:
    """Returns the schemas by the names of their files."""
    from harness.boards.published import PublishedFigure
    from harness.profiling.profile import GenerationProfile
    from harness.suites.suite import Suite
    from harness.suites.toml import schema_of, schema_of_tables

    return {
        "suite.schema.json": schema_of(Suite),
        "profile.schema.json": schema_of(GenerationProfile),
        "published.schema.json": schema_of_tables(PublishedFigure, key="slug"),
    }


def schema(folder: Path = typer.Argument(Path(), help="Where to write them; here without it.")) -> None:
    """Write the JSON schemas that let an editor complete, explain and check suites: '#:schema ./suite.schema.json'."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        (folder / name).write_text(dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        typer.echo(str(folder / name))
