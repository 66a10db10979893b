"""``harness report``: the site of suites, from their committed records alone."""

from __future__ import annotations

from pathlib import Path

import typer

from harness.cli import completion, lazy
from harness.cli.boards import read_leaderboard
from harness.cli.context import Context, echo, fail, suite_path


def report(
    context: typer.Context,
    suites: list[str] = typer.Argument(
        None, metavar="[SUITE...]", autocompletion=completion.suites,
        help="Suites: TOML files, or names of those in leaderboards/; by default all there that have records."),
    output: str = typer.Option(None, "-o", "--output", help="The site's folder, or the one file; by default 'site'."),
    alone: bool = typer.Option(False, "--one-file", help="Write one suite as one file that needs nothing beside it."),
    check: bool = typer.Option(
        False, "--check", help="Write nothing; fail if what lies there is not what the records give."),
) -> None:  # fmt: skip
    """Build a static site of suites, to open from disk or to put on a server, from their records alone."""
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
