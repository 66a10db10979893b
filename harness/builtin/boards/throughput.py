"""The throughput board: one table for each machine, because speeds of two machines do not compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from harness import Board, Cell, Column

if TYPE_CHECKING:
    from harness import BoardRow, Rows

_NAMES = {
    "training-throughput": "training_images_per_second",
    "scoring-throughput": "scoring_images_per_second",
    "sampling-throughput": "sampling_images_per_second",
    "sampling-latency": "sampling_latency_seconds",
    "peak-memory": "peak_memory_bytes",
}
_EXACT = {"": "Int64"}
_SAID = ("device", "device name", "threads")  # by the title of a machine's table


class Throughput(Board):
    """Images a second, latency and memory, on each machine that measured them."""

    name = "throughput"
    is_ranked = False
    shows = frozenset({"parameters"})
    reading = """
    Speeds compare within one table only: each is one machine. They are measured alone on it, with the first seed:
    the median over blocks of calls, in brackets the quartiles. Rows are sorted by sampling speed, and not ranked.

    FLOPs and parameters do not depend on the machine. FLOPs are of one image at batch 1; a multiply-add is two.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The speeds in a fixed order, then any others, then what they are read beside."""
        own = self.metrics(rows)
        metrics = [*(metric for metric in _NAMES if metric in own), *(metric for metric in own if metric not in _NAMES)]
        flops = [
            rows.column(metric, figure=None, cell=partial(_first, metric), parts=_EXACT, required=False)
            for metric in ("flops-scoring", "flops-sampling")
        ]
        protocol = Column("protocol", cell=partial(_protocols, metrics), parts={"": "string"}, required=False)
        return [*(_speed_column(rows, metric) for metric in metrics), *flops, protocol]

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """What rows are sorted by: the speed of sampling."""
        return next((column for column in columns if column.key == _NAMES["sampling-throughput"]), None)

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """The machines, sorted by the words for their hardware."""
        scores = [score for row in rows for record in row.records for score in record.scores.values()]
        timed = [score for score in scores if score.stage == "speed" and score.status == "done"]
        found = {score.fingerprint: score.hardware for score in timed}
        return [
            (
                f"{hardware or 'unknown hardware'} ({fingerprint})",
                {"fingerprint": fingerprint, "hardware": hardware},
                replace(rows, items=tuple(row.on_machine(fingerprint) for row in rows)),
            )
            for fingerprint, hardware in sorted(found.items(), key=lambda item: item[::-1])
        ]


def _speed_column(rows: Rows, metric: str) -> Column:
    made = rows.column(metric)
    parts = _EXACT if metric == "peak-memory" else made.parts
    return replace(made, key=_NAMES.get(metric, made.key), parts=parts)


def _first(metric: str, row: BoardRow) -> Cell | None:
    """Of the seed whose speeds are measured."""
    value = row.first(metric)
    return None if value is None else Cell(value)


def _protocols(metrics: Sequence[str], row: BoardRow) -> Cell:
    found = []
    for metric in metrics:
        if (figure := row.figure(metric)) is not None:
            stated = sorted(figure.scores[0].protocol.items())
            words = ", ".join(f"{key}={value}" for key, value in stated if key not in _SAID)
            found.append(f"{metric}: {words}")
    return Cell("; ".join(found) or None)
