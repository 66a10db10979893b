"""Runs a suite: plans it, does what is missing in phases, returns the records. Only this process writes the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.interface.spec import RunSpec
from harness.records.record import FAILURES, RunRecord, best_configuration
from harness.records.store import Artifacts
from harness.running.dispatch import Dispatcher
from harness.running.inspection import PlannedRun
from harness.running.leases import Leases
from harness.running.planning import PlannedRow, Planner
from harness.running.reporter import Reporter
from harness.running.settings import Settings
from harness.suites.suite import Row, Suite
from harness.support.limits import Interrupts, Limits


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        rows: of the suite.
        planner: what planned them, and will look again.
        limits: what a run may take.
        suite: the name of the suite that refers to the runs; empty for runs of no suite.
    """

    rows: tuple[PlannedRow, ...]
    planner: Planner
    limits: Limits
    suite: str = ""

    def runs(self) -> list[PlannedRun]:
        """Returns all runs of all rows, each once, with what any row wants of it."""
        return _unique(run for row in self.rows for run in row.runs())


@dataclass
class Outcome:
    """What came of a suite: the records of all its runs, and whether it was interrupted."""

    records: list[RunRecord] = field(default_factory=list)
    interrupted: bool = False

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that failed."""
        return [record for record in self.records if record.status in FAILURES]

    @property
    def unfinished(self) -> list[RunRecord]:
        """The runs that were stopped."""
        return [record for record in self.records if record.is_unfinished]


def plan_suite(suite: Suite, settings: Settings) -> Plan:
    """Returns what there is to do for a suite.

    Raises:
        ValueError: the first unknown name, wrong hyperparameter or missing data.
    """
    planner, rows = Planner(settings, suite.folder), suite.rows()
    planner.check_names(rows)
    limits = settings.limits.or_else(suite.limits)
    return Plan(tuple(planner.plan_row(row) for row in rows), planner, limits, suite.name)


def run_plan(plan: Plan, reporter: Reporter | None = None, *, partial: bool = False) -> Outcome:
    """Does what is missing, and returns the records of all runs.

    Args:
        plan: what there is to do.
        reporter: hears how it goes.
        partial: the plan is of a part or a variation of its suite; its runs are added to what the suite refers to.

    Ctrl-C once: running jobs save their state and stop, and the outcome says ``interrupted``; twice: they are killed.
    """
    planner, runs = plan.planner, plan.runs()
    artifacts = planner.settings.artifacts
    store = artifacts.store
    if plan.suite:
        store.refer(plan.suite, [run.stale_run or run.run for run in runs], anew=not partial)
    if planner.retry_failed:
        for run in runs:
            artifacts.folder(run.run).forget()
        planner.retry_failed = False  # what fails once more is not tried a third time
    interrupts = Interrupts()
    dispatcher = Dispatcher(planner, plan.limits, Leases(store), interrupts, reporter or Reporter())
    interrupted = False
    with interrupts.noting():
        try:
            dispatcher.run_phase("fit and score", runs)
            chosen, tried = _choose(plan.rows, artifacts)
            again = [planner.plan_run(run.record.spec, speed=speed) for run, speed in chosen]
            grids = [run for run in again if run.run in tried]
            for run in grids:
                dispatcher.note_tried(run, tried[run.run])
            dispatcher.run_phase("score the chosen", grids)
            speeds = [replace(run, stages=()) for run in again if run.speed_stages and run.state == "scores missing"]
            dispatcher.run_phase("measure speed", speeds, exclusive=True)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            dispatcher.close()
    records = [record for record in (store.get(run.run) for run in runs) if record is not None]
    return Outcome(records, interrupted)


def run(spec: RunSpec, settings: Settings, reporter: Reporter | None = None) -> RunRecord:
    """Does one run, or finds it done, and returns its record.

    Raises:
        ValueError: an unknown name, wrong hyperparameter or missing data; or the run is stale, and is not to be redone.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    planner, row = Planner(settings, Path()), Row(spec.model, spec.dataset, spec.model, None, ((spec,),))
    planner.check_names([row])
    plan = Plan((planner.plan_row(row),), planner, settings.limits)
    [planned] = plan.runs()
    if planned.stale_run is not None:
        raise ValueError(f"{planned.stale_run} is stale: code or data have changed since; redo_stale runs it again")
    outcome = run_plan(plan, reporter)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.records[0]


def _choose(rows: Sequence[PlannedRow], artifacts: Artifacts) -> tuple[list[tuple[PlannedRun, bool]], dict[str, int]]:
    """Returns the runs whose figures go on the boards, whether speeds are measured on each, and, by run, the number of
    configurations that the best on the validation split was chosen from.
    """
    chosen: list[tuple[PlannedRun, bool]] = []
    tried: dict[str, int] = {}
    for row in rows:
        records = [[_collected(artifacts, run.run) for run in runs] for runs in row.configurations]
        best = best_configuration(records)
        for index, run in enumerate(row.configurations[best] if best is not None else ()):
            chosen.append((run, index == 0))
            if len(row.configurations) > 1:
                tried[run.run] = len(row.configurations)
    return chosen, tried


def _collected(artifacts: Artifacts, run: str) -> RunRecord | None:
    folder = artifacts.folder(run)
    return folder.collect() if folder.description() is not None else artifacts.store.get(run)


def _unique(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Joins what several rows want of one run: a grid may hold a configuration that is a row of its own."""
    found: dict[str, PlannedRun] = {}
    for run in runs:
        known = found.get(run.run)
        if known is not None:
            run = replace(
                known if known.state == "scores missing" else run,
                stages=tuple(dict.fromkeys((*known.stages, *run.stages))),
                speed_stages=tuple(dict.fromkeys((*known.speed_stages, *run.speed_stages))),
            )
        found[run.run] = run
    return list(found.values())
