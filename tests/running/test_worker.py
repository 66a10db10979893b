"""A job's process: what it forgets before it loads anything, and what it does where another one works on the run."""

from __future__ import annotations

import sys

import pytest
from filelock import FileLock

from harness.interface.executor import INTERRUPTED, Job
from harness.records.run_folder import RunFolder
from harness.running import worker


def test_a_job_forgets_the_passwords_that_its_command_line_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["harness", "--store", "postgresql://lab:s3cret@host/runs", "run", "digits"])
    monkeypatch.setenv("HARNESS_STORE", "postgresql://lab:s3cret@host/runs")
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        worker.work(Job(tmp_path))
    assert sys.argv == ["harness", "--store", "postgresql://lab:***@host/runs", "run", "digits"]
    assert "HARNESS_STORE" not in worker.os.environ


def test_a_run_on_which_another_process_works_all_the_time_is_left_to_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(worker, "_LOCK_SECONDS", 0.2)
    with FileLock(RunFolder(tmp_path).lock):
        assert worker.work(Job(tmp_path)) == INTERRUPTED
    assert "another process works on this run" in caplog.text
    assert list(tmp_path.glob("*.json")) == []
