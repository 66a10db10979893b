"""What stands in the cells, notes and lists of a board, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from harness.boards.published import PublishedFigure
from harness.report.bounds import BoundsEntry
from harness.report.likelihood import LikelihoodEntry, protocol, training_values
from harness.report.rows import BoardRow, Figure, status_of
from harness.report.values import KIND_SIGNS, NOTHING, Section, Table, count, fixed, seconds, short, with_spread

if TYPE_CHECKING:
    from harness.boards.leaderboard import Board, Leaderboard


def label_cell(row: BoardRow) -> str:
    """The row's name, and how many configurations it is the best of on the validation split."""
    tried = training_values(row)["configurations_tried"]
    return row.label if tried == 1 else f"{row.label} (best of {tried} on validation)"


def figure_cell(figure: Figure, decimals: int) -> str:
    """A figure with its sign and spreads."""
    spread = with_spread(figure.mean, figure.standard_deviation, figure.standard_error, decimals)
    return KIND_SIGNS[figure.kind] + spread


def bound_cell(figure: Figure | None, decimals: int) -> str:
    """A bound in a column of bounds: its sign is in the column's head."""
    if figure is None:
        return NOTHING
    return with_spread(figure.mean, figure.standard_deviation, figure.standard_error, decimals)


def bound_header(metric: str) -> str:
    """The head of a bound's column."""
    return f"≤ {metric}" if metric.startswith("bits-per-dim") else f"≤ {metric}, nats"


def active_units_cell(entry: BoundsEntry) -> str:
    """Active units of all."""
    if entry.active_units is None:
        return NOTHING
    spread = entry.active_units.standard_deviation
    text = with_spread(entry.active_units.mean, spread, None, 1 if spread else 0)
    of = [score.details["units"] for _, score in entry.row.scores("active-units") if "units" in score.details]
    return f"{text} of {count(of[0])}" if of else text


def seeds_cell(row: BoardRow, scored: int) -> str:
    """How many seeds, and of how many if some are missing."""
    return str(scored) if scored == len(row.seeds) else f"{scored} of {len(row.seeds)} seeds"


def parameters_cell(sampling: float | None, training: float | None) -> str:
    """Parameters that sampling uses / that are trained; one number where they are equal or only one is known."""
    known = list(dict.fromkeys(count(value) for value in (sampling, training) if value is not None))
    return " / ".join(known) or NOTHING


def training_cell(row: BoardRow) -> str:
    """How long the row trained, and which checkpoint was scored."""
    values = training_values(row)
    epochs, duration, checkpoint = values["fit_epochs"], values["fit_seconds"], values["checkpoint"]
    if duration is None:
        return NOTHING
    parts = [f"{short(epochs)} epoch{'' if epochs == 1 else 's'}"] if epochs else ["no epochs"]
    return ", ".join([*parts, seconds(duration), checkpoint.replace("-", " ")])


def published_cell(entry: LikelihoodEntry) -> str:
    """The published figure with its sign and tags."""
    if entry.published is None:
        return NOTHING
    return f"{_published_value(entry.published)} [{' '.join(entry.published.tags)}]"


def _published_value(theirs: PublishedFigure) -> str:
    decimals = max(2, len(repr(theirs.value).partition(".")[2]))
    unit = " bits/dim" if theirs.metric == "bits-per-dim" else ""
    return f"{KIND_SIGNS[theirs.kind]}{fixed(theirs.value, decimals)}{unit}"


def verdict_note(entry: LikelihoodEntry) -> str:
    """Where the published figure is from, by which protocol, and the reason of the verdict."""
    theirs, judged = entry.published, entry.verdict
    assert theirs is not None
    assert judged is not None
    facts = [theirs.source, f"arXiv {theirs.arxiv}" if theirs.arxiv else None, theirs.metric, theirs.kind,
             f"{theirs.split} split" if theirs.split else "unknown split",
             f"{theirs.epochs:g} epochs" if theirs.epochs else None,
             None if theirs.verified else "unverified"]  # fmt: skip
    known = ", ".join(fact for fact in facts if fact)
    says = f"{judged.judgement.capitalize()}: {judged.reason}."
    return f"{entry.row.label}: published {_published_value(theirs)} ({known}). {says}"


def quartiles_cell(
    value: float | None, quarters: tuple[float | None, float | None], show: Callable[[float], str]
) -> str:
    """A median with its quartiles."""
    low, high = quarters
    text = NOTHING if value is None else show(value)
    return text if low is None or high is None else f"{text} ({show(low)}–{show(high)})"


def protocol_words(row: BoardRow, metric: str) -> str:
    """The protocol of a figure."""
    return f"{metric}: {protocol(row, metric)}"


def protocol_notes(labels_and_words: Iterable[tuple[str, str]]) -> list[str]:
    """One note a protocol, with the rows that it is of; rows of one protocol need no names."""
    rows_of: dict[tuple[str, str], list[str]] = {}
    for label, words in labels_and_words:
        metric, _, protocol_of_it = words.partition(": ")
        rows_of.setdefault((metric, protocol_of_it), []).append(label)
    metrics = [metric for metric, _ in rows_of]
    merged: dict[tuple[str, str], list[str]] = {}
    for (metric, words), labels in rows_of.items():
        whose = "" if metrics.count(metric) == 1 else f" ({'; '.join(labels)})"
        merged.setdefault((words, whose), []).append(metric)
    return [f"Protocol of {', '.join(names)}: {words}{whose}." for (words, whose), names in merged.items()]


def split_words(leaderboard: Leaderboard, dataset: str) -> str:
    """The sizes of the splits and where they come from; each once, if records differ."""
    sentences: dict[str, None] = {}
    contents: set[str] = set()
    for row in leaderboard.dataset_rows(dataset):
        for record in row.records:
            sizes = ", ".join(
                f"{record.num_images[name]:,} {name}"
                for name in ("train", "valid", "test")
                if name in record.num_images
            )
            sentences[f"{sizes} images. {_sentence(record.split_protocol)}".strip()] = None
            contents.add(record.dataset_digest)
    words = " ".join(sentences)
    if len(contents) > 1:
        words += f" Attention: the records come from {len(contents)} different contents of this dataset."
    return words


def missing_section(leaderboard: Leaderboard, board: Board, dataset: str) -> tuple[Section, ...]:
    """The rows without a figure, or without that of some seeds, and why; and which the metrics do not apply to."""
    rows, others = [], []
    for item in leaderboard.missing(board, dataset):
        for problem in item.problems:
            seeds = ", ".join(str(seed) for seed in problem.seeds) or NOTHING
            rows.append((item.row.label, seeds, problem.status, problem.reason))
        if not item.problems:
            others.append((item.row.label, status_of(board, item.problems)))
    notes = tuple(
        f"{status.capitalize()}: {', '.join(label for label, own in others if own == status)}."
        for status in dict.fromkeys(status for _, status in others)
    )
    table = Table(("Model", "Seeds", "Status", "Reason"), tuple(rows)) if rows else None
    return (Section("Missing", "", table, notes),) if rows or notes else ()


def _sentence(words: str) -> str:
    return words if not words or words.endswith(".") else f"{words}."
