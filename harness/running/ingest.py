"""Where records go: to who hears how a suite goes, and into the store, now or later."""

import time
from collections.abc import Sequence
from typing import Any

from harness.records.record import RunRecord
from harness.records.store import Artifacts, StoreError
from harness.running.planning import PlannedRun

SPEEDS = "measure speed"  # the phase in which speeds are measured
_RETRY_SECONDS = 0.5


class Reporter:
    """Hears how a suite goes; this one says nothing."""

    def phase(self, name: str, runs: Sequence[PlannedRun], at_a_time: int) -> None:
        """A phase begins: each of these runs is a job, and so many work at a time."""

    def progress(self, run: str, values: dict[str, Any]) -> None:
        """A running job's ``progress.json``, many times a second."""

    def tick(self) -> None:
        """Time passes: called many times a second during a phase, whether a job runs or not."""

    def finished(self, record: RunRecord) -> None:
        """A job ended, and its record is stored."""

    def note(self, text: str, kind: str = "note") -> None:
        """Something that a person should know, in one line; a ``warning`` if an observer plugin failed."""


class Ingest:
    """Puts records into a folder's store; one that is away for a while, as the reporter is told, loses none."""

    def __init__(self, artifacts: Artifacts, reporter: Reporter) -> None:
        self._artifacts, self._reporter = artifacts, reporter
        self._late: dict[str, RunRecord] = {}

    def put(self, record: RunRecord) -> None:
        """Stores a record, or keeps it for later."""
        was_away = bool(self._late)
        self._late[record.run] = record
        try:
            self._put_all()
        except StoreError as error:
            if not was_away:
                self._reporter.note(f"{error}; going on" + ", and trying again" * error.transient)
        else:
            if was_away:
                self._reporter.note("the store answers again")

    def flush(self, *, patience_seconds: float) -> None:
        """Stores what was kept for later, trying again for a while; the runs' folders have it all the same."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                return self._put_all()
            except StoreError as error:
                if error.transient and time.monotonic() < deadline:
                    time.sleep(_RETRY_SECONDS)
                    continue
                count = len(self._late)
                raise StoreError(
                    f"{error}; {count} record{'s are' if count > 1 else ' is'} not stored yet: "
                    "the same command takes them from the runs' folders"
                ) from error

    def _put_all(self) -> None:
        store = self._artifacts.store
        for run, record in list(self._late.items()):
            arrays = {}
            if store.keeps_arrays:  # it is shared by folders: scores per image, by the names that the record gives them
                folder = self._artifacts.folder(run)
                files = {score.per_image: folder.per_image_file(name) for name, score in record.scores.items()}
                arrays = {name: file.read_bytes() for name, file in files.items() if name and file.exists()}
            store.put(record, arrays=arrays)
            del self._late[run]
