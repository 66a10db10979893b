"""Ingest: records into the store, now or later. What the store does not take at once is kept and offered again."""

from __future__ import annotations

import time

from harness.records.record import RunRecord
from harness.records.store import Artifacts, StoreError
from harness.running.reporter import Reporter

_RETRY_SECONDS = 0.5


class Ingest:
    """Puts records into an artifact folder's store; a store that is locked or away for a while loses none.

    Args:
        artifacts: the folder and its store.
        reporter: told once when the store does not answer, and once when it does again.
    """

    def __init__(self, artifacts: Artifacts, reporter: Reporter) -> None:
        self._artifacts, self._reporter = artifacts, reporter
        self._late: dict[str, RunRecord] = {}
        self._is_away = False

    def put(self, record: RunRecord) -> None:
        """Stores a record, or keeps it for later."""
        self._late[record.run] = record
        try:
            self._put_all()
        except StoreError as error:
            if not self._is_away:
                self._reporter.note(f"{error}; going on, and trying again")
            self._is_away = True
        else:
            if self._is_away:
                self._reporter.note("the store answers again")
            self._is_away = False

    def flush(self, *, patience_seconds: float) -> None:
        """Stores what was kept for later, trying again for a while.

        Raises:
            StoreError: the store still does not take it. The runs' folders have it all the same.
        """
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
        for run, record in list(self._late.items()):
            self._artifacts.store.put(record, arrays=self._arrays(record))
            del self._late[run]

    def _arrays(self, record: RunRecord) -> dict[str, bytes]:
        """The scores per image, for a store that is shared by folders: by the names that the record gives them."""
        if not self._artifacts.store.keeps_arrays:
            return {}
        folder = self._artifacts.folder(record.run)
        files = {
            score.per_image: folder.per_image_file(name)
            for name, score in record.scores.items()
            if score.per_image is not None
        }
        return {reference: file.read_bytes() for reference, file in files.items() if file.exists()}
