"""Two rows side by side: the paired difference of their figures with its interval, and what it rests on.

The test is the one of the boards (``harness.boards.pair_tests``): images are paired by their content. Figures that were
measured differently are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.boards.audits import AUDIT
from harness.boards.figures import Figure, Group, pair_images
from harness.boards.pair_tests import ALPHA, Basis, compare, decides
from harness.boards.row import BoardRow
from harness.interface.spec import ScoreKind
from harness.records.record import VALID_PREFIX

LIKELIHOOD = "likelihood"

# What sets bounds of different names apart, and is no difference in how one of them was measured.
_OF_THE_BOUND = {"K", "samples"}


class NotComparable(ValueError):
    """Figures that cannot be subtracted; the message says what differs."""


@dataclass(frozen=True)
class Difference:
    """B - A of one metric; ``metric`` is ``likelihood`` where the two are known by different ``metrics``.

    ``difference`` is the mean of B less that of A, over the ``num_images`` that both scored (None without scores per
    image). The interval has 95 %; neither it nor the p-value knows of other comparisons. ``better`` is proven so;
    ``conclusion`` says what follows, ``rests_on`` what the interval rests on, and ``basis`` what it generalises to.
    """

    metric: str
    metrics: tuple[str, str]
    kinds: tuple[ScoreKind, ScoreKind]
    values: tuple[float, float]
    seeds: tuple[int, int]
    unit: str
    difference: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    basis: Basis
    num_images: int | None
    better: Literal["A", "B"] | None
    conclusion: str
    rests_on: str


@dataclass(frozen=True)
class RowComparison:
    """What ``compare_rows`` found; ``refused`` are the metrics of both that cannot be compared, with the reasons."""

    differences: tuple[Difference, ...]
    refused: Mapping[str, str]


def compare_rows(a: BoardRow, b: BoardRow, metrics: Sequence[str] = ()) -> RowComparison:
    """Compares two rows by the metrics named, or by all quality metrics that both have.

    Where one is known by an exact value and the other by a bound, or each by a bound of its own, the best figures of
    the two are compared too, as ``likelihood``. Other data, a metric named that cannot be compared, and nothing that
    can, are ``NotComparable``.
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
    return RowComparison(tuple(differences), refused)


def _quality(row: BoardRow) -> list[str]:
    """The quality metrics on the test split, in the order of the records; an audit is a verdict, and no figure."""
    scores = [item for record in row.records for item in record.scores.items() if item[1].stage == "quality"]
    names = [name for name, _ in scores if name != AUDIT and not name.startswith(VALID_PREFIX) and row.scores(name)]
    return list(dict.fromkeys(names))


def _shared(a: BoardRow, b: BoardRow) -> list[str]:
    theirs = _quality(b)
    shared = sorted((metric for metric in _quality(a) if metric in theirs), key=_order)
    if a.likelihood is not None and b.likelihood is not None and a.likelihood.metric != b.likelihood.metric:
        return [LIKELIHOOD, *shared]
    return shared


def _order(metric: str) -> tuple[bool, str, int]:
    head, _, number = metric.rpartition("-")
    return (head != "iwae", head, int(number)) if number.isdecimal() else (metric != "nll", metric, 0)


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
        metric=metric,
        metrics=(a.metric, b.metric),
        kinds=(a.kind, b.kind),
        values=(a.mean, b.mean),
        seeds=seeds,
        unit=a.unit,
        difference=sign * found.difference,
        standard_error=found.standard_error,
        interval=(low, high),
        p_value=found.p_value,
        basis=found.basis,
        num_images=common,
        better=winner,
        conclusion=conclusion,
        rests_on=_rests_on(found.basis, common, seeds),
    )


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
