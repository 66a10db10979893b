"""Killed or interrupted anywhere, the same command goes on and ends with the same figures."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

from harness.builtin.executors.local import family, kill_all
from harness.support.checkpoint import load_state

COMMAND = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
MODELS = ["uniform", "tilted"]


@pytest.fixture(scope="module")
def uninterrupted(make_lab):
    lab = make_lab()
    lab.done("run", lab.suite(MODELS))
    return lab.figures()


@pytest.fixture
def slow(monkeypatch):
    """Makes a training of 40 steps last two seconds, saved ten times a second."""
    monkeypatch.setenv("TINKER_STEP_SECONDS", "0.05")
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0.1")
    return monkeypatch


def test_a_run_killed_with_all_its_processes_goes_on_to_the_same_figures(lab, slow, uninterrupted):
    suite = lab.suite(MODELS)
    command = [sys.executable, "-c", COMMAND, "--artifacts", str(lab.artifacts), "run", str(suite), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not lab.training("tilted", step=12):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(family(process.pid))
    process.communicate()
    killed = lab.record("tilted")
    assert (killed.status, lab.folder(killed).fit()) == ("running", None)
    assert re.search(rf"{killed.run} +interrupted", lab.done("status").out)
    finished = lab.times("uniform-*/**/*")
    state = load_state(lab.folder(killed).path / "training.safetensors")
    assert 0 < state["step"] < 40

    slow.setenv("TINKER_STEP_SECONDS", "0")
    assert lab.states(suite)[killed.run] == "resume"
    lab.done("run", suite)
    assert lab.figures() == uninterrupted
    assert lab.times("uniform-*/**/*") == finished
    assert lab.record("tilted").fit.seconds > state["seconds"] > 0.5
    log = lab.folder(killed).log.read_text()
    assert [log.count("seed 0, from the start"), log.count("seed 0, from the saved state")] == [1, 1]


def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on(lab, slow, uninterrupted):
    suite = lab.suite(MODELS)
    with lab.interrupting(lambda: lab.training("tilted", step=5)):
        answer = lab.harness("run", suite, "--jobs", "1")
    assert answer.code == 130
    assert "the same command goes on from here" in answer.err
    stopped = lab.record("tilted")
    assert (stopped.status, stopped.failure) == ("interrupted", None)
    assert (lab.folder(stopped).path / "training.safetensors").exists()
    assert lab.record("uniform").status == "done"

    slow.setenv("TINKER_STEP_SECONDS", "0")
    lab.done("run", suite)
    assert lab.figures() == uninterrupted
    assert not (lab.folder(stopped).path / "training.safetensors").exists()


def test_ctrl_c_between_two_scores_keeps_the_first_and_leaves_the_run_interrupted(lab, slow):
    suite = lab.suite(["uniform"], metrics='["dawdling", "nll"]')
    with lab.interrupting(lambda: lab.stage("uniform") == "dawdling"):
        assert lab.harness("run", suite).code == 130
    stopped = lab.record("uniform")
    assert (stopped.status, set(stopped.scores)) == ("interrupted", {"dawdling"})
    kept = lab.times("*/fit.json") | lab.times("*/scores/dawdling.json")
    lab.done("run", suite)
    assert lab.times("*/fit.json") | lab.times("*/scores/dawdling.json") == kept
    assert (lab.record("uniform").status, set(lab.record("uniform").scores)) == ("done", {"dawdling", "nll"})


def test_a_second_ctrl_c_kills_what_does_not_listen(lab):
    started = time.monotonic()
    with lab.interrupting(lambda: lab.stage("stubborn") == "fit", times=2):
        assert lab.harness("run", lab.suite(["stubborn"])).code == 130
    assert time.monotonic() - started < 25
    assert (lab.record("stubborn").status, lab.record("stubborn").failure) == ("interrupted", None)


def test_a_budget_in_minutes_is_measured_once_and_stays_the_same_steps_after_an_interruption(lab, slow):
    suite = lab.suite(["tilted"], more='budget = "0.05 minutes"')
    with lab.interrupting(lambda: lab.training("tilted", step=5)):
        assert lab.harness("run", suite).code == 130
    calibrated = lab.times("*/calibrated_steps.txt")
    [file] = calibrated
    slow.setenv("TINKER_STEP_SECONDS", "0")
    lab.done("run", suite)
    fit = lab.record("tilted").fit
    assert fit.steps == fit.calibrated_steps == int(file.read_text())
    assert 10 < fit.steps <= 60  # three seconds of steps that take 0.05 s and more
    assert lab.times("*/calibrated_steps.txt") == calibrated


def test_a_child_stopped_from_outside_leaves_an_interrupted_run_and_a_failing_command(lab, slow, monkeypatch):
    from harness.builtin.executors.local import LocalExecutor

    start = LocalExecutor.start

    def start_and_stop(self, job):
        handle = start(self, job)
        while not lab.training("tilted", step=5):
            time.sleep(0.02)
        handle.stop()
        return handle

    monkeypatch.setattr(LocalExecutor, "start", start_and_stop)
    answer = lab.harness("run", lab.suite(["tilted"]))
    assert answer.code == 1
    assert "1 runs were stopped" in answer.err
    assert lab.record("tilted").status == "interrupted"
