"""Choosing among the configurations of a grid: by the mean over seeds of one figure on the validation split, only."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import RunRecord

VALID_PREFIX = "valid--"


def best_configuration(configurations: Sequence[Sequence[RunRecord | None]]) -> int | None:
    """Returns the index of the configuration with the best mean validation score.

    Args:
        configurations: for each combination of a grid, its records, one a seed; None where a run is not finished.

    Returns:
        The index; 0 if there is only one configuration; None if no configuration has a validation score for all seeds.
    """
    if len(configurations) == 1:
        return 0
    means = {}
    for index, records in enumerate(configurations):
        losses = [validation_loss(record) for record in records]
        known = [loss for loss in losses if loss is not None]
        if known and len(known) == len(losses):
            means[index] = sum(known) / len(known)
    return min(means, key=lambda index: means[index]) if means else None


def validation_loss(record: RunRecord | None) -> float | None:
    """Returns a record's figure on the validation split, lower is better; None where there is none."""
    if record is None:
        return None
    for name, score in record.scores.items():
        if name.startswith(VALID_PREFIX) and score.status == "done" and score.value is not None:
            return -score.value if score.higher_is_better else score.value
    return None
