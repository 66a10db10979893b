"""``harness compare`` and ``merge``: two rows side by side, and one board from several machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import typer

from harness.cli import completion, lazy
from harness.cli.boards import FROM_STORE_OPTION, results_of
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, Context, echo, print_json, print_table, suite_path

_ROW_HELP = "a run's name or its beginning, a row's label, a model's name; or ARCHIVE:NAME."


def compare(
    context: typer.Context,
    a: str = typer.Argument(metavar="A", help=f"A row: {_ROW_HELP}", autocompletion=completion.rows),
    b: str = typer.Argument(metavar="B", help="Another row, by the same names.", autocompletion=completion.rows),
    suite: str = typer.Option(
        None, help="Look in this suite alone: a TOML file or a name.", autocompletion=completion.suites),
    metric: list[str] = typer.Option(
        [], autocompletion=completion.metrics,
        help="Only this metric, or 'likelihood' for the best figure of each; can be repeated, or comma-separated."),
    dataset: str = typer.Option(None, "--dataset", help="Only this dataset.", autocompletion=completion.datasets),
    from_store: bool = FROM_STORE_OPTION,
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Compare two rows: the paired difference B - A of each metric, its interval, and what it rests on."""
    options: Context = context.obj
    metrics = [name.strip() for item in metric for name in item.split(",") if name.strip()]
    dataset = dataset and lazy.known_as(dataset)
    (own_a, name_a), (own_b, name_b) = _split(a), _split(b)
    sources = _suite_sources(options, suite, from_store=from_store)
    try:
        pairs = lazy.find_pair(name_a, name_b, own_a or sources, own_b or sources, dataset=dataset)
    except lazy.NotFound:
        if suite is not None or (own_a and own_b):
            raise
        sources = [_store_source(options), *sources]  # opened last: it takes torch to know where it is
        try:
            pairs = lazy.find_pair(name_a, name_b, own_a or sources, own_b or sources, dataset=dataset)
        except lazy.NotFound as error:
            raise lazy.NotFound(f"{error}; a label that only a suite knows is found with --suite SUITE") from error
    results, problems = [], []
    for side_a, side_b in pairs:
        try:
            results.append((side_a, side_b, *lazy.compare_rows(side_a.row, side_b.row, metrics)))
        except lazy.NotComparable as error:
            problems.append(error)
    if not results:
        raise problems[0]
    if json:
        print_json([_as_json(*result) for result in results])
        return
    for number, result in enumerate(results):
        if number:
            echo()
        _print_comparison(*result)


def merge(
    suite: str = SUITE_ARGUMENT,
    others: list[str] = typer.Argument(
        metavar="OTHER...", help="Archives of other machines: folders that hold a records.jsonl, or that file."),
    prefer: str = typer.Option(
        None, metavar="ours|theirs|newest", autocompletion=completion.preferences,
        help="Decide conflicts, run by run; without it, a conflict stops the merge."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be merged, and write nothing."),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Bring other machines' records into a suite's. All of it fits, or nothing is written."""
    if prefer not in (None, *completion.PREFERENCES):
        raise ValueError(f"--prefer {prefer!r}: it is one of {', '.join(completion.PREFERENCES)}")
    path = suite_path(suite)
    chosen, folder = lazy.Suite.read(path), path.with_suffix("")
    with nullcontext() if dry_run else lazy.alone_in(folder):
        ours = lazy.own_archive(folder)
        try:
            theirs = [lazy.read_untrusted(Path(other)) for other in others]
            merged = lazy.merge(chosen, ours, theirs, prefer=cast("Any", prefer))
        except lazy.MergeConflicts as error:
            if json:
                print_json({"conflicts": error.conflicts, "written": []})
            for conflict in error.conflicts:
                echo(f"conflict: {conflict}", err=True)
            echo("nothing was written; --prefer ours, theirs or newest decides, run by run", err=True)
            raise typer.Exit(1) from error
        if merged.left_out and not (merged.added or merged.joined or merged.identical):
            raise ValueError(f"{path} lists none of these runs: {', '.join(merged.left_out[:5])}")
        written = list(map(str, lazy.write_archive(merged.archive, folder) if merged.changed and not dry_run else []))
    if json:
        print_json({name: value for name, value in vars(merged).items() if name not in ("archive", "changed")}
                   | {"written": written})  # fmt: skip
        return
    said = {"added": merged.added, "joined": merged.joined, "not in the suite": merged.left_out}
    for word, items in {**said, f"decided for {prefer}": merged.resolved}.items():
        for item in items:
            echo(f"{word}: {item}")
    counts = f"{len(merged.added)} added, {len(merged.joined)} joined, {merged.identical} identical"
    if written:
        echo(f"{', '.join(written)}: {counts}; 'harness leaderboard {suite}' makes the boards")
    else:
        echo(f"{folder}: {counts}{'; a dry run writes nothing' if merged.changed else ': nothing to write'}")


def _split(name: str) -> tuple[list[lazy.Source], str]:
    """Parts ``ARCHIVE:NAME``, and reads the archive; a label may hold colons of its own."""
    for index, character in enumerate(name):
        if character == ":" and "\0" not in name and index:
            path = Path(name[:index])
            if (path if path.name == lazy.RECORDS_FILE else path / lazy.RECORDS_FILE).is_file():
                return [lazy.Source.of(str(path), lazy.read_untrusted(path))], name[index + 1 :]
    return [], name


def _suite_sources(options: Context, suite: str | None, *, from_store: bool) -> list[lazy.Source]:
    """The suite that was named, or all in leaderboards/ that have an archive."""
    suites = Path("leaderboards").glob("*.toml")
    archived = [path for path in suites if (path.with_suffix("") / lazy.RECORDS_FILE).exists()]
    sources = []
    for path in [suite_path(suite)] if suite is not None else sorted(archived):
        try:
            chosen = lazy.Suite.read(path)
        except lazy.SuiteError as error:
            if suite is not None:
                raise
            echo(f"warning: left out: {error}", err=True)
            continue
        archive, _ = results_of(options, chosen, path, from_store=from_store)
        sources.append(lazy.Source.of(f"suite {chosen.name}", archive, chosen))
    return sources


def _store_source(options: Context) -> lazy.Source:
    """All runs of the store; of a run before and after a change, the row is of the one written last."""
    archive = lazy.collect_all(options.artifacts)
    newest = {record.identity: record for record in sorted(archive.records, key=lambda record: record.created)}
    source = lazy.Source.of("the store", replace(archive, records=tuple(newest.values())))
    return replace(source, records=archive.records)


def _as_json(a: lazy.Side, b: lazy.Side, found: list[lazy.Difference], refused: dict[str, str]) -> dict[str, object]:
    sides = {
        letter: {"label": row.label, "model": row.model, "source": source, "runs": [it.run for it in row.records]}
        for letter, (row, source) in (("a", a), ("b", b))
    }
    reasons = [{"metric": metric, "reason": reason} for metric, reason in refused.items()]
    return {"dataset": a.row.dataset, **sides, "differences": list(map(asdict, found)), "refused": reasons}


def _print_comparison(a: lazy.Side, b: lazy.Side, differences: list[lazy.Difference], refused: dict[str, str]) -> None:
    echo(a.row.dataset)
    for letter, side in (("A", a), ("B", b)):
        planned, there = len(side.row.seeds), len(side.row.records)
        done = sum(record.status == "done" for record in side.row.records)
        missing = f", {done} of {planned} seed{'s' if planned > 1 else ''} done"
        echo(f"  {letter}  {side.row.label} ({side.source}{'' if planned == there == done else missing})")
    echo()
    print_table(["metric", "unit", "A", "B", "B - A", "95 % interval", "p"], list(map(_cells, differences)))
    echo()
    for difference in differences:
        of_a, of_b = difference.metrics
        name = of_a if of_a == of_b else f"{difference.metric} ({of_a} of A, {of_b} of B)"
        echo(f"{name}: {difference.conclusion}. {difference.rests_on}.")
    for reason in refused.values():
        echo(f"not compared: {reason}")
    for letter, side in (("A", a), ("B", b)):
        if side.row.audit.failed:
            echo(f"✗ {letter} failed its audit ({side.row.audit.names}): no board ranks it")


def _cells(difference: lazy.Difference) -> Sequence[str]:
    # two significant digits of the standard error, or of the difference where nothing varies
    size = difference.standard_error or abs(difference.difference)
    decimals = 2 if size == 0 else min(8, max(0, 1 - math.floor(math.log10(size))))
    signs = [lazy.KIND_SIGNS[kind] for kind in difference.kinds]
    values = (*difference.values, difference.difference, *difference.interval)
    a, b, between, low, high = (lazy.fixed(value, decimals) for value in values)
    p_value = "< 1e-300" if difference.p_value < 1e-300 else f"{difference.p_value:.2g}"
    shown = [signs[0] + a, signs[1] + b, between, f"[{low}, {high}]", p_value]
    return [difference.metric, difference.unit, *shown]
