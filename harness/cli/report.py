"""``harness report``: the site of suites, from their committed records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import typer

from harness.cli import completion, lazy
from harness.cli.boards import boards_of, read_leaderboard
from harness.cli.context import Context, echo, fail, suite_path
from harness.cli.running import live_status


def report(
    context: typer.Context,
    suites: list[str] = typer.Argument(
        None, metavar="[SUITE...]", autocompletion=completion.suites,
        help="Suites: TOML files, or names of those in leaderboards/; by default all there that have records."),
    output: str = typer.Option(None, "-o", "--output", help="The site's folder, or the one file; by default 'site'."),
    alone: bool = typer.Option(False, "--one-file", help="Write one suite as one file that needs nothing beside it."),
    check: bool = typer.Option(
        False, "--check", help="Write nothing; fail if what lies there is not what the records give."),
    serve: bool = typer.Option(
        False, "--serve", help="Write nothing; show what the store has, on this machine alone, while suites run."),
    port: int = typer.Option(8000, "--port", min=0, max=65535, help="Of --serve; 0 takes one that is free."),
) -> None:  # fmt: skip
    """Build a static site of suites, to open from disk or to put on a server, from their records alone."""
    if serve:
        for name in (name for name, given in (("--check", check), ("-o", output), ("--one-file", alone)) if given):
            fail(f"--serve writes nothing: leave out {name}")
        _serve(context.obj, list(map(suite_path, suites or ())), port)
        return
    there = sorted(file.parent.with_suffix(".toml") for file in Path("leaderboards").glob(f"*/{lazy.RECORDS_FILE}"))
    paths = [suite_path(suite) for suite in suites] if suites else [path for path in there if path.exists()]
    if not paths:
        fail("no suite in leaderboards/ has records; 'harness export SUITE' writes them")
    if alone and len(paths) != 1:
        fail(f"--one-file: name one suite; these are {len(paths)}")
    suites_shown = (_pages(context.obj, path, is_alone=alone) for path in paths)
    target = Path(output or (f"{paths[0].stem}.html" if alone else "site"))
    if alone:
        files, folder = iter([(target.name, lazy.one_file(next(suites_shown)))]), target.parent
    else:
        files, folder = lazy.site_files(suites_shown), target
    number, differing = lazy.write_files(files, folder, check=check, whole=not alone)
    if check and differing:
        echo("\n".join(f"not what the records give: {folder / name}" for name in differing), err=True)
        raise typer.Exit(1)
    echo(f"{target}: {number} files, " + ("all as the records give them" if check else f"{len(differing)} of them new"))


def _pages(options: Context, path: Path, *, is_alone: bool) -> lazy.SuitePages:
    folder = path.with_suffix("")
    if not (folder / lazy.RECORDS_FILE).exists():
        fail(f"there is no {folder / lazy.RECORDS_FILE}; 'harness export {path}' writes it from the store")
    boards, _ = read_leaderboard(options, path, from_store=False)
    return lazy.SuitePages(path.stem, boards, folder, is_alone)


def _serve(options: Context, paths: list[Path], port: int) -> None:
    """Shows suites, by default those that the store has runs of, until Ctrl-C."""
    if not paths and options.has_store:
        known, beside = options.artifacts.store.references(), sorted(Path("leaderboards").glob("*.toml"))
        paths = [path for path in beside if options.artifacts.reference_of(path) in known]
    if not paths:
        fail("--serve: name a suite; none of leaderboards/ has been run with this store")

    def stamp() -> str:
        files = [file for path in paths for file in (path, path.with_suffix("") / lazy.RECORDS_FILE) if file.exists()]
        dates = [file.stat().st_mtime_ns for file in files]
        return f"{dates} {options.artifacts.store.stamp() if options.has_store else ''}"

    try:
        server = lazy.SiteServer(lambda: [_live_suite(options, path) for path in paths], stamp, port)
    except OSError as error:
        fail(f"--port {port}: {error.strerror}; --port 0 takes one that is free")
    with server:
        server.make()
        echo(f"http://127.0.0.1:{server.server_port}/ shows {', '.join(path.stem for path in paths)}; Ctrl-C ends it")
        server.serve_forever()


def _live_suite(options: Context, path: Path) -> lazy.SuitePages:
    """Returns a suite with the records that the store has of it, without what is stale; else with its archive's."""
    suite, folder = lazy.Suite.read(path), path.with_suffix("")
    plan = lazy.plan_suite(suite, options.settings(only_looks=True)) if options.has_store else None
    there = options.run_names()
    current = [run.record for run in plan.runs() if run.run in there and not run.stale_stages] if plan else []
    if plan is None or not current:
        if not (folder / lazy.RECORDS_FILE).exists():
            raise ValueError(f"neither the store nor {folder} has a record of {path}; 'harness run {path}' makes them")
        return _pages(options, path, is_alone=False)
    archive = lazy.collect(suite, options.artifacts, current)
    labels = {run.run: f"{row.label} on {row.dataset}, seed {run.asked.seed}" for row, run in plan.labelled()}

    def progress() -> Iterator[str]:
        states = {record.run: live_status(options, record) for record in archive.records}
        for record in (record for record in archive.records if record.status != states[record.run] == "interrupted"):
            states[record.run] = "starting, or interrupted"  # no process has the folder
        counts = Counter(state.partition(" (")[0] for state in states.values())
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        yield f"{path.stem}: {len(states)} of {len(labels)} runs: {said}"
        yield from (f"{labels[run]}: {state}" for run, state in states.items() if state.startswith("running"))

    boards = boards_of(options, suite, path, archive)
    return lazy.SuitePages(path.stem, boards, options.artifacts_root, progress=progress)  # no pictures lie there
