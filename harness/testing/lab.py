"""A temporary folder in which whole suites run: the fixture ``harness_lab``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard
    from harness.records.record import RunRecord
    from harness.running.settings import Settings
    from harness.suites.suite import Suite


class Lab:
    """Runs suites in a folder of its own, with real child processes, as ``harness run`` does.

    Args:
        root: the folder; it is made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._suite: Suite | None = None

    def run(self, suite: str | Mapping[str, Any]) -> list[RunRecord]:
        """Does what is missing of a suite, and returns the records of all its runs.

        Args:
            suite: the text of a TOML file, or its content as a mapping; without a title or seeds it gets them. A
                training that fails is a record that says so, not an exception.

        Raises:
            ValueError: the suite cannot be used: an unknown name, a wrong hyperparameter, missing data.
        """
        from harness.running.coordinator import plan_suite, run_plan

        self._suite = self._parse(suite)
        return run_plan(plan_suite(self._suite, self._settings)).records

    def record(self, suite: str | Mapping[str, Any]) -> RunRecord:
        """Runs a suite of one run, and returns its record.

        Raises:
            ValueError: the suite has several runs.
        """
        records = self.run(suite)
        if len(records) != 1:
            raise ValueError(f"the suite has {len(records)} runs, not one")
        return records[0]

    def board(self) -> Leaderboard:
        """Returns the leaderboard of the suite that was run last.

        Raises:
            ValueError: none was.
        """
        from harness.boards.leaderboard import Leaderboard
        from harness.records.archive import collect
        from harness.running.coordinator import plan_suite

        if self._suite is None:
            raise ValueError("run a suite before you ask for its board")
        planned = plan_suite(self._suite, self._settings).runs()
        keys = {run.record.identity: run.record.key for run in planned}
        archive = collect(self._suite, self._settings.artifacts, current_keys=keys)
        return Leaderboard(archive.records, suite=self._suite, per_image=archive.per_image)

    def close(self) -> None:
        """Closes the store."""
        settings = vars(self).get("_settings")
        if settings is not None and "store" in vars(settings.artifacts):
            settings.artifacts.store.close()

    @cached_property
    def _settings(self) -> Settings:
        from harness.records.store import Artifacts
        from harness.running.settings import Settings

        return Settings(Artifacts(self.root / "artifacts"), jobs=1, device="cpu", redo_stale=True)

    def _parse(self, suite: str | Mapping[str, Any]) -> Suite:
        from harness.suites.suite import Suite

        content = tomllib.loads(suite) if isinstance(suite, str) else dict(suite)
        return Suite.parse({"title": "lab", "seeds": [0], **content}, name="lab", source="harness_lab")
