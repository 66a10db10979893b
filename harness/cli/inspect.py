"""``harness sample``, ``doctor`` and ``clean``: look at a model, at the machine, and at what the disk holds."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.cli import completion
from harness.cli.context import JSON_OPTION, echo, print_json, print_table
from harness.support.names import is_plain_name

if TYPE_CHECKING:
    from harness.cli.context import Context


def sample(
    context: typer.Context,
    run: str = typer.Argument(help="A run's name, or its beginning.", autocompletion=completion.runs),
    number: int = typer.Option(64, "-n", "--number", min=1, help="How many images."),
    output: str = typer.Option("samples.png", "-o", "--output", help="The PNG file to write."),
    sampler: str = typer.Option(None, "--sampler", help="One of the model's named samplers; its default without it."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same images."),
    device: str = typer.Option("auto", "--device", help="Where to sample."),
) -> None:
    """Draw images from a trained model and write them as a PNG grid."""
    import torch

    from harness.interface.figure import save_grid
    from harness.running.loading import load_model
    from harness.support.names import did_you_mean

    options: Context = context.obj
    if Path(output).suffix.lower() != ".png":
        raise ValueError(f"-o {output!r}: the grid is written as PNG, so the name has to end in .png")
    record = options.find_run(run)
    model = load_model(record, options.settings(device=device))
    samplers = model.samplers()
    if sampler is not None and sampler not in samplers:
        raise ValueError(f"{record.spec.model!r} has no sampler {sampler!r}{did_you_mean(sampler, samplers)}")
    torch.manual_seed(seed)
    with torch.no_grad():
        images = samplers[sampler](number) if sampler is not None else model.sample(number)
    save_grid(Path(output), images, model.spec)
    typer.echo(f"{number} images of {record.run} in {output}")


def doctor(context: typer.Context, json: bool = JSON_OPTION) -> None:
    """Say what this machine offers: device, versions, data found, free disk, broken plugins."""
    import torch

    from harness.discovery.loading import load_dataset
    from harness.interface.data_folder import DataFolder
    from harness.support.environment import choose_device, describe_environment, fingerprint

    options: Context = context.obj
    device = choose_device("auto")
    folder = DataFolder.resolve(options.data, offline=True)
    data = {}
    for entry in options.plugins.entries("dataset"):
        if entry.pattern is None:
            try:
                load_dataset(options.plugins, entry.name, folder)
                data[entry.name] = "found"
            except Exception as error:
                data[entry.name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    root = options.artifacts_root
    existing = next(path for path in (root.resolve(), *root.resolve().parents) if path.exists())
    report: dict[str, Any] = {
        "environment": describe_environment(device, torch.get_num_threads()),
        "fingerprint_one_thread": fingerprint(device, 1),
        "data_folder": str(folder.path),
        "data": data,
        "artifacts": str(root),
        "free_disk_gigabytes": round(shutil.disk_usage(existing).free / 1e9, 1),
        "broken_plugins": options.plugins.broken,
    }
    if json:
        print_json(report)
        return
    facts = {name: value for name, value in report["environment"].items() if value is not None and name != "command"}
    facts |= {"data folder": folder.path, "artifacts": f"{root} ({report['free_disk_gigabytes']} GB free)\n"}
    for name, value in facts.items():
        echo(f"{name:18}{value}")
    print_table(["dataset", "state"], [[name, textwrap.shorten(state, 160)] for name, state in data.items()])
    for name, messages in report["broken_plugins"].items():
        echo(f"\nbroken plugin {name}: {'; '.join(messages)}")
    if report["broken_plugins"]:
        raise typer.Exit(1)


def clean(
    context: typer.Context,
    remove: bool = typer.Option(False, "--remove", help="Remove the runs that no suite refers to."),
    json: bool = JSON_OPTION,
) -> None:
    """Say what runs and caches hold, and remove what no suite refers to."""
    from harness.interface.data_folder import cache_folder

    options: Context = context.obj
    store, runs_root = options.artifacts.store, options.artifacts_root / "runs"
    references = store.references()
    sizes = {path.name: _size_of(path) for path in sorted(runs_root.iterdir())} if runs_root.exists() else {}
    known = {record.run for record in store.records()}
    referred = set().union(*references.values()) if references else set()
    # A name that no folder can have is of no run here, whoever wrote it into the store: its record alone is removed.
    foreign = sorted(name for name in (sizes.keys() | known) - referred if not is_plain_name(name))
    loose = sorted((sizes.keys() | known) - referred - set(foreign))
    busy = [run for run in loose if remove and options.artifacts.folder(run).is_held()]
    removed = [run for run in loose if remove and run not in busy]
    if remove:
        for run in removed:
            options.artifacts.folder(run).remove()
        store.delete([*removed, *foreign])
    if json:
        print_json(
            {
                "runs": len(sizes),
                "bytes": sum(sizes.values()),
                "unreferenced": loose,
                "removed": removed,
                "running": busy,
                "data_cache": str(cache_folder()),
                "data_cache_bytes": _size_of(cache_folder()),
            }
        )
        return
    counted = {**dict(sorted(references.items())), "(no suite)": loose}
    megabytes = {name: sum(sizes.get(run, 0) for run in runs) / 1e6 for name, runs in counted.items()}
    rows = [[name, str(len(runs)), f"{megabytes[name]:.1f} MB"] for name, runs in counted.items()]
    print_table(["suite", "runs", "size"], rows)
    typer.echo(f"data cache {cache_folder()}: {_size_of(cache_folder()) / 1e6:.1f} MB")
    if removed or busy:
        typer.echo(f"removed {len(removed)} runs" + (f"; {len(busy)} are running and stay" if busy else ""))
    elif loose:
        typer.echo("--remove removes the runs of no suite")


def _size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.exists() else 0
