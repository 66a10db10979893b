"""What is there of a planned run already: hit, resume, missing, stale, failed, ... Looks; does nothing.

A run that another artifact folder with the same store has done is a ``hit``; where a figure of it is missing, it is
``elsewhere``: its weights are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from harness.interface.executor import Stage
from harness.records.record import FAILURES, Failure, RunRecord, ScoreRecord
from harness.records.store import Store
from harness.running.settings import Settings

RunState = Literal["hit", "resume", "missing", "scores missing", "stale", "failed", "skipped", "elsewhere"]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        record: the run as it will be described: name, key, identity, spec; no results.
        state: what is there already.
        stages: quality and cost figures that are missing.
        speed_stages: speeds that are missing; measured alone, after everything else.
        stale_stages: figures that an older version of a metric computed.
        stale_run: for state ``stale``, the run of the same identity whose code or data have changed since.
        damaged: files of the run that cannot be used, and why: what they held is done again.
    """

    record: RunRecord
    state: RunState
    stages: tuple[Stage, ...] = ()
    speed_stages: tuple[Stage, ...] = ()
    stale_stages: tuple[str, ...] = ()
    stale_run: str | None = None
    damaged: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        """The run's name."""
        return self.record.run


def inspect(planned: PlannedRun, settings: Settings, *, retry_failed: bool) -> PlannedRun:
    """Returns a planned run with the state that it is in, and the figures that are missing."""
    return _Inspection(settings, retry_failed).of_run(planned)


@dataclass(frozen=True)
class _Inspection:
    settings: Settings
    retry_failed: bool

    def of_run(self, planned: PlannedRun) -> PlannedRun:
        folder, store = self.settings.artifacts.folder(planned.run), self.settings.artifacts.store
        planned = replace(planned, damaged=tuple(f"{file.name}: {why}" for file, why in folder.damage().items()))
        if store.keeps_arrays and folder.description() is None and not planned.damaged:
            record = store.get(planned.run)
            if record is not None and not record.is_unfinished:
                return self._of_record(planned, record)
        failure = folder.failure()
        if failure is not None and (state := self._closed(failure)) is not None:
            return replace(planned, state=state, stages=(), speed_stages=())
        if folder.fit() is None:
            redo = self.settings.redo_stale or folder.description() is not None
            stale = None if redo else _stale_twin(planned.record, store)
            if stale is not None:
                return replace(planned, state="stale", stale_run=stale)
            return replace(planned, state="resume" if folder.has_state() else "missing")
        return self._of_scores(planned, folder.score)

    def _of_record(self, planned: PlannedRun, record: RunRecord) -> PlannedRun:
        """Of a run that was done with another artifact folder, which shares this one's store."""
        if record.failure is not None:
            state = self._closed(record.failure)
            return planned if state is None else replace(planned, state=state, stages=(), speed_stages=())
        planned = self._of_scores(planned, record.scores.get)
        if planned.state == "scores missing":
            return replace(planned, state="elsewhere", stages=(), speed_stages=())
        return planned

    def _closed(self, failure: Failure) -> Literal["skipped", "failed"] | None:
        """Whether a run that failed stays as it is; None: it is tried again."""
        if failure.type == "Unsupported":
            return "skipped"
        return None if self.retry_failed or failure.is_temporary else "failed"

    def _of_scores(self, planned: PlannedRun, find: Callable[[str], ScoreRecord | None]) -> PlannedRun:
        found = {stage: find(stage.name) for stage in (*planned.stages, *planned.speed_stages)}
        missing = {stage for stage, score in found.items() if score is None or self._is_wanted_again(score, stage)}
        there = {stage: score for stage, score in found.items() if score is not None and stage not in missing}
        stale = tuple(stage.name for stage, score in there.items() if score.key != stage.key)
        failed = any(score.status in FAILURES for stage, score in there.items() if score.key == stage.key)
        state: RunState = "scores missing" if missing else "failed" if failed else "stale" if stale else "hit"
        return replace(
            planned,
            state=state,
            stages=tuple(stage for stage in planned.stages if stage in missing),
            speed_stages=tuple(stage for stage in planned.speed_stages if stage in missing),
            stale_stages=stale,
        )

    def _is_wanted_again(self, score: ScoreRecord, stage: Stage) -> bool:
        if score.key != stage.key:
            return self.settings.redo_stale
        if score.status not in FAILURES:
            return False
        return self.retry_failed or (score.failure is not None and score.failure.is_temporary)


def _stale_twin(record: RunRecord, store: Store) -> str | None:
    """Returns the newest trained run of the same identity and another key."""
    twins = [twin for twin in store.records(identities=[record.identity]) if twin.key != record.key]
    trained = [twin for twin in twins if twin.fit is not None]
    return max(trained, key=lambda twin: twin.created).run if trained else None
