"""The cost board: what a model costs to store, to score, to draw from, and to train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import Board, Column

if TYPE_CHECKING:
    from harness import Rows, Table


class Cost(Board):
    """Parameters, floating-point operations and seconds; sorted by the first of them, and not ranked."""

    name = "cost"
    is_ranked = False
    shows = frozenset({"seeds"})
    reading = """
    Parameters: those that drawing an image uses, and those in the checkpoint. FLOPs are of one image at batch 1, a
    multiply-add is two. They do not depend on the machine; seconds of training do, and are means over seeds. Rows are
    sorted by the first column, the cheapest first, and not ranked.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """One for each metric, whatever the machine."""
        return [rows.column(metric) for metric in self.metrics(rows)]

    def notes(self, table: Table) -> Sequence[str]:
        """The machines that the seconds are of."""
        scores = [score for row in table.rows for _, score in row.scores("fit-seconds")]
        machines = sorted({score.hardware for score in scores if score.hardware})
        return [f"Seconds of training are those of: {'; '.join(machines)}."] if machines else []
