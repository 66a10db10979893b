"""Choosing among the configurations of a grid: by the mean over seeds of one figure on the validation split, only."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.record import RunRecord

VALID_PREFIX = "valid--"


def best_configuration(configurations: Sequence[Sequence[RunRecord | None]]) -> int | None:
    """Returns the index of the configuration with the best mean validation score, of one that all its seeds have.

    For each combination of a grid come its records, one for each seed, None where a run is not finished. A single
    configuration needs no score.
    """
    if len(configurations) == 1:
        return 0
    means: dict[str, dict[int, float]] = {}
    for index, records in enumerate(configurations):
        losses = [_validation_losses(record) for record in records]
        for name in losses[0] if losses else ():
            if all(name in of_seed for of_seed in losses):
                means.setdefault(name, {})[index] = sum(of_seed[name] for of_seed in losses) / len(losses)
    if not means:
        return None
    # runs of an earlier suite may hold other figures as well: compare by the one that most configurations have
    chosen = max(sorted(means), key=lambda name: len(means[name]))
    return min(means[chosen], key=lambda index: means[chosen][index])


def _validation_losses(record: RunRecord | None) -> dict[str, float]:
    """By figure, with the sign that makes lower better."""
    return {
        name: -score.value if score.higher_is_better else score.value
        for name, score in (record.scores if record is not None else {}).items()
        if name.startswith(VALID_PREFIX) and score.status == "done" and score.value is not None
    }
