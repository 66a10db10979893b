"""Runs a suite: plans it, does what is missing in phases, returns the records. Only this process writes the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.discovery.manager import plugin_manager
from harness.interface.spec import RunSpec
from harness.records.record import FAILURES, RunRecord
from harness.records.selection import best_configuration
from harness.running.dispatch import Dispatcher, Means, unfinished
from harness.running.leases import Leases
from harness.running.planning import Artifacts, PlannedRow, PlannedRun, Planner, check_names
from harness.running.reporter import Reporter
from harness.suites.suite import Row, Suite
from harness.support.interrupts import Interrupts
from harness.support.limits import Limits


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        artifacts: where runs and store live.
        data: where data live; None takes ``HARNESS_DATA`` or the cache folder.
        jobs: how many child processes at a time; 0 chooses: one a core and thread, one on an accelerator.
        device: ``auto`` or a device name, for every run.
        executor: the executor's registered name.
        blocked: plugins that are not imported.
        redo_stale, retry_failed: plan what is stale, or has failed, as missing.
        limits: what a run may take; where they say nothing, the suite's count.
    """

    artifacts: Artifacts
    data: Path | None = None
    jobs: int = 0
    device: str = "auto"
    executor: str = "local"
    blocked: tuple[str, ...] = ()
    redo_stale: bool = False
    retry_failed: bool = False
    limits: Limits = field(default_factory=Limits)

    def planner(self, code_folder: Path) -> Planner:
        """Returns a planner for these settings; names such as ``my_model.py:KDE`` are relative to ``code_folder``."""
        return Planner(
            plugin_manager(self.blocked).at(code_folder),
            self.artifacts,
            self.data,
            redo_stale=self.redo_stale,
            retry_failed=self.retry_failed,
            blocked=self.blocked,
        )


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
        return [record for record in self.records if unfinished(record)]


def plan_suite(suite: Suite, settings: Settings, planner: Planner | None = None) -> list[PlannedRow]:
    """Returns what there is to do for a suite.

    Raises:
        ValueError: the first unknown name, wrong hyperparameter or missing data.
    """
    planner = planner or settings.planner(suite.folder)
    rows = [_on_device(row, settings.device) for row in suite.rows()]
    check_names(planner.plugins, rows)
    return [planner.plan_row(row) for row in rows]


def run_suite(
    suite: Suite,
    settings: Settings,
    reporter: Reporter | None = None,
    plan: list[PlannedRow] | None = None,
    *,
    partial: bool = False,
) -> Outcome:
    """Does what is missing of a suite, and returns the records of all its runs.

    Args:
        suite: what is wanted.
        settings: how to run.
        reporter: hears how it goes.
        plan: what ``plan_suite`` gave, if it was asked already.
        partial: the suite is a part or a variation of the file; its runs are added to what the suite refers to.

    Ctrl-C once: running jobs save their state and stop, and the outcome says ``interrupted``; twice: they are killed.
    """
    planner = settings.planner(suite.folder)
    rows = plan if plan is not None else plan_suite(suite, settings, planner)
    runs = _unique(run for row in rows for run in row.runs())
    store = settings.artifacts.store
    if suite.name:
        if not partial:
            store.forget_suite(suite.name)
        store.refer(suite.name, [run.stale_run or run.run for run in runs])
    if settings.retry_failed:
        for run in runs:
            settings.artifacts.folder(run.run).forget_failures()
        planner.retry_failed = False  # what fails once more is not tried a third time
    interrupts = Interrupts()
    means = Means(settings.executor, settings.device, settings.jobs, settings.limits.or_else(suite.limits))
    dispatcher = Dispatcher(planner, means, Leases(store), interrupts, reporter or Reporter())
    interrupted = False
    with interrupts.noting():
        try:
            dispatcher.run_phase("fit and score", runs)
            chosen, tried = _choose(rows, settings.artifacts)
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
    names = [run.run for run in runs]
    records = [record for record in (store.get(name) for name in names) if record is not None]
    return Outcome(records, interrupted)


def run(spec: RunSpec, settings: Settings, reporter: Reporter | None = None) -> RunRecord:
    """Does one run, or finds it done, and returns its record.

    Raises:
        ValueError: an unknown name, wrong hyperparameter or missing data; or the run is stale, and is not to be redone.
        KeyboardInterrupt: Ctrl-C; the state is saved.
    """
    row = Row(spec.model, spec.dataset, spec.model, None, ((spec,),))
    suite_row = _on_device(row, settings.device if spec.device == "auto" else spec.device)
    planner = settings.planner(Path())
    check_names(planner.plugins, [suite_row])
    planned = planner.plan_row(suite_row)
    single = Suite.parse(
        {"title": "", "datasets": [spec.dataset], "models": [{"name": spec.model}]}, name="", source=""
    )
    stale = planned.configurations[0][0].stale_run
    if stale is not None:
        raise ValueError(f"{stale} is stale: code or data have changed since; redo_stale runs it again")
    outcome = run_suite(single, settings, reporter, [planned], partial=True)
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


def _on_device(row: Row, device: str) -> Row:
    configurations = tuple(
        tuple(spec.model_copy(update={"device": device}) for spec in configuration)
        for configuration in row.configurations
    )
    return replace(row, configurations=configurations)


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
