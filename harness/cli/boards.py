"""``harness leaderboard``, ``export`` and ``figure``: from records to tables, and to pictures beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import typer

from harness.cli import completion, lazy
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import JSON_OPTION, Context, echo, fail, print_json, suite_path

_MOST_NAMED = 3  # rows without a picture, for the same reason
FROM_STORE_OPTION = typer.Option(False, "--from-store", help="Use the store even where there is a records.jsonl.")


def leaderboard(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    check: bool = typer.Option(
        False, "--check", help="Write nothing; fail if a committed table is not what its records give."),
    from_store: bool = FROM_STORE_OPTION,
    output: str = typer.Option(None, "-o", "--output", help="Write the boards here; beside the suite by default."),
    board: str = typer.Option(None, "--board", help="Print this board alone; nothing is written."),
    brief: bool = typer.Option(False, "--brief", help="Write the boards, and print their best rows alone."),
    format_name: str = typer.Option(
        None, "--format", metavar="markdown|csv|latex", help="Print the boards in this format; nothing is written.",
        autocompletion=completion.formats),
    json: bool = JSON_OPTION,
) -> None:  # fmt: skip
    """Build a suite's boards from its records: those beside the suite where there are any, else the store's."""
    if format_name not in (None, *completion.FORMATS):
        raise ValueError(f"--format {format_name!r}: it is one of {', '.join(completion.FORMATS)}")
    path = suite_path(suite)
    folder = path.with_suffix("")
    records, target = folder / lazy.RECORDS_FILE, Path(output or folder)
    if check and (from_store or not records.exists()):
        fail(f"--check: there is no {records}; 'harness export {path}' writes it from the store")
    boards, archived = read_leaderboard(context.obj, path, from_store=from_store)
    if check:
        if differing := lazy.check_boards(boards, target):
            pictures = f" with the pictures in {lazy.FOLDER}" * (target / lazy.FOLDER).is_dir()
            what = f"{', '.join(differing)} in {target}: not what {lazy.RECORDS_FILE} gives{pictures}"
            fail(f"{what}; 'harness leaderboard {path}' rewrites it")
        echo(f"{target}: the boards are what {lazy.RECORDS_FILE} gives")
    elif board is not None or format_name is not None:
        for name in boards.boards if board is None else (board,):
            echo(lazy.render_board(boards, name, format_name or "markdown"))
    elif json:
        written = [str(file) for file in lazy.write_boards(boards, target)]
        print_json({"source": "records" if archived else "store", "written": written})
    else:
        files = lazy.write_boards(boards, target)
        pages = [file.read_text(encoding="utf-8") for file in files if file.suffix == ".md" and not brief]
        for text in lazy.best_rows(boards) if brief else pages:
            echo(text)
        echo(f"from {records if archived else 'the store'}: {', '.join(map(str, files))}", err=True)
    if archived is not None and not check and (number := _count_only_stored(context.obj, path, archived)):
        where = context.obj.artifacts_root
        echo(f"{number} runs in {where} are not what {records} holds: 'harness export {path}' brings them in", err=True)


def _count_only_stored(options: Context, path: Path, archive: lazy.Archive) -> int:
    """Returns how many of a suite's runs the store has that an archive lacks, or has with other or fewer figures."""
    if not options.has_store:
        return 0
    try:
        stored = options.artifacts.store.records(identities=lazy.identities_of(lazy.Suite.read(path)))
    except lazy.StoreError:
        return 0  # the boards do not depend on it
    newest = {record.identity: record for record in sorted(stored, key=lambda record: record.created)}
    known = {record.run: record for record in archive.records}
    return sum(lazy.is_news(record, known.get(record.run)) for record in newest.values())


def read_leaderboard(
    options: Context, path: Path, *, from_store: bool, plan: tuple[lazy.Suite, lazy.Plan] | None = None
) -> tuple[lazy.Leaderboard, lazy.Archive | None]:
    """Returns a suite's boards, and the archive that they are of; None where they are of the store's records.

    ``plan``: the suite, or a part of it, if it has been planned already.
    """
    chosen, planned = plan or (lazy.Suite.read(path), None)
    archive, archived = results_of(options, chosen, path, from_store=from_store, plan=planned)
    if not archive.records:
        raise ValueError(f"there is no result of {path} yet; 'harness run {path}' makes them")
    return boards_of(options, chosen, path, archive), archive if archived else None


def boards_of(options: Context, suite: lazy.Suite, path: Path, archive: lazy.Archive) -> lazy.Leaderboard:
    """Returns the boards of a suite's records, with the published figures that lie beside it."""
    published, arrays = lazy.published_beside(path), archive.per_image
    return lazy.Leaderboard(archive.records, suite, per_image=arrays, published=published, plugins=options.plugins)


def export(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    output: str = typer.Option(None, "-o", "--output", help="Write here; beside the suite by default."),
    samples: bool = typer.Option(
        None, help="Draw samples as well, in grids and above their nearest training images; by default for suites "
        "with a metric of sample quality."),
    replace: bool = typer.Option(
        False, "--replace", help="Drop what differs from the store's records, and runs that the suite does not list."),
) -> None:  # fmt: skip
    """Write a suite's records and per-image scores from the store, so that anyone can rebuild its boards.

    What the archive holds and the store does not is kept.
    """
    path = suite_path(suite)
    chosen, folder = lazy.Suite.read(path), Path(output or path.with_suffix(""))
    archive = collect_from_store(context.obj, chosen)
    if not archive.records:
        fail(f"the store in {context.obj.artifacts_root} has no run of {path}; 'harness run {path}' makes them")
    with lazy.alone_in(folder):
        archive = _into_archive(archive, chosen, folder, replace=replace)
        written = lazy.write_archive(archive, folder)
    for file in written:
        echo(f"{file} ({file.stat().st_size / 1e6:.2f} MB)")
    scored = {score.board for record in archive.records for score in record.scores.values()}
    if samples or (samples is None and lazy.QUALITY in scored):
        boards = lazy.Leaderboard(archive.records, chosen, plugins=context.obj.plugins)
        maker = _maker_of(context.obj, boards, folder, path.parent)
        for name in (lazy.FOLDER, lazy.STRIPS):
            _say(maker.draw(name, replace=replace), name, folder)


def _into_archive(stored: lazy.Archive, suite: lazy.Suite, folder: Path, *, replace: bool) -> lazy.Archive:
    """Returns the records of a folder's archive with those of the store, and says what is dropped, or would be."""
    archived = dataclasses.replace(lazy.own_archive(folder), name=str(folder))
    try:
        merged = lazy.merge(suite, stored, [archived], prefer="ours" if replace else None, keep_unlisted=not replace)
    except lazy.MergeConflicts as error:
        for conflict in error.conflicts:
            echo(f"would be dropped: {conflict}", err=True)
        echo("ours is the store's; nothing was written: --replace takes the store's records", err=True)
        raise typer.Exit(1) from error
    unlisted = f"{len(merged.left_out)} runs that the suite does not list: {', '.join(merged.left_out)}"
    if merged.left_out and len(merged.left_out) == len(archived.records) and not replace:
        fail(f"{folder} holds {unlisted}; write elsewhere with -o, or drop them with --replace")
    for conflict in merged.resolved:
        echo(f"dropped: {conflict}", err=True)
    if merged.left_out:
        echo(f"{'dropped' if replace else 'kept; --replace drops them'}: {unlisted}", err=True)
    if merged.added:
        echo(f"{len(merged.added)} runs are kept that the store does not hold", err=True)
    return merged.archive


def results_of(
    options: Context, suite: lazy.Suite, path: Path, *, from_store: bool, plan: lazy.Plan | None = None
) -> tuple[lazy.Archive, bool]:
    """Returns the archive beside a suite, or the store's results, and whether it is the former."""
    folder = path.with_suffix("")
    archived = (folder / lazy.RECORDS_FILE).exists() and not from_store
    return lazy.read_archive(folder) if archived else collect_from_store(options, suite, plan), archived


def collect_from_store(options: Context, suite: lazy.Suite, plan: lazy.Plan | None = None) -> lazy.Archive:
    """Returns the store's current results of a suite, none of code, data or metrics that have changed since."""
    planned = (plan or lazy.plan_suite(suite, options.settings())).runs()
    stale = [f"{run.run}/{name}" for run in planned for name in run.stale_stages]
    return lazy.collect(suite, options.artifacts, [run.record for run in planned], stale_scores=stale)


def figure(
    context: typer.Context,
    name: str = typer.Argument(help="Which; 'harness list figures' names them.", autocompletion=completion.figures),
    target: str = typer.Argument(
        metavar="SUITE|MODEL", help="A suite; or a model as it is initialised, such as pixelcnn:layers=5.",
        autocompletion=completion.figured),
    output: str = typer.Option(
        None, "-o", "--output", help="Of a suite, the folder to write into, else the boards'; of a model, the file."),
    formats: str = typer.Option("svg", "--format", help="Of charts: svg, png, html, or several with commas."),
    again: bool = typer.Option(False, "--again", help="Draw what is up to date as well."),
    check: bool = typer.Option(False, "--check", help="Write nothing; fail if a chart is not what its records give."),
    from_store: bool = FROM_STORE_OPTION,
    size: int = typer.Option(28, "--size", min=1, help="Of a model: height of square images."),
    channels: int = typer.Option(1, "--channels", min=1, help="Of a model: channels of the images."),
    levels: int = typer.Option(2, "--levels", min=2, max=256, help="Of a model: levels of an entry."),
) -> None:  # fmt: skip
    """Draw a figure of a suite, beside its boards, or of a model: PNG for images, SVG and Vega-Lite for charts."""
    wanted = [part.strip() for part in formats.split(",")]
    if unknown := [part for part in wanted if part not in lazy.FORMATS]:
        raise ValueError(f"--format {unknown[0]!r}: it is one of {', '.join(lazy.FORMATS)}")
    options: Context = context.obj
    path = suite_path(target)
    if not path.is_file() and any(options.plugins.has("model", part) for part in (target, target.partition(":")[0])):
        for file in _figure_of_model(options, name, target, (channels, size, size, levels), output, wanted):
            echo(str(file))
        return
    boards, archived = read_leaderboard(options, path, from_store=from_store)
    maker = _maker_of(options, boards, Path(output or path.with_suffix("")), path.parent, wanted)
    if not check:
        _say(maker.draw(name, again=again, replace=archived is not None), name, maker.folder)
    elif differing := maker.check(name):
        fail(f"{', '.join(differing)} in {maker.folder}: not what the records give; without --check they are drawn")
    else:
        echo(f"{maker.folder}: the figure {name} is what the records give")


def _figure_of_model(
    options: Context, name: str, text: str, shape: tuple[int, int, int, int], output: str, formats: list[str]
) -> list[Path]:
    import torch

    from harness.cli.profiling import profiled, row_of

    row = row_of(options, text)
    with lazy.isolated_rng(0, torch.device("cpu")):
        model = profiled(options, row, "cpu", Path()).make(lazy.ImageSpec(*shape, lazy.NUM_CLASSES)).eval()
    stem = Path(output).with_suffix("") if output else Path(f"{name}-{lazy.slug(text)}")
    shown = lazy.ShownModel(row.row_label, model, lazy.random_data(model))
    return lazy.draw_model(options.plugins, name, shown, stem, formats)


def _maker_of(
    options: Context, leaderboard: lazy.Leaderboard, folder: Path, code_folder: Path, formats: Sequence[str] = ("svg",)
) -> lazy.FigureMaker:
    """Returns what draws a suite's figures into a folder; ``code_folder`` holds the files that the suite names."""
    plugins, data = options.plugins.at(code_folder), lazy.DataFolder.resolve(options.data)
    return lazy.FigureMaker(
        leaderboard, folder, artifacts=options.artifacts, plugins=plugins, data=data, formats=formats
    )


def _say(drawn: lazy.Drawn, name: str, folder: Path) -> None:
    """Says what became of a figure."""
    removed = f", {len(drawn.removed)} files of other trainings removed" if drawn.removed else ""
    counts = f"{len(drawn.kept)} pictures up to date, {len(drawn.left_out)} left out{removed}"
    echo(f"{folder}: {name}: {len(drawn.written)} files written, {counts}")
    by_reason: dict[str, list[str]] = {}
    for (label, dataset), reason in drawn.left_out.items():
        by_reason.setdefault(reason, []).append(f"{label!r} on {dataset}")
    for reason, rows in by_reason.items():
        more = f" and {len(rows) - _MOST_NAMED} others" if len(rows) > _MOST_NAMED else ""
        echo(f"no picture of {', '.join(rows[:_MOST_NAMED])}{more}: {reason}", err=True)
