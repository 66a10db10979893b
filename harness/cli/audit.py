"""``harness audit MODEL``: every check on one model; or with ``--code N``, test images coded by a trained one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from difflib import get_close_matches
from json import dumps
from pathlib import Path

import typer

from harness.cli import completion, lazy
from harness.cli.context import JSON_OPTION, echo, parse_setting, print_json, print_rows, print_table, read_suite
from harness.support.names import did_you_mean

_BUDGET = "60s"
_UNITS = {"s": 1, "m": 60, "h": 3600}
_NUM_CLASSES = 10  # of --size, for models that need labels
_SEED = 0  # of which images are coded
_SIGNS = {"pass": "✓", "fail": "✗", "not applicable": "–"}
_WHY = {
    "not enumerated": "; not enumerated: it takes no sample space that can be",
    "no likelihood": "; it promises no likelihood",
}


def audit(
    context: typer.Context,
    model: str = typer.Argument(
        None, autocompletion=completion.audited,
        help="A model's name, path/to/file.py:Class, package.module:Class, or the beginning of a run's name.",
    ),
    changes: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="A hyperparameter, as in TOML: hidden=[500]; can be repeated."),
    size: str = typer.Option(
        None, "--size", metavar="HxWxCxL", help="The benchmark's size: height x width x channels x levels, 28x28x1x2."),
    dataset: str = typer.Option(
        None, "--dataset", help="Take the benchmark's size from this dataset.", autocompletion=completion.datasets),
    checks: str = typer.Option(None, "--checks", metavar="A,B", help="Only these checks; --list names them."),
    seed: int = typer.Option(0, min=0, max=2**31 - 1, help="The same seed gives the same report; boards take 0."),
    budget: str = typer.Option(
        _BUDGET, "--budget", metavar="TIME",
        help="How much of an expensive model to look at, 60s or 5m: counted, 1.7e9 operations a second and check."),
    list_checks: bool = typer.Option(False, "--list", help="Say which checks there are."),
    explain: str = typer.Option(None, "--explain", metavar="CHECK", help="Say what a check tests, and cannot see."),
    code: int = typer.Option(
        None, "--code", metavar="N", min=1, help="Instead of the checks, code N test images by a trained model."),
    code_file: str = typer.Option(None, "--code-file", help="With --code: keep the coded images here."),
    suite: str = typer.Option(None, "--suite", help="With --code: only runs of this suite."),
    weights: str = typer.Option(None, "--weights", help="With --code: these weights (safetensors); needs --dataset."),
    device: str = typer.Option("auto", "--device", help="With --code: where to compute."),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Check a model's likelihood, samplers and conduct on sample spaces that can be enumerated, and on wider ones."""
    options: lazy.Context = context.obj
    if list_checks:
        rows = [{"check": name, "promise": lazy.explain(name)["claims"].rstrip(".")} for name in lazy.CHECKS]
        print_rows(rows, {"check": "check", "promise": "what a right model does"}, json=json)
        return
    if explain is not None:
        parts = lazy.explain(explain)
        print_json(parts) if json else echo("\n".join(f"{part}: {text}" for part, text in parts.items()))
        return
    if model is None:
        raise ValueError("name a model to audit: a registered one, a file.py:Class, or a run; --list names the checks")
    files = {"output": code_file, "suite": suite, "weights": weights}
    if code is not None:
        code_images(options, model, code, **files, dataset=dataset, changes=changes, device=device, json=json)
        return
    for name, value in zip(("--code-file", "--suite", "--weights"), files.values(), strict=True):
        if value is not None:
            raise ValueError(f"{name} goes with --code N")
    only = None if checks is None else [name.strip() for name in checks.split(",")]
    with redirect_stdout(sys.stderr):  # what the model's code prints
        subject, words = _asked(options, model, changes, size, dataset)
    words += ["--budget", budget] * (budget != _BUDGET)
    with lazy.telling("audit") as say:
        report = lazy.audit(
            subject, seed=seed, only=only, budget=_seconds(budget),
            on_check=lambda result: say(f"{_SIGNS[result.verdict]} {result.check} ({result.seconds:.1f} s)"),
        )  # fmt: skip
    if not report.spaces:
        raise ValueError(f"{report.model}: nothing can be checked: {report.checks[0].meaning}")
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        _print(report, words)
    if report.failed:
        raise typer.Exit(1)


def _asked(
    options: lazy.Context, model: str, changes: Sequence[str], size: str | None, dataset: str | None
) -> tuple[lazy.Subject, list[str]]:
    """Returns what is to be audited, and the arguments that say so again."""
    if size is not None and dataset is not None:
        raise ValueError("--size and --dataset both say the benchmark's size: give one of them")
    model_class, name, record = _find(options, model)
    if issubclass(model_class, lazy.StoredSamples):
        raise ValueError("samples from a file have no code to audit; 'harness score' measures them")
    given = {**(record.spec.hyperparameters if record else {}), **dict(map(parse_setting, changes))}
    origin = lazy.origin_of(options.plugins, model_class, name, given)
    words = [name, *(part for key, value in given.items() for part in ("--set", f"{key}={dumps(value)}"))]
    full = None
    if size is not None:
        full, words = _size(size), [*words, "--size", size]
    elif dataset is not None:
        full, words = options.dataset(dataset).spec, [*words, "--dataset", dataset]
    elif record is not None:
        full = options.dataset(record.spec.dataset, record).spec
        words += ["--dataset", record.spec.dataset]
    if full is not None:
        try:
            origin.construct(full)
        except lazy.Unsupported as reason:
            raise ValueError(f"{origin.name} does not take {lazy.describe(full)}: {reason}") from reason
        except (RuntimeError, TypeError, AttributeError, LookupError):
            pass  # defects: the audit names them
    return lazy.Subject(name, origin.construct, origin.changed, full), words


def _find(options: lazy.Context, model: str) -> tuple[type[lazy.Model], str, lazy.RunRecord | None]:
    """Returns a model's class, its name, and the run, if it is one that is named."""
    if options.plugins.has("model", model):
        return lazy.load_model_class(options.plugins, model), model, None
    runs, models = options.run_names(), [entry.name for entry in options.plugins.entries("model")]
    if not any(run.startswith(model) for run in runs):
        if get_close_matches(model, runs, n=1) and not get_close_matches(model, models, n=1):
            raise ValueError(f"no model, and no run, {model!r}{did_you_mean(model, runs)}")
        return lazy.load_model_class(options.plugins, model), model, None  # says what is close, and what is broken
    record = options.find_run(model)
    return lazy.load_model_class(options.plugins_of(record.run), record.spec.model), record.spec.model, record


def _size(text: str) -> lazy.ImageSpec:
    parts = text.split("x")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--size {text!r}: write height x width x channels x levels, such as 28x28x1x2")
    height, width, channels, levels = map(int, parts)
    return lazy.ImageSpec(channels, height, width, levels, num_classes=_NUM_CLASSES)


def _seconds(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "s")
    if not number.replace(".", "", 1).isdecimal() or not float(number):
        raise ValueError(f"--budget {text!r}: write a time such as {_BUDGET} or 5m")
    return float(number) * _UNITS[unit]


def _print(report: lazy.AuditReport, words: Sequence[str]) -> None:
    capability = f" ({report.capability})" if report.capability else ""
    echo(f"{report.model}{capability}, on {'; '.join(report.spaces) or 'no space'}\n")
    header = ["", "check", "statistic", "threshold", "smallest defect seen", "where"]
    print_table(header, [[_SIGNS[result.verdict], result.check, *_cells(result)] for result in report.checks])
    for result in report.failed:
        said = f"{result.where}: {result.meaning}".removeprefix(": ")
        echo("\n    ".join([f"\n✗ {result.check}: {said}", *(it for it in result.failures if it != said)]))
        again = ["harness", "audit", *words, "--checks", result.check, "--seed", str(result.seed)]
        echo(f"  again: {shlex.join(again)}")
    if notes := [f"  {result.check}: {note}" for result in report.checks for note in result.notes]:
        echo("\n".join(["\nnotes", *notes]))
    verdicts = [result.verdict for result in report.checks]
    undecided = sum(result.meaning.startswith(lazy.NOT_DECIDED) for result in report.checks)
    made = f"{verdicts.count('pass')} checks passed, {verdicts.count('not applicable') - undecided} do not apply"
    made += f", {undecided} {lazy.NOT_DECIDED}" * (undecided > 0)
    failed = f"failed {', '.join(result.check for result in report.failed)}; " if report.failed else ""
    sign, why = "✗" if report.failed else "✓", _WHY.get(report.standing, "")
    echo(f"\n{sign} {report.model}: {failed}{made}{why} ({report.seconds:.1f} s, seed {report.seed})")
    if left := [result.check for result in report.checks if any(lazy.NOT_REACHED in note for note in result.notes)]:
        echo(f"  {lazy.NOT_REACHED}: parts of {', '.join(left)}, see notes; --budget 5m looks at more")


def _cells(result: lazy.CheckResult) -> list[str]:
    if result.statistic is None or result.threshold is None or result.verdict == "not applicable":
        return ["", "", "", result.meaning if result.verdict == "not applicable" else result.where]
    relation = "<" if result.statistic < result.threshold else ">" if result.statistic > result.threshold else "="
    return [f"{result.statistic:.3g}", f"{relation} {result.threshold:.1g}", result.smallest_defect, result.where]


def code_images(
    options: lazy.Context, model: str, number: int, *, output: str | None, suite: str | None, weights: str | None,
    dataset: str | None, changes: Sequence[str], device: str, json: bool,
) -> None:  # fmt: skip
    """Prints a coding receipt, and ends with status 1 if it does not hold; see ``harness audit --help``."""
    import torch

    with redirect_stdout(sys.stderr):
        if weights is not None:
            name, trained, data = _from_file(options, model, weights, dataset, changes, device)
        elif changes:
            raise ValueError("--set with --code tells what the model of --weights is built with: a run knows its own")
        else:
            record = _find_trained(options, model, suite, dataset)
            name, trained = record.run, lazy.load_model(record, options.settings(device=device))
            data = options.dataset(record.spec.dataset, record)
        images = data.test.draw(0).images
        # a seeded choice without replacement, in the order of the split: its first images may be of one class
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SEED))[:number].sort().values
        receipt, content = lazy.code_images(trained, images[chosen], progress=_tell)
    if output is not None:
        lazy.write_atomically(Path(output), content)
    if json:
        derived = {key: getattr(receipt, key) for key in ("bits_per_image", "nats_per_image", "overhead", "holds")}
        print_json({**asdict(receipt), **derived, "model": name, "dataset": data.name, "file": output})
    else:
        echo("\n".join(_receipt_in_words(receipt, name, data, output)))
    if not receipt.holds:
        raise typer.Exit(1)


def _find_trained(options: lazy.Context, name: str, suite: str | None, dataset: str | None) -> lazy.RunRecord:
    """Returns the one trained run that is meant."""
    dataset = dataset and lazy.known_as(dataset)
    store, folder = options.artifacts.store, options.artifacts.folder
    file = None if suite is None else read_suite(suite).file
    referred = None if file is None else store.references().get(options.artifacts.reference_of(file), set())
    records = [it for it in store.records() if dataset in (None, it.spec.dataset)]
    records = [it for it in records if referred is None or it.run in referred]
    exact = [it for it in records if it.run == name] or [it for it in records if it.spec.model == name]
    found = exact or [it for it in records if it.run.startswith(name)]
    trained = [record for record in found if folder(record.run).fit() is not None]
    # of a grid, the configuration that was chosen is the one that has test scores
    chosen = [record for record in trained if any(not score.startswith(lazy.VALID_PREFIX) for score in record.scores)]
    if not trained:
        missing = f"--code needs trained weights, and {options.artifacts_root} has no trained run {name!r}"
        advice = "'harness run', or give --weights FILE --dataset NAME (and --set HYPERPARAMETER=VALUE)"
        raise ValueError(f"{missing}: train one with {advice}")
    if len(trained) > 1 and len(chosen) != 1:
        names = ", ".join(record.run for record in trained[:5])
        raise ValueError(f"{name!r} has {len(trained)} trained runs, name one of them: {names}")
    return trained[0] if len(trained) == 1 else chosen[0]


def _from_file(
    options: lazy.Context, model: str, weights: str, dataset: str | None, changes: Sequence[str], device: str
) -> tuple[str, lazy.Model, lazy.Dataset]:
    if dataset is None:
        raise ValueError("--weights needs --dataset, whose test images are coded")
    model_class, data = lazy.load_model_class(options.plugins, model), options.dataset(dataset)
    where = lazy.choose_device(device)
    with lazy.isolated_rng(_SEED, where):
        trained = model_class(data.spec, **lazy.resolve(model_class, dict(map(parse_setting, changes)))).to(where)
    lazy.load_weights(Path(weights), trained)
    return f"{model} with {weights}", trained, data


def _tell(stage: str, fraction: float) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{stage} {fraction:4.0%}" + "\n" * (stage == "decode" and fraction >= 1), nl=False, err=True)


def _receipt_in_words(receipt: lazy.Receipt, name: str, data: lazy.Dataset, output: str | None) -> list[str]:
    kept = "" if output is None else f", kept in {output}"
    back = "returns the same images" if receipt.decoded_equal else "DOES NOT return the images"
    lines = [
        f"{receipt.num_images:,} test images of {data.name}, coded by {name}",
        f"file      {receipt.num_bytes:,} bytes{kept}: {receipt.bits_per_image:.2f} bits an image",
        f"          {receipt.nats_per_image:.3f} nats an image, {lazy.HEADER_BYTES} bytes of header included",
        f"log_prob  {receipt.nll:.3f} nats an image: the file is {receipt.overhead:+.2%}",
        f"decoding  {back}; {receipt.encode_seconds:.1f} s to encode, {receipt.decode_seconds:.1f} s to decode",
    ]
    as_long = "as long as the likelihood says"
    if receipt.is_upper_bound:
        as_long = "in the range that the likelihood allows"
        bound = f"the size is an upper bound, by up to {receipt.bound_slack:.2f} nats"
        lines.append(f"          each image is coded by the best of several orders: {bound}")
    if not receipt.decoded_equal:
        verdict = "✗ the conditionals differ from call to call: nothing that is coded by them can be decoded"
    elif not receipt.holds:
        found = f"give {receipt.conditional_nats:.3f} nats an image, and log_prob {receipt.nll:.3f}"
        why = "log_prob is not that of these conditionals, or they see the future"
        verdict = f"✗ the conditionals, as they are before an entry is known, {found}: {why}"
    else:
        verdict = f"✓ but for its header, the file is {as_long}, to {lazy.TOLERANCE:.0%}"
    return [*lines, verdict]
