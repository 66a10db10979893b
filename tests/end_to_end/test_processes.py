"""What a run starts ends with it, its process waits for nobody, and none of them knows what opens the store."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

COMMAND = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
MARK = "left-by-a-test-of-processes"


def left():
    """The processes that carry the mark, as command or in what it executes."""
    return [process for process in psutil.process_iter(["cmdline"]) if MARK in (process.info["cmdline"] or [])]


@pytest.fixture(scope="module")
def done(make_lab):
    """A suite of models that leave things behind, run by a process of its own whose temporary files lie far down."""
    lab = make_lab()
    folder = lab.root / ("t" * 110)
    folder.mkdir()
    suite = lab.suite(["lingers", "drops", "spies", "uniform"])
    store = f"sqlite:///{lab.root}/hunter2.sqlite"
    variables = {"TMPDIR": str(folder), "HARNESS_STORE": store, "PGPASSWORD": "hunter2", "TINKER_MARK": MARK}
    command = [sys.executable, "-c", COMMAND, "--artifacts", str(lab.artifacts), "run", str(suite), "--jobs", "2"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, **variables})
    yield lab, answer
    for process in left():
        process.kill()


def test_a_long_name_of_the_folder_for_temporary_files_is_no_hindrance(done):
    _, answer = done
    assert "AF_UNIX" not in answer.stderr
    assert "[4/4]" in answer.stderr


def test_threads_and_processes_that_a_model_leaves_behind_are_not_waited_for(done):
    _, answer = done
    assert "4 runs: 3 done, 1 killed" in answer.stderr


def test_what_a_run_started_ends_with_it_in_whatever_session_and_also_if_it_crashes(done):
    deadline = time.monotonic() + 5
    while left() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left() == []


def test_no_process_that_works_on_a_run_knows_what_opens_the_store(done):
    lab, _ = done
    [log] = (lab.artifacts / "runs").glob("spies-*/log.txt")
    assert "all that it knows" in log.read_text()
    assert "hunter2" not in log.read_text()
