"""Dispatch: gives each run a lease, a device and a child process, and takes in what comes of it.

Nothing that goes wrong with one run stops another: a child that dies is a record with what is known of it, one that
dies while it scores loses that figure alone, and a store that is away for a while is written later.
"""

import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.interface.executor import INTERRUPTED, Executor, Handle, Job
from harness.interface.spec import place_of
from harness.records.record import Failure
from harness.records.run_folder import RunFolder
from harness.records.store import StoreError
from harness.running.failures import count_oom_kills, failure_from, failure_of
from harness.running.ingest import Ingest, Reporter
from harness.running.leases import Leases
from harness.running.planning import Plan, PlannedRun
from harness.running.worker import failed_score
from harness.support.environment import DeviceTokens
from harness.support.files import remove_leftovers
from harness.support.limits import Interrupts

_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class _Running:
    planned: PlannedRun
    handle: Handle
    device: str
    oom_kills: int


class Dispatcher:
    """Does phases of runs, as the plan says; while ``interrupts`` are noted, the first Ctrl-C ends a phase."""

    def __init__(self, plan: Plan, reporter: Reporter) -> None:
        self._plan, self._reporter, self.interrupts = plan, reporter, Interrupts()
        self._plugins, self._settings, self._artifacts = plan.plugins, plan.settings, plan.settings.artifacts
        self._leases, self._ingest = Leases(self._artifacts.store), Ingest(self._artifacts, reporter)
        self._executor: Executor | None = None
        self._waiting = deque[PlannedRun]()
        self._elsewhere = deque[PlannedRun]()  # with another coordinator; looked at again
        self._running: dict[str, _Running] = {}
        self._speed_lease = f"speed@{socket.gethostname()}"
        self._store_away_since: float | None = None
        self._told: set[str] = set()

    def run_phase(self, name: str, runs: Sequence[PlannedRun], *, exclusive: bool = False) -> None:
        """Does what is missing of some runs; ``exclusive``: speeds, one run at a time, alone among all coordinators."""
        for run in runs:
            if run.wants_work:
                self._waiting.append(run)
            else:
                self._take_in_finished(run)
        if not self._waiting:
            return
        if self._executor is None:
            self._executor = self._plugins.load("executor", self._settings.executor)()
        threads = max(run.record.spec.threads for run in self._waiting)
        tokens = DeviceTokens(self._settings.device, jobs=1 if exclusive else self._settings.jobs, threads=threads)
        self._reporter.phase(name, list(self._waiting), tokens.total)
        look_at = time.monotonic()
        try:
            while self._waiting or self._running or self._elsewhere:
                self.interrupts.check()
                self._give_up_lost(tokens)
                if not self._waiting and self._elsewhere and time.monotonic() >= look_at:
                    self._waiting, self._elsewhere = self._elsewhere, self._waiting
                    look_at = time.monotonic() + _LOOK_SECONDS
                while self._waiting and (device := tokens.take()) is not None:
                    self.interrupts.check()
                    self._give_up_lost(tokens)  # to ask for thousands of leases takes longer than one lasts
                    if not self._start_if_ours(self._waiting.popleft(), device, exclusive):
                        tokens.give(device)
                time.sleep(_POLL_SECONDS)
                self._poll(tokens)
                self._reporter.tick()
        except BaseException:
            self._stop(tokens)
            raise

    def close(self) -> None:
        """Stores what is not stored yet, after Ctrl-C in one try, or raises StoreError; and gives all leases back."""
        if self._executor is not None:
            self._executor.close()
        try:
            patience = 0.0 if self.interrupts.noted else 2 * self._artifacts.store.timeout_seconds
            self._ingest.flush(patience_seconds=patience)
        finally:
            self._leases.release_all()

    def _start_if_ours(self, planned: PlannedRun, device: str, exclusive: bool) -> bool:
        try:
            if self._claim(planned.run, exclusive):
                return self._start(planned, device)
        except StoreError as error:
            self._be_patient(error)
        self._elsewhere.append(planned)
        return False

    def _claim(self, run: str, exclusive: bool) -> bool:
        names = [run, self._speed_lease] if exclusive else [run]
        for count, name in enumerate(names):
            if not self._leases.try_acquire(name):
                for claimed in names[:count]:
                    self._leases.release(claimed)
                self._tell_holder(name)
                return False
        self._store_away_since = None
        return True

    def _be_patient(self, error: StoreError) -> None:
        """Waits for a store that is locked or away, for twice the time that it is given for an answer."""
        now = time.monotonic()
        if not error.transient:
            raise error
        if self._store_away_since is None:
            self._store_away_since = now
            self._reporter.note(f"{error}; waiting for it")
        if now - self._store_away_since > 2 * self._artifacts.store.timeout_seconds:
            raise error

    def _tell_holder(self, name: str) -> None:
        holder = self._leases.holder(name)
        words = "another process" if holder is None else f"process {holder.pid} on {holder.host}"
        self._tell_once(f"{words} works on this store too: runs that are with it are waited for")

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._reporter.note(text)

    def _give_up_lost(self, tokens: DeviceTokens) -> None:
        """Ends what another coordinator has taken over, because this one was silent for too long."""
        try:
            lost = self._leases.beat()
        except StoreError as error:
            self._tell_once(f"{error}; what runs goes on, and is stored when it answers")
            return
        for run in lost & self._running.keys():
            item = self._running.pop(run)
            item.handle.kill()
            tokens.give(item.device)
            self._reporter.note(f"{run} was taken over by another coordinator: this one did not answer in time")
            self._elsewhere.append(item.planned)

    def _start(self, planned: PlannedRun, device: str) -> bool:
        """Starts a run that is ours, unless there is nothing to do any more, or it cannot be started."""
        planned = self._plan.look_again(planned)
        if not planned.wants_work:
            self._take_in_finished(planned)
            self._leases.release(planned.run)
            if (record := self._artifacts.store.get(planned.run)) is not None:
                self._reporter.finished(record)
            return False
        folder = self._artifacts.folder(planned.run)
        try:
            self._prepare(planned, folder)
            self._notify("run_started", spec=planned.record.spec)
            assert self._executor is not None
            data, blocked, limits = self._settings.data, self._settings.blocked, self._settings.limits
            code_folder = self._plugins.code_folder.resolve()
            needs = self._plan.needs(planned)
            job = Job(folder.path.resolve(), planned.stages, data, blocked, code_folder, device, limits, needs)
            self._running[planned.run] = _Running(planned, self._executor.start(job), device, count_oom_kills())
        except OSError as error:
            self._take_in(planned, failure_from("start", error))
        return planned.run in self._running

    def _prepare(self, planned: PlannedRun, folder: RunFolder) -> None:
        self._mend(planned, folder)
        folder.forget([stage.name for stage in planned.stages], only_temporary=True)
        known = folder.description()
        # what is asked for now (metrics, device) may differ from what it was
        tried = 1 if known is None else known.configurations_tried
        folder.begin(planned.record.model_copy(update={"configurations_tried": tried}))
        folder.write_sources(self._plugins.code_folder, planned.asked)
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

    def _poll(self, tokens: DeviceTokens, *, stopping: bool = False) -> None:
        """Takes in the jobs that have ended."""
        for run, item in list(self._running.items()):
            code = item.handle.exit_code()
            if code is None:
                self._reporter.progress(run, self._artifacts.folder(run).progress())
                continue
            del self._running[run]
            # a child that was told to stop before it could listen dies of the signal
            self._conclude(item, INTERRUPTED if stopping and code == -signal.SIGTERM else code)
            tokens.give(item.device)

    def _conclude(self, item: _Running, code: int) -> None:
        """Takes in a job that has ended; what is left of its run after a figure that killed the process, waits."""
        planned, folder = item.planned, self._artifacts.folder(item.planned.run)
        scores = {stage: folder.score(stage.name) for stage in planned.stages}
        missing = [stage for stage, score in scores.items() if score is None or score.key != stage.key]
        trained, ended = folder.fit() is not None, item.handle.ended()
        is_whole = trained and not missing  # then it does not matter how the process ended
        stopped = code == INTERRUPTED and ended is None
        failure = None
        if folder.failure() is None and not stopped and not is_whole:
            at = str(folder.progress().get("stage", "set-up"))
            failure = failure_of(at, code, ended, folder.log, oom_kills=count_oom_kills() - item.oom_kills)
            rest = tuple(stage for stage in missing if stage.name != at)
            if trained and len(rest) < len(missing):
                [deadly] = set(missing) - set(rest)
                try:
                    folder.write_score(at, failed_score(self._plugins, planned.record.spec, deadly, failure))
                except OSError as error:
                    self._reporter.note(f"{planned.run}: {error}")
                    rest = ()
                failure = None
                if rest:
                    self._waiting.append(replace(planned, state="scores missing", stages=rest))
                    return
        self._take_in(planned, failure, interrupted=stopped and not is_whole)

    def _take_in(self, planned: PlannedRun, failure: Failure | None, *, interrupted: bool = False) -> None:
        """Puts what a run's folder holds into the store, tells everybody, and gives its lease back."""
        folder, record = self._artifacts.folder(planned.run), planned.record
        remove_leftovers(folder.path, deep=True)
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
        self._notify("run_finished", record=record)

    def _notify(self, hook: Literal["run_started", "run_finished"], **arguments: object) -> None:
        for problem in self._plugins.notify(hook, **arguments):
            self._reporter.note(problem.message, "warning")

    def _take_in_finished(self, planned: PlannedRun) -> None:
        """Puts a run that a killed coordinator left complete, but not stored, into the store."""
        folder = self._artifacts.folder(planned.run)
        if planned.state == "newer":
            self._reporter.note(f"{planned.run}: a newer genharness did it; this one leaves it as it is", "warning")
            return
        if planned.damaged:
            self._mend(planned, folder)
        if folder.description() is None:
            return
        remove_leftovers(folder.path, deep=True)
        if place_of(planned.asked.dataset) or planned.asked.checkpoint:  # which may have been moved
            folder.write_sources(self._plugins.code_folder, planned.asked)
        record, known = folder.collect(), self._artifacts.store.get(planned.run)
        if known is None or known != record.model_copy(update={"created": known.created}):
            self._ingest.put(record)

    def _release(self, run: str) -> None:
        try:
            for name in (run, self._speed_lease):
                self._leases.release(name)
        except StoreError as error:
            self._reporter.note(f"{error}; its lease expires")

    def _stop(self, tokens: DeviceTokens) -> None:
        for item in self._running.values():
            item.handle.stop()
        if self._running:
            left = f"waiting for {len(self._running)} jobs, which save their state, for {_STOP_SECONDS:g} s at most"
            self._reporter.note(f"{left}; Ctrl-C once more kills them")
        deadline = time.monotonic() + _STOP_SECONDS
        try:
            while self._running and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                self._poll(tokens, stopping=True)
        finally:
            for run, item in self._running.items():
                item.handle.kill()
                record = self._artifacts.folder(run).collect()
                self._ingest.put(record.model_copy(update={"status": "interrupted"}))
                self._release(run)
