"""From records to the rows of a suite, and the columns that follow from what their metrics say."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, Self, overload

from harness.boards.figures import Group, PerImage
from harness.boards.published import PUBLISHED_FILE, PublishedFigure
from harness.boards.row import BoardRow, Problem, problems_of
from harness.interface.board import Column, Style
from harness.interface.spec import known_as, place_of
from harness.records.record import RunRecord, ScoreRecord, best_configuration, board_and_header, identity_of
from harness.suites.suite import Suite, SuiteModel
from harness.support.names import did_you_mean

_STYLES: dict[str, Style] = {
    "parameters": "count", "FLOPs": "scaled", "s": "seconds", "bytes": "bytes", "images/s": "significant",
}  # fmt: skip
_SAY_THEIR_UNIT = ("count", "scaled", "seconds", "bytes")


@dataclass(frozen=True)
class Rows(Sequence[BoardRow]):
    """The rows of a suite, dataset by dataset, or of one of its datasets; and the suite's metrics, in its order.

    ``facts`` has a score of each metric that was scored, which says its board, header, unit and direction. ``table``
    are the rows of the printed table that the suite stands beside.
    """

    items: tuple[BoardRow, ...]
    metrics: tuple[str, ...]
    facts: Mapping[str, ScoreRecord]
    table: tuple[PublishedFigure, ...] = ()

    @classmethod
    def of(cls, items: Sequence[BoardRow], metrics: Sequence[str], table: Sequence[PublishedFigure] = ()) -> Self:
        """Makes the rows of a suite; the facts come from their records."""
        facts: dict[str, ScoreRecord] = {}
        for score in (score for row in items for record in row.records for score in record.scores.values()):
            if score.metric not in facts or facts[score.metric].status != "done":
                facts[score.metric] = score
        return cls(tuple(items), tuple(metrics), facts, tuple(table))

    @overload
    def __getitem__(self, index: int) -> BoardRow: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> BoardRow | Self:
        return replace(self, items=self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def on(self, dataset: str) -> Self:
        """Returns the rows of one dataset."""
        return replace(self, items=tuple(row for row in self.items if row.dataset == dataset))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets in order."""
        return tuple(dict.fromkeys(row.dataset for row in self.items))

    def board_of(self, metric: str) -> str | None:
        """Returns the board of a metric: what its scores say; of a built-in metric without scores, by its name."""
        return self.facts[metric].board if metric in self.facts else board_and_header(metric)[0]

    def column(self, metric: str, **changes: Any) -> Column:
        """Returns the column of a metric, whatever the protocol of a figure; ``changes`` are fields of ``Column``."""
        facts = self.facts.get(metric)
        spreads = ("_q25", "_q75") if facts is not None and facts.stage == "speed" else ("_sd", "_se")
        parts = dict.fromkeys(("", *spreads), "float64")
        made = Column(metric.replace("-", "_"), metric, parts=parts, figure=partial(BoardRow.figure, metric=metric))
        if facts is not None:
            style = _STYLES.get(facts.unit, "figure")
            unit = "" if style in _SAY_THEIR_UNIT else facts.unit
            made = replace(made, header=facts.header, unit=unit, higher_is_better=facts.higher_is_better, style=style)
        return replace(made, **changes)

    def columns_by_protocol(
        self,
        metrics: Sequence[str],
        *,
        head: Callable[[Group, str], str] = lambda group, header: header,
        parts: Mapping[str, str] | None = None,
    ) -> list[Column]:
        """Returns one column for each metric and protocol found: figures whose protocol differs never share one.

        They have the order of ``metrics``; a second protocol of a metric has the key ``metric__2``, counted over all
        datasets. ``head`` makes the header of a group, given that of its metric; what else sets columns apart is added.
        ``parts`` are further columns of CSV and their types, see ``Column.parts``.
        """
        # of each dataset, less how many rows have a figure of a group: models, and references
        sizes, found = {dataset: dict[Group, list[int]]() for dataset in self.datasets}, dict[Group, None]()
        for row in self.items:
            for group in (group for metric in metrics for group in row.by_protocol(metric)):
                sizes[row.dataset].setdefault(group, [0, 0])[row.role != "model"] -= 1
        for counts in sizes.values():
            found |= dict.fromkeys(sorted(counts, key=lambda group: (counts[group], group.protocol)))
        groups = sorted(found, key=lambda group: metrics.index(group.metric))
        headers = _headers({group: head(group, self.facts[group.metric].header) for group in groups}, sizes.values())
        counted, columns = dict.fromkeys(metrics, 0), []
        for group in groups:
            counted[group.metric] += 1
            made = self.column(group.metric, header=headers[group], figure=partial(BoardRow.figure, metric=group))
            key = made.key + (f"__{counted[group.metric]}" if counted[group.metric] > 1 else "")
            kinds = {**made.parts, "_seeds": "Int64", **(parts or {}), "_protocol": "string"}
            columns.append(replace(made, key=key, parts=kinds))
        return columns

    def first_column(self, columns: Sequence[Column]) -> Column | None:
        """Returns the column to rank by: of the first metric that has figures, that of most models' rows."""
        for is_model in (True, False):
            rows = [row for row in self.items if (row.role == "model") == is_model]
            made = [(it, [of for row in rows if it.figure and (of := it.figure(row)) is not None]) for it in columns]
            if found := [(column, figures) for column, figures in made if figures]:
                first = found[0][1][0].metric
                return max((it for it in found if it[1][0].metric == first), key=lambda it: len(it[1]))[0]
        return None


def _headers(bases: Mapping[Group, str], groups: Iterable[Iterable[Group]]) -> dict[Group, str]:
    """Adds what sets columns of one header apart, where a dataset has several of them."""
    words: dict[Group, dict[str, None]] = {group: {} for group in bases}
    for found in groups:
        for group in found:
            alike = [other for other in found if bases[other] == bases[group]]
            protocols = [dict(other.protocol) for other in alike]
            for key in sorted({key for protocol in protocols for key in protocol}):
                if len({protocol.get(key) for protocol in protocols}) > 1:
                    words[group][f"{key} {dict(group.protocol).get(key, 'not stated')}"] = None
            if len({other.metric for other in alike}) > 1:
                words[group][group.metric] = None
    return {group: ", ".join([bases[group], *words[group]]) for group in bases}


def rows_of(
    records: Iterable[RunRecord],
    suite: Suite | None = None,
    *,
    per_image: PerImage | None = None,
    published: Mapping[str, PublishedFigure] | None = None,
) -> list[BoardRow]:
    """Returns the rows, dataset by dataset, in the suite's order, or by name without one."""
    by_identity: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.run):
        twin = by_identity.setdefault(record.identity, record)
        if twin is not record and twin != record:
            both = f"{twin.run!r} and {record.run!r}"
            raise ValueError(f"{both} are one run, before and after a change; only one can be shown")
    scores: PerImage = {} if per_image is None else per_image  # which may be read when it is asked for
    if suite is None:
        return _rows_alone(list(by_identity.values()), scores)
    rows = []
    for row in suite.rows():
        configurations = [[by_identity.get(identity_of(spec)) for spec in specs] for specs in row.configurations]
        best = best_configuration(configurations)
        chosen = () if best is None else tuple(record for record in configurations[best] if record is not None)
        seeds = tuple(spec.seed for spec in row.configurations[0])
        problem = _grid_problem(configurations) if len(configurations) > 1 else None
        theirs = published_of(row.label, row.published, published)
        metrics = tuple(metric for metric in suite.metrics if metric in row.configurations[0][0].metrics)
        asked = (row.label, row.dataset, known_as(row.model), seeds, chosen, metrics, len(configurations))
        rows.append(BoardRow(*asked, problem, row.role, theirs, scores))
    return rows


def published_of(
    label: str, slug: str | None, published: Mapping[str, PublishedFigure] | None
) -> PublishedFigure | None:
    """Returns the figure that a row names; ValueError where ``published.toml`` has none of that name."""
    if slug is None or published is None:
        return None
    if slug not in published:
        hint = "".join(f"; did you mean {near!r}?" for near in get_close_matches(slug, published, n=1))
        raise ValueError(f"{label!r}: published = {slug!r}: {PUBLISHED_FILE} beside the suite has no such figure{hint}")
    return published[slug]


def table_of(suite: Suite | None, published: Mapping[str, PublishedFigure] | None) -> list[PublishedFigure]:
    """Returns the rows of the printed table that a suite names; ValueError where ``published.toml`` has none of it."""
    if suite is None or suite.table is None or published is None:
        return []
    if found := [figure for figure in published.values() if figure.table == suite.table]:
        return found
    tables = sorted({figure.table for figure in published.values() if figure.table})
    hint = did_you_mean(suite.table, tables)
    raise ValueError(f"table = {suite.table!r}: {PUBLISHED_FILE} beside the suite has no row of it{hint}")


def _grid_problem(configurations: Sequence[Sequence[RunRecord | None]]) -> Problem | None:
    """What is wrong with the configurations that could not take part in the choice."""
    # Asked of each configuration beside one that is empty: a single one is always "chosen".
    unfit = [records for records in configurations if best_configuration([records, []]) is None]
    if not unfit:
        return None
    runs = [record for records in unfit for record in records]
    metrics = [score.metric for run in runs if run is not None for score in run.scores.values()]
    problems = [problem for run in runs for problem in problems_of(run, metrics)]
    first = problems[0] if problems else Problem("not run", "no score on the validation split")
    share = f"{len(unfit)} of {len(configurations)} configurations could not be chosen from"
    seeds = tuple(sorted({record.spec.seed for record in runs if record is not None}))
    return Problem(first.status, f"{share}: {first.reason}", None, seeds)


def _rows_alone(records: Sequence[RunRecord], per_image: PerImage) -> list[BoardRow]:
    asked = {metric for record in records for metric in record.spec.metrics}
    asked |= {score.metric for record in records for score in record.scores.values()}
    metrics = tuple(sorted(asked, key=natural))
    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.spec.seed):
        content = record.dataset_digest if place_of(record.spec.dataset) is not None else None
        names = ("dataset", "model", "hyperparameters", "budget", "precision", "threads", "checkpoint")
        same = [*(getattr(record.spec, name) for name in names), content]
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(record)
    rows = []
    for _, group in sorted(groups.items()):
        spec, seeds = group[0].spec, tuple(record.spec.seed for record in group)
        label = SuiteModel(name=spec.model, hyperparameters=spec.hyperparameters).row_label
        rows.append(BoardRow(label, spec.dataset, spec.model, seeds, tuple(group), metrics, per_image=per_image))
    return _tell_apart(rows)


def natural(metric: str) -> tuple[str, int]:
    """Returns by what metrics are sorted: ``iwae-50`` before ``iwae-5000``."""
    head, _, number = metric.rpartition("-")
    return (head, int(number)) if number.isdigit() else (metric, 0)


def _tell_apart(rows: Sequence[BoardRow]) -> list[BoardRow]:
    """Adds to labels that stand twice on a dataset what sets them apart."""
    specs = [row.records[0].spec for row in rows]
    facts = [
        (it.budget or "own budget", it.precision, f"{it.threads} threads", it.checkpoint or "trained") for it in specs
    ]
    twins: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for row, said in zip(rows, facts, strict=True):
        twins.setdefault((row.dataset, row.label), []).append(said)
    told = []
    for row, said in zip(rows, facts, strict=True):
        of_all = zip(*twins[row.dataset, row.label], strict=True)
        notes = [fact for fact, others in zip(said, of_all, strict=True) if len({*others}) > 1]
        told.append(replace(row, label=", ".join([row.label, *notes])))
    return told
