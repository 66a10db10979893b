"""A printed table row by row: what is published, ours beside it, and what became of it here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness import Board, BoardRow, Cell, Column, Rows, Table

_TEXT = {"": "string"}


class Published(Board):
    """All rows of the printed table that a suite names, in its order; one that no model of the suite stands for too."""

    name = "published"
    title = "beside the published figures"
    also = ("likelihood", "bounds")
    is_ranked = False
    shows = frozenset({"audit", "seeds", "training"})
    nothing = "stands for no row of the table"
    reading = """
    The rows of a printed table, in its order, each with the row of this suite that stands for it; lower is better.
    Kind is what a printed figure is by the model's nature, however a table prints it. ≤ marks an upper bound.

    Verdicts. Reproduced: ours is at most the tolerance worse, which is the larger of half the last printed digit and
    twice the spread of trainings. Under-trained: ours is worse, after fewer epochs than the published row's. Not
    comparable: the data, the split, the metric, the kind or a hyperparameter that defines the row are others; the two
    figures stand side by side and nothing follows from their difference. Not built: no model here
    stands for the row. Not run: a model does, and this suite has no row of it.
    """

    def stands(self, rows: Rows) -> bool:
        """Whether the suite names a printed table."""
        return bool(rows.table)

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The published figure, its kind and source; ours, of which data; and the verdict."""
        kind = _kind if len({theirs.metric for theirs in rows.table}) == 1 else _kind_and_metric
        unit = "bits/dim" if any(theirs.metric == "bits-per-dim" for theirs in rows.table) else "nats"
        published = {"": "float64", "_slug": "string", "_metric": "string", "_tags": "string"}
        return [
            Column("published", "Published", unit, False, cell=_published, parts=published),
            Column("kind", "Kind", style="text", parts=_TEXT, cell=kind, required=False),
            Column("source", "Source", style="text", parts=_TEXT, cell=_source, required=False),
            Column("ours", "Ours", unit, False, decimals=(2, 3), figure=lambda row: row.beside_published,
                   parts={"": "float64", "_sd": "float64", "_se": "float64", "_kind": "string"}, required=False),
            Column("ours_from", "Ours is of", style="text", parts=_TEXT, cell=_ours_from, required=False),
            Column("verdict", "Verdict", style="text", parts={**_TEXT, "_reason": "string"}, cell=_verdict,
                   required=False),
        ]  # fmt: skip

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """Nothing: the order is the table's."""
        return None

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """One table, with a row for each of the suite's that names a published one, or for that one alone."""
        items: list[BoardRow] = []
        for theirs, dataset in ((theirs, name) for name in rows.datasets for theirs in rows.table):
            slugs = (theirs.slug, theirs.row_of)
            ours = [replace(row, published=theirs) for row in rows if row.published and row.published.slug in slugs]
            items += ours or [BoardRow(theirs.label, dataset, "", (), (), published=theirs)]
        return [("", {}, replace(rows, items=tuple(items)))]

    def details(self, table: Table) -> Mapping[str, Sequence[str]]:
        """What a reader of the published figures may trip over."""
        notes = {it.slug: f"{it.label}: {it.notes}" for row in table.rows if (it := row.published) and it.notes}
        return {"Published figures": list(notes.values())}


def _published(row: BoardRow) -> Cell | None:
    if (theirs := row.published) is None:
        return None
    tags = " ".join(theirs.tags)
    more = {"_slug": theirs.slug, "_metric": theirs.metric, "_tags": tags}
    return Cell(theirs.value, kind=theirs.kind, text=f"{theirs.text} [{tags}]", more=more)


def _kind(row: BoardRow) -> Cell | None:
    return None if row.published is None else Cell(row.published.kind)


def _kind_and_metric(row: BoardRow) -> Cell | None:
    return None if row.published is None else Cell(f"{row.published.kind}, {row.published.metric}")


def _source(row: BoardRow) -> Cell | None:
    if (theirs := row.published) is None:
        return None
    said = [theirs.source, f"arXiv {theirs.arxiv}" if theirs.arxiv else None, "unverified" * (not theirs.verified)]
    return Cell(", ".join(filter(None, said)) or "not recorded")


def _ours_from(row: BoardRow) -> Cell | None:
    ours = row.beside_published
    return None if ours is None else Cell(f"{row.dataset}, {ours.num_images or 0:,} test images")


def _verdict(row: BoardRow) -> Cell:
    """The judgement and its reason; without a figure of ours, why there is none."""
    theirs, judged = row.published, row.verdict
    if judged is not None:
        judgement, reason = str(judged.judgement), judged.reason
    elif row.seeds:
        judgement, reason = "no figure", "; ".join(map(str, row.problems(row.metrics))) or "no likelihood"
    elif theirs and theirs.not_built:
        judgement, reason = "not built", theirs.not_built
    else:
        judgement, reason = "not run", (theirs and theirs.not_run) or "no row of this suite stands for it"
    return Cell(judgement, text=f"{judgement}: {reason}", more={"_reason": reason})
