"""Versions of one suite side by side: which figures moved from one to the next, by the tests of the boards.

Rows are matched by what was asked for; figures by metric, unit, kind, data and protocol, times and speeds by machine.
Figures that are equal digit for digit are not tested; Holm's method is over all that are.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from harness.boards.audits import AUDIT
from harness.boards.comparison import Source
from harness.boards.figures import Figure, Group, Measured
from harness.boards.pair_tests import ALPHA, Comparison, compare, holm
from harness.boards.row import BoardRow
from harness.records.record import FAILURES, VALID_PREFIX, RunRecord, ScoreRecord

_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_Condition = tuple[tuple[str, str], ...]  # what figures have to share to be compared


class Name(NamedTuple):
    """What is followed: a row's label on a dataset, and a metric."""

    label: str
    dataset: str
    metric: str

    def __str__(self) -> str:
        return f"{self.metric} of {self.label} on {self.dataset}"


@dataclass(frozen=True)
class Step:
    """A figure in two ``versions``, and the test of the later less the earlier, where lower is better."""

    name: Name
    versions: tuple[str, str]
    before: Figure
    after: Figure
    tested: Comparison
    p_value: float = math.nan  # adjusted by Holm's method

    @property
    def moved(self) -> Literal["better", "worse"] | None:
        """What is proven: the chance of any false claim in a history is at most ``ALPHA``."""
        if not self.p_value <= ALPHA or self.tested.difference == 0:
            return None
        return "better" if self.tested.difference < 0 else "worse"

    @property
    def change(self) -> tuple[float, float, float]:
        """The difference of the figures as they are shown, and its 95 % interval, which knows of no other test."""
        (low, high), turn = self.tested.interval, self.after.higher_is_better
        return (-self.tested.difference, -high, -low) if turn else (self.tested.difference, low, high)


@dataclass(frozen=True)
class History:
    """All steps that were tested, oldest versions first, and what could not be; ``figures`` are by version."""

    steps: tuple[Step, ...]
    figures: dict[Name, dict[str, Figure]]
    unchanged: int  # figures that are equal digit for digit
    not_told: tuple[str, ...]
    broken: tuple[str, ...]  # what fails in a version, and did not in the one before

    @property
    def moved(self) -> list[Step]:
        """The steps of which the direction is proven."""
        return [step for step in self.steps if step.moved]


def follow(sources: Sequence[Source]) -> History:
    """Compares each figure of each version, oldest first, with that of the last version that has it."""
    figures: dict[Name, dict[str, Figure]] = defaultdict(dict)
    last: dict[Name, dict[_Condition, tuple[str, Figure]]] = defaultdict(dict)
    faults, broken, not_told = dict[tuple[str, str], set[str]](), list[str](), list[str]()
    unchanged, steps = 0, list[Step]()
    for version, row in ((source.name, row) for source in sources for row in source.rows):
        there, place = _faults(row), (row.label, row.dataset)
        broken += [f"{version}: {row.label} on {row.dataset}: {it}" for it in sorted(there - faults.get(place, there))]
        faults[place] = there
        for metric, by_condition in _figures(row).items():
            known = last[name := Name(*place, metric)]
            if known and not known.keys() & by_condition.keys():
                other, (earlier, _) = list(known.items())[-1]
                not_told.append(f"{name}, {earlier} and {version}: {_what_differs(other, next(iter(by_condition)))}")
            for condition, figure in by_condition.items():
                earlier, before = known.get(condition, (version, figure))
                known[condition] = version, figure
                figures[name][version] = figure
                if np.array_equal(figure.values, before.values):
                    unchanged += earlier != version
                elif (tested := compare(_measured(figure), _measured(before))) is not None:
                    steps.append(Step(name, (earlier, version), before, figure, tested))
                else:
                    not_told.append(f"{name}, {earlier} and {version}: nothing says how it varies; measure more seeds")
    p_values = holm(np.array([step.tested.p_value for step in steps])).tolist()
    tested_steps = tuple(replace(step, p_value=p_value) for step, p_value in zip(steps, p_values, strict=True))
    return History(tested_steps, dict(figures), unchanged, tuple(not_told), tuple(broken))


def _measured(figure: Figure) -> Measured:
    """Returns what the tests take. What is counted has no error; a speed of one run has the spread of its blocks.

    For another process differs by more than the standard error within one. Where others were at work, nothing tells it.
    """
    found, [score, *others] = figure.measured(), figure.scores
    if score.stage == "cost" and figure.kind != "estimate":
        return replace(found, error=0.0)
    if others or score.stage != "speed" or found.error is None:
        return found
    low, high = figure.part("_q25"), figure.part("_q75")
    if "load" in score.protocol or not isinstance(low, float) or not isinstance(high, float):
        return replace(found, error=None)
    return replace(found, error=max(found.error, abs(high - low) / _QUARTILES))


def _figures(row: BoardRow) -> dict[str, dict[_Condition, Figure]]:
    """The figures on the test split, by metric and by what they have to share to be compared."""
    found: dict[str, dict[_Condition, Figure]] = defaultdict(dict)
    for record, name, score in ((it, *item) for it in row.records for item in sorted(it.scores.items())):
        is_figure = not name.startswith(VALID_PREFIX) and score.metric != AUDIT
        if is_figure and score.status == "done" and score.value is not None:
            of_metric, condition = found[score.metric], _condition(record, score)
            made = of_metric.get(condition) or Figure(f"{row.label!r} on {row.dataset!r}, {name}", (), (), score.unit)
            records, scores = (*made.records, record), (*made.scores, score)
            of_metric[condition] = replace(made, records=records, scores=scores, per_image=row.per_image)
    return found


def _condition(record: RunRecord, score: ScoreRecord) -> _Condition:
    stated = dict(Group.of(score).protocol) | {"kind": str(score.kind), "unit": score.unit}
    stated |= {"data": record.dataset_digest[:12]} | ({"machine": score.hardware} if score.unit == "s" else {})
    # what came out of the measurement, and was not asked for: how busy the machine was, and which batch was the fastest
    outcomes = {"load"}
    if f"batch_{stated.get('batch size')}_median" in score.details:
        outcomes |= {"batch size", "not measured"}
    return tuple(sorted((key, words) for key, words in stated.items() if key not in outcomes))


def _what_differs(before: _Condition, after: _Condition) -> str:
    old, new = dict(before), dict(after)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key, 'not said')}, then {new.get(key, 'not said')}" for key in keys)


def _faults(row: BoardRow) -> set[str]:
    failures = {str(problem) for problem in row.problems(row.metrics) if problem.status in FAILURES}
    return failures | ({f"failed its audit: {row.audit.names}"} if row.audit.failed else set())
