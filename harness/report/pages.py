"""The pages of a suite: its boards, a section for each dataset, and its figures, with the pictures beside them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from harness.boards.audits import audit_failures, audit_notes
from harness.boards.leaderboard import Leaderboard
from harness.boards.pair_tests import ALPHA
from harness.boards.published import TAGS
from harness.boards.row import BoardRow
from harness.boards.table import Table
from harness.interface.board import Board
from harness.records.record import RunRecord
from harness.report.markdown import Section, to_markdown
from harness.support.names import distinct, slug
from harness.support.numbers import NOTHING

FOLDER, STRIPS = "samples", "nearest"
FIGURES = "figures"
_LONGEST = 100  # letters of a file's name that are a label's, or a dataset's
REAL = "real test images"
QUALITY = "sample-quality"

_SPREADS = """
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


def board_page(leaderboard: Leaderboard, name: str, pictures: Mapping[str, str]) -> str:
    """Returns a board as Markdown; ``pictures`` are the sample grids beside it, and what each says of itself."""
    board = leaderboard.board(name)
    sections = [_section(leaderboard, board, dataset, pictures) for dataset in leaderboard.datasets]
    introduction = leaderboard.suite.description if leaderboard.suite else ""
    return to_markdown(
        f"{leaderboard.title}: {board.title or name}", introduction, sections, reading_of(leaderboard, board)
    )


def reading_of(leaderboard: Leaderboard, board: Board) -> list[str]:
    """Returns how a board is to be read: what it says itself, and what all boards share, in paragraphs."""
    common = [
        _SPREADS + "\n" + _RANKS if board.is_ranked else "",
        _AUDIT if "audit" in board.shows else "",
        _TRAINING if {"parameters", "training"} <= board.shows else "",
        _TAGS if any(row.published is not None for row in leaderboard.rows) else "",
    ]
    reading = [" ".join(words.split()) for text in (board.reading, *common) for words in text.split("\n\n")]
    return list(filter(None, reading))


def _section(leaderboard: Leaderboard, board: Board, dataset: str, pictures: Mapping[str, str]) -> Section:
    rows = leaderboard.rows.on(dataset)
    tables = leaderboard.tables(board.name, dataset)
    parts = [_table_section(board, table) for table in tables if table.rows]
    below = [Section(*further) for further in board.appendix(rows, leaderboard.published)]
    below = _missing(board, rows, tables) + below
    if board.has_pictures and (found := _pictures_of(leaderboard.rows, dataset, pictures)):
        words = "The first samples of each row, in the order drawn; none is chosen."
        below.append(Section("Samples", words, pictures=found))
    if not parts:
        return Section(dataset, "No row has a figure yet.", subsections=below)
    lead = " ".join(filter(None, [sizes_of(rows), board.lead(rows)]))
    data = {"Data": data_of(rows)}
    if len(parts) > 1 or parts[0].title:
        return Section(dataset, lead, subsections=(*parts, *below), folded=data)
    below, folded = [*parts[0].subsections, *below], {**parts[0].folded, **data}
    return replace(parts[0], title=dataset, lead=lead, subsections=below, folded=folded)


def _table_section(board: Board, table: Table) -> Section:
    notes, folded = words_of(board, table)
    words, references = "Not ranked: what the figures are to be read against.", table.references
    floors = [Section("Floors and ceilings", words, table.part(references))] if references else []
    shown = table.part(table.models) if table.models else None
    return Section(table.title, "", shown, notes, floors, folded=folded)


def words_of(board: Board, table: Table) -> tuple[list[str], dict[str, Sequence[str]]]:
    """Returns the notes below a table, and what is folded there, by its title."""
    ranked = [f"Ranked by {table.by.header}. {table.ranks.sentence}"] if table.by and table.ranks.intervals else []
    audited = [(line.row.label, line.row.audit) for line in table.models if line.row] if "audit" in board.shows else []
    notes = [*ranked, *audit_failures(audited), *board.notes(table)]
    folded = {**board.details(table), "Audits": audit_notes(audited), "Protocols": _protocols(table)}
    return notes, {name: told for name, told in folded.items() if told}


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


def data_of(rows: Iterable[BoardRow]) -> list[str]:
    """Returns how the data were split, in sentences."""
    protocols = dict.fromkeys(record.split_protocol for row in rows for record in row.records if record.split_protocol)
    return [f"{words[0].upper()}{words[1:].rstrip('.')}." for words in protocols]


def sizes_of(rows: Iterable[BoardRow]) -> str:
    """Returns the sizes of the splits; and whether records come from different data."""
    records = [record for row in rows for record in row.records]
    splits = ("train", "valid", "test")
    counts = [[f"{it.num_images[name]:,} {name}" for name in splits if name in it.num_images] for it in records]
    sentences = [f"{sizes} images." for sizes in dict.fromkeys(map(", ".join, counts)) if sizes]
    if (contents := len({record.dataset_digest for record in records})) > 1:
        sentences.append(f"Attention: the records come from {contents} different contents of this dataset.")
    caveats = dict.fromkeys(said for record in records for said in record.data_caveats)
    return " ".join([*sentences, *(f"Attention: {said}" for said in caveats)])


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
    notes = [f"{board.nothing.capitalize()}: {'; '.join(others)}."] if others else []
    table = Table.of_texts(("Model", "Seeds", "Status", "Reason"), said) if said else None
    return [Section("Missing", "", table, notes)] if said or notes else []


def folder_of(figure: str) -> str:
    """Returns the folder, beside the boards, of a figure's pictures."""
    return FOLDER if figure == FOLDER else f"{FIGURES}/{figure}"


def picture_names(rows: Iterable[BoardRow]) -> dict[tuple[str | None, str], str]:
    """Returns each row's file by label and dataset, a dataset's under None; names that might be one are numbered."""
    rows = list(rows)
    real = dict.fromkeys((None, row.dataset) for row in rows)
    named = [*real, *((row.label, row.dataset) for row in rows)]
    slugs = ((slug(REAL if label is None else label)[:_LONGEST], slug(of)[:_LONGEST]) for label, of in named)
    names = distinct(f"{label}-{dataset}" for label, dataset in slugs)
    return {key: f"{name}.png" for key, name in zip(named, names, strict=True)}


def sampled_record(row: BoardRow) -> RunRecord | None:
    """Returns the run that a row's grid is drawn from: the first seed with a figure of sample quality, else trained."""
    trained = [record for record in row.records if record.fit is not None]
    figures = [{it.status for it in record.scores.values() if it.board == QUALITY} for record in trained]
    return next((it for it, found in zip(trained, figures, strict=True) if "done" in found), next(iter(trained), None))


def _pictures_of(rows: Sequence[BoardRow], dataset: str, files: Mapping[str, str]) -> list[tuple[str, str]]:
    """The grids of a dataset's rows that there are files of, the real images' first."""
    names = picture_names(rows)
    captions = [(REAL, names[None, dataset])]
    for row in rows:
        if row.dataset == dataset and (record := sampled_record(row)) is not None:
            captions.append((f"{row.label}, seed {record.spec.seed}", names[row.label, dataset]))
    there = [(caption, name, files[name]) for caption, name in captions if name in files]
    return [(f"{caption}, {said}" if said else caption, f"{FOLDER}/{name}") for caption, name, said in there]


def figures_page(title: str, rows: Sequence[BoardRow], files: Collection[str]) -> str:
    """Returns the page of a suite's figures: ``files`` are paths in their folder, such as ``likelihood/digits.svg``."""
    sections = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        parts = [Section(figure, pictures=found) for figure, found in figures_of(rows, dataset, files).items()]
        sections += [Section(dataset, subsections=parts)] if parts else []
    return to_markdown(f"{title}: figures", "", sections)


def figures_of(rows: Sequence[BoardRow], dataset: str, files: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Returns captions and paths of the pictures of a dataset that there are, by the figure's name."""
    captions, found = {slug(dataset): dataset}, dict[str, list[tuple[str, str]]]()
    for (label, of), name in picture_names(rows).items():
        captions |= {name.removesuffix(".png"): label or REAL} if of == dataset else {}
    for figure in sorted({file.partition("/")[0] for file in files}):
        paths = [(f"{figure}/{stem}.{end}", words) for stem, words in captions.items() for end in ("svg", "png")]
        if pictures := [(words, f"{FIGURES}/{path}") for path, words in paths if path in files]:
            found[figure] = pictures
    return found
