"""The curve of a training, from the lines that its trainer wrote as it went."""

import json
from collections.abc import Iterable, Sequence

from harness.records.record import MOST_POINTS, Curve

_LARGEST = 1e100  # that a record takes


def curve_of(lines: Iterable[str]) -> Curve | None:
    """Returns the curve of ``curves.jsonl``, of at most ``MOST_POINTS`` points; None of a training that wrote nothing.

    Lines hold a ``step``, its ``epoch`` and ``seconds``, and either the mean of what was logged since the line before,
    the ``loss`` with it, or a ``valid`` score. Of more points those that are kept are even in number, with the best one
    and the last.
    """
    found = [json.loads(line) for line in lines]
    losses = [line for line in found if "loss" in line]
    points = [line for line in found if "valid" in line] or losses
    if not points or "seconds" not in points[0]:
        return None
    kept, means, before = _thinned(points), list[float | None](), 0.0
    for point in kept:
        since = [line["loss"] for line in losses if before < line["step"] <= point["step"]]
        means.append(sum(since) / len(since) if since else None)
        before = point["step"]
    columns = {name: [_rounded(point.get(name)) for point in kept] for name in ("epoch", "seconds", "valid")}
    return Curve.model_validate({"step": [point["step"] for point in kept], "loss": map(_rounded, means), **columns})


def _rounded(value: float | None) -> float | None:
    """Returns a number of seven digits; None for one that no record takes."""
    return None if value is None or abs(value) > _LARGEST else float(f"{value:.6e}")


def _thinned(points: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    number = len(points)
    if number <= MOST_POINTS:
        return list(points)
    kept = {round(index * (number - 1) / (MOST_POINTS - 2)) for index in range(MOST_POINTS - 1)}
    kept.add(min(range(number), key=lambda index: points[index].get("valid", 0.0)))
    return [points[index] for index in sorted(kept)]
