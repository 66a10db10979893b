"""What goes wrong in a run is a visible record with its reason, and stops nothing else."""

from __future__ import annotations

import pytest

BROKEN = ["raises", "diverges", "undefined", "crashes", "exits", "quits"]


@pytest.fixture(scope="module")
def ruins(make_lab):
    """A lab whose suite holds every model that fails, and one that does not: the suite and the command's answer."""
    lab = make_lab()
    suite = lab.suite([*BROKEN, "unable", "uniform"], metrics='["nll", "ink", "hardness"]', name="ruins")
    return lab, suite, lab.harness("run", suite, "--jobs", "2")


@pytest.mark.parametrize(
    ("model", "status", "type_", "message", "known"),
    [
        ("raises", "failed", "RuntimeError", "the handle\nhas come off", "in fit\n"),
        ("diverges", "diverged", "Diverged", "the loss is nan near step 1", "harness_tinker"),
        ("crashes", "killed", "Died", "the child process was killed by SIGSEGV", "fit: crashes on digits-binary"),
        ("exits", "failed", "Died", "the child process ended with exit status 3", "the last words of a model"),
        ("quits", "failed", "Died", "the child process ended with exit status 0 before its work was done", "fit: qu"),
    ],
)
def test_a_training_that_fails_is_a_record_with_its_reason(ruins, model, status, type_, message, known):
    lab, _, _ = ruins
    record = lab.record(model)
    assert (record.status, record.fit, record.scores) == (status, None, {})
    assert (record.failure.stage, record.failure.type, record.failure.message) == ("fit", type_, message)
    assert known in (record.failure.traceback or record.failure.log)
    shown = lab.done("show", record.run).out
    assert message in shown
    assert known in shown


def test_a_model_that_cannot_do_what_is_asked_is_skipped_with_its_reason(ruins):
    record = ruins[0].record("unable")
    assert (record.status, record.reason) == ("skipped", "it draws in colour only")


def test_a_score_that_is_not_finite_fails_alone_and_names_the_image(ruins):
    record = ruins[0].record("undefined")
    assert record.status == "failed"
    assert record.failure is None
    nll = record.scores["nll"]
    assert (nll.status, nll.value, nll.failure.type) == ("failed", None, "NonFiniteScore")
    assert "2 of 360 images score nan, the first is image 7" in nll.failure.message
    assert record.scores["ink"].status == "done"
    assert [name.partition("@")[0] for name in record.scores] == ["hardness", "ink", "nll"]


def test_every_other_run_is_finished_and_the_command_fails(ruins):
    lab, _, answer = ruins
    assert answer.code == 1
    assert "6 runs failed" in answer.err
    assert len(lab.records()) == 8
    whole = lab.record("uniform")
    assert whole.status == "done"
    assert {score.status for score in whole.scores.values()} == {"done"}
    assert len(whole.scores) == 3
    assert "the handle has come off" in answer.err  # in one line


def test_what_failed_is_tried_again_when_asked_alone(ruins, site, monkeypatch):
    lab, suite, _ = ruins

    def untouched():
        return lab.times("uniform-*/**/*") | lab.times("unable-*/run.json") | lab.times("undefined-*/fit.json")

    before, kept = lab.times(), untouched()
    with monkeypatch.context() as patch:
        patch.setattr("harness.builtin.executors.local.LocalExecutor.start", None)
        assert lab.harness("run", suite).code == 1
    assert lab.times() == before
    assert list(lab.states(suite).values()).count("failed") == 6

    logs = lab.times("*/log.txt")
    (site / "glue").touch()
    answer = lab.harness("run", suite, "--retry-failed")
    assert answer.code == 1
    assert "5 runs failed" in answer.err
    assert untouched() == kept
    again = {file.parent.name.partition("-")[0] for file, time in lab.times("*/log.txt").items() if logs[file] != time}
    assert again == set(BROKEN)
    assert lab.record("raises").status == "done"
    assert len(lab.record("raises").scores) == 3
    # what failed twice is still there to be seen
    assert lab.record("undefined").scores["nll"].status == "failed"
    assert lab.record("exits").failure.message == "the child process ended with exit status 3"


def test_a_metric_that_ends_its_process_is_a_failure_of_that_figure(lab):
    assert lab.harness("run", lab.suite(["uniform"], metrics='["nll", "vanishing"]')).code == 1
    record = lab.record("uniform")
    assert (record.status, record.failure) == ("failed", None)
    assert record.scores["nll"].status == "done"
    vanished = record.scores["vanishing"]
    assert (vanished.status, vanished.failure.stage, vanished.failure.type) == ("failed", "vanishing", "Died")
    assert vanished.failure.message == "the child process ended with exit status 0 before its work was done"
