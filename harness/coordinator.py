"""Runs what a plan says: jobs to the executor, results from the runs' folders into the store, which only it writes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from harness.datasets.folder import DataFolder
from harness.executors.base import INTERRUPTED, Executor, Handle
from harness.planning import Artifacts, PlannedRow, PlannedRun, Planner, check_names
from harness.plugins import PluginManager, Problem, plugin_manager
from harness.record import Failure, RunRecord
from harness.run_folder import RunFolder
from harness.runner import Job, Stage
from harness.selection import best_configuration
from harness.spec import RunSpec
from harness.suite import Row, Suite


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

    def problem(self, problem: Problem) -> None:
        """An observer plugin failed."""


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
    """

    artifacts: Artifacts
    data: Path | None = None
    jobs: int = 0
    device: str = "auto"
    executor: str = "local"
    blocked: tuple[str, ...] = ()
    redo_stale: bool = False
    retry_failed: bool = False

    def planner(self) -> Planner:
        """Returns a planner for these settings."""
        return Planner(
            plugin_manager(self.blocked),
            self.artifacts,
            DataFolder.resolve(self.data),
            redo_stale=self.redo_stale,
            retry_failed=self.retry_failed,
        )


@dataclass
class Outcome:
    """What came of a suite: the records of all its runs, and whether it was interrupted."""

    records: list[RunRecord] = field(default_factory=list)
    interrupted: bool = False

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that failed."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def unfinished(self) -> list[RunRecord]:
        """The runs that were stopped."""
        return [record for record in self.records if record.status in ("pending", "running", "interrupted")]


def plan_suite(suite: Suite, settings: Settings, planner: Planner | None = None) -> list[PlannedRow]:
    """Returns what there is to do for a suite.

    Raises:
        ValueError: the first unknown name, wrong hyperparameter or missing data.
    """
    planner = planner or settings.planner()
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
    planner = settings.planner()
    rows = plan if plan is not None else plan_suite(suite, settings, planner)
    coordinator = _Coordinator(planner.plugins, settings, reporter or Reporter())
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
    interrupted = False
    try:
        with coordinator.noting_interrupts():
            coordinator.run_phase("fit and score", runs)
            chosen, tried = _choose(rows, settings.artifacts)
            again = [planner.plan_run(run.record.spec, speed=speed) for run, speed in chosen]
            grids = [run for run in again if run.run in tried]
            for run in grids:
                coordinator.note_tried(run, tried[run.run])
            coordinator.run_phase("score the chosen", grids)
            speeds = [replace(run, stages=()) for run in again if run.speed_stages and run.state == "scores missing"]
            coordinator.run_phase("measure speed", speeds, exclusive=True)
    except KeyboardInterrupt:
        interrupted = True
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
    planner = settings.planner()
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


class _Coordinator:
    def __init__(self, plugins: PluginManager, settings: Settings, reporter: Reporter) -> None:
        self._plugins, self._settings, self._reporter = plugins, settings, reporter
        self._store = settings.artifacts.store
        self._executor: Executor | None = None
        self._interrupted = False

    @contextmanager
    def noting_interrupts(self) -> Iterator[None]:
        """Makes the first Ctrl-C a note, which no start of a job and no write to the store is cut in two by."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield  # only the main thread may set handlers; and who ignores Ctrl-C is left alone
            return

        def note(*_: object) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def run_phase(self, name: str, runs: Sequence[PlannedRun], *, exclusive: bool = False) -> None:
        waiting = deque(run for run in runs if self._wants_work(run, exclusive))
        for run in runs:
            if run not in waiting:
                self._ingest_finished(run)
        if not waiting:
            return
        self._reporter.phase(name, len(waiting))
        total, slots = len(waiting), 1 if exclusive else self._slots(waiting)
        running: dict[str, tuple[tuple[Stage, ...], Handle]] = {}
        try:
            while waiting or running:
                if self._interrupted:
                    raise KeyboardInterrupt
                while waiting and len(running) < slots:
                    planned = waiting.popleft()
                    stages = planned.speed_stages if exclusive else planned.stages
                    running[planned.run] = (stages, self._start(planned, stages))
                    self._reporter.started(planned.run, total)
                time.sleep(0.05)
                self._poll(running)
        except KeyboardInterrupt:
            self._stop(running)
            raise

    def note_tried(self, planned: PlannedRun, configurations: int) -> None:
        self._folder(planned.run).begin(planned.record.model_copy(update={"configurations_tried": configurations}))

    def _wants_work(self, run: PlannedRun, exclusive: bool) -> bool:
        if exclusive:
            return bool(run.speed_stages)
        return run.state in ("missing", "resume") or (run.state == "scores missing" and bool(run.stages))

    def _slots(self, runs: Iterable[PlannedRun]) -> int:
        if self._settings.jobs:
            return self._settings.jobs
        on_cpu = self._settings.device == "cpu" or not torch.accelerator.is_available()
        threads = max(run.record.spec.threads for run in runs)
        return max(1, (os.cpu_count() or 1) // threads) if on_cpu else 1

    def _start(self, planned: PlannedRun, stages: tuple[Stage, ...]) -> Handle:
        if self._executor is None:
            self._executor = self._plugins.load("executor", self._settings.executor)()
        folder = self._folder(planned.run)
        known = folder.description()
        # what is asked for now (metrics, device) may differ from what it was
        tried = 1 if known is None else known.configurations_tried
        folder.begin(planned.record.model_copy(update={"configurations_tried": tried}))
        self._store.put(folder.collect().model_copy(update={"status": "running"}))
        for problem in self._plugins.notify("run_started", spec=planned.record.spec):
            self._reporter.problem(problem)
        assert self._executor is not None
        return self._executor.start(Job(folder.path.resolve(), stages, self._settings.data, self._settings.blocked))

    def _poll(self, running: dict[str, tuple[tuple[Stage, ...], Handle]], *, stopping: bool = False) -> None:
        for run, (stages, handle) in list(running.items()):
            code = handle.exit_code()
            if code is None:
                self._reporter.progress(run, self._folder(run).progress())
                continue
            del running[run]
            # a child that was told to stop before it could listen dies of the signal
            self._ingest(run, stages, INTERRUPTED if stopping and code == -signal.SIGTERM else code)

    def _ingest(self, run: str, stages: tuple[Stage, ...], code: int) -> None:
        folder = self._folder(run)
        unfinished = folder.fit() is None or any(_is_missing(folder, stage) for stage in stages)
        if folder.failure() is None and (code not in (0, INTERRUPTED) or (code == 0 and unfinished)):
            folder.write_failure(_died(folder, code))
        record = folder.collect()
        if code == INTERRUPTED and unfinished and record.status == "done":
            record = record.model_copy(update={"status": "interrupted"})
        self._store.put(record)
        self._reporter.finished(record)
        for problem in self._plugins.notify("run_finished", record=record):
            self._reporter.problem(problem)

    def _ingest_finished(self, planned: PlannedRun) -> None:
        """Puts a run that a killed coordinator left complete, but not stored, into the store."""
        folder = self._folder(planned.run)
        if folder.description() is None:
            return
        record, known = folder.collect(), self._store.get(planned.run)
        if known is None or known != record.model_copy(update={"created": known.created}):
            self._store.put(record)

    def _folder(self, run: str) -> RunFolder:
        return self._settings.artifacts.folder(run)

    def _stop(self, running: dict[str, tuple[tuple[Stage, ...], Handle]]) -> None:
        for _, handle in running.values():
            handle.stop()
        deadline = time.monotonic() + 30
        try:
            while running and time.monotonic() < deadline:
                time.sleep(0.05)
                self._poll(running, stopping=True)
        finally:
            for run, (_, handle) in running.items():
                handle.kill()
                self._store.put(self._folder(run).collect().model_copy(update={"status": "interrupted"}))


def _died(folder: RunFolder, code: int) -> Failure:
    lines = folder.log.read_text(errors="replace").splitlines() if folder.log.exists() else []
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    if code == 0:
        how += " before its work was done"
    stage = "fit" if folder.fit() is None else "score"
    return Failure(
        stage=stage, type="Died", message=f"the child process {how}", traceback="\n".join(lines[-20:]) or None
    )


def _is_missing(folder: RunFolder, stage: Stage) -> bool:
    score = folder.score(stage.name)
    return score is None or score.key != stage.key


def _choose(rows: Sequence[PlannedRow], artifacts: Artifacts) -> tuple[list[tuple[PlannedRun, bool]], dict[str, int]]:
    """Returns the runs whose figures go on the boards, whether speeds are measured on each, and, by run, the number of
    configurations that the best on the validation split was chosen from.
    """
    chosen: list[tuple[PlannedRun, bool]] = []
    tried: dict[str, int] = {}
    for row in rows:
        records = [[_collected(artifacts.folder(run.run)) for run in runs] for runs in row.configurations]
        best = best_configuration(records)
        for index, run in enumerate(row.configurations[best] if best is not None else ()):
            chosen.append((run, index == 0))
            if len(row.configurations) > 1:
                tried[run.run] = len(row.configurations)
    return chosen, tried


def _collected(folder: RunFolder) -> RunRecord | None:
    return folder.collect() if folder.description() is not None else None


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
