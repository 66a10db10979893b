"""``harness leaderboard`` and ``export``: from records to tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli import completion
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, fail, print_json, suite_path

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard
    from harness.cli.context import Context
    from harness.records.archive import Archive
    from harness.suites.suite import Suite


def leaderboard(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    check: bool = typer.Option(
        False, "--check", help="Write nothing; fail if a committed table is not what its records give."
    ),
    from_store: bool = typer.Option(False, "--from-store", help="Use the store even where there is a records.jsonl."),
    output: str = typer.Option(None, "-o", "--output", help="Write the boards here; beside the suite by default."),
    board: str = typer.Option(None, "--board", help="Print this board alone; nothing is written."),
    format_name: str = typer.Option(
        None, "--format", metavar="markdown|csv|latex", help="Print the boards in this format; nothing is written.",
        autocompletion=completion.formats,
    ),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Build a suite's boards from its records: those beside the suite where there are any, else the store's."""
    from harness.records.archive import RECORDS_FILE
    from harness.report.files import check_boards, render_board, write_boards
    from harness.report.pages import FOLDER

    if format_name not in (None, *completion.FORMATS):
        raise ValueError(f"--format {format_name!r}: it is one of {', '.join(completion.FORMATS)}")
    path = suite_path(suite)
    folder = path.with_suffix("")
    if check and (from_store or not (folder / RECORDS_FILE).exists()):
        fail(f"--check: there is no {folder / RECORDS_FILE}; 'harness export {path}' writes it from the store")
    boards, archived = read_leaderboard(context.obj, path, from_store=from_store)
    target = Path(output) if output else folder
    if check:
        differing = check_boards(boards, target)
        if differing:
            pictures = f" with the pictures in {FOLDER}" * (target / FOLDER).is_dir()
            what = f"{', '.join(differing)} in {target}: not what {RECORDS_FILE} gives{pictures}"
            fail(f"{what}; 'harness leaderboard {path}' rewrites it")
        typer.echo(f"{target}: the boards are what {RECORDS_FILE} gives")
        return
    if board is not None or format_name is not None:
        for name in boards.boards if board is None else (board,):
            typer.echo(render_board(boards, name, format_name or "markdown"))
        return
    written = write_boards(boards, target)
    if json:
        print_json({"source": "records" if archived else "store", "written": [str(file) for file in written]})
        return
    for file in written:
        if file.suffix == ".md":
            typer.echo(file.read_text(encoding="utf-8"))
    typer.echo(f"from {folder / RECORDS_FILE if archived else 'the store'}: {', '.join(map(str, written))}", err=True)


def read_leaderboard(options: Context, path: Path, *, from_store: bool) -> tuple[Leaderboard, bool]:
    """Returns a suite's boards, and whether they are of the records beside it; else they are of the store's."""
    from harness.boards.leaderboard import Leaderboard
    from harness.boards.published import PUBLISHED_FILE, load_published
    from harness.records.archive import RECORDS_FILE, read_archive
    from harness.suites.suite import Suite

    chosen, folder = Suite.read(path), path.with_suffix("")
    archived = (folder / RECORDS_FILE).exists() and not from_store
    archive = read_archive(folder) if archived else collect_from_store(options, chosen)
    if not archive.records:
        fail(f"there is no result of {path} yet; 'harness run {path}' makes them")
    published_file = path.with_name(PUBLISHED_FILE)
    published = load_published(published_file) if published_file.exists() else {}
    boards = Leaderboard(
        archive.records, chosen, per_image=archive.per_image, published=published, plugins=options.plugins
    )
    return boards, archived


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
    from harness.report.pages import QUALITY
    from harness.suites.suite import Suite

    path = suite_path(suite)
    chosen, folder = Suite.read(path), Path(output) if output else path.with_suffix("")
    archive = collect_from_store(context.obj, chosen)
    if not archive.records:
        fail(f"the store in {context.obj.artifacts_root} has no run of {path}; 'harness run {path}' makes them")
    for file in write_archive(archive, folder):
        typer.echo(f"{file} ({file.stat().st_size / 1e6:.2f} MB)")
    scored = {score.board for record in archive.records for score in record.scores.values()}
    if samples or (samples is None and QUALITY in scored):
        from harness.boards.leaderboard import Leaderboard
        from harness.cli.figures import maker_of, say
        from harness.report.pages import FOLDER

        boards = Leaderboard(archive.records, chosen, plugins=context.obj.plugins)
        say(maker_of(context.obj, boards, folder, path.parent).draw(FOLDER), FOLDER, folder)


def collect_from_store(options: Context, suite: Suite) -> Archive:
    """Returns the store's current results of a suite.

    Raises:
        StaleRecords: some are of code, data or metrics that have changed since.
    """
    from harness.records.archive import collect
    from harness.running.coordinator import plan_suite

    planned = plan_suite(suite, options.settings()).runs()
    keys = {run.record.identity: run.record.key for run in planned}
    stale = [f"{run.run}/{name}" for run in planned for name in run.stale_stages]
    return collect(suite, options.artifacts, current_keys=keys, stale_scores=stale)
