"""The likelihood board, exact values and bounds in one partial order; and that of bounds, a column for each."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter, methodcaller
from typing import Any

from harness import Board, BoardRow, Cell, Column, Rows, Table
from harness.builtin.boards.inference import ACTIVE, BOTH_SIDES, SAYS_BOTH_SIDES, both_sides

GAP = "entropy-gap"
_EXACT = ("nll", "bits-per-dim")
_IMPOSSIBLE = 4.0  # standard errors below zero
_BELOW = " ✗ below the entropy"
_TEXT = {"": "string"}
_MEAN = {"": "float64", "_sd": "float64"}
_PUBLISHED = ("slug", "value", "metric", "kind", "tags", "source")
_LIKELIHOOD, _BITS = attrgetter("likelihood"), attrgetter("bits_per_dim")


class Likelihood(Board):
    """Every model by its exact likelihood, or else by its lowest bound."""

    name = "likelihood"
    also = ("bounds",)
    nothing = "no likelihood"
    reading = """
    Negative log-likelihood of the test images, in nats an image; lower is better. bits/dim: nats / (D ln 2), with D
    the number of dimensions of an image.

    ≤ marks an upper bound: the lowest of those that the row was scored by, where there is no exact value. A bound
    below an exact value is better, since the true value is lower still. An exact value below a bound proves
    nothing, and neither row is ranked above the other.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The best figure in nats and in bits a dimension, the gap to the entropy, the published figure, and others."""
        own = [metric for metric in self.metrics(rows) if rows.board_of(metric) == self.name]
        return [
            Column("nll_nats", "NLL", "nats", False, decimals=(2, 3), figure=lambda row: row.likelihood),
            Column("bits_per_dim", "bits/dim", "", False, decimals=(3, 4), parts=_MEAN,
                   cell=_cell(_BITS, lambda it: Cell(it.mean, it.standard_deviation, None, it.kind))),
            Column("kind", "Kind", style="text", parts=_TEXT, cell=_cell(_LIKELIHOOD, _kind)),
            Column("metric", style="text", parts=_TEXT, cell=_cell(_LIKELIHOOD, lambda it: Cell(it.metric)),
                   required=False),
            Column(GAP.replace("-", "_"), "Gap to the entropy", "nats", False, decimals=(2, 4), cell=_gap,
                   parts={**_MEAN, "_se": "float64", "_kind": "string"}, required=False),
            *rows.columns_by_protocol([metric for metric in own if metric not in (*_EXACT, GAP)]),
            Column("published", "Published", style="text", cell=_published, required=False,
                   parts={f"_{name}": "float64" if name == "value" else "string" for name in _PUBLISHED}),
            Column("verdict", "Verdict", style="text", parts={**_TEXT, "_reason": "string"}, required=False,
                   cell=_cell(lambda row: row.verdict, lambda it: Cell(it.judgement, more={"_reason": it.reason}))),
            Column("draw_share_of_variance", "Draw share", style="percent", parts={"": "float64"}, required=False,
                   cell=_cell(lambda row: row.likelihood and row.likelihood.detail("draw_share_of_variance"), Cell)),
            Column("protocol", style="text", parts=_TEXT, cell=_cell(_LIKELIHOOD, lambda it: Cell(it.protocol)),
                   required=False),
        ]  # fmt: skip

    def lead(self, rows: Rows) -> str:
        """The entropy of the dataset, and what the truth scores, where they are known."""
        details = [score.details for row in rows for _, score in row.scores(GAP) if "true_nll" in score.details]
        if not details:
            return ""
        truth = f"the true distribution scores the test images at {details[0]['true_nll']:,.3f} nats"
        entropies = [found["entropy"] for found in details if "entropy" in found]
        if entropies:
            return f"Entropy: {entropies[0]:,.3f} nats an image, exact; {truth}."
        return f"{truth[0].upper()}{truth[1:]}."

    def notes(self, table: Table) -> Sequence[str]:
        """Which rows cannot be right."""
        impossible = [row.label for row in table.rows if _is_impossible(row)]
        why = f"an exact gap below zero by more than {_IMPOSSIBLE:g} standard errors is impossible for a right"
        return [f"{_BELOW.strip()}: {why} likelihood: {'; '.join(impossible)}."] if impossible else ()

    def details(self, table: Table) -> Mapping[str, Sequence[str]]:
        """Where published figures are from, and why the verdicts; what the columns of some datasets mean."""
        says = []
        if any(GAP in row.metrics and row.scores(GAP) for row in table.rows):
            says.append(
                "Gap to the entropy: the mean over test images of log p_true - log p_model; its expectation is the "
                "Kullback-Leibler divergence from the model to the truth, zero for a perfect model."
            )
        if any("draw_share_of_variance" in line.cells for line in table.lines):
            says.append("Draw share: how much of the mean's variance over test images is the draw of their pixels.")
        published = [_says_of_published(row) for row in table.rows if row.published and row.verdict]
        found = {"Columns": says, "Published figures": published}
        return {title: words for title, words in found.items() if words}


class Bounds(Board):
    """Upper bounds on the negative log-likelihood, ranked by that of the most importance samples."""

    name = "bounds"
    nothing = "no bound"
    shows = frozenset({"audit", "seeds", "training"})
    reading = """
    Upper bounds on the negative log-likelihood of the test images, in nats an image unless the column says bits;
    lower is better. They are compared with one another as the promises that they are. IWAE, K: the
    importance-weighted bound of K samples an image. It falls to the negative log-likelihood as K grows, so bounds
    of different K are different quantities, each with a column of its own.

    Active units: latent units whose posterior mean varies over test images, of all.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The bounds, whatever else belongs here, and the active units."""
        metrics = [metric for metric in self.metrics(rows) if metric != ACTIVE]
        kinds = {metric: rows.facts[metric].kind if metric in rows.facts else None for metric in metrics}
        bounds = [metric for metric in metrics if kinds[metric] in (None, "upper bound")]
        units = methodcaller("figure", ACTIVE)
        return [
            *(rows.column(metric, key=_key(rows, metric), decimals=(2, 3)) for metric in bounds),
            *([BOTH_SIDES] if any(map(both_sides, rows)) else []),
            *rows.columns_by_protocol([metric for metric in metrics if metric not in bounds]),
            Column("active_units", "Active units", decimals=(0, 1), parts=_MEAN, required=False,
                   cell=_cell(units, _active)),
            Column("latent_units", parts={"": "Int64"}, required=False,
                   cell=_cell(units, lambda it: Cell(it.scores[0].details.get("units")))),
            Column("protocol", parts=_TEXT, cell=partial(_protocols, bounds), required=False),
        ]  # fmt: skip

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """The bound of the most importance samples that the suite has, or the first where there is none."""
        bounds = [column for column in columns if column.figure is not None]
        keys = [(re.match(r"(?:bits_per_dim_)?iwae_(\d+)", column.key), column) for column in bounds]
        weighted = {int(found[1]): column for found, column in keys if found}
        return weighted[max(weighted)] if weighted else bounds[0] if bounds else None

    def notes(self, table: Table) -> Sequence[str]:
        """What a value from both sides is."""
        return [SAYS_BOTH_SIDES] if any(BOTH_SIDES.key in line.cells for line in table.lines) else []


def _cell(find: Callable[[BoardRow], Any], make: Callable[[Any], Cell]) -> Callable[[BoardRow], Cell | None]:
    """Returns how a column's cell is made of what a row has; there is none where the row has none."""

    def cell(row: BoardRow) -> Cell | None:
        return None if (found := find(row)) is None else make(found)

    return cell


def _kind(figure: Any) -> Cell:
    return Cell(figure.kind, text=figure.kind if figure.kind == "exact" else f"{figure.kind}, {figure.metric}")


def _gap(row: BoardRow) -> Cell | None:
    figure = row.figure(GAP)
    if figure is None:
        return None
    spread = (figure.standard_deviation, figure.standard_error)
    return Cell(figure.mean, *spread, figure.kind, note=_BELOW * _is_impossible(row))


def _is_impossible(row: BoardRow) -> bool:
    """Whether a seed's exact gap lies so far below zero as no right likelihood's does."""
    found = [(score.value, score.standard_error) for _, score in row.scores(GAP) if score.kind == "exact"]
    return any(gap < -_IMPOSSIBLE * error for gap, error in found if gap is not None and error is not None)


def _published(row: BoardRow) -> Cell | None:
    theirs = row.published
    if theirs is None or row.likelihood is None:
        return None
    tags = " ".join(theirs.tags)
    more: dict[str, Any] = {f"_{name}": getattr(theirs, name) for name in _PUBLISHED}
    return Cell(text=f"{_value(row)} [{tags}]", more=more | {"_tags": tags})


def _value(row: BoardRow) -> str:
    theirs = row.published
    assert theirs is not None
    return theirs.text + (" bits/dim" if theirs.metric == "bits-per-dim" else "")


def _says_of_published(row: BoardRow) -> str:
    """Where the published figure is from, by which protocol, and the reason of the verdict."""
    theirs, judged = row.published, row.verdict
    assert theirs is not None
    assert judged is not None
    facts = [theirs.source, f"arXiv {theirs.arxiv}" if theirs.arxiv else None, theirs.metric, theirs.kind,
             f"{theirs.split} split" if theirs.split else "unknown split",
             f"{theirs.epochs:g} epochs" if theirs.epochs else None,
             None if theirs.verified else "unverified"]  # fmt: skip
    known = ", ".join(filter(None, facts))
    return f"{row.label}: published {_value(row)} ({known}). {judged.judgement.capitalize()}: {judged.reason}."


def _key(rows: Rows, metric: str) -> str:
    facts = rows.facts.get(metric)
    unit = "" if metric.startswith("bits-per-dim") or (facts is not None and facts.unit != "nats") else "_nats"
    return metric.replace("-", "_") + unit


def _active(figure: Any) -> Cell:
    units = figure.detail("units")
    return Cell(figure.mean, figure.standard_deviation, note="" if units is None else f" of {units:,.0f}")


def _protocols(bounds: Sequence[str], row: BoardRow) -> Cell:
    found = [(metric, figure) for metric in bounds if (figure := row.figure(metric)) is not None]
    return Cell("; ".join(f"{metric}: {figure.protocol}" for metric, figure in found) or None)
