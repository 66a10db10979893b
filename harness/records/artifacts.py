"""The artifact folder: where runs are kept, and where their records are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from harness.records.run_folder import RunFolder
from harness.records.store import Store, is_store_of
from harness.support.names import is_plain_name


@dataclass(frozen=True)
class Artifacts:
    """The folder ``root``, and the database that holds its records, perhaps those of other folders too.

    Without a ``store_url`` the records are in the folder.
    """

    root: Path
    store_url: str | None = field(default=None, repr=False)  # it may have a password

    def folder(self, run: str) -> RunFolder:
        """Returns a run's folder; ``ValueError`` for what is no plain name: a record may come from anywhere."""
        if not is_plain_name(run):
            raise ValueError(f"{run!r:.120} is no run's name: letters, digits, '@', '.', '_' and '-', and no path")
        return RunFolder(self.root / "runs" / run)

    @cached_property
    def store(self) -> Store:
        """The records; ``StoreError`` where the database cannot be opened."""
        if self.store_url is None or is_store_of(self.store_url, self.root):
            return Store.in_folder(self.root)
        return Store(self.store_url)
