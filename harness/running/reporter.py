"""Reporter: who hears how a suite goes."""

from __future__ import annotations

from harness.discovery.manager import Problem
from harness.records.record import RunRecord


class Reporter:
    """Hears how a suite goes; this one says nothing."""

    def started(self, run: str, total: int) -> None:
        """A job started; ``total`` jobs are planned in this phase."""

    def progress(self, run: str, values: dict[str, object]) -> None:
        """A running job's ``progress.json``, about twice a second."""

    def finished(self, record: RunRecord) -> None:
        """A job ended, and its record is stored."""

    def phase(self, name: str, jobs: int) -> None:
        """A phase of ``jobs`` jobs begins."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""

    def problem(self, problem: Problem) -> None:
        """An observer plugin failed."""
