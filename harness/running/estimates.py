"""How long runs will take: as long as those of the same row took, in the store or beside the suite; no guesses."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean

from harness.records.archive import ArchiveError, read_archive
from harness.records.record import RunRecord, identity_of
from harness.running.planning import Plan, PlannedRun
from harness.support.environment import DeviceTokens, choose_device
from harness.support.numbers import duration


class Estimates:
    """What is known of the time that a plan's runs take. In words it is empty where there is nothing to do."""

    def __init__(self, plan: Plan) -> None:
        runs = [run for run in plan.runs() if run.state in ("missing", "resume", "scores missing")]
        threads = max((run.record.spec.threads for run in runs), default=1)
        self._at_a_time = DeviceTokens(plan.settings.device, jobs=plan.settings.jobs, threads=threads).total
        self._earlier = list[defaultdict[tuple[str, str], list[RunRecord]]]()
        for records in _sources(plan, {run.record.spec.model for run in runs}) if runs else ():
            self._earlier.append(defaultdict(list))
            for record in records:
                self._earlier[-1][_row_of(record, str(record.environment.get("device")))].append(record)
        self._parts = [(self.seconds(run) if run.wants_work else 0.0, self.seconds(speeds_of(run))) for run in runs]
        speeds = [seconds for _, seconds in self._parts if seconds is not None]
        self.speeds = sum(speeds) if len(speeds) == len(runs) else None  # one after another; None: not known

    def seconds(self, run: PlannedRun) -> float | None:
        """Returns what is missing of a run, speeds apart, took in the mean of earlier runs; None: never seen."""
        row = _row_of(run.record, str(choose_device(run.record.spec.device)))
        found = (seconds_of(run, records[row]) for records in self._earlier)
        return next((seconds for seconds in found if seconds is not None), None)

    def __str__(self) -> str:
        known = [(work, speeds) for work, speeds in self._parts if work is not None and speeds is not None]
        if not known:
            return "time not known: nothing of it ran before" * bool(self._parts)
        work, new = [seconds for seconds, _ in known], len(self._parts) - len(known)
        total = max(*work, sum(work) / self._at_a_time) + sum(speeds for _, speeds in known)
        of = f" for {len(known)} of {len(self._parts)} runs; {new} never ran before, or not with all figures"
        return f"about {duration(total)}, {self._at_a_time} at a time" + of * (new > 0)


def _sources(plan: Plan, models: set[str]) -> list[Sequence[RunRecord]]:
    """The records of the store, then those beside the suite, for rows of which the store has no whole run."""
    sources: list[Sequence[RunRecord]] = [plan.settings.artifacts.store.records(models=models)]
    with suppress(ArchiveError):
        sources += [read_archive(plan.suite.with_suffix("")).records] if plan.suite is not None else []
    return sources


def speeds_of(run: PlannedRun) -> PlannedRun:
    """Returns the measuring of a trained run's speeds, as a run of its own."""
    return replace(run, state="scores missing", stages=run.speed_stages, speed_stages=())


def seconds_of(run: PlannedRun, records: Sequence[RunRecord]) -> float | None:
    """Returns what the missing parts of a run took in the mean of some records; None where none of them has a part."""
    scores = [score for record in records for score in record.scores.values() if score.seconds is not None]
    parts = [[score.seconds or 0.0 for score in scores if score.metric == stage.metric] for stage in run.stages]
    if run.state in ("missing", "resume"):
        parts.append([record.fit.seconds for record in records if record.fit is not None])
    return sum(map(fmean, parts)) if all(parts) else None


def _row_of(record: RunRecord, device: str) -> tuple[str, str]:
    """What runs of any seed, and of any code, on a kind of device have in common."""
    return identity_of(record.spec.model_copy(update={"seed": 0})), device.partition(":")[0]
