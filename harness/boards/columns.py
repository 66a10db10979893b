"""The rows of a suite as a board sees them, and the columns that follow from what their metrics say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, overload

from harness.boards.figures import Figure, Group
from harness.boards.rows import BoardRow
from harness.boards.table import Table
from harness.interface.board import Column, Style
from harness.records.record import ScoreRecord, known_board

_FLOAT, _INTEGER, _TEXT = "float64", "Int64", "string"
_STYLES: dict[str, Style] = {
    "parameters": "count", "FLOPs": "scaled", "s": "seconds", "bytes": "bytes", "images/s": "significant",
}  # fmt: skip
_SAY_THEIR_UNIT = ("count", "scaled", "seconds", "bytes")


@dataclass(frozen=True)
class Rows(Sequence[BoardRow]):
    """The rows of a suite, or of one of its datasets.

    Attributes:
        items: dataset by dataset.
        metrics: those of the suite, in its order.
        facts: for each metric a score that says its board, header, unit and direction; none where nothing was scored.
    """

    items: tuple[BoardRow, ...]
    metrics: tuple[str, ...]
    facts: Mapping[str, ScoreRecord]

    @classmethod
    def of(cls, items: Sequence[BoardRow], metrics: Sequence[str]) -> Rows:
        """Makes the rows of a suite; the facts come from their records."""
        facts: dict[str, ScoreRecord] = {}
        for row in items:
            for record in row.records:
                for score in record.scores.values():
                    if score.metric not in facts or facts[score.metric].status != "done":
                        facts[score.metric] = score
        return cls(tuple(items), tuple(metrics), facts)

    @overload
    def __getitem__(self, index: int) -> BoardRow: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> BoardRow | Rows:
        return replace(self, items=self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[BoardRow]:
        return iter(self.items)

    def on(self, dataset: str) -> Rows:
        """Returns the rows of one dataset."""
        return replace(self, items=tuple(row for row in self.items if row.dataset == dataset))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets in order."""
        return tuple(dict.fromkeys(row.dataset for row in self.items))

    def board_of(self, metric: str) -> str | None:
        """Returns the board of a metric: what its scores say; of a built-in metric without scores, by its name."""
        return self.facts[metric].board if metric in self.facts else known_board(metric)

    def column(self, metric: str, **changes: Any) -> Column:
        """Returns the column of a metric, whatever the protocol of a figure; ``changes`` are fields of ``Column``."""
        facts = self.facts.get(metric)
        parts = {"": _FLOAT, "_sd": _FLOAT, "_se": _FLOAT}
        if facts is None:
            made = Column(_key(metric), metric, parts=parts, figure=partial(_by_metric, metric))
            return replace(made, **changes)
        style = _STYLES.get(facts.unit, "figure")
        if facts.stage == "speed":
            parts = {"": _FLOAT, "_q25": _FLOAT, "_q75": _FLOAT}
        made = Column(
            _key(metric), facts.header, "" if style in _SAY_THEIR_UNIT else facts.unit, facts.higher_is_better, style,
            parts=parts, figure=partial(_by_metric, metric),
        )  # fmt: skip
        return replace(made, **changes)

    def columns_by_protocol(
        self,
        metrics: Sequence[str],
        *,
        head: Callable[[Group, str], str] = lambda group, header: header,
        parts: Mapping[str, str] | None = None,
    ) -> list[Column]:
        """Returns one column for each metric and protocol found: figures whose protocol differs never share one.

        A second protocol of a metric has the key ``metric__2``, counted over all datasets.

        Args:
            metrics: in the order of the columns.
            head: makes the header of a group, given that of its metric; what else sets columns apart is added.
            parts: further columns of CSV and their types, see ``Column.parts``.
        """
        groups = self._groups(metrics)
        headers = self._headers({group: head(group, self.facts[group.metric].header) for group in groups})
        counted, columns = dict.fromkeys(metrics, 0), []
        for group in groups:
            counted[group.metric] += 1
            made = self.column(group.metric, header=headers[group], figure=partial(_by_protocol, group))
            key = made.key + (f"__{counted[group.metric]}" if counted[group.metric] > 1 else "")
            kinds = {**made.parts, "_seeds": _INTEGER, **(parts or {}), "_protocol": _TEXT}
            columns.append(replace(made, key=key, parts=kinds))
        return columns

    def first_column(self, columns: Sequence[Column]) -> Column | None:
        """Returns the column to rank by: of the first metric that has figures, that of most models' rows."""
        for is_model in (True, False):
            rows = [row for row in self.items if (row.role == "model") == is_model]
            counts: dict[str, list[tuple[int, Column]]] = {}
            for column in columns:
                if column.figure is not None:
                    figures = [figure for row in rows if (figure := column.figure(row)) is not None]
                    if figures:
                        counts.setdefault(figures[0].metric, []).append((len(figures), column))
            if counts:
                return max(next(iter(counts.values())), key=lambda item: item[0])[1]
        return None

    @staticmethod
    def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[str] = ()) -> Table:
        """Returns a table of printed cells, see ``Table.of_texts``."""
        return Table.of_texts(headers, rows, numeric=numeric)

    def _groups(self, metrics: Sequence[str]) -> list[Group]:
        """Metric by metric; of those, dataset by dataset, those of most models' rows first."""
        found: dict[Group, None] = {}
        for dataset in self.datasets:
            sizes: dict[Group, list[int]] = {}
            for row in self.on(dataset):
                for group in (group for metric in metrics for group in row.by_protocol(metric)):
                    sizes.setdefault(group, [0, 0])[row.role != "model"] -= 1
            found |= dict.fromkeys(sorted(sizes, key=lambda group: (sizes[group], group.protocol)))
        return sorted(found, key=lambda group: metrics.index(group.metric))

    def _headers(self, bases: Mapping[Group, str]) -> dict[Group, str]:
        """Adds what sets columns of one header apart, where a dataset has several of them."""
        words: dict[Group, dict[str, None]] = {group: {} for group in bases}
        metrics = {group.metric for group in bases}
        for dataset in self.datasets:
            found = {group for row in self.on(dataset) for metric in metrics for group in row.by_protocol(metric)}
            for group in found:
                alike = [other for other in found if bases[other] == bases[group]]
                protocols = [dict(other.protocol) for other in alike]
                for key in sorted({key for protocol in protocols for key in protocol}):
                    if len({protocol.get(key) for protocol in protocols}) > 1:
                        words[group][f"{key} {dict(group.protocol).get(key, 'not stated')}"] = None
                if len({other.metric for other in alike}) > 1:
                    words[group][group.metric] = None
        return {group: ", ".join([bases[group], *words[group]]) for group in bases}


def _key(metric: str) -> str:
    return metric.replace("-", "_")


def _by_metric(metric: str, row: BoardRow) -> Figure | None:
    return row.figure(metric)


def _by_protocol(group: Group, row: BoardRow) -> Figure | None:
    return row.by_protocol(group.metric).get(group)
