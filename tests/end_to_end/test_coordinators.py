"""Two coordinators on one store: each run is done once, by one of them, and a dead one's work is gone on with.

``HARNESS_TEST_RUNS=200 pytest tests/end_to_end/test_coordinators.py -s`` does it with 200 runs, and prints its counts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from harness.builtin.executors.local import family, kill_all
from harness.records.store import Artifacts

COMMAND = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
RUNS = int(os.environ.get("HARNESS_TEST_RUNS", "4"))


class Pair:
    """Two coordinators of one suite, each with one job at a time."""

    def __init__(self, lab, url, folders):
        self.suite = lab.suite(["tilted"], seeds=str(list(range(RUNS))), metrics='["nll", "ink"]')
        self.folders = [lab.root / folder for folder in folders]
        self.url = url
        self.logs = [lab.root / f"coordinator-{index}.log" for index in range(2)]
        self.processes = [self.start(index) for index in range(2)]

    def start(self, index):
        command = [sys.executable, "-c", COMMAND, "--artifacts", str(self.folders[index]), "--store", self.url]
        with self.logs[index].open("a") as log:
            arguments = [*command, "run", str(self.suite), "--jobs", "1"]
            return subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)

    def wait(self, index):
        try:
            return self.processes[index].wait(timeout=60 + 10 * RUNS)
        finally:
            if self.processes[index].poll() is None:
                kill_all(family(self.processes[index].pid))

    def finished(self, index):
        """The runs that a coordinator said it finished."""
        text = self.logs[index].read_text()
        return set(re.findall(r"^\[\d+/\d+\] (\S+): done", text, re.MULTILINE))

    def trainings(self):
        """How often each run's training was begun and how often it was completed."""
        counts = {}
        for folder in dict.fromkeys(self.folders):
            for log in (folder / "runs").glob("*/log.txt"):
                text = log.read_text()
                begun, ended = counts.get(log.parent.name, (0, 0))
                counts[log.parent.name] = (
                    begun + len(re.findall(r" fit: tilted on .* from the start$", text, re.MULTILINE)),
                    ended + len(re.findall(r" fit: \d+ steps in ", text)),
                )
        return counts

    def records(self):
        store = Artifacts(self.folders[0], self.url).store
        try:
            return store.records()
        finally:
            store.close()


ONE, TWO = ("shared", "shared"), ("mine", "yours")


@pytest.mark.parametrize(
    ("store_url", "folders"),
    [
        pytest.param("sqlite", ONE, id="sqlite-one-folder"),
        pytest.param("postgresql", TWO, id="postgresql-two-folders", marks=pytest.mark.thorough),
        pytest.param("sqlite", TWO, id="sqlite-two-folders", marks=pytest.mark.thorough),
        pytest.param("postgresql", ONE, id="postgresql-one-folder", marks=pytest.mark.thorough),
    ],
    indirect=["store_url"],
)
def test_two_coordinators_do_each_run_once(lab, store_url, folders):
    pair = Pair(lab, store_url, folders)
    assert [pair.wait(0), pair.wait(1)] == [0, 0]
    records = pair.records()
    trainings = pair.trainings()
    print(f"{len(records)} runs; begun and completed {sorted(set(trainings.values()))} times")
    assert len(records) == RUNS
    assert {record.status for record in records} == {"done"}
    assert {tuple(record.scores) for record in records} == {("ink", "nll")}
    assert set(trainings.values()) == {(1, 1)}
    assert len(trainings) == RUNS
    # both worked, and each heard of what the other did
    assert all(re.search(r"\(fit", log.read_text()) for log in pair.logs)


@pytest.mark.parametrize("store_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)], indirect=True)
def test_killing_one_of_two_loses_nothing(lab, store_url, monkeypatch):
    monkeypatch.setenv("TINKER_STEP_SECONDS", "0.02")
    pair = Pair(lab, store_url, ONE)
    deadline = time.monotonic() + 120
    while not pair.finished(0) and time.monotonic() < deadline:
        time.sleep(0.05)
    done = pair.finished(0) | pair.finished(1)
    kill_all(family(pair.processes[0].pid))  # with its child and its fork server
    pair.processes[0].wait()
    assert pair.wait(1) == 0
    records = pair.records()
    trainings = pair.trainings()
    again = sum(begun > 1 for begun, _ in trainings.values())
    print(f"{len(records)} runs, {len(done)} done before the kill; {again} begun again")
    assert len(records) == RUNS
    assert {record.status for record in records} == {"done"}
    assert {ended for _, ended in trainings.values()} == {1}
    assert all(trainings[run] == (1, 1) for run in done)
    assert again <= 1
