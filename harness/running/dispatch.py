"""Dispatch: gives each run a lease, a device and a child process, and takes in what comes of it.

Nothing that goes wrong with one run stops another: a child that dies is a record with what is known of it, one that
dies while it scores loses that figure alone, and a store that is away for a while is written later.
"""

from __future__ import annotations

import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.interface.executor import INTERRUPTED, Executor, Handle, Job, Stage
from harness.records.record import Failure
from harness.records.run_folder import RunFolder
from harness.records.store import StoreError
from harness.running.failures import count_oom_kills, failure_from, failure_of
from harness.running.ingest import Ingest
from harness.running.inspection import PlannedRun
from harness.running.leases import Leases
from harness.running.planning import Planner
from harness.running.reporter import Reporter
from harness.running.scoring import failed_score
from harness.support.environment import DeviceTokens
from harness.support.limits import Interrupts, Limits

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_TELL_SECONDS = 10.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class _Running:
    planned: PlannedRun
    stages: tuple[Stage, ...]
    handle: Handle
    device: str
    oom_kills: int


class Dispatcher:
    """Does phases of runs.

    Args:
        planner: looks again at what there is to do for a run, once it is ours; its settings say how runs are done.
        limits: what each run may take.
        leases: which runs are ours.
        interrupts: whether Ctrl-C was pressed.
        reporter: hears how it goes.
    """

    def __init__(
        self, planner: Planner, limits: Limits, leases: Leases, interrupts: Interrupts, reporter: Reporter
    ) -> None:
        self._planner, self._limits, self._leases = planner, limits, leases
        self._interrupts, self._reporter = interrupts, reporter
        self._plugins, self._settings = planner.plugins, planner.settings
        self._artifacts = self._settings.artifacts
        self._ingest = Ingest(self._artifacts, reporter)
        self._executor: Executor | None = None
        self._store_away_since: float | None = None
        self._told: set[str] = set()
        self._tell_at = 0.0

    def run_phase(self, name: str, runs: Sequence[PlannedRun], *, exclusive: bool = False) -> None:
        """Does what is missing of some runs.

        Args:
            name: for the reporter.
            runs: what there is to do.
            exclusive: one at a time, alone on the machine among all coordinators of the store: speeds.

        Raises:
            KeyboardInterrupt: Ctrl-C; the running jobs have saved their state.
            StoreError: the store cannot say which runs are ours.
        """
        waiting = deque(run for run in runs if wants_work(run, exclusive))
        for run in runs:
            if run not in waiting:
                self._take_in_finished(run)
        if not waiting:
            return
        total = len(waiting)
        if self._executor is None:
            self._executor = self._plugins.load("executor", self._settings.executor)()
        self._reporter.phase(name, total)
        threads = max(run.record.spec.threads for run in waiting)
        tokens = DeviceTokens(self._settings.device, jobs=1 if exclusive else self._settings.jobs, threads=threads)
        elsewhere: deque[PlannedRun] = deque()
        running: dict[str, _Running] = {}
        look_at = time.monotonic()
        try:
            while waiting or running or elsewhere:
                self._interrupts.check()
                elsewhere.extend(self._give_up_lost(running, tokens))
                if not waiting and elsewhere and time.monotonic() >= look_at:
                    waiting.extend(elsewhere)
                    elsewhere.clear()
                    look_at = time.monotonic() + _LOOK_SECONDS
                while waiting and (device := tokens.take()) is not None:
                    planned, started = waiting.popleft(), None
                    try:
                        if self._claim(planned, exclusive):
                            started = self._start(planned, device, exclusive, total)
                        else:
                            elsewhere.append(planned)
                    except StoreError as error:
                        self._be_patient(error)
                        elsewhere.append(planned)
                    if started is None:
                        tokens.give(device)
                    else:
                        running[planned.run] = started
                time.sleep(_POLL_SECONDS)
                for ended, rest in self._poll(running):
                    tokens.give(ended.device)
                    if rest is not None:
                        waiting.append(rest)
        except BaseException:
            self._stop(running)
            raise

    def note_tried(self, planned: PlannedRun, configurations: int) -> None:
        """Notes from how many configurations a run was chosen."""
        folder = self._folder(planned.run)
        if folder.description() is not None:
            folder.begin(planned.record.model_copy(update={"configurations_tried": configurations}))

    def close(self) -> None:
        """Stores what is not stored yet, and gives all leases back.

        Raises:
            StoreError: the store does not take it.
        """
        if self._executor is not None:
            self._executor.close()
        try:
            self._ingest.flush(patience_seconds=2 * self._artifacts.store.timeout_seconds)
        finally:
            self._leases.release_all()

    def _claim(self, planned: PlannedRun, exclusive: bool) -> bool:
        if not self._leases.try_acquire(planned.run):
            self._tell_holder(planned.run)
            return False
        if exclusive and not self._leases.try_acquire(speed := f"speed@{socket.gethostname()}"):
            self._leases.release(planned.run)
            self._tell_holder(speed)
            return False
        self._store_away_since = None
        return True

    def _be_patient(self, error: StoreError) -> None:
        """Waits for a store that is locked or away, for twice the time that it is given for an answer."""
        now = time.monotonic()
        if self._store_away_since is None:
            self._store_away_since = now
            self._reporter.note(f"{error}; waiting for it")
        if not error.transient or now - self._store_away_since > 2 * self._artifacts.store.timeout_seconds:
            raise error

    def _tell_holder(self, name: str) -> None:
        now = time.monotonic()
        if now < self._tell_at:  # many runs may be waited for
            return
        self._tell_at = now + _TELL_SECONDS
        holder = self._leases.holder(name)
        words = "another process" if holder is None else f"process {holder.pid} on {holder.host}"
        if words not in self._told:
            self._told.add(words)
            self._reporter.note(f"{words} works on this store too: runs that are with it are waited for")

    def _give_up_lost(self, running: dict[str, _Running], tokens: DeviceTokens) -> list[PlannedRun]:
        """Ends what another coordinator has taken over, because this one was silent for too long."""
        try:
            lost = self._leases.beat()
        except StoreError:
            return []
        given_up = []
        for run in lost & running.keys():
            item = running.pop(run)
            item.handle.kill()
            tokens.give(item.device)
            self._reporter.note(f"{run} was taken over by another coordinator: this one did not answer in time")
            given_up.append(item.planned)
        return given_up

    def _start(self, planned: PlannedRun, device: str, exclusive: bool, total: int) -> _Running | None:
        """Starts a run that is ours; None if there is nothing to do any more, or it could not be started."""
        planned = self._planner.look_again(planned)
        if not wants_work(planned, exclusive):
            self._take_in_finished(planned)
            self._leases.release(planned.run)
            if (record := self._artifacts.store.get(planned.run)) is not None:
                self._reporter.finished(record)
            return None
        folder = self._folder(planned.run)
        stages = planned.speed_stages if exclusive else planned.stages
        try:
            self._prepare(planned, stages, folder)
            self._reporter.started(planned.run, total)
            for problem in self._plugins.notify("run_started", spec=planned.record.spec):
                self._reporter.problem(problem)
            assert self._executor is not None
            job = Job(
                folder.path.resolve(),
                stages,
                self._settings.data,
                self._settings.blocked,
                self._plugins.code_folder.resolve(),
                device,
                self._limits,
            )
            return _Running(planned, stages, self._executor.start(job), device, count_oom_kills())
        except OSError as error:
            self._take_in(planned, failure_from("start", error))
            return None

    def _prepare(self, planned: PlannedRun, stages: Sequence[Stage], folder: RunFolder) -> None:
        self._mend(planned, folder)
        folder.forget([stage.name for stage in stages], only_temporary=True)
        known = folder.description()
        # what is asked for now (metrics, device) may differ from what it was
        tried = 1 if known is None else known.configurations_tried
        folder.begin(planned.record.model_copy(update={"configurations_tried": tried}))
        folder.write_code_folder(self._plugins.code_folder)
        self._ingest.put(folder.collect().model_copy(update={"status": "running"}))

    def _mend(self, planned: PlannedRun, folder: RunFolder) -> None:
        """Sets aside what cannot be used of a run, so that it is done again, and says so."""
        damage = folder.damage()
        for file, why in damage.items():
            self._reporter.note(f"{planned.run}: {file.name}: {why}; set aside, and done again")
        if damage:
            folder.set_damage_aside()
            if folder.description() is None:
                folder.begin(planned.record)

    def _poll(
        self, running: dict[str, _Running], *, stopping: bool = False
    ) -> list[tuple[_Running, PlannedRun | None]]:
        """Takes in the jobs that have ended: each with what is left of its run after a figure that killed it."""
        ended = []
        for run, item in list(running.items()):
            code = item.handle.exit_code()
            if code is None:
                self._reporter.progress(run, self._folder(run).progress())
                continue
            del running[run]
            # a child that was told to stop before it could listen dies of the signal
            if stopping and code == -signal.SIGTERM:
                code = INTERRUPTED
            ended.append((item, self._conclude(item, code)))
        return ended

    def _conclude(self, item: _Running, code: int) -> PlannedRun | None:
        """Takes in a job that has ended; returns what is left of its run after a figure that killed the process."""
        folder = self._folder(item.planned.run)
        missing = [stage for stage in item.stages if _is_missing(folder, stage)]
        trained = folder.fit() is not None
        stopped = code == INTERRUPTED and item.handle.ended() is None
        failure: Failure | None = None
        rest: tuple[Stage, ...] = ()
        if folder.failure() is None and not stopped and (code != 0 or missing or not trained):
            at = str(folder.progress().get("stage", "set-up"))
            kills = count_oom_kills() - item.oom_kills
            failure = failure_of(at, code, item.handle.ended(), folder.log, oom_kills=kills)
            scoring = [stage for stage in missing if stage.name == at]
            if trained and scoring:
                rest = self._keep_failed_score(item, scoring[0], failure, missing)
                failure = None
            elif trained and not missing:
                failure = None  # all that was asked for is there: how the process ended does not matter
        if rest:
            return replace(item.planned, state="scores missing", stages=rest, speed_stages=rest)
        self._take_in(item.planned, failure, interrupted=stopped and bool(missing or not trained))
        return None

    def _keep_failed_score(
        self, item: _Running, stage: Stage, failure: Failure, missing: Sequence[Stage]
    ) -> tuple[Stage, ...]:
        folder = self._folder(item.planned.run)
        score = failed_score(self._plugins, item.planned.record.spec, stage, failure)
        try:
            folder.write_score(stage.name, score)
        except OSError as error:
            self._reporter.note(f"{item.planned.run}: {error}")
            return ()
        return tuple(other for other in missing if other != stage)

    def _take_in(self, planned: PlannedRun, failure: Failure | None, *, interrupted: bool = False) -> None:
        """Puts what a run's folder holds into the store, tells everybody, and gives its lease back."""
        folder = self._folder(planned.run)
        record = planned.record
        try:
            if failure is not None:
                folder.write_failure(failure)
            record = folder.collect()
        except OSError as error:  # no space left: the record has what the folder could not take
            failure = failure or failure_from("record", error)
            record = record.model_copy(update={"failure": failure, "status": failure.status})
        if interrupted and record.status not in ("failed", "skipped"):
            record = record.model_copy(update={"status": "interrupted"})
        self._ingest.put(record)
        self._release(planned.run)
        self._reporter.finished(record)
        for problem in self._plugins.notify("run_finished", record=record):
            self._reporter.problem(problem)

    def _take_in_finished(self, planned: PlannedRun) -> None:
        """Puts a run that a killed coordinator left complete, but not stored, into the store."""
        folder = self._folder(planned.run)
        if planned.damaged:
            self._mend(planned, folder)
        if folder.description() is None:
            return
        record, known = folder.collect(), self._artifacts.store.get(planned.run)
        if known is None or known != record.model_copy(update={"created": known.created}):
            self._ingest.put(record)

    def _release(self, run: str) -> None:
        try:
            self._leases.release(run)
            self._leases.release(f"speed@{socket.gethostname()}")
        except StoreError as error:
            self._reporter.note(f"{error}; its lease expires")

    def _folder(self, run: str) -> RunFolder:
        return self._artifacts.folder(run)

    def _stop(self, running: dict[str, _Running]) -> None:
        for item in running.values():
            item.handle.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        try:
            while running and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                self._poll(running, stopping=True)
        finally:
            for run, item in running.items():
                item.handle.kill()
                self._ingest.put(self._folder(run).collect().model_copy(update={"status": "interrupted"}))
                self._release(run)


def wants_work(run: PlannedRun, exclusive: bool) -> bool:
    """Tells whether a phase has something to do for a run."""
    if exclusive:
        return bool(run.speed_stages)
    return run.state in ("missing", "resume") or (run.state == "scores missing" and bool(run.stages))


def _is_missing(folder: RunFolder, stage: Stage) -> bool:
    score = folder.score(stage.name)
    return score is None or score.key != stage.key
