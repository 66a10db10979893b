"""Leases: several coordinators on one store share its work. A lease is a name that one of them holds at a time.

A holder counts up its ``beat``. Nobody compares clocks: an observer takes a lease over if it has seen the same beat
for the whole lease time on its own monotonic clock. It does so at once if the holder was a process of this machine
that is gone. (Gray and Cheriton, 1989, with the beat in place of synchronised clocks.)
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil
import sqlalchemy as sa

from harness.records.database import insert
from harness.records.database import leases as _leases
from harness.records.store import Artifacts, Store, StoreError
from harness.support.limits import seconds_of_variable


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as the store has it."""

    owner: str  # a coordinator, by a random name
    host: str
    machine: str  # what ``machine`` returns there
    pid: int
    started: str  # what ``started`` returns there
    beat: int  # how often it has said that it is alive


class Leases:
    """The leases of one coordinator; for one thread, which calls ``beat`` often. The clock is monotonic, in seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        meaning = "for how many seconds a coordinator may be silent"
        self.seconds = seconds_of_variable("HARNESS_LEASE_SECONDS", 60, meaning)
        self._store, self._clock = store, clock
        self._me = Holder(uuid.uuid4().hex, socket.gethostname()[:255], machine(), os.getpid(), started(os.getpid()), 0)
        self._held: set[str] = set()
        self._lost: set[str] = set()
        self._unreleased: set[str] = set()
        self._watches: dict[str, tuple[Holder, float, float]] = {}  # seen when last looked, when, and for how long
        self._beaten_at = self._next_beat = self._clock()

    def try_acquire(self, name: str) -> bool:
        """Takes a lease that is free, or whose holder is gone or silent; tells whether it is ours now.

        If the store does not answer and the lease is ours all the same, ``release`` gives it back.
        """
        now = self._clock()
        self._unreleased.discard(name)  # it is wanted again
        if not self._held and not self._unreleased:
            self._beaten_at, self._next_beat = now, now + self.seconds / 4

        def acquire(connection: sa.Connection) -> Holder | None:
            found = _find(connection, name)
            if found is None:
                insert(connection, _leases, {"name": name, **vars(self._me)})
            elif self._may_take_over(name, found, now):
                # exactly one of several observers finds what it has seen
                seen = (_leases.c.name == name, _leases.c.owner == found.owner, _leases.c.beat == found.beat)
                connection.execute(_leases.update().where(*seen).values(**{**vars(self._me), "beat": found.beat + 1}))
            else:
                return found
            return _find(connection, name)

        row = self._store.transact(lambda connection: _find(connection, name), write=False)
        if row is None or self._may_take_over(name, row, now):
            row = self._store.transact(acquire)
        if row is not None and row.owner == self._me.owner:
            self._held.add(name)
            self._watches.pop(name, None)
            return True
        if name in self._held:
            self._held.discard(name)
            self._lost.add(name)
        if row is not None:
            self._watches.setdefault(name, (row, now, 0.0))
        return False

    def holder(self, name: str) -> Holder | None:
        """Returns who had a lease when it was last tried for in vain."""
        return self._watches[name][0] if name in self._watches else None

    def beat(self) -> set[str]:
        """Says, when it is time, that the holder of our leases is alive; returns those that others have taken over.

        A store that does not answer is asked again soon; until then the leases are thought to be ours.
        """
        now = self._clock()
        lost, self._lost = self._lost, set()
        is_due = not self._beaten_at <= now < self._next_beat
        if not is_due or not (self._held or self._unreleased):
            return lost
        self._beaten_at, self._next_beat = now, now + self.seconds / 16  # should it fail
        ours = _leases.c.owner == self._me.owner
        unwanted = sorted(self._unreleased)

        def write(connection: sa.Connection) -> set[str]:
            for name in unwanted:
                connection.execute(_leases.delete().where(_leases.c.name == name, ours))
            connection.execute(_leases.update().where(ours).values(beat=_leases.c.beat + 1))
            return set(connection.scalars(sa.select(_leases.c.name).where(ours)))

        try:
            kept = self._store.transact(write)
        except StoreError:
            self._lost = lost
            raise
        self._next_beat = now + self.seconds / 4
        self._unreleased.clear()
        lost |= self._held - kept
        self._held &= kept
        return lost

    def release(self, name: str) -> None:
        """Gives a lease back, if it is ours; while the store does not answer, with a later ``beat``."""
        self._held.discard(name)
        self._watches.pop(name, None)
        if not self._delete(_leases.c.name == name):
            self._unreleased.add(name)

    def release_all(self) -> None:
        """Gives all leases back; what a store that is away keeps, others take over when this process is gone."""
        self._held.clear()
        self._watches.clear()
        self._delete()

    def _delete(self, *which: sa.ColumnElement[bool]) -> bool:
        """Removes leases of ours from the store; tells whether it answered."""
        ours = _leases.delete().where(_leases.c.owner == self._me.owner, *which)
        try:
            self._store.transact(lambda connection: connection.execute(ours))
        except StoreError:
            return False
        return True

    def _may_take_over(self, name: str, row: Holder, now: float) -> bool:
        """Tells whether a holder is gone, or has been seen to be silent for the whole lease time."""
        if row.owner == self._me.owner:
            return False
        if row.machine == self._me.machine and started(row.pid) != row.started:
            return True
        known, looked_at, seconds = self._watches.get(name, (row, now, 0.0))
        if known != row:
            looked_at, seconds = now, 0.0
        # A gap counts for half the lease time at most: an observer that was suspended has watched nothing, and a holder
        # that slept beside it may beat yet.
        seconds += min(max(0.0, now - looked_at), self.seconds / 2)
        self._watches[name] = (row, now, seconds)
        return seconds >= self.seconds


def remove_runs(artifacts: Artifacts, runs: Iterable[str]) -> list[str]:
    """Removes those of some runs here that nobody works on and no suite refers to by now; returns them.

    A record stays if it is of another folder's training of the same run: several may share the store.
    """
    store, removed, lost = artifacts.store, list[str](), set[str]()
    leases = Leases(store)
    try:
        for run in [run for run in runs if leases.try_acquire(run)]:
            folder = artifacts.folder(run)
            lost |= leases.beat()  # each is told once
            if run not in lost and not folder.is_held():
                record = [run] if folder.is_told_by(store.get(run)) else []
                if store.delete(record, unless_referred=run, and_then=folder.remove):
                    removed.append(run)
    finally:
        leases.release_all()
    return removed


def _find(connection: sa.Connection, name: str) -> Holder | None:
    query = sa.select(*[column for column in _leases.c if column.name != "name"]).where(_leases.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else Holder(**row._mapping)


@lru_cache(maxsize=1)
def machine() -> str:
    """Returns what tells this boot of this machine, and the processes that it numbers, from any other."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = str(Path("/proc/self/ns/pid").readlink())  # two containers count their processes apart
    except OSError:
        boot, processes = f"{uuid.getnode():012x}", ""
    return f"{socket.gethostname()}/{boot}/{processes}"[:255]


def started(pid: int) -> str:
    """Returns when a process of this machine started, in a form that no change of the clock alters; "" if it is gone.

    A process number is used again; with its start it is not.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return ""
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():  # ticks since the boot; psutil's seconds since 1970 move with the clock
            return stat.read_text().rpartition(")")[2].split()[19]
        return f"{process.create_time():.0f}"
    except (psutil.NoSuchProcess, OSError):
        return ""
    except psutil.AccessDenied:
        return "unknown"
