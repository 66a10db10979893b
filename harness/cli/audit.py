"""``harness audit MODEL``: every check on one model, with what it rests on and what is likely wrong."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Sequence
from json import dumps
from typing import TYPE_CHECKING

import typer

from harness.cli import completion
from harness.cli.context import JSON_OPTION, echo, parse_setting, print_json, print_rows, print_table

if TYPE_CHECKING:
    from harness.auditing.subject import Subject
    from harness.cli.context import Context
    from harness.interface.metric import Origin
    from harness.interface.model import Model
    from harness.interface.spec import ImageSpec
    from harness.records.record import RunRecord
    from harness.records.verdict import AuditReport, CheckResult

_NUM_CLASSES = 10  # of --size, for models that need labels


def audit(
    context: typer.Context,
    model: str = typer.Argument(
        None,
        help="A model's name, path/to/file.py:Class, package.module:Class, or the beginning of a run's name.",
        autocompletion=completion.audited,
    ),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A hyperparameter, as in TOML: hidden=[500]; can be repeated."
    ),
    size: str = typer.Option(
        None, "--size", metavar="HxWxCxL", help="The benchmark's size: height x width x channels x levels, 28x28x1x2."
    ),
    dataset: str = typer.Option(
        None, "--dataset", help="Take the benchmark's size from this dataset.", autocompletion=completion.datasets
    ),
    checks: str = typer.Option(None, "--checks", metavar="A,B", help="Only these checks; --list names them."),
    seed: int = typer.Option(0, "--seed", min=0, help="The same seed gives the same report; boards take 0."),
    list_checks: bool = typer.Option(False, "--list", help="Say which checks there are."),
    code: int = typer.Option(
        None, "--code", metavar="N", min=1, help="Instead of the checks, code N test images by a trained model."
    ),
    code_file: str = typer.Option(None, "--code-file", help="With --code: keep the coded images here."),
    suite: str = typer.Option(None, "--suite", help="With --code: only runs of this suite."),
    weights: str = typer.Option(None, "--weights", help="With --code: these weights (safetensors); needs --dataset."),
    device: str = typer.Option("auto", "--device", help="With --code: where to compute."),
    json: bool = JSON_OPTION,
) -> None:
    """Check a model's likelihood, samplers and conduct on sample spaces that can be enumerated, and on wider ones."""
    options: Context = context.obj
    if list_checks:
        from harness.auditing.checks import CHECKS

        rows = [{"check": check.name, "promise": check.promise} for check in CHECKS]
        print_rows(rows, {"check": "check", "promise": "what a right model does"}, json=json)
        return
    if model is None:
        raise ValueError("name a model to audit: a registered one, a file.py:Class, or a run; --list names the checks")
    if code is not None:
        from harness.cli import coding

        coding.code(
            options, model, code, output=code_file, suite=suite, weights=weights, dataset=dataset, changes=changes,
            device=device, json=json,
        )  # fmt: skip
        return
    for name, value in (("--code-file", code_file), ("--suite", suite), ("--weights", weights)):
        if value is not None:
            raise ValueError(f"{name} goes with --code N")
    from harness.auditing.engine import audit

    def tell(result: CheckResult) -> None:
        if not json and sys.stderr.isatty():
            echo(f"{_SIGNS[result.verdict]} {result.check} ({result.seconds:.1f} s)", err=True)

    only = None if checks is None else [name.strip() for name in checks.split(",")]
    subject, words = _asked(options, model, changes, size, dataset)
    report = audit(subject, seed=seed, only=only, on_check=tell)
    if not report.spaces:
        raise ValueError(f"{report.model}: nothing can be checked: {report.checks[0].meaning}")
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report, words)
    if report.failed:
        raise typer.Exit(1)


# --- what is asked for ---


def _asked(
    options: Context, model: str, changes: Sequence[str], size: str | None, dataset: str | None
) -> tuple[Subject, list[str]]:
    """Returns what is to be audited, and the arguments that say so again."""
    from harness.auditing.subject import Subject
    from harness.discovery.loading import origin_of

    if size is not None and dataset is not None:
        raise ValueError("--size and --dataset both say the benchmark's size: give one of them")
    model_class, name, record = _find(options, model)
    given = {**(record.spec.hyperparameters if record else {}), **dict(map(parse_setting, changes))}
    origin = origin_of(options.plugins, model_class, name, given)
    words = [name, *(part for key, value in given.items() for part in ("--set", f"{key}={dumps(value)}"))]
    full = None
    if size is not None:
        full, words = _size(size), [*words, "--size", size]
    elif dataset is not None:
        full, words = options.dataset(dataset).spec, [*words, "--dataset", dataset]
    elif record is not None:
        full = options.dataset(record.spec.dataset, record.run).spec
        words += ["--dataset", record.spec.dataset]
    if full is not None:
        _check_it_takes(origin, full)
    return Subject(name, origin.construct, origin.changed, full), words


def _check_it_takes(origin: Origin, full: ImageSpec) -> None:
    from harness.auditing.spaces import describe
    from harness.interface.model import Unsupported

    try:
        origin.construct(full)
    except Unsupported as reason:
        raise ValueError(f"{origin.name} does not take {describe(full)}: {reason}") from reason
    except (RuntimeError, TypeError, AttributeError, LookupError):
        pass  # defects: the audit names them


def _find(options: Context, model: str) -> tuple[type[Model], str, RunRecord | None]:
    """Returns a model's class, its name, and the run, if it is one that is named."""
    from harness.discovery.loading import load_model_class
    from harness.support.names import did_you_mean

    if options.plugins.has("model", model):
        return load_model_class(options.plugins, model), model, None
    runs = options.run_names()
    if not any(run.startswith(model) for run in runs):
        names = [entry.name for entry in options.plugins.entries("model")]
        if difflib.get_close_matches(model, runs, n=1) and not difflib.get_close_matches(model, names, n=1):
            raise ValueError(f"no model, and no run, {model!r}{did_you_mean(model, runs)}")
        options.plugins.find("model", model)  # says what is close, and what is broken
    record = options.find_run(model)
    return load_model_class(options.plugins_of(record.run), record.spec.model), record.spec.model, record


def _size(text: str) -> ImageSpec:
    from harness.interface.spec import ImageSpec

    parts = text.split("x")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--size {text!r}: write height x width x channels x levels, such as 28x28x1x2")
    height, width, channels, levels = map(int, parts)
    return ImageSpec(channels, height, width, levels, num_classes=_NUM_CLASSES)


# --- what is said ---

_SIGNS = {"pass": "✓", "fail": "✗", "not applicable": "–"}


def _print(report: AuditReport, words: Sequence[str]) -> None:
    capability = f" ({report.capability})" if report.capability else ""
    echo(f"{report.model}{capability}, on {'; '.join(report.spaces) or 'no space'}\n")
    header = ["", "check", "statistic", "threshold", "smallest defect seen", "where"]
    print_table(header, [[_SIGNS[result.verdict], result.check, *_cells(result)] for result in report.checks])
    for result in report.failed:
        echo(f"\n✗ {result.check}: {result.meaning}")
        for failure in result.failures:
            echo(f"    {failure}")
        again = ["harness", "audit", *words, "--checks", result.check, "--seed", str(result.seed)]
        echo(f"  again: {shlex.join(again)}")
    notes = [f"  {result.check}: {note}" for result in report.checks for note in result.notes]
    if notes:
        echo("\n".join(["\nnotes", *notes]))
    echo(f"\n{verdict_line(report)}")


def _cells(result: CheckResult) -> list[str]:
    if result.statistic is None or result.threshold is None or result.verdict == "not applicable":
        return ["", "", "", result.meaning if result.verdict == "not applicable" else result.where]
    relation = "<" if result.statistic < result.threshold else ">" if result.statistic > result.threshold else "="
    return [f"{result.statistic:.3g}", f"{relation} {result.threshold:.1g}", result.smallest_defect, result.where]


def verdict_line(report: AuditReport) -> str:
    """Returns the verdict on a model in a line."""
    counts = [result.verdict for result in report.checks]
    made = f"{counts.count('pass')} checks passed, {counts.count('not applicable')} do not apply"
    if report.failed:
        made = f"failed {', '.join(result.check for result in report.failed)}; {made}"
    why = {
        "not enumerated": "; not enumerated: it takes no sample space that can be",
        "no likelihood": "; it promises no likelihood",
    }
    sign = "✗" if report.failed else "✓"
    return f"{sign} {report.model}: {made}{why.get(report.standing, '')} ({report.seconds:.1f} s, seed {report.seed})"
