"""``harness leaderboard`` and ``export``: from records to tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, fail, print_json, suite_path

if TYPE_CHECKING:
    from harness.cli.context import Context
    from harness.records.archive import Archive
    from harness.suites.suite import Suite

PUBLISHED_FILE = "published.toml"


def leaderboard(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    check: bool = typer.Option(
        False, "--check", help="Write nothing; fail if a committed table is not what its records give."
    ),
    from_store: bool = typer.Option(False, "--from-store", help="Use the store even where there is a records.jsonl."),
    output: str = typer.Option(None, "-o", "--output", help="Write the boards here; beside the suite by default."),
    json: bool = JSON_OPTION,
) -> None:
    """Build a suite's boards from its records: those beside the suite where there are any, else the store's."""
    from harness.boards.leaderboard import Leaderboard, check_boards, write_boards
    from harness.boards.published import load_published
    from harness.records.archive import RECORDS_FILE, read_archive
    from harness.report.pictures import FOLDER
    from harness.suites.suite import Suite

    path = suite_path(suite)
    chosen, folder = Suite.read(path), path.with_suffix("")
    archived = (folder / RECORDS_FILE).exists() and not from_store
    if check and not archived:
        fail(f"--check: there is no {folder / RECORDS_FILE}; 'harness export {path}' writes it from the store")
    archive = read_archive(folder) if archived else collect_from_store(context.obj, chosen)
    published_file = path.with_name(PUBLISHED_FILE)
    published = load_published(published_file) if published_file.exists() else {}
    board = Leaderboard(archive.records, suite=chosen, per_image=archive.per_image, published=published)
    target = Path(output) if output else folder
    if check:
        differing = check_boards(board, target)
        if differing:
            pictures = f" with the pictures in {FOLDER}" * (target / FOLDER).is_dir()
            what = f"{', '.join(differing)} in {target}: not what {RECORDS_FILE} gives{pictures}"
            fail(f"{what}; 'harness leaderboard {path}' rewrites it")
        typer.echo(f"{target}: the boards are what {RECORDS_FILE} gives")
        return
    written = write_boards(board, target)
    if json:
        print_json({"source": "records" if archived else "store", "written": [str(file) for file in written]})
        return
    for file in written:
        if file.suffix == ".md":
            typer.echo(file.read_text(encoding="utf-8"))
    typer.echo(f"from {folder / RECORDS_FILE if archived else 'the store'}: {', '.join(map(str, written))}", err=True)


def export(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    output: str = typer.Option(None, "-o", "--output", help="Write here; beside the suite by default."),
    samples: bool = typer.Option(
        None,
        "--samples/--no-samples",
        help="Write PNG grids of samples as well; by default for suites with a metric of sample quality.",
    ),
) -> None:
    """Write a suite's records and per-image scores from the store, so that anyone can rebuild its boards."""
    from harness.records.archive import write_archive
    from harness.report.sample_quality import is_sample_quality
    from harness.suites.suite import Suite

    path = suite_path(suite)
    chosen, folder = Suite.read(path), Path(output) if output else path.with_suffix("")
    archive = collect_from_store(context.obj, chosen)
    if not archive.records:
        fail(f"the store in {context.obj.artifacts_root} has no run of {path}; 'harness run {path}' makes them")
    for file in write_archive(archive, folder):
        typer.echo(f"{file} ({file.stat().st_size / 1e6:.2f} MB)")
    if samples or (samples is None and any(map(is_sample_quality, chosen.metrics))):
        _export_grids(context.obj, chosen, archive, folder)


def _export_grids(options: Context, suite: Suite, archive: Archive, folder: Path) -> None:
    from harness.interface.data_folder import DataFolder
    from harness.report.pictures import FOLDER
    from harness.report.rows import rows_of
    from harness.running.sample_grids import write_sample_grids

    grids = write_sample_grids(
        rows_of(archive.records, suite),
        folder,
        artifacts=options.artifacts,
        plugins=options.plugins.at(suite.folder),
        data=DataFolder.resolve(options.data),
    )
    removed = f", {len(grids.removed)} of other trainings removed" if grids.removed else ""
    typer.echo(
        f"{folder / FOLDER}: {len(grids.written)} grids written, {len(grids.kept)} up to date, "
        f"{len(grids.left_out)} left out{removed}"
    )
    for (label, dataset), reason in grids.left_out.items():
        typer.echo(f"no grid of {label!r} on {dataset}: {reason}", err=True)


def collect_from_store(options: Context, suite: Suite) -> Archive:
    """Returns the store's current results of a suite.

    Raises:
        StaleRecords: some are of code, data or metrics that have changed since.
    """
    from harness.records.archive import collect
    from harness.running.coordinator import plan_suite

    planned = [run for row in plan_suite(suite, options.settings()) for run in row.runs()]
    keys = {run.record.identity: run.record.key for run in planned}
    stale = [f"{run.run}/{name}" for run in planned for name in run.stale_stages]
    return collect(suite, options.artifacts, current_keys=keys, stale_scores=stale)
