"""``harness list``, ``plugins``, ``doctor`` and ``clean``: what is installed, found and kept here; ``new-plugin`` and
``schema``: files to begin with. What lists imports no torch.
"""

from __future__ import annotations

import contextlib
import shutil
import textwrap
from collections import Counter
from json import dumps
from pathlib import Path
from typing import Any

import typer

from harness.cli import completion, lazy
from harness.cli.context import JSON_OPTION, echo, print_json, print_rows, print_table
from harness.support.names import did_you_mean, is_plain_name


def list_entries(
    context: typer.Context,
    kind: str = typer.Argument(
        None, autocompletion=completion.kinds,
        help="datasets, models, metrics, networks, samplers, boards, figures or executors; all without it."),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """List what is installed: datasets, models, metrics, networks, samplers, boards, figures and executors."""
    plugins = context.obj.plugins
    if kind is not None and kind.rstrip("s") not in lazy.KINDS:
        raise ValueError(f"unknown kind {kind!r}{did_you_mean(kind, [f'{item}s' for item in lazy.KINDS])}")
    kinds = lazy.KINDS if kind is None else [kind.rstrip("s")]
    rows = [
        {"kind": item, "name": entry.display_name, "summary": entry.summary, "paper": entry.paper,
         "plugin": plugins.provider_of(item, entry).source}
        for item in kinds for entry in plugins.entries(item)
    ]  # fmt: skip
    if json:
        print_json(rows)
        return
    for item in kinds:
        echo(f"{item}s")
        columns = {"name": "name", "summary": "what it is", "paper": "paper"}
        print_rows([row for row in rows if row["kind"] == item], columns, json=False)
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
    found = manager.plugins
    if json:
        known = [{name: getattr(it, name) for name in ("name", "distribution", "version", "blocked")} for it in found]
        for told, info in zip(known, found, strict=True):
            told["registers"] = [f"{entry.kind} {entry.full_name}" for entry in info.entries]
            told["problems"] = [{"message": item.message, "traceback": item.traceback} for item in info.problems]
        print_json(known)
    else:
        rows = []
        for info in found:
            counts = Counter(entry.kind for entry in info.entries)
            has = ", ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items())
            state = "blocked" if info.blocked else "BROKEN" if info.problems else "ok"
            rows.append([info.name, info.distribution, info.version, state, has])
        print_table(["plugin", "distribution", "version", "state", "registers"], rows)
        for problem, where in [(it, f"{info.name} ({info.source})") for info in found for it in info.problems]:
            echo(f"\n{where}: {problem.message}")
            if tracebacks and problem.traceback:
                echo(problem.traceback)
    if manager.broken:
        raise typer.Exit(1)


def doctor(context: typer.Context, json: bool = JSON_OPTION) -> None:
    """Say what this machine offers: device, versions, data found, free disk, broken plugins."""
    import torch

    plugins, root = context.obj.plugins, context.obj.artifacts_root
    device, folder = lazy.choose_device("auto"), lazy.DataFolder.resolve(context.obj.data, offline=True)
    data = {}
    for name in [entry.name for entry in plugins.entries("dataset") if entry.pattern is None]:
        try:
            lazy.load_dataset(plugins, name, folder)
            data[name] = "found"
        except Exception as error:
            data[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    existing = next(path for path in (root.resolve(), *root.resolve().parents) if path.exists())
    environment = lazy.describe_environment(device, torch.get_num_threads())
    free = round(shutil.disk_usage(existing).free / 1e9, 1)
    if json:
        known = {"environment": environment, "fingerprint_one_thread": lazy.fingerprint(device, 1), "data": data}
        here = {"data_folder": folder.path, "artifacts": root, "free_disk_gigabytes": free}
        print_json({**known, **here, "broken_plugins": plugins.broken})
        return
    facts = {name: value for name, value in environment.items() if value is not None and name != "command"}
    facts |= {"data folder": str(folder.path), "artifacts": f"{root} ({free} GB free)\n"}
    for name, value in facts.items():
        echo(f"{name:18}{value}")
    print_table(["dataset", "state"], [[name, "found" if it == "found" else "not found"] for name, it in data.items()])
    for name, state in data.items():
        if state != "found":
            said = textwrap.TextWrapper(79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            echo("\n" + said.fill(f"{name}: {state}"))
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
    artifacts, runs_root = context.obj.artifacts, context.obj.artifacts_root / "runs"
    references = artifacts.store.references()
    gone = sorted(filter(artifacts.is_gone, references))
    sizes = {path.name: _size_of(path) for path in sorted(runs_root.glob("*")) if is_plain_name(path.name)}
    # what is in the store and not in this folder is another folder's
    unreferenced = sorted(sizes.keys() - set().union(*references.values()))
    groups = [*sorted(references.items()), ("(no suite)", unreferenced)]
    if not json:
        bytes_of = {name: sum(sizes.get(run, 0) for run in runs) for name, runs in groups}
        rows = [[name, str(len(runs)), f"{bytes_of[name] / 1e6:.1f} MB"] for name, runs in groups]
        print_table(["suite", "runs", "size"], rows)
        for run in unreferenced:
            echo(f"no suite refers to {run} ({sizes.get(run, 0) / 1e6:.1f} MB)")
        for suite in gone:
            echo(f"the file of {suite} is gone: --remove forgets the suite, and the next clean lists its runs")
    removed = lazy.remove_runs(artifacts, unreferenced) if remove else []
    for suite in gone if remove else ():  # after that: what is removed was listed as a run of no suite before
        artifacts.store.refer(suite, (), anew=True)
    busy = sorted(set(unreferenced) - set(removed)) if remove else []
    cache, cached = lazy.cache_folder(), _size_of(lazy.cache_folder())
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
        "exact", autocompletion=completion.model_kinds,
        help="What the model has: exact (a likelihood), latent (a bound) or implicit (samples alone)."),
    directory: Path = typer.Option(None, "--directory", metavar="DIR", help="Make the folder NAME in this one."),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Write the package of a plugin: a working model to start from, its tests, and a suite that trains it."""
    written = lazy.write_plugin(name, context.obj.plugins, kind=kind, directory=directory)
    files = [str(written.folder / file) for file in written.files]
    if json:
        print_json({"folder": str(written.folder), "files": files, "next": list(written.next_steps)})
    else:
        echo("\n".join([*files, "\nNext:", *(f"  {step}" for step in written.next_steps)]))


def schemas() -> dict[str, dict[str, Any]]:
    """Returns the schemas by the names of their files."""
    return {
        "suite.schema.json": lazy.schema_of(lazy.Suite),
        "profile.schema.json": lazy.schema_of(lazy.GenerationProfile),
        "published.schema.json": lazy.schema_of_tables(lazy.PublishedFigure, key="slug"),
    }


def schema(folder: Path = typer.Argument(Path(), help="Where to write them; here without it.")) -> None:
    """Write the JSON schemas that let an editor complete, explain and check suites: '#:schema ./suite.schema.json'."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in schemas().items():
        (folder / name).write_text(dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        typer.echo(str(folder / name))
