"""Why a row has no figure, or not of all seeds: statuses and reasons, from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from harness.records.record import FAILURES, RunRecord

Cause = tuple[str, str, str | None]
"""Status, reason, and the metric; None for the training."""


@dataclass(frozen=True)
class Problem:
    """Why runs of a row have no figure: which seeds, their status, one line, and the metric; None for the training."""

    seeds: tuple[int, ...]
    status: str
    reason: str
    metric: str | None = None


def causes_of(record: RunRecord | None, metrics: Sequence[str], scored: Sequence[str] = ()) -> list[Cause]:
    """Returns what went wrong in a run; ``scored`` names metrics that other seeds have, and this one should."""
    if record is None:
        return [("not run", "no record", None)]
    if record.failure is not None:
        failure = record.failure
        if record.status == "skipped":
            return [("skipped", one_line(record.reason or failure.message), None)]
        status = record.status if record.status in FAILURES else failure.status
        return [(status, one_line(f"{failure.stage}: {failure.type}: {failure.message}"), None)]
    if record.status == "skipped":
        return [("skipped", one_line(record.reason or "no reason given"), None)]
    if record.status in ("pending", "running", "interrupted"):
        return [(record.status, "the training is not complete" if record.fit is None else "not all is scored", None)]
    problems: list[Cause] = [("not scored", metric, metric) for metric in scored if metric not in record.scores]
    unfinished = [item for item in record.scores.items() if item[1].status != "done"]
    for _, score in sorted(unfinished, key=itemgetter(0)):
        if score.metric in metrics:
            what = "" if score.failure is None else f"{score.failure.type}: {score.failure.message}"
            reason = one_line(f"{score.metric}: {what}" if what else score.metric)
            problems.append((str(score.status), reason, score.metric))
    return problems


def text_of(problems: Sequence[Problem]) -> str | None:
    """Returns problems in one line: which seeds, what; None of none."""
    parts = []
    for problem in problems:
        seeds = f" (seeds {' '.join(map(str, problem.seeds))})" if problem.seeds else ""
        parts.append(f"{problem.status}{seeds}: {problem.reason}")
    return "; ".join(parts) or None


def one_line(text: str, limit: int = 160) -> str:
    """Returns a text as one line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"
