"""``harness compare`` and ``merge``: two rows side by side, and one board from several machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from harness.cli import completion
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, print_json, print_table, suite_path
from harness.support.names import printable

if TYPE_CHECKING:
    from harness.boards.comparison import Difference, RowComparison, Side
    from harness.boards.lookup import Source
    from harness.cli.context import Context
    from harness.records.archive import PerImage
    from harness.records.artifacts import Artifacts
    from harness.records.merging import Preference
    from harness.suites.suite import Suite

_ROW_HELP = "a run's name or its beginning, a row's label, a model's name; or ARCHIVE:NAME."


def compare(
    context: typer.Context,
    a: str = typer.Argument(metavar="A", help=f"A row: {_ROW_HELP}", autocompletion=completion.rows),
    b: str = typer.Argument(metavar="B", help="Another row, by the same names.", autocompletion=completion.rows),
    suite: str = typer.Option(
        None, "--suite", help="Look in this suite alone: a TOML file or a name.", autocompletion=completion.suites
    ),
    metric: list[str] = typer.Option(
        [],
        "--metric",
        help="Only this metric, or 'likelihood' for the best figure of each; can be repeated, or comma-separated.",
        autocompletion=completion.metrics,
    ),
    dataset: str = typer.Option(None, "--dataset", help="Only this dataset.", autocompletion=completion.datasets),
    from_store: bool = typer.Option(
        False, "--from-store", help="Use the store even where the suite has a records.jsonl."
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Compare two rows: the paired difference B - A of each metric, its interval, and what it rests on."""
    from harness.boards.comparison import NotComparable, compare_rows
    from harness.boards.lookup import NotFound, find_pair

    options: Context = context.obj
    metrics = [name.strip() for item in metric for name in item.split(",") if name.strip()]
    (own_a, name_a), (own_b, name_b) = _split(a), _split(b)
    sources = _suite_sources(options, suite, from_store=from_store)
    try:
        pairs = find_pair(name_a, name_b, own_a or sources, own_b or sources, dataset=dataset)
    except NotFound:
        if suite is not None or (own_a and own_b):
            raise
        sources = [_store_source(options), *sources]  # opened last: it takes torch to know where it is
        pairs = find_pair(name_a, name_b, own_a or sources, own_b or sources, dataset=dataset)
    results, problems = [], []
    for side_a, side_b in pairs:
        try:
            results.append((side_a, side_b, compare_rows(side_a.row, side_b.row, metrics)))
        except NotComparable as error:
            problems.append(error)
    if not results:
        raise problems[0]
    if json:
        print_json([_as_json(*result) for result in results])
        return
    for number, result in enumerate(results):
        if number:
            typer.echo("")
        _print_comparison(*result)


def merge(
    suite: str = SUITE_ARGUMENT,
    others: list[str] = typer.Argument(
        metavar="OTHER...", help="Archives of other machines: folders that hold a records.jsonl, or that file."
    ),
    prefer: str = typer.Option(
        None,
        "--prefer",
        metavar="ours|theirs|newest",
        help="Decide conflicts, run by run; without it, a conflict stops the merge.",
        autocompletion=completion.preferences,
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be merged, and write nothing."),
    json: bool = JSON_OPTION,
) -> None:
    """Bring other machines' records into a suite's. All of it fits, or nothing is written."""
    from harness.records.archive import RECORDS_FILE, Archive, read_archive, write_archive
    from harness.records.merging import MergeConflicts, merge
    from harness.records.untrusted import read_untrusted
    from harness.suites.suite import Suite

    if prefer not in (None, *completion.PREFERENCES):
        raise ValueError(f"--prefer {prefer!r}: it is one of {', '.join(completion.PREFERENCES)}")
    path = suite_path(suite)
    chosen, folder = Suite.read(path), path.with_suffix("")
    ours = read_archive(folder) if (folder / RECORDS_FILE).exists() else Archive((), {})
    foreign = [read_untrusted(Path(other)) for other in others]
    try:
        merged = merge(chosen, ours, foreign, prefer=cast("Preference | None", prefer))
    except MergeConflicts as error:
        if json:
            print_json({"conflicts": list(error.conflicts), "written": []})
        for conflict in error.conflicts:
            typer.echo(printable(f"conflict: {conflict}"), err=True)
        typer.echo("nothing was written; --prefer ours, theirs or newest decides, run by run", err=True)
        raise typer.Exit(1) from error
    if merged.left_out and not (merged.added or merged.joined or merged.identical):
        raise ValueError(f"{path} lists none of these runs: {', '.join(merged.left_out[:5])}")
    written = write_archive(merged.archive, folder) if merged.changed and not dry_run else []
    if json:
        print_json(
            {
                "added": list(merged.added),
                "joined": list(merged.joined),
                "identical": merged.identical,
                "left_out": list(merged.left_out),
                "resolved": list(merged.resolved),
                "written": [str(file) for file in written],
            }
        )
        return
    for word, runs in (("added", merged.added), ("joined", merged.joined), ("not in the suite", merged.left_out)):
        for run in runs:
            typer.echo(printable(f"{word}: {run}"))
    for conflict in merged.resolved:
        typer.echo(printable(f"decided for {prefer}: {conflict}"))
    counts = f"{len(merged.added)} added, {len(merged.joined)} joined, {merged.identical} identical"
    if not merged.changed:
        typer.echo(f"{folder}: {counts}: nothing to write")
    elif dry_run:
        typer.echo(f"{folder}: {counts}; a dry run writes nothing")
    else:
        typer.echo(f"{', '.join(map(str, written))}: {counts}; 'harness leaderboard {suite}' makes the boards")


def _split(name: str) -> tuple[list[Source], str]:
    """Parts ``ARCHIVE:NAME``, and reads the archive; a label may hold colons of its own."""
    from harness.records.archive import RECORDS_FILE

    for index, character in enumerate(name):
        if character == ":" and "\0" not in name:
            path = Path(name[:index])
            if name[:index] and (path.is_file() if path.name == RECORDS_FILE else (path / RECORDS_FILE).is_file()):
                return [_archive_source(path)], name[index + 1 :]
    return [], name


def _archive_source(path: Path) -> Source:
    from harness.boards.lookup import Source
    from harness.boards.rows import rows_of
    from harness.records.untrusted import read_untrusted

    archive = read_untrusted(path).archive
    return Source(
        str(path), tuple(rows_of(archive.records, per_image=archive.per_image)), archive.records, archive.per_image
    )


def _suite_sources(options: Context, suite: str | None, *, from_store: bool) -> list[Source]:
    """The suite that was named, or all in leaderboards/ that have an archive."""
    from harness.boards.published import PUBLISHED_FILE
    from harness.records.archive import RECORDS_FILE
    from harness.suites.suite import Suite, SuiteError

    if suite is not None:
        path = suite_path(suite)
        return [_suite_source(options, Suite.read(path), path, from_store=from_store)]
    sources = []
    for path in sorted(Path("leaderboards").glob("*.toml")):
        if path.name != PUBLISHED_FILE and (path.with_suffix("") / RECORDS_FILE).exists():
            try:
                chosen = Suite.read(path)
            except SuiteError as error:
                typer.echo(printable(f"warning: left out: {error}"), err=True)
                continue
            sources.append(_suite_source(options, chosen, path, from_store=from_store))
    return sources


def _suite_source(options: Context, suite: Suite, path: Path, *, from_store: bool) -> Source:
    from harness.boards.lookup import Source
    from harness.boards.rows import rows_of
    from harness.cli.boards import collect_from_store
    from harness.records.archive import RECORDS_FILE, read_archive

    archived = (path.with_suffix("") / RECORDS_FILE).exists() and not from_store
    archive = read_archive(path.with_suffix("")) if archived else collect_from_store(options, suite)
    rows = tuple(row for row in rows_of(archive.records, suite, per_image=archive.per_image) if row.records)
    return Source(f"suite {suite.name}", rows, archive.records, archive.per_image)


def _store_source(options: Context) -> Source:
    """All runs of the store; of a run before and after a change, the row is of the one written last."""
    from harness.boards.lookup import Source
    from harness.boards.rows import rows_of

    records = options.artifacts.store.records()
    newest = {record.identity: record for record in sorted(records, key=lambda record: record.created)}
    per_image = _FromRuns(options.artifacts)
    return Source("the store", tuple(rows_of(newest.values(), per_image=per_image)), tuple(records), per_image)


class _FromRuns(Mapping[str, "PerImage"]):
    """Scores per image, read when they are asked for: from the runs' own folders, else from a store that keeps them."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def __getitem__(self, reference: str) -> PerImage:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        run, _, name = reference.partition("/")
        try:
            file = self._artifacts.folder(run).per_image_file(name)
            content = file.read_bytes() if file.is_file() else self._artifacts.store.array(reference)
            arrays = load(content or b"")
            return arrays["per_image"], arrays["images"]
        except (OSError, ValueError, SafetensorError) as error:
            raise KeyError(reference) from error

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _as_json(a: Side, b: Side, result: RowComparison) -> dict[str, object]:
    return {
        "dataset": result.dataset,
        **{
            letter: {
                "label": side.row.label,
                "model": side.row.model,
                "source": side.source,
                "runs": [record.run for record in side.row.records],
            }
            for letter, side in (("a", a), ("b", b))
        },
        "differences": [asdict(difference) for difference in result.differences],
        "refused": [asdict(refusal) for refusal in result.refusals],
    }


def _print_comparison(a: Side, b: Side, result: RowComparison) -> None:
    typer.echo(printable(f"{result.dataset}"))
    for letter, side in (("A", a), ("B", b)):
        typer.echo(printable(f"  {letter}  {side.row.label} ({side.source}{_missing(side)})"))
    typer.echo("")
    rows = [_cells(difference) for difference in result.differences]
    print_table(["metric", "unit", "A", "B", "B - A", "95 % interval", "p"], rows)
    typer.echo("")
    for difference in result.differences:
        typer.echo(printable(f"{_name(difference)}: {difference.conclusion}. {difference.rests_on}."))
    for refusal in result.refusals:
        typer.echo(printable(f"not compared: {refusal.reason}"))
    for letter, side in (("A", a), ("B", b)):
        if side.row.audit.failed:
            typer.echo(printable(f"✗ {letter} failed its audit ({side.row.audit.names}): no board ranks it"))


def _missing(side: Side) -> str:
    planned, there = len(side.row.seeds), len(side.row.records)
    finished = sum(record.status == "done" for record in side.row.records)
    if planned == there == finished:
        return ""
    return f", {finished} of {planned} seed{'s' if planned > 1 else ''} done"


def _name(difference: Difference) -> str:
    a, b = difference.metrics
    return a if a == b else f"{difference.metric} ({a} of A, {b} of B)"


def _cells(difference: Difference) -> Sequence[str]:
    from harness.support.numbers import KIND_SIGNS, fixed

    low, high = difference.interval
    decimals = _decimals(difference)
    values = [
        KIND_SIGNS[kind] + fixed(value, decimals)
        for kind, value in zip(difference.kinds, difference.values, strict=True)
    ]
    return [
        printable(difference.metric),
        printable(difference.unit),
        *values,
        fixed(difference.difference, decimals),
        f"[{fixed(low, decimals)}, {fixed(high, decimals)}]",
        _p_value(difference.p_value),
    ]


def _decimals(difference: Difference) -> int:
    """Two significant digits of the standard error, or of the difference where nothing varies."""
    import math

    size = difference.standard_error or abs(difference.difference)
    return 2 if size == 0 else min(8, max(0, 1 - math.floor(math.log10(size))))


def _p_value(value: float) -> str:
    return "< 1e-300" if value < 1e-300 else f"{value:.2g}"
