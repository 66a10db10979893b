"""What the harness adds to a run: everything but its training and its metrics."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.records.store import Artifacts

RUNS = 20
SUITE = f"""
title = "Overhead"
datasets = ["digits-binary"]
seeds = {list(range(RUNS))}
metrics = ["nll", "parameters-training", "fit-seconds"]
audit = false
[[models]]
name = "independent-pixels"
"""


def run(suite, artifacts, jobs):
    """Runs ``harness run`` as a user does, in a process of its own."""
    command = [sys.executable, "-c", "from harness.cli import main; main()", "--artifacts", str(artifacts), "run"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(suite), "--jobs", str(jobs)], check=True, capture_output=True, env=environment)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_costs_less_than_two_seconds_beside_its_work(jobs, benchmark, capsys, tmp_path):
    suite = tmp_path / "suite.toml"
    suite.write_text(SUITE)

    benchmark.pedantic(run, (suite, tmp_path / "artifacts", jobs), rounds=1)

    records = Artifacts(tmp_path / "artifacts").store.records()
    assert [record.status for record in records] == ["done"] * RUNS
    work = sum(record.fit.seconds + sum(score.seconds for score in record.scores.values()) for record in records)
    overhead = (benchmark.stats.stats.min * jobs - work) / RUNS
    benchmark.extra_info["overhead, seconds a run"] = overhead
    with capsys.disabled():
        whole = benchmark.stats.stats.min
        print(f"\n{RUNS} runs, {jobs} at a time: {whole:.1f} s, of which {work:.1f} s of work: {overhead:.2f} s a run")
    assert overhead < 2
