"""``harness run``: plan first, then run; ``status``, ``show`` and ``sample``: what came out; ``score``: of others."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill

import typer

from harness.cli import completion, lazy
from harness.cli.boards import read_leaderboard
from harness.cli.completion import RUN_ARGUMENT, SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, Context, echo, fail, print_json, print_rows, print_table, read_suite
from harness.interface.entries import STORED
from harness.support.names import did_you_mean, printable, slug
from harness.support.numbers import duration

_MOST_SEEDS = 10_000


def run(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what there is to do, and do nothing."),
    only: list[str] = typer.Option(
        [], "--only", help="Only this model, label or dataset; repeated or with commas.", autocompletion=completion.only
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Change the suite: made.hidden=[500], budget='2 epochs'; repeated."
    ),
    seeds: list[str] = typer.Option([], "--seeds", help="Other seeds: 0,1,2 or 0-4; repeated or with commas."),
    device: str = typer.Option("auto", "--device", help="cpu, cuda:1, mps, ...; auto takes the accelerator if any."),
    jobs: int = typer.Option(0, "--jobs", min=0, max=1024, help="Child processes at a time; 0 chooses."),
    checkpoint: str = typer.Option(
        None, "--checkpoint", help="Score these weights (safetensors) instead of training; needs --only one row."
    ),
    redo_stale: bool = typer.Option(False, "--redo-stale", help="Run again what code or data have outdated."),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Run again what has failed."),
    executor: str = typer.Option("local", "--executor", help="Where runs go.", autocompletion=completion.executors),
    time_limit: str = typer.Option(None, "--time-limit", help="End a run that works longer: '90 s', '30 minutes'."),
    memory_limit: str = typer.Option(
        None, "--memory-limit", help="End a run that has more memory resident: '512 MiB', '4 GB'."
    ),
    no_audit: bool = typer.Option(False, "--no-audit", help="Do not check the models; the boards will say so."),
    json: bool = JSON_OPTION,
) -> None:
    """Plan a suite, then train and score what is missing. Finished work is never done again."""
    options: Context = context.obj
    lazy.choose_device(device)
    chosen = read_suite(suite)
    partial = bool(only or settings or seeds or checkpoint)
    labels = {model.row_label for model in chosen.models}
    names = [name.strip() for item in only for name in ([item] if item in labels else item.split(","))]
    if only and not any(names):
        fail(f"--only {only[0]!r} names nothing: write a model, a label or a dataset of the suite")
    wanted = _parse_seeds(",".join(seeds)) if seeds else None
    chosen = chosen.override(settings).select(list(filter(None, names)), wanted)
    if checkpoint is not None:
        chosen = chosen.scoring(Path(checkpoint))
    if no_audit:
        chosen = chosen.model_copy(update={"audit": False})
    limits = lazy.Limits.parse(time_limit, memory_limit)
    how = {"device": device, "jobs": jobs, "executor": executor, "redo_stale": redo_stale, "retry_failed": retry_failed}
    plan = lazy.plan_suite(chosen, options.settings(**how, limits=limits))
    described = [run.record for run in plan.runs()]
    for warning in dict.fromkeys(f"{it.spec.dataset}: {said}" for it in described for said in it.data_caveats):
        echo(f"warning: {warning}", err=True)
    for what, why in plan.in_vain.items():
        echo(f"note: {what}: {why}", err=True)
    if dry_run:
        _print_plan(plan, json)
        return
    estimates, began = lazy.Estimates(plan), time.monotonic()
    if not json:
        echo(_summary_of(plan, estimates), err=True)
    reporter = lazy.ConsoleReporter(estimates)
    with reporter.bars:
        outcome = lazy.run_plan(plan, reporter, partial=partial)
    if json:
        print_json([record.model_dump(mode="json") for record in outcome.records])
    else:
        _print_outcome(options, suite, (chosen, plan), outcome, time.monotonic() - began)
    if stale := sum(planned.state == "stale" for planned in plan.runs()):
        echo(f"{stale} runs are stale and were left as they are; --redo-stale runs them again", err=True)
    if outcome.interrupted:
        echo("interrupted: the same command goes on from here", err=True)
        raise typer.Exit(130)
    if failed := [record for record in outcome.records if record.status in lazy.FAILURES]:
        kinds = _count(record.status for record in failed)
        hint = "'harness show RUN' says why, --retry-failed tries again"
        echo(f"{len(failed)} runs failed ({kinds}); {hint}", err=True)
    if unfinished := [record for record in outcome.records if record.is_unfinished]:
        echo(f"{len(unfinished)} runs were stopped; the same command goes on from there", err=True)
    if failed or unfinished:
        raise typer.Exit(1)


def _parse_seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        if (found := re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())) is None:
            fail(f"--seeds {text!r}: write seeds as 0,1,2 or 0-4")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < 2**31 or last - first >= _MOST_SEEDS:
            fail(f"--seeds {text!r}: {part} is no range of at most {_MOST_SEEDS} seeds, each below 2**31, such as 0-4")
        seeds += range(first, last + 1)
    return seeds


def _count(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).items())


def _summary_of(plan: lazy.Plan, estimates: lazy.Estimates) -> str:
    speeds = sum(bool(planned.speed_stages) for _, planned in plan.labelled())
    states = _count(planned.state for _, planned in plan.labelled())
    return "; ".join(filter(None, [f"plan: {states}", f"speeds of {speeds}" * (speeds > 0), str(estimates)]))


def _print_outcome(
    options: Context, suite: str, plan: tuple[lazy.Suite, lazy.Plan], outcome: lazy.Outcome, seconds: float
) -> None:
    """Prints in about ten lines what came out, and where it is."""
    assert plan[0].file is not None
    there, states = sum(run.state == "hit" for run in plan[1].runs()), _count(map(lazy.outcome_of, outcome.records))
    echo(f"{len(outcome.records)} runs: {states}; {there} were done before; {duration(seconds)}", err=True)
    _print_failed_audits(outcome.records)
    if outcome.interrupted or all(record.fit is None for record in outcome.records):
        return
    try:
        lines = lazy.best_rows(read_leaderboard(options, plan[0].file, from_store=True, plan=plan)[0])
    except ValueError as error:
        lines = [f"no boards: {error}"]
    lines.append(f"'harness leaderboard {suite}' shows the boards, 'harness export {suite}' keeps the records")
    lines.append(f"'harness show RUN' shows a run; its log is {options.artifacts.folder('RUN').log}")
    echo("\n".join(lines), err=True)


def _print_plan(plan: lazy.Plan, json: bool) -> None:
    rows = [
        {
            "row": row.label,
            "dataset": row.dataset,
            "run": planned.run,
            "state": planned.state,
            "missing": [stage.name for stage in (*planned.stages, *planned.speed_stages)],
            "stale": planned.stale_run,
            "stale_scores": list(planned.stale_stages),
            "note": _note(planned),
        }
        for row, planned in plan.labelled()
    ]
    print_rows(rows, {"state": "state", "row": "row", "dataset": "dataset", "run": "run", "note": ""}, json=json)
    if not json:
        echo(_summary_of(plan, lazy.Estimates(plan)))


def _note(planned: lazy.PlannedRun) -> str:
    if planned.stale_run is not None:
        return f"code or data changed since {planned.stale_run}"
    if planned.damaged:
        return f"damaged, to be done again: {'; '.join(planned.damaged)}"
    if planned.state == "newer":
        return "a newer genharness did it; this one leaves it as it is"
    if planned.state == "elsewhere":
        return "its weights are in another artifact folder, which shares this store"
    if planned.stale_stages:
        return f"older metric version: {', '.join(planned.stale_stages)}"
    missing = planned.state == "scores missing"
    return ", ".join(stage.name for stage in (*planned.stages, *planned.speed_stages) if missing)


def _print_failed_audits(records: Sequence[lazy.RunRecord]) -> None:
    failed: dict[tuple[str, str], list[str]] = {}
    for record in records:
        audit = lazy.audit_of_score(record.scores.get("audit"))
        if audit.failed:
            failed.setdefault((record.spec.model, audit.names), []).append(record.run)
    for (model, names), runs in failed.items():
        echo(f"✗ {model} failed its audit ({names}) and is not ranked: 'harness show {runs[0]}' says why", err=True)


def status(
    context: typer.Context,
    suite: str = typer.Argument(
        None,
        help="A suite, to be told what is hit, stale or missing; else all of the store.",
        autocompletion=completion.suites,
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Tell what the store holds, or how far a suite is."""
    options: Context = context.obj
    if suite is not None:
        plan = lazy.plan_suite(read_suite(suite), options.settings(only_looks=True))
        for what, why in plan.in_vain.items():
            echo(f"note: {what}: {why}", err=True)
        _print_plan(plan, json)
        return
    rows = []
    for record in options.artifacts.store.each():
        status, _, stage = live_status(options, record).partition(" (")
        what = f"({stage}" if stage else lazy.summarise(record)
        spec = record.spec.model_dump(include={"model", "dataset", "seed"})
        rows.append({"run": record.run, "status": status, **spec, "what": what})
    if rows or json:
        print_rows(rows, {"run": "run", "status": "status", "what": ""}, json=json)
    else:
        echo(f"the store in {options.artifacts_root} is empty")


def live_status(options: Context, record: lazy.RunRecord) -> str:
    """Returns what became of a run; of one that is worked on, how far it is."""
    folder = options.artifacts.folder(record.run)
    if record.status != "running":
        return lazy.outcome_of(record)
    return f"running ({lazy.doing(folder.progress())})" if folder.is_held() else "interrupted"


def show(
    context: typer.Context,
    run: str = typer.Argument(
        help="A run's name, or its beginning; or a model's name.", autocompletion=completion.runs
    ),
    json: bool = JSON_OPTION,
    lines: int = typer.Option(10, "--log-lines", min=0, help="How many of the log's last lines to show."),
) -> None:
    """Show a run: what was asked for, what came out, and what went wrong; or a model: its hyperparameters."""
    options: Context = context.obj
    if options.plugins.has("model", run):
        _show_model(options, run, json)
        return
    record = options.find_run(run)
    if json:
        print_json(record.model_dump(mode="json"))
        return
    spec, fit, failure = record.spec, record.fit, record.failure
    threads = f"{spec.threads} thread{'s' * (spec.threads > 1)}"
    echo(f"{record.run}: {live_status(options, record)}")
    echo(f"  {spec.model} ({record.provider}) on {spec.dataset}, seed {spec.seed}, {spec.precision}, {threads}")
    echo("  hyperparameters: " + ", ".join(f"{name}={value}" for name, value in record.hyperparameters.items()))
    if fit is not None:
        best = f" (step {fit.valid_step}, valid {fit.valid_score:.5g})" if fit.valid_score is not None else ""
        echo(f"  fit: {fit.steps} steps, {fit.epochs:g} epochs, {fit.seconds:.1f} s; weights: {fit.checkpoint}{best}")
    if record.configurations_tried > 1:
        echo(f"  the best on validation of {record.configurations_tried} configurations")
    shown = {name: score for name, score in record.scores.items() if name != lazy.AUDIT or score.status != "done"}
    if shown:
        echo("")
        _print_figures(shown)
    for line in _audit_lines(record, options):
        echo(line)
    if failure is not None:
        echo(f"\n{failure.stage}: {failure.type}: {failure.message}")
        for text in filter(None, (failure.traceback, failure.stack, failure.log)):
            echo(text)
    folder = options.artifacts.folder(record.run)
    if lines and folder.log.exists():
        tail = folder.log.read_text(errors="replace").splitlines()[-lines:]
        echo(f"\n{folder.log}:\n" + "\n".join(f"  {line[:1000]}" for line in tail))


def _show_model(options: Context, name: str, json: bool) -> None:
    model = lazy.load_model_class(options.plugins, name)
    known = lazy.parameters_of(model)
    defaults = lazy.as_json({key: parameter.default for key, parameter in known.items()})
    rows = [
        {
            "hyperparameter": key,
            "default": defaults[key] if json else dumps(defaults[key]),
            "type": lazy.type_in_words(lazy.type_of(model, parameter)),
        }
        for key, parameter in known.items()
    ]
    if not json:
        entry, runs = options.plugins.find("model", name)[0], options.run_names()
        echo(f"{name}: {entry.summary}; trains for {model.default_budget} unless told otherwise")
        for run in filter(lambda run: run.startswith(f"{slug(name)}-"), runs):
            echo(f"run: {run}")
    print_rows(rows, {column: column for column in ("hyperparameter", "default", "type")}, json=json)


def _print_figures(scores: Mapping[str, lazy.ScoreRecord]) -> None:
    """Prints figures as a table and, below it, in the terminal's width, the protocol of each, or what went wrong."""
    rows = []
    for name, score in scores.items():
        value = f"{score.value:.6g}" if score.value is not None else score.status
        error = f"± {score.standard_error:.2g}" if score.standard_error is not None else ""
        rows.append([name, value, error, score.unit, score.kind or ""])
    print_table(["score", "value", "", "unit", "kind"], rows)
    for name, score in scores.items():
        protocol = ", ".join(f"{key}: {text}" for key, text in score.protocol.items())
        said = f"{name}: {score.failure.message if score.failure else protocol}"
        width = get_terminal_size().columns
        echo(fill(printable(said), width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False))


def _audit_lines(record: lazy.RunRecord, options: Context) -> list[str]:
    """The verdict on the run's model, what is wrong with it, and where the whole report is."""
    score = record.scores.get(lazy.AUDIT)
    audit = lazy.audit_of_score(score)
    if score is None or score.status != "done":
        return []
    verdicts = Counter(check.verdict for check in audit.checks)
    counts = f"{verdicts['pass']} checks passed, {verdicts['not applicable']} do not apply"
    lines = ["", f"audit: {audit.cell}; {counts}"]
    for check in audit.failed:
        lines += [f"  ✗ {lazy.in_words(check)}", f"    again: harness audit {record.run} --checks {check.check}"]
    lines += [f"  {check.check}: {note}" for check in audit.checks for note in check.notes]
    file = options.artifacts_root / "audits" / Path(score.protocol.get("report", "none")).name
    return [*lines, f"  {file}"] if file.is_file() else lines


def sample(
    context: typer.Context,
    run: str = RUN_ARGUMENT,
    number: int = typer.Option(64, "-n", "--number", min=1, help="How many images."),
    output: str = typer.Option(
        "samples.png", "-o", "--output", help="A grid, NAME.png; or single images, in a folder NAME/ or in NAME.npz."
    ),
    sampler: str = typer.Option(None, "--sampler", help="One of the model's named samplers; its default without it."),
    seed: int = typer.Option(0, "--seed", min=0, max=2**31 - 1, help="Same seed, same images."),
    device: str = typer.Option("auto", "--device", help="Where to sample."),
) -> None:
    """Draw images from a trained model, to a PNG grid, or one by one: with the run's seed, those that were scored."""
    import psutil
    import torch

    target, is_grid = Path(output), output.lower().endswith(".png")
    if not is_grid and output.endswith("/") == (target.suffix == ".npz"):
        raise ValueError(f"-o {output!r}: the name has to end in .png for a grid, in .npz or / for single images")
    if not is_grid and target.is_dir() and any(target.iterdir()):
        raise ValueError(f"-o {output!r}: the folder is not empty, and its images would be taken for samples")
    record = context.obj.find_run(run)
    model = lazy.load_model(record, context.obj.settings(device=device))
    free = psutil.virtual_memory().available
    if number > (most := free // (4 * model.spec.num_dimensions)):
        raise ValueError(f"-n {number}: this machine has memory for {most} images at a time")
    samplers = model.samplers()
    if sampler is not None and sampler not in samplers:
        raise ValueError(f"{record.spec.model!r} has no sampler {sampler!r}{did_you_mean(sampler, samplers)}")
    torch.manual_seed(seed)
    with torch.no_grad():
        draw = model.sample if sampler is None else samplers[sampler]
        if sampler is None and not is_grid:
            draw = lazy.Evaluation(model, context.obj.dataset("", record), seed=seed).samples
        images = draw(number)
    (lazy.save_grid if is_grid else lazy.save_images)(target, images, model.spec)
    typer.echo(f"{number} images of {record.run} in {output}")


def score(
    context: typer.Context,
    samples: str = typer.Argument(metavar="samples:PATH", help="Images, as files in a folder or as an .npz."),
    like: str = typer.Option(..., "--like", help="The dataset whose test images they are held against."),
    metrics: str = typer.Option("fid,kid", "--metrics", help="Such as fid-pixels-n2000, of 2,000 of them."),
    json: bool = JSON_OPTION,
) -> None:
    """Measure images that somebody else made."""
    if not samples.startswith(STORED):
        raise ValueError(f"{samples!r}: write {STORED}PATH")
    names = [name.strip() for name in metrics.split(",")]
    content = {"title": "Samples", "datasets": [like], "metrics": names, "models": [{"name": samples}]}
    settings = context.obj.settings(redo_stale=True, retry_failed=True)  # what is printed is of what there is now
    plan = lazy.plan_suite(lazy.Suite.parse(content, name="score", source="harness score"), settings)
    for said in plan.runs()[0].record.data_caveats:
        echo(f"warning: {said}", err=True)
    reporter = lazy.ConsoleReporter(lazy.Estimates(plan))
    with reporter.bars:
        outcome = lazy.run_plan(plan, reporter)
    for record in outcome.records:
        if json:
            print_json(record.model_dump(mode="json"))
        elif record.fit is not None:
            echo(f"{lazy.known_as(samples)}, like {lazy.known_as(like)}: {record.fit.checkpoint}")
            _print_figures({name: score for name, score in record.scores.items() if score.metric in names})
    if outcome.interrupted or outcome.records[0].status != "done":
        raise typer.Exit(130 if outcome.interrupted else 1)
