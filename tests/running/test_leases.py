"""Leases: one holder at a time, whatever the clocks say; a holder that is gone or silent is replaced by exactly one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading

import psutil
import pytest
import sqlalchemy as sa

from harness.records.store import Store, StoreError
from harness.running import leases
from harness.running.leases import Leases

SECONDS = 60.0


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def store(store_url):
    opened = Store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def make(store):
    """Returns a function that makes a coordinator's leases on a clock of its own, on this machine or another."""

    def make(machine=None, clock=None):
        made = Leases(store, clock or Clock())
        if machine is not None:
            made._me = leases.Holder(made._me.owner, machine, machine, 17, "1", 0)
        return made

    return make


def watch(observer, name, seconds, step=1.0):
    """Lets an observer look at a lease again and again for some seconds of its clock; returns when it was taken."""
    start = observer._clock.now
    while observer._clock.now < start + seconds:
        observer._clock.now += step
        if observer.try_acquire(name):
            return observer._clock.now - start
    return None


def test_a_lease_has_one_holder_who_may_ask_again(make):
    first, second = make(), make("elsewhere")
    assert first.try_acquire("run")
    assert first.try_acquire("run")
    assert not second.try_acquire("run")
    assert second.try_acquire("other")
    assert second.holder("run") == first._me
    assert not first.try_acquire("other")
    assert (first.holder("other").host, first.holder("other").pid) == ("elsewhere", 17)
    assert first.holder("nothing") is None


def test_a_lease_that_is_released_is_free_at_once(make):
    first, second = make(), make("elsewhere")
    assert first.try_acquire("a")
    assert first.try_acquire("b")
    second.release("a")  # not its own: nothing happens
    assert not second.try_acquire("a")
    first.release("a")
    assert second.try_acquire("a")
    first.release_all()
    assert second.try_acquire("b")


def test_a_holder_that_beats_is_never_replaced(make):
    holder, observer = make(), make("elsewhere")
    assert holder.try_acquire("run")
    for _ in range(100):
        holder._clock.now += SECONDS / 8
        observer._clock.now += SECONDS / 8
        assert holder.beat() == set()
        assert not observer.try_acquire("run")


def test_beats_cost_nothing_until_a_quarter_of_the_lease_time_has_passed(make, store):
    holder = make()
    asked = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *rest: asked.append(rest[2]))
    for _ in range(100):
        holder.beat()
    assert asked == []
    assert holder.try_acquire("run")
    asked.clear()
    beats = []
    for _ in range(61):
        holder._clock.now += 1
        holder.beat()
        beats.append(_beat(store, "run"))
    assert (beats[0], beats[-1]) == (0, 4)
    assert len([text for text in asked if text.startswith("UPDATE")]) == 4


def test_a_silent_holder_is_replaced_after_the_lease_time_on_the_observers_clock_and_hears_of_it(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    assert holder.try_acquire("other")
    observer.try_acquire("run")
    assert watch(observer, "run", 100) == pytest.approx(SECONDS, abs=1)
    holder._clock.now += 3600  # it was suspended
    assert holder.beat() == {"run"}
    assert holder.beat() == set()
    assert not holder.try_acquire("run")
    assert holder.try_acquire("other")


def test_a_holder_that_asks_again_before_it_beats_hears_of_its_loss_all_the_same(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    assert watch(observer, "run", 100) is not None
    assert not holder.try_acquire("run")
    assert holder.beat() == {"run"}


def test_what_an_earlier_holder_releases_is_not_taken_from_the_next(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    assert watch(observer, "run", 100) is not None
    holder.release("run")
    holder.release_all()
    assert not holder.try_acquire("run")
    assert observer.try_acquire("run")


def test_the_time_starts_again_with_every_beat(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    for _ in range(3):
        assert watch(observer, "run", 0.9 * SECONDS) is None
        holder._clock.now += SECONDS / 4
        assert holder.beat() == set()
    assert watch(observer, "run", 100) is not None


@pytest.mark.parametrize("jump", [1e9, -1e9, SECONDS])
def test_an_observer_whose_clock_jumps_once_has_not_watched_for_that_long(make, jump):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    for _ in range(10):  # a quarter of the lease time at most passes between two beats
        assert watch(observer, "run", SECONDS / 4) is None
        observer._clock.now += jump
        assert not observer.try_acquire("run")
        holder._clock.now += SECONDS / 4
        holder.beat()
        jump = -jump


def test_an_observer_whose_clock_jumped_back_still_replaces_a_silent_holder_in_time(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    assert watch(observer, "run", SECONDS / 2) is None
    observer._clock.now -= 1e6
    assert watch(observer, "run", SECONDS) == pytest.approx(SECONDS / 2, abs=2)


def test_a_holder_whose_clock_jumps_goes_on_beating(make, store):
    holder = make()
    assert holder.try_acquire("run")
    for jump in (1e9, -2e9, 5e8):
        before = _beat(store, "run")
        holder._clock.now += jump
        holder.beat()
        assert _beat(store, "run") > before
        holder._clock.now += SECONDS / 4
        holder.beat()
        assert _beat(store, "run") > before + 1


def test_two_that_slept_side_by_side_for_hours_do_not_rob_each_other(make):
    holder, observer = make("elsewhere"), make()
    assert holder.try_acquire("run")
    assert watch(observer, "run", 14) is None
    for clock in (holder._clock, observer._clock):
        clock.now += 8 * 3600
    assert not observer.try_acquire("run")  # it wakes first
    assert holder.beat() == set()
    assert not observer.try_acquire("run")


def test_any_order_of_looks_beats_and_jumps_leaves_one_holder_and_never_robs_one_that_beats(make):
    rng = random.Random(0)
    for trial in range(4):
        name = f"run-{trial}"
        everyone = [make(f"host-{number}", Clock(rng.uniform(-1e6, 1e6))) for number in range(3)]
        holder = everyone[0]
        assert holder.try_acquire(name)
        for _ in range(60):
            seconds = rng.uniform(0, SECONDS / 4)
            for one in everyone:
                one._clock.now += seconds * rng.uniform(0.9, 1.1)
            if rng.random() < 0.05:
                rng.choice(everyone)._clock.now += rng.uniform(-1e5, 1e5)
            holder._clock.now += SECONDS / 4  # its clock is the fast one: it beats in each turn
            assert holder.beat() == set()
            for one in rng.sample(everyone[1:], 2):
                assert not one.try_acquire(name)
        turns = [[watch(one, name, 1) for one in everyone[1:]] for _ in range(80)]
        assert sum(won is not None for turn in turns[:1] for won in turn) == 0
        assert len({one._me.owner for one in everyone[1:] if one.try_acquire(name)}) == 1
        assert holder.beat() | (setattr(holder._clock, "now", holder._clock.now + SECONDS) or holder.beat()) == {name}


@pytest.mark.parametrize("is_free", [True, False], ids=["free", "silent"])
def test_of_many_that_race_for_one_name_exactly_one_wins(make, store_url, is_free):
    for trial in range(5):
        name = f"run-{trial}"
        stores = [Store(store_url) for _ in range(6)]
        racers = [Leases(opened, Clock()) for opened in stores]
        if not is_free:
            assert make("elsewhere").try_acquire(name)
            for racer in racers:
                assert watch(racer, name, 0.97 * SECONDS, step=0.24 * SECONDS) is None
                racer._clock.now += SECONDS / 4
        barrier, results = threading.Barrier(len(racers)), [None] * len(racers)

        def race(number, name=name, racers=racers, barrier=barrier, results=results):
            barrier.wait()
            try:
                results[number] = racers[number].try_acquire(name)
            except Exception as error:
                results[number] = error

        threads = [threading.Thread(target=race, args=(number,)) for number in range(len(racers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results, key=bool) == [False] * 5 + [True]
        for racer, won in zip(racers, results, strict=True):
            racer._clock.now += SECONDS
            assert racer.beat() == set()
            assert racer.try_acquire(name) is won
        for opened in stores:
            opened.close()


CHILD = """
import sys
from harness.running.leases import Leases
from harness.records.store import Store
mine = Leases(Store(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    print(sum(mine.try_acquire(name) for name in line.split()), flush=True)
"""


@pytest.fixture
def start(store, store_url):
    """Returns a function that starts another process that takes the leases it is told."""
    children = []

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen([sys.executable, "-c", CHILD, store_url], **pipes))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_processes_that_race_for_many_names_share_them(start):
    children = [start() for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write(" ".join(f"run-{number}" for number in range(100)) + "\n")
        child.stdin.flush()
    won = [int(child.stdout.readline()) for child in children]
    assert sum(won) == 100


def test_a_killed_process_of_this_machine_is_replaced_at_once_and_a_suspended_one_is_not(start, make):
    child, observer = start(), make()
    assert child.stdout.readline() == "ready\n"
    child.stdin.write("run other\n")
    child.stdin.flush()
    assert child.stdout.readline() == "2\n"
    child.send_signal(signal.SIGSTOP)
    assert not observer.try_acquire("run")
    assert (observer.holder("run").host, observer.holder("run").pid) == (observer._me.host, child.pid)
    child.kill()
    _until_dead(child)  # not waited for: it is a zombie, as the child of a shell that is busy
    assert observer.try_acquire("run")
    child.wait()
    assert observer.try_acquire("other")


def test_a_process_number_that_another_process_got_since_is_not_the_holder(make, store):
    holder, observer = make(), make()
    assert holder.try_acquire("run")
    assert not observer.try_acquire("run")
    store.transact(lambda connection: connection.execute(sa.text("UPDATE leases SET started = '5'")))
    assert observer.try_acquire("run")


def test_a_process_of_another_machine_with_our_name_is_not_looked_for_here(make, store):
    holder, observer = make(), make()
    assert holder.try_acquire("run")
    store.transact(lambda connection: connection.execute(sa.text("UPDATE leases SET machine = 'x', pid = 999999999")))
    assert not observer.try_acquire("run")


def test_when_a_process_started_does_not_move_with_the_clock(monkeypatch):
    before = leases.started(os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 0.0)
    assert leases.started(os.getpid()) == before != ""
    assert leases.started(999999999) == ""


def test_a_store_that_is_away_for_a_while_loses_no_lease_and_keeps_none_that_was_released(store, store_url, make):
    if not store_url.startswith("sqlite"):
        pytest.skip("a lock on the whole database is SQLite's")
    store.timeout_seconds = 0.1
    store.close()
    holder, observer = make(), make("elsewhere")
    assert holder.try_acquire("kept")
    assert holder.try_acquire("released")
    locker = Store(store_url)

    def while_locked(_):
        holder._clock.now += SECONDS / 4
        with pytest.raises(StoreError) as caught:
            holder.beat()
        assert caught.value.transient
        assert holder.beat() == set()  # not at every turn of the loop
        holder.release("released")

    locker.transact(while_locked)
    holder._clock.now += SECONDS / 16
    assert holder.beat() == set()
    assert observer.try_acquire("released")
    assert not observer.try_acquire("kept")
    locker.close()


@pytest.mark.parametrize("value", ["soon", "0", "-5", "nan", "inf"])
def test_a_lease_time_that_is_none_is_refused(tmp_path, monkeypatch, value):
    store = Store.in_folder(tmp_path)
    monkeypatch.setenv("HARNESS_LEASE_SECONDS", value)
    with pytest.raises(ValueError, match=f"HARNESS_LEASE_SECONDS='{value}': for how many seconds"):
        Leases(store)
    monkeypatch.setenv("HARNESS_LEASE_SECONDS", "7.5")
    assert Leases(store).seconds == 7.5
    store.close()


def _beat(store, name):
    query = sa.text("SELECT beat FROM leases WHERE name = :name")
    return store.transact(lambda connection: connection.scalar(query, {"name": name}))


def _until_dead(child):
    for _ in range(1000):
        if psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE:
            return
        os.sched_yield()
        threading.Event().wait(0.01)
    raise AssertionError("it lives")
