"""What can be known of a child that did not end as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harness.builtin.executors.local import Watch, family, kill_all, resident_bytes
from harness.interface.executor import Ended
from harness.running.failures import failure_of
from harness.support.limits import Limits

CRASH = "import faulthandler, ctypes; faulthandler.enable()\ndef innermost(): ctypes.string_at(0)\ninnermost()"
ASKED = (
    "import faulthandler, signal, time; faulthandler.register(signal.SIGUSR1)\n"
    "def innermost(): time.sleep(60)\nprint('ready', flush=True)\ninnermost()"
)
EATER = "import time\nx = bytearray(200_000_000)\nprint('full', flush=True)\ntime.sleep(60)"


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


def test_a_crash_is_killed_with_its_signal_and_the_stack_that_was_written(log):
    with log.open("w") as file:
        code = subprocess.run([sys.executable, "-c", CRASH], stderr=file).returncode
    failure = failure_of("fit", code, None, log)
    assert (failure.status, failure.signal, failure.type) == ("killed", "SIGSEGV", "Died")
    assert failure.stack.startswith("Fatal Python error: Segmentation fault")
    assert "in innermost" in failure.stack
    assert not failure.is_temporary


def test_a_stack_that_was_asked_for_is_kept_without_the_lines_before_it(log):
    with log.open("w") as file:
        file.write("a line of the log\n")
        file.flush()
        child = subprocess.Popen([sys.executable, "-c", ASKED], stdout=subprocess.PIPE, stderr=file)
        child.stdout.readline()
        time.sleep(0.2)
        child.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        child.kill()
        child.communicate()
    failure = failure_of("fit", -9, Ended("timed-out", "it worked for more than its limit of 1 s"), log)
    assert (failure.status, failure.signal) == ("timed-out", "SIGKILL")
    assert failure.message == "the child process was ended: it worked for more than its limit of 1 s"
    assert failure.stack.startswith("Current thread 0x")
    assert "in innermost" in failure.stack
    assert failure.log == "a line of the log"


def test_a_kill_from_outside_is_temporary_unless_the_system_had_no_memory(log):
    outside = failure_of("nll", -9, None, log)
    assert (outside.stage, outside.status, outside.is_temporary) == ("nll", "killed", True)
    starved = failure_of("nll", -9, None, log, oom_kills=1)
    assert (starved.status, starved.is_temporary) == ("out-of-memory", False)
    assert "no memory left" in starved.message


def test_an_exit_status_is_a_failure_with_the_last_words(log):
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    failure = failure_of("fit", 3, None, log)
    assert (failure.status, failure.signal, failure.stack) == ("failed", None, None)
    assert failure.log.splitlines() == [f"line {number}" for number in range(80, 100)]


def test_a_child_that_could_not_even_write_why_ran_out_of_space(log):
    failure = failure_of("set-up", 74, None, log)
    assert failure.status == "failed"
    assert "no space left where the run's folder lies" in failure.message


def test_a_log_of_a_gigabyte_is_not_read_whole(log):
    with log.open("wb") as file:
        file.seek(10**9)
        file.write(b"\nthe end\n")
    started = time.monotonic()
    assert failure_of("fit", 1, None, log).log.endswith("the end")
    assert time.monotonic() - started < 1


def test_no_log_and_an_unknown_signal_are_no_hindrance(log):
    failure = failure_of("fit", -64, None, log)
    assert (failure.log, failure.signal) == (None, signal.Signals(64).name)


def test_time_is_up_by_a_clock_that_only_grows():
    now = [100.0]
    watch = Watch(os.getpid(), Limits(seconds=5.0), clock=lambda: now[0])
    now[0] += 5.0
    assert watch.verdict() is None
    now[0] += 0.1
    assert watch.verdict() == Ended("timed-out", "it worked for more than its limit of 5 s")


def test_memory_counts_a_process_and_all_that_it_started():
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {EATER!r}])"],
        stdout=subprocess.PIPE,
    )
    try:
        assert parent.stdout.readline() == b"full\n"
        assert 200e6 < resident_bytes(parent.pid) < 300e6
        now = [0.0]
        watch = Watch(parent.pid, Limits(memory_bytes=100_000_000), clock=lambda: now[0])
        now[0] += 1.0
        verdict = watch.verdict()
        assert verdict.status == "out-of-memory"
        assert "more than its limit of 0.10 GB" in verdict.message
    finally:
        kill_all(family(parent.pid))
        parent.communicate()
    assert resident_bytes(parent.pid) == 0
    assert not [process for process in psutil.Process().children(recursive=True) if process.pid == parent.pid]
