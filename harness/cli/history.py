"""``harness history``: a suite's records of several versions side by side, and which figures moved."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import typer

from harness.cli import lazy
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import Context, echo, print_table, suite_path

_HEADER = ("row", "figure", "from", "to", "before", "after", "difference", "95 % interval", "", "p", "", "rests on")


def history(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    revisions: list[str] = typer.Option(
        [], "--revisions", metavar="REV...", help="These commits of the suite's repository, oldest first: main HEAD."),
    archives: list[str] = typer.Option(
        [], "--archive", metavar="PATH...", help="Archives, oldest first: folders with a records.jsonl, or that file."),
    last: int = typer.Option(5, "-n", "--last", min=1, help="Else: the last commits that changed the records."),
    from_store: bool = typer.Option(False, "--from-store", help="What the store has of each version of models' code."),
    check: bool = typer.Option(False, "--check", help="Exit with status 1 if a figure got worse, or fails now."),
    output: str = typer.Option(None, "-o", "--output", help="Draw the figures that moved: NAME.svg and NAME.vl.json."),
) -> None:  # fmt: skip
    """Compare versions of a suite's records: which figures moved, by how much, and whether for the better."""
    path = suite_path(suite)
    chosen = lazy.Suite.read(path)
    with tempfile.TemporaryDirectory(prefix="harness-") as temporary:
        archived = partial(_archived, path, revisions, archives, last, Path(temporary))
        found = dict(_stored(context.obj, chosen) if from_store else archived())
        if len(found) < 2:
            there = ", ".join(found) or "none"
            raise ValueError(f"{path}: two versions are needed, there is {there}; name some: --revisions or --archive")
        echo("\n".join(name.replace("\n", " ") for name in found))
        sources = [lazy.Source.of(name.partition("  ")[0], archive, chosen) for name, archive in found.items()]
        moves = lazy.follow(sources)
        if output is not None:
            chart = lazy.chart_of(f"{chosen.title}: history", moves, [source.name for source in sources])
            lazy.write_picture(chart, Path(output.removesuffix(".svg")), f"history {path.stem}", ["svg"])
    echo()
    if moves.moved:
        print_table(_HEADER, list(map(_cells, moves.moved)))
        echo()
    chance = len(moves.steps) - len(moves.moved)
    tests = f"{len(moves.moved)} figures moved (Holm over {len(moves.steps)} tests)"
    echo(f"{tests}, {chance} differ by no more than chance, {moves.unchanged} are unchanged.")
    for said in (*moves.not_told, *moves.broken):
        echo(" ".join(said.split()))
    raise typer.Exit(int(check and (bool(moves.broken) or any(step.moved == "worse" for step in moves.steps))))


def _archived(
    path: Path, revisions: list[str], archives: list[str], last: int, into: Path
) -> Iterator[tuple[str, lazy.Archive]]:
    """The versions that are named, oldest first; beside a single one, what lies beside the suite now."""
    folder, is_alone = path.with_suffix(""), len(revisions) + len(archives) == 1
    records = folder / lazy.RECORDS_FILE
    if revisions or not archives:
        repository = lazy.Repository(path)
        place = f":(literal){repository.place(records)}"
        commits = [repository.commit(name) for name in revisions] or repository.log(f"-{last}", "--", place)
        for number, commit in enumerate(commits):
            (copy := into / str(number)).mkdir()
            try:
                for name in (lazy.RECORDS_FILE, lazy.PER_IMAGE_FILE):
                    (copy / name).write_bytes(repository.read(commit, folder / name))
                yield str(commit), lazy.read_archive(copy)
            except ValueError as error:
                said = f"{commit}: {str(error).replace(str(copy), str(folder))}"
                if revisions:
                    raise ValueError(said) from error
                echo(f"left out: {said}", err=True)
        is_alone |= not revisions and (not commits or repository.read(commits[-1], records) != records.read_bytes())
    for archive in archives:
        yield archive, lazy.read_untrusted(Path(archive))
    if is_alone:
        yield f"now  {records}", lazy.read_archive(folder)


def _stored(options: Context, suite: lazy.Suite) -> Iterator[tuple[str, lazy.Archive]]:
    """What the store has of each version of each model's code, oldest first."""
    found, identities = dict[str, dict[str, lazy.RunRecord]](), set(lazy.identities_of(suite))
    for record in sorted(options.artifacts.store.records(identities=identities), key=lambda record: record.created):
        found.setdefault(f"{record.code[:10]}  {record.provider}", {})[record.identity] = record
    for name, records in found.items():
        yield name, lazy.collect_all(options.artifacts, records.values())


def _cells(step: lazy.Step) -> list[str]:
    error, difference = step.tested.standard_error, step.change[0]
    decimals = min(8, max(0, 1 - math.floor(math.log10(2 * error or abs(difference)))))
    before, after, *change = (lazy.fixed(it, decimals) for it in (step.before.mean, step.after.mean, *step.change))
    share = f"{difference / abs(step.before.mean):+.1%}" if step.before.mean else ""
    trainings = [[record.key for record in figure.records] for figure in (step.before, step.after)]
    scores = (*step.before.scores, *step.after.scores)
    notes = [step.tested.basis if error else "no spread", *sorted({it.protocol.get("load", "") for it in scores})[-1:]]
    notes += ["the same trainings, measured anew"] if trainings[0] == trainings[1] else []
    what = [f"{step.name.label}, {step.name.dataset}", f"{step.name.metric} {step.after.unit}", *step.versions]
    shown = [before, after, change[0], f"[{change[1]}, {change[2]}]", share, f"{step.p_value:.2g}", str(step.moved)]
    return [*what, *shown, "; ".join(filter(None, notes))]
