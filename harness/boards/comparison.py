"""Two rows side by side: which a user means, and the paired difference of their figures with its interval.

The test is that of the boards; images are paired by their content. What was measured differently is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

from harness.boards.audits import AUDIT
from harness.boards.figures import Figure, Group, PerImage, pair_images
from harness.boards.pair_tests import ALPHA, Basis, compare, decides
from harness.boards.row import BoardRow
from harness.boards.rows import natural, rows_of
from harness.interface.spec import ScoreKind
from harness.records.archive import Archive
from harness.records.record import VALID_PREFIX, RunRecord
from harness.suites.suite import Suite
from harness.support.names import did_you_mean

LIKELIHOOD = "likelihood"

# What sets bounds of different names apart, and is no difference in how one of them was measured.
_OF_THE_BOUND = {"K", "samples"}


class NotFound(ValueError):
    """A name that is none of a run, a label or a model, or that is several; the message says what there is."""


class NotComparable(ValueError):
    """Figures that cannot be subtracted; the message says what differs."""


@dataclass(frozen=True)
class Difference:
    """The mean of B less that of A of one metric, over the images that both scored."""

    metric: str  # ``likelihood`` where the two are known by different ``metrics``
    metrics: tuple[str, str]
    kinds: tuple[ScoreKind, ScoreKind]
    values: tuple[float, float]
    seeds: tuple[int, int]
    unit: str
    difference: float
    standard_error: float
    interval: tuple[float, float]  # 95 %; neither it nor the p-value knows of other comparisons
    p_value: float
    basis: Basis  # what it generalises to
    num_images: int | None  # None without scores per image
    better: Literal["A", "B"] | None  # which is proven so
    conclusion: str
    rests_on: str


def compare_rows(a: BoardRow, b: BoardRow, metrics: Sequence[str] = ()) -> tuple[list[Difference], dict[str, str]]:
    """Compares two rows by the metrics named, or all of quality that both have; returns too which cannot be, and why.

    The best figures of the likelihood are compared too, where they are of different metrics. Other data, a metric named
    that cannot be compared, and nothing that can, are ``NotComparable``.
    """
    contents = a.dataset_digests | b.dataset_digests
    if a.dataset != b.dataset and len(contents) > 1:
        raise NotComparable(f"A is scored on {a.dataset!r}, B on {b.dataset!r}: different data do not compare")
    if len(contents) > 1:
        shown = " and ".join(sorted(digest[:12] for digest in contents))
        raise NotComparable(f"the records come from different contents of {a.dataset!r} (digests {shown})")
    differences: list[Difference] = []
    refused: dict[str, str] = {}
    for metric in metrics or _shared(a, b):
        try:
            figures = _figure("A", a, metric), _figure("B", b, metric)
            _check_protocols(*figures)
            differences.append(_difference(metric, *figures))
        except NotComparable as error:
            if metrics:
                raise
            refused[metric] = str(error)
    if not differences:
        has = f"A has {_list(_quality(a))}; B has {_list(_quality(b))}"
        raise NotComparable("; ".join(refused.values()) or f"no quality metric is shared on {a.dataset!r}: {has}")
    return differences, refused


def _quality(row: BoardRow) -> list[str]:
    """The quality metrics on the test split, in the order of the records; an audit is a verdict, and no figure."""
    scores = [item for record in row.records for item in record.scores.items() if item[1].stage == "quality"]
    names = [name for name, _ in scores if name != AUDIT and not name.startswith(VALID_PREFIX) and row.scores(name)]
    return list(dict.fromkeys(names))


def _shared(a: BoardRow, b: BoardRow) -> list[str]:
    shared = sorted({*_quality(a)} & {*_quality(b)}, key=natural)
    shared.sort(key=lambda metric: natural(metric)[0] not in ("iwae", "nll"))
    if a.likelihood is not None and b.likelihood is not None and a.likelihood.metric != b.likelihood.metric:
        return [LIKELIHOOD, *shared]
    return shared


def _figure(letter: str, row: BoardRow, metric: str) -> Figure:
    figure = row.likelihood if metric == LIKELIHOOD else row.figure(metric)
    if figure is None or figure.scores[0].stage == "speed":
        what = "likelihood and no bound on it" if metric == LIKELIHOOD else repr(metric)
        raise NotComparable(f"{letter} has no {what}: it has {_list(_quality(row))}")
    return figure


def _check_protocols(a: Figure, b: Figure) -> None:
    """Refuses figures measured differently; of two metrics, what both state has to agree, but for their names."""
    of_a, of_b = _protocol("A", a), _protocol("B", b)
    keys, name = of_a.keys() | of_b.keys(), a.metric
    if a.metric != b.metric:
        keys, name = (of_a.keys() & of_b.keys()) - _OF_THE_BOUND, f"{a.metric} and {b.metric}"
    parts = [
        f"{key} is {of_a.get(key, 'not said')} for A and {of_b.get(key, 'not said')} for B"
        for key in sorted(keys)
        if of_a.get(key) != of_b.get(key)
    ]
    if parts:
        raise NotComparable(f"{name}: measured by different protocols: {'; '.join(parts)}")


def _protocol(letter: str, figure: Figure) -> dict[str, str]:
    """What every seed states, quoted; the device is none of it."""
    stated = [dict(Group.of(score).protocol) for score in figure.scores]
    merged: dict[str, str] = {}
    for key in sorted({key for of_seed in stated for key in of_seed}):
        merged[key], *others = values = sorted({repr(of_seed.get(key)) for of_seed in stated})
        if others:
            how = f"were measured by different protocols: {key} is {_list(values)}"
            raise NotComparable(f"{figure.metric}: the seeds of {letter} {how}")
    return merged


def _difference(metric: str, a: Figure, b: Figure) -> Difference:
    if a.unit != b.unit:
        raise NotComparable(f"{metric}: A is in {a.unit!r}, B in {b.unit!r}")
    of_a, of_b = a.measured(), b.measured()
    found, common = compare(of_b, of_a), None
    if of_a.matrix is not None and of_b.matrix is not None:
        common = len(pair_images(of_a.matrix.images, of_b.matrix.images)[0])
    if found is None and common is not None:
        raise NotComparable(f"{a.metric}: {common} images in common; a paired test needs 2")
    if found is None:
        without = " and ".join(name for name, of_it in (("A", of_a), ("B", of_b)) if of_it.error is None)
        what = f"one seed, no scores per image, and no standard error for {without}"
        raise NotComparable(f"{a.metric}: {what}: nothing tells the spread")
    sign, seeds = -1 if a.higher_is_better else 1, (len(a.values), len(b.values))
    low, high = sorted(sign * bound for bound in found.interval)
    winner, conclusion = _conclude(found.difference, found.p_value, (of_a.kind, of_b.kind), rising=a.higher_is_better)
    return Difference(
        metric=metric, metrics=(a.metric, b.metric), kinds=(a.kind, b.kind), values=(a.mean, b.mean), seeds=seeds,
        unit=a.unit, difference=sign * found.difference, standard_error=found.standard_error, interval=(low, high),
        p_value=found.p_value, basis=found.basis, num_images=common, better=winner, conclusion=conclusion,
        rests_on=_rests_on(found.basis, common, seeds),
    )  # fmt: skip


def _conclude(
    difference: float, p_value: float, kinds: tuple[ScoreKind, ScoreKind], *, rising: bool
) -> tuple[Literal["A", "B"] | None, str]:
    """What follows from B - A, where lower is better: of ``rising`` figures all is mirrored, and so are the words."""
    if p_value > ALPHA or difference == 0:
        return None, "A and B cannot be told apart"
    winner: Literal["A", "B"] = "B" if difference < 0 else "A"
    loser = "A" if winner == "B" else "B"
    ahead, behind = reversed(kinds) if winner == "B" else kinds
    below, above = ("above", "below") if rising else ("below", "above")
    if not decides(ahead, behind):
        of_each = {"exact": "an exact value", "lower bound": "a lower bound"}
        a, b = (of_each.get(kind, f"an {kind}") for kind in kinds)
        why = f"{a} and {b} have no order"
        if (ahead, behind) == ("exact", "upper bound"):
            why = f"{loser}'s bound lies {above} {winner}'s exact value, and a bound may hide a better model"
        return None, f"nothing follows: {why}"
    if (ahead, behind) == ("upper bound", "exact"):
        return winner, f"{winner}'s bound lies {below} {loser}'s exact value: {winner} is better"
    by_bounds = ", by the bounds: they are compared as the promises that they are" if ahead == "upper bound" else ""
    return winner, f"{winner} is better{by_bounds}"


def _rests_on(basis: Basis, num_images: int | None, seeds: tuple[int, int]) -> str:
    a, b = (f"{number} seed{'' if number == 1 else 's'}" for number in seeds)
    trainings = f"{a} each" if a == b else f"{a} of A and {seeds[1]} of B"
    if basis == "resampling":
        errors = "the standard errors of the figures, taken as independent"
        return f"{trainings}, and {errors}: the interval does not cover training"
    if num_images is None:
        return f"{trainings}, and no scores per image: the interval covers training, and not the choice of test images"
    covers = "does not cover training" if basis == "images" else "covers training and the choice of test images"
    return f"{num_images:,} images in common, {trainings}: the interval {covers}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


@dataclass(frozen=True)
class Source:
    """Where rows are looked for: a suite's archive, an archive, or the store, by the name that messages say."""

    name: str
    rows: Sequence[BoardRow]
    records: Sequence[RunRecord]
    per_image: PerImage = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, archive: Archive, suite: Suite | None = None) -> Self:
        """Returns the rows of an archive, as the suite has them if there is one."""
        rows = rows_of(archive.records, suite, per_image=archive.per_image)
        return cls(name, [row for row in rows if row.records], archive.records, archive.per_image)


class Side(NamedTuple):
    """One of the two: a row, and where it was found. A single run is a row whose label is the run's name."""

    row: BoardRow
    source: str


def find_pair(
    a: str, b: str, sources_a: Sequence[Source], sources_b: Sequence[Source], *, dataset: str | None = None
) -> list[tuple[Side, Side]]:
    """Returns the two rows that are meant, on each dataset that both are on; ``NotFound``: a name of none, or several.

    A name that several sources know means the one in the source where the other name is found too.
    """
    found_a, found_b = _find(a, sources_a, dataset), _find(b, sources_b, dataset)
    common = {side.source for side in found_a} & {side.source for side in found_b}
    if len(common) == 1:
        found_a, found_b = ([side for side in found if side.source in common] for found in (found_a, found_b))
    of_a, of_b = _only(a, found_a), _only(b, found_b)
    every = [(side, other) for side in of_a.values() for other in of_b.values()]
    by_name = [(side, other) for side, other in every if side.row.dataset == other.row.dataset]
    if pairs := by_name or [it for it in every if it[0].row.dataset_digests == it[1].row.dataset_digests]:
        return pairs
    datasets_a, datasets_b = (", ".join(map(repr, sides)) for sides in (of_a, of_b))
    raise NotComparable(f"{a!r} is scored on {datasets_a}, {b!r} on {datasets_b}: different data do not compare")


def _only(name: str, sides: Sequence[Side]) -> dict[str, Side]:
    """The one row, on each of its datasets."""
    labels = list(dict.fromkeys(side.row.label for side in sides))
    if len(labels) > 1:
        are_runs = all(any(record.run == side.row.label for record in side.row.records) for side in sides)
        shown = ", ".join(map(repr, labels[:6])) + (", ..." if len(labels) > 6 else "")
        raise NotFound(f"{name!r} may be any of {len(labels)} {'runs' if are_runs else 'rows'}: {shown}")
    sources = dict.fromkeys(side.source for side in sides)
    if len(sources) > 1:
        raise NotFound(f"{name!r} is in {' and in '.join(sources)}: choose with --suite or --dataset")
    return {side.row.dataset: side for side in sides}


def _find(name: str, sources: Sequence[Source], dataset: str | None) -> list[Side]:
    """The rows by a name: a run or a label, else a model, else the beginning of a run's name or a label."""
    if not name:
        raise NotFound("a name is empty: name a run, a row's label or a model")
    rows = [Side(row, source.name) for source in sources for row in source.rows]
    ways = (
        [*_runs(sources, lambda run: run == name), *(side for side in rows if side.row.label == name)],
        [side for side in rows if side.row.model == name],
        [*_runs(sources, lambda run: run.startswith(name)), *(it for it in rows if it.row.label.startswith(name))],
    )
    found = next((sides for sides in ways if sides), [])
    if found:
        datasets = {side.row.dataset for side in found}
        if dataset is not None and dataset not in datasets:
            raise NotFound(f"{name!r} is not scored on {dataset!r}{did_you_mean(dataset, datasets)}")
        return [side for side in found if dataset in (None, side.row.dataset)]
    known = {text for side in rows for text in (side.row.label, side.row.model)}
    known |= {record.run for source in sources for record in source.records}
    where = ", ".join(source.name for source in sources) or "no archive and no store"
    hint = did_you_mean(name, known) if known else ""
    hint = hint if len(hint) <= 300 else f"{hint[:300].rpartition(',')[0]}, ...)"
    raise NotFound(f"no run, row or model {name!r} in {where}{hint}")


def _runs(sources: Sequence[Source], is_wanted: Callable[[str], bool]) -> list[Side]:
    """Single runs as rows; one that several sources hold is taken from the first."""
    found: dict[tuple[str, str], Side] = {}
    for source in sources:
        for record in source.records:
            if is_wanted(record.run) and (record.run, record.key) not in found:
                [row] = rows_of([record], per_image=source.per_image)
                found[record.run, record.key] = Side(replace(row, label=record.run), source.name)
    return list(found.values())
