"""``harness profile``: how fast models draw, tables of it, and traces of what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from harness.cli import completion, lazy
from harness.cli.context import JSON_OPTION, Context, VariadicCommand, echo, parse_setting, print_table, suite_path
from harness.interface.entries import STORED
from harness.support.names import did_you_mean

STEM = "generation-speed"
_WHAT = ("fit", "scoring", "sampling")


profile = typer.Typer(
    help="Measure how fast models draw, and see where the time goes.", no_args_is_help=True, rich_markup_mode=None
)


@profile.command(cls=VariadicCommand)
def generation(
    context: typer.Context,
    models: list[str] = typer.Argument(
        None, metavar="MODELS...", autocompletion=completion.audited,
        help="Models, such as made:hidden=[500], or finished runs by name; before the options."),
    sizes: list[int] = typer.Option([], "--sizes", min=1, help="Heights of square images: --sizes 8 16, or 8,16."),
    batch_sizes: list[int] = typer.Option([], "--batch-sizes", min=1, help="Images at a time."),
    samplers: list[str] = typer.Option([], "--samplers", help="Only these; all that a model has by default."),
    baseline: str = typer.Option(None, "--baseline", help="The model that others are compared with: name or label."),
    channels: int = typer.Option(None, "--channels", min=1, help="Channels of the images; 1."),
    levels: int = typer.Option(None, "--levels", min=2, max=256, help="Levels of an entry; 2."),
    rounds: int = typer.Option(None, "--rounds", min=1, help="How often each sampler is timed; 5."),
    threads: int = typer.Option(None, "--threads", min=1, help="Threads; 1."),
    device: str = typer.Option(None, "--device", help="cpu, cuda, ...; auto takes the accelerator if any."),
    budget_seconds: float = typer.Option(
        None, min=0.0, help="How long one sampler may take at one size and batch size; 30."),
    seed: int = typer.Option(None, "--seed", min=0, help="Of weights that are not trained, and of the noise; 0."),
    suite: str = typer.Option(
        None, help="Take all of it from this TOML file, and write beside it.", autocompletion=completion.profiles),
    output: str = typer.Option(None, "-o", "--output", help="The folder to write; it is gone on with if it is there."),
    again: bool = typer.Option(False, "--again", help="Measure what the folder holds anew."),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Time every sampler of every model at every size and batch size, each with its certificate."""
    settings = [name for name in lazy.GenerationProfile.model_fields if name in context.params and name != "models"]
    given = {name: value for name in settings if (value := context.params[name]) not in (None, [], ())}
    profile, folder, stem = _profile(context.obj, models or [], suite, given)
    folder = Path(output) if output else folder
    file, code_folder = folder / lazy.MEASUREMENTS_FILE, suite_path(suite).parent if suite else Path()

    def keep(item: lazy.Measurement) -> None:
        lazy.append_measurement(file, item)
        if not json:
            echo(lazy.outcome_line(item), err=True)

    where, known = lazy.choose_device(profile.device), [] if again else lazy.read_measurements(file)
    rows = [profiled(context.obj, row, profile.device, code_folder) for row in profile.models]
    run, interrupted = lazy.GenerationRun(profile, rows, where, known=known, on_measurement=keep), False
    try:
        run.check()
        run.run()
    except KeyboardInterrupt:
        interrupted = True
    else:
        for item in run.kept:
            lazy.append_measurement(file, item)
        if run.kept and not json:
            echo(f"{len(run.kept)} were measured before, in {file}; --again measures them anew", err=True)
    found = lazy.read_measurements(file)
    if interrupted and not found:
        raise KeyboardInterrupt
    lazy.write_measurements(file, found)
    machines, files = _render(profile, found, stem, named=bool(suite))
    written = lazy.write_profile(files, folder)
    if json:
        echo(files[f"{stem}.json"].decode().rstrip())
    else:
        _print_tables(machines)
        echo(f"\n{folder}: {', '.join([file.name, *(path.name for path in written)])}")
    if interrupted:
        echo("interrupted: what was measured is kept; the same command goes on from here", err=True)
        raise typer.Exit(130)
    current = [*run.kept, *run.made]
    if not any(item.shown for item in current):
        raise ValueError(f"nothing could be measured: {current[0].label}, {current[0].sampler}: {current[0].reason}")
    if failed := [item for item in current if item.status.startswith("failed")]:
        echo(f"{len(failed)} of {len(current)} failed; the reasons are above and in the tables", err=True)
        raise typer.Exit(1)


@profile.command()
def report(
    target: str = typer.Argument(
        metavar="SUITE", help="A profile's TOML file, or a folder with a measurements.jsonl.",
        autocompletion=completion.profiles),
    others: list[str] = typer.Argument(None, metavar="[OTHER]...", help="Measurements of other machines to add."),
    baseline: str = typer.Option(None, "--baseline", help="Of a folder: the model that others are compared with."),
    check: bool = typer.Option(False, "--check", help="Write nothing; fail if a file is not what measurements give."),
) -> None:  # fmt: skip
    """Make the tables and the plot of a profile again from its measurements."""
    folder, profile, stem = Path(target), None, STEM
    if not folder.is_dir():
        path = suite_path(target)
        folder, stem, profile = path.with_suffix(""), path.stem, lazy.GenerationProfile.read(path)
        if baseline is not None:
            raise ValueError(f"--baseline goes with a folder: {path} names its own")
    file = folder / lazy.MEASUREMENTS_FILE
    if not file.exists():
        raise ValueError(f"{folder} has no {file.name}: 'harness profile generation' measures it")
    found = lazy.read_measurements(file)
    if others:
        if check:
            raise ValueError("--check writes nothing, so that nothing can be added")
        paths = [Path(other) / file.name if Path(other).is_dir() else Path(other) for other in others]
        if missing := [path for path in paths if not path.is_file()]:
            raise ValueError(f"there are no measurements at {missing[0]}")
        found = lazy.merge_measurements([found, *map(lazy.read_measurements, paths)])
        lazy.write_measurements(file, found)
    machines, files = _render(profile, found, stem, named=profile is not None, baseline=baseline)
    gives = f"what {file.name} gives"
    if not check:
        for written in lazy.write_profile(files, folder):
            echo(str(written))
    elif differ := lazy.check_profile(files, folder):
        echo(f"{folder}: {', '.join(differ)} are not {gives}; without --check it writes them", err=True)
        raise typer.Exit(1)
    else:
        echo(f"{folder}: {len(files)} files are {gives}; machines: {len(machines)}")


@profile.command()
def trace(
    context: typer.Context,
    model: str = typer.Argument(
        help="A model, such as made:hidden=[500], or a finished run.", autocompletion=completion.audited),
    what: str = typer.Option("sampling", "--what", metavar="|".join(_WHAT), help="What to watch."),
    sampler: str = typer.Option(None, "--sampler", help="One of the model's samplers; its default without it."),
    size: int = typer.Option(28, "--size", min=1, help="Height of square images, for models that are not trained."),
    channels: int = typer.Option(1, "--channels", min=1, help="Channels of the images."),
    levels: int = typer.Option(2, "--levels", min=2, max=256, help="Levels of an entry."),
    batch_size: int = typer.Option(16, "--batch-size", min=1, help="Images at a time; fit has its own."),
    steps: int = typer.Option(3, "--steps", min=1, help="Of fit: how many steps."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads."),
    device: str = typer.Option("auto", "--device", help="cpu, cuda, ...; auto takes the accelerator if any."),
    output: str = typer.Option("trace.json", "-o", "--output", help="The file: .json or .json.gz."),
) -> None:  # fmt: skip
    """Write a trace in Chrome's format, for chrome://tracing or ui.perfetto.dev, and print the costliest operators."""
    options: Context = context.obj
    if what not in _WHAT:
        raise ValueError(f"--what {what!r}: it is one of {', '.join(_WHAT)}")
    if sampler is not None and what != "sampling":
        raise ValueError("--sampler goes with --what sampling")
    if not output.endswith((".json", ".json.gz")):
        raise ValueError(f"-o {output!r}: the name has to end in .json or .json.gz")
    where, chosen = lazy.choose_device(device), profiled(options, row_of(options, model), device, Path())
    spec = chosen.spec or lazy.ImageSpec(channels, size, size, levels, lazy.NUM_CLASSES)
    with lazy.on_threads(threads):
        made = chosen.make(spec).to(where).eval()
        top = lazy.record_trace(
            made, what, Path(output), sampler=sampler, batch_size=batch_size, steps=steps  # type: ignore[arg-type]
        )  # fmt: skip
    print_table(["operator", "calls", "own time", "share"], [list(line) for line in top])
    echo(f"\n{output}: open it in chrome://tracing or https://ui.perfetto.dev")


def row_of(options: Context, text: str) -> lazy.ProfiledRow:
    """Reads ``MODEL``, also ``file.py:Class``, ``MODEL:KEY=VALUE,KEY=VALUE``, or the beginning of a run's name."""
    name, colon, settings = text.partition(":")
    if name.endswith(".py"):
        attribute, colon, settings = settings.partition(":")
        name = f"{name}:{attribute}"
    if options.plugins.has("model", name):
        if colon and not settings.strip():
            raise ValueError(f"{text!r}: write MODEL:HYPERPARAMETER=VALUE, several with commas between them")
        return lazy.ProfiledRow(name=name, hyperparameters=dict(map(parse_setting, _parts(settings))))
    runs, models = options.run_names(), [entry.name for entry in options.plugins.entries("model")]
    if not any(run.startswith(name) for run in runs):
        raise ValueError(f"no model, and no run, {name!r}{did_you_mean(name, [*models, *runs])}")
    if colon:
        raise ValueError(f"{text!r}: a run has hyperparameters of its own")
    return lazy.ProfiledRow(run=name)


def _parts(settings: str) -> list[str]:
    """Splits at commas outside of brackets and quotation marks."""
    parts, depth, quoted = [""], 0, ""
    for character in settings:
        if character == "," and depth == 0 and not quoted:
            parts.append("")
            continue
        parts[-1] += character
        if character in "\"'" and quoted in ("", character):
            quoted = "" if quoted else character
        elif not quoted:
            depth += (character in "[{") - (character in "]}")
    return [part for part in parts if part.strip()]


def profiled(options: Context, row: lazy.ProfiledRow, device: str, folder: Path) -> lazy.Profiled:
    """Returns the model that a row names, a run's on ``device``; names of files are relative to ``folder``."""
    record = None if row.run is None else options.find_run(row.run)
    name = str(row.name) if record is None else record.spec.model
    if name.startswith(STORED):
        raise ValueError(f"{name} are samples from a file, and nothing draws them; 'harness score' measures them")
    if record is None:
        plugins = options.plugins.at(folder)
        model_class = lazy.load_model_class(plugins, name)
        lazy.resolve(model_class, row.hyperparameters)

        def make(spec: lazy.ImageSpec) -> lazy.Model:
            model = model_class(spec, **lazy.resolve(model_class, row.hyperparameters))
            return lazy.with_samplers(plugins, model, everyones=True)

        return lazy.Profiled(
            row.row_label, name, make, lazy.as_json(row.hyperparameters), lazy.model_code(plugins, name),
            lazy.sampler_codes(plugins, name), samplers=row.samplers, sizes=row.sizes,
        )  # fmt: skip
    if row.name not in (None, name):
        raise ValueError(f"run {record.run!r} is of the model {name!r}, not {row.name!r}")
    model, plugins = lazy.load_model(record, options.settings(device=device)), options.plugins_of(record.run)
    figure = lazy.rows_of([record])[0].bits_per_dim
    bits, kind = (None, None) if figure is None else (figure.mean, figure.kind)
    return lazy.Profiled(
        row.label or f"{name} ({record.run})", name, lambda _: model, record.spec.hyperparameters,
        lazy.model_code(plugins, name), lazy.sampler_codes(plugins, name), spec=model.spec, run=record.run,
        bits_per_dim=bits, likelihood_kind=kind, samplers=row.samplers,
    )  # fmt: skip


def _profile(
    options: Context, models: list[str], suite: str | None, given: dict[str, Any]
) -> tuple[lazy.GenerationProfile, Path, str]:
    """Returns the profile, its folder, and what its files are called."""
    if suite is not None:
        if models:
            raise ValueError("--suite names the models: give the one or the others")
        path = suite_path(suite)
        content = lazy.GenerationProfile.read(path).model_dump(mode="json") | given
        return lazy.GenerationProfile.make(content, source="the options"), path.with_suffix(""), path.stem
    if not models:
        raise ValueError("name models to profile, or a profile by --suite; 'harness list models' says which there are")
    rows = [row_of(options, model).model_dump(mode="json") for model in models]
    profile = lazy.GenerationProfile.make({**given, "models": rows}, source="the options")
    name = f"profile-{lazy.digest_of(profile.model_dump(mode='json'))[:8]}"
    return profile, options.artifacts_root / "profiles" / name, STEM


def _print_tables(machines: list[lazy.MachineTables]) -> None:
    """Prints each machine's tables; fewer columns than on the page."""
    for section in map(lazy.machine_section, machines):
        echo(f"\n{section.lead}")
        for part in section.subsections:
            echo(f"\n{part.title}")
            if part.table is not None:
                grid = lazy.grid_of(part.table, part.table.lines, without=frozenset({"growth", "latency"}))
                print_table(grid.headers, grid.rows)
            for line in filter(None, [part.lead, *part.notes]):
                echo(line)


def _render(
    profile: lazy.GenerationProfile | None,
    found: list[lazy.Measurement],
    stem: str,
    *,
    named: bool,
    baseline: str | None = None,
) -> tuple[list[lazy.MachineTables], dict[str, bytes]]:
    """Returns the tables and the files; of a profile that is ``named``, the command that makes them names it."""
    title, labels = "Generation speed", dict[str, None]()
    if profile is not None:
        title, baseline = profile.title, profile.baseline
        for row in profile.models:  # a run without a label is called by what its measurements say
            own = [item.label for item in found if row.run and item.run and item.run.startswith(row.run)]
            labels |= dict.fromkeys(own if row.label is None and own else [row.row_label])
    machines = lazy.tables_of(found, labels=list(labels), baseline=baseline)
    command = f"harness profile report {stem}" if named else "harness profile report"
    return machines, lazy.render_profile(title, machines, stem=stem, command=command)
