"""A board as a page: one section for each dataset. What explains stands once, and is folded."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from harness.boards.audits import audit_failures, audit_notes
from harness.boards.leaderboard import Leaderboard
from harness.boards.published import TAGS
from harness.boards.row import BoardRow
from harness.boards.statistics import ALPHA
from harness.boards.table import Table
from harness.interface.board import Board
from harness.report.markdown import Document, Section
from harness.report.pictures import pictures_of
from harness.support.numbers import NOTHING

_FIGURES = """
a ± b (c): mean over seeds, ± the standard deviation over seeds, (the standard error over test images, or by
resampling). One seed has no ±. A seed without a figure is never averaged in.
"""
_RANKS = f"""
A rank is an interval, from 1 + the number of rows proven better, to the number of rows less those proven worse.
Where figures have scores per image, two rows differ if a test over training seeds crossed with test images says so;
else if Welch's test over seeds does, or for one seed the difference in standard errors; with Holm's correction over
all pairs of a table at alpha = {ALPHA:g}. Rows whose intervals overlap may be equal; being equal is not transitive.
Rows are sorted by their figure. Bounds are compared with one another as the promises that they are.
"""
_AUDIT = """
Audit: each model's class, with the row's hyperparameters, is checked before it is ranked (docs/audits.md). ✓: it
passed every check that applies. ✗: the named checks failed; such a row is listed last, has no rank and changes no
other. Not enumerated: the model takes no sample space that can be enumerated, so that its normalisation and its
samplers are not checked. Not audited: the records have no audit of this code. A right model fails any check at all
with a probability of 0.1 % at most.
"""
_TRAINING = """
Parameters: those that drawing an image uses / those in the checkpoint; one number where they are equal, or only one
was counted. Training: mean over seeds, and which weights were scored.
"""
_TAGS = f"Tags of published figures: {'; '.join(f'{tag}: {words}' for tag, words in TAGS.items())}."


def board_page(leaderboard: Leaderboard, name: str, pictures: Collection[str] = ()) -> Document:
    """Returns a board as it is printed; ``pictures`` are the names of the sample grids beside it."""
    board = leaderboard.board(name)
    sections = tuple(_section(leaderboard, board, dataset, pictures) for dataset in leaderboard.datasets)
    introduction = (leaderboard.suite.description,) if leaderboard.suite and leaderboard.suite.description else ()
    common = [
        _FIGURES + "\n" + _RANKS if board.is_ranked else "",
        _AUDIT if "audit" in board.shows else "",
        _TRAINING if {"parameters", "training"} <= board.shows else "",
        _TAGS if any(row.published is not None for row in leaderboard.rows) else "",
    ]
    reading = [" ".join(words.split()) for text in (board.reading, *common) for words in text.split("\n\n")]
    return Document(f"{leaderboard.title}: {board.title or name}", introduction, sections, tuple(filter(None, reading)))


def _section(leaderboard: Leaderboard, board: Board, dataset: str, pictures: Collection[str]) -> Section:
    rows = leaderboard.rows.on(dataset)
    tables = leaderboard.tables(board.name, dataset)
    parts = [_table_section(board, table) for table in tables if table.rows]
    below = [*_missing(board, rows, tables)]
    below += [Section(title, words, table) for title, words, table in board.appendix(rows, leaderboard.published)]
    if board.has_pictures and (found := pictures_of(leaderboard.rows, dataset, pictures)):
        words = "The first samples of each row, in the order drawn; none is chosen."
        below.append(Section("Samples", words, None, pictures=found))
    if not parts:
        return Section(dataset, "No row has a figure yet.", None, (), tuple(below))
    lead = " ".join(filter(None, [_sizes(rows), board.lead(rows)]))
    protocols = dict.fromkeys(record.split_protocol for row in rows for record in row.records if record.split_protocol)
    data = {"Data": [f"{words[0].upper()}{words[1:].rstrip('.')}." for words in protocols]}
    if len(parts) > 1 or parts[0].title:
        return Section(dataset, lead, None, (), (*parts, *below), folded=data)
    [only] = parts
    folded = {**only.folded, **data}
    return replace(only, title=dataset, lead=lead, subsections=(*only.subsections, *below), folded=folded)


def _table_section(board: Board, table: Table) -> Section:
    ranked = [f"Ranked by {table.by.header}. {table.ranks.sentence}"] if table.by and table.ranks.intervals else []
    audited = [(line.row.label, line.row.audit) for line in table.models if line.row] if "audit" in board.shows else []
    notes = (*ranked, *audit_failures(audited), *board.notes(table))
    folded = {**board.details(table), "Audits": audit_notes(audited), "Protocols": _protocols(table)}
    references = table.part(table.references)
    words = "Not ranked: what the figures are to be read against."
    floors = (Section("Floors and ceilings", words, references),) if references.lines else ()
    shown = table.part(table.models) if table.models else None
    return Section(table.title, "", shown, notes, floors, folded={name: told for name, told in folded.items() if told})


def _protocols(table: Table) -> list[str]:
    """One note for each protocol, with the rows that it is of; rows of one protocol need no names."""
    found: dict[tuple[str, str], list[str]] = {}
    for column in table.columns:
        for row in table.rows:
            figure = None if column.figure is None else column.figure(row)
            if figure is not None and figure.protocol:
                found.setdefault((figure.metric, figure.protocol), []).append(row.label)
    metrics = [metric for metric, _ in found]
    merged: dict[str, list[str]] = {}
    for (metric, words), labels in found.items():
        whose = "" if metrics.count(metric) == 1 else f" ({'; '.join(labels)})"
        merged.setdefault(f"{words}{whose}", []).append(metric)
    return [f"{', '.join(names)}: {words}." for words, names in merged.items()]


def _sizes(rows: Iterable[BoardRow]) -> str:
    """The sizes of the splits; and whether records come from different data."""
    records = [record for row in rows for record in row.records]
    counts = [
        [f"{record.num_images[name]:,} {name}" for name in ("train", "valid", "test") if name in record.num_images]
        for record in records
    ]
    sentences = list(dict.fromkeys(f"{', '.join(sizes)} images." for sizes in counts if sizes))
    if (contents := len({record.dataset_digest for record in records})) > 1:
        sentences.append(f"Attention: the records come from {contents} different contents of this dataset.")
    return " ".join(sentences)


def _missing(board: Board, rows: Iterable[BoardRow], tables: Sequence[Table]) -> list[Section]:
    """The rows without a figure, or without that of some seeds, and why; and which the metrics do not apply to."""
    found = {line.row.label: line for table in tables for line in table.lines if line.row is not None}
    listed = [(row.label, found[row.label]) for row in rows if row.label in found]
    said = [
        (label, ", ".join(map(str, problem.seeds)) or NOTHING, problem.status, problem.reason)
        for label, line in listed
        for problem in line.problems
    ]
    others = [label for label, line in listed if line.place == "missing" and not line.problems]
    notes = (f"{board.nothing.capitalize()}: {'; '.join(others)}.",) if others else ()
    table = Table.of_texts(("Model", "Seeds", "Status", "Reason"), said) if said else None
    return [Section("Missing", "", table, notes)] if said or notes else []
