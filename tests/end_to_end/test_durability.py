"""Faults, injected: each is one clear line and a record, every other run is finished, the board is complete."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import time

import pytest

from harness.support.checkpoint import load_state, save_state

GOOD = ["tilted", "uniform"]


@pytest.fixture(scope="module")
def faults(make_lab):
    """A suite of runs that fail in every way that has a status of its own, beside two that do not; run once."""
    lab = make_lab()
    models = ["crashes", "hungry", "greedy", "dreams", "overflows", "diverges", *GOOD]
    suite = lab.suite(models, metrics='["nll"]', name="faults", more='time_limit = "8 s"\nmemory_limit = "1200 MB"')
    return lab, suite, lab.harness("run", suite, "--jobs", "2")


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("crashes", "killed", "the child process was killed by SIGSEGV"),
        ("hungry", "out-of-memory", "GB resident, more than its limit of 1.20 GB"),
        ("greedy", "out-of-memory", "DefaultCPUAllocator: can't allocate memory"),
        ("dreams", "timed-out", "it worked for more than its limit of 8 s"),
        ("overflows", "failed", "No space left on device"),
        ("diverges", "diverged", "the loss is nan near step 1"),
    ],
)
def test_each_fault_has_a_status_and_says_what_is_known(faults, model, status, message):
    lab, _, answer = faults
    record = lab.record(model)
    assert (record.status, record.failure.status, record.failure.stage) == (status, status, "fit")
    assert message in record.failure.message
    [line] = [line for line in answer.err.splitlines() if f" {model}-digits" in line]
    assert f"{record.run}: {status} (fit: " in line


def test_what_was_ended_or_crashed_leaves_the_stack_it_was_in(faults):
    lab, _, _ = faults
    assert "in sleep_deeply" in lab.record("dreams").failure.stack
    assert "in fit" in lab.record("crashes").failure.stack
    assert "in sleep_deeply" in lab.done("show", lab.record("dreams").run).out


def test_every_other_run_is_finished_and_the_command_fails_with_the_counts(faults):
    lab, _, answer = faults
    assert answer.code == 1
    assert "6 runs failed" in answer.err
    for part in ("1 killed", "2 out-of-memory", "1 timed-out", "1 diverged", "1 failed"):
        assert part in answer.err
    assert [lab.record(model).status for model in GOOD] == ["done", "done"]


def test_the_board_is_complete_with_its_failed_rows(faults):
    lab, suite, _ = faults
    lab.done("export", suite)
    lab.done("leaderboard", suite)
    board = (lab.root / "faults" / "likelihood.md").read_text()
    for model, status in [("crashes", "killed"), ("hungry", "out-of-memory"), ("dreams", "timed-out")]:
        assert any(model in line and status in line for line in board.splitlines())
    assert all(model in board for model in [*GOOD, "greedy", "overflows", "diverges"])


def test_a_figure_that_kills_its_process_is_lost_alone(lab):
    suite = lab.suite(["tilted"], metrics='["nll", "deadly", "vanishing", "ink"]')
    assert lab.harness("run", suite).code == 1
    record = lab.record("tilted")
    states = {name: score.status for name, score in record.scores.items()}
    assert states == {"nll": "done", "deadly": "killed", "vanishing": "failed", "ink": "done"}
    assert record.scores["deadly"].failure.signal == "SIGKILL"
    assert record.fit is not None


def test_a_clock_that_is_set_back_changes_no_figure(lab):
    lab.done("run", lab.suite(["tilted", "backwards"], metrics='["nll"]'))
    straight, backwards = lab.record("tilted"), lab.record("backwards")
    assert backwards.fit.weights_sha256 == straight.fit.weights_sha256
    assert backwards.fit.seconds >= 0
    assert backwards.scores["nll"].seconds >= 0


def test_samples_that_cannot_be_scored_are_recorded_so(lab):
    suite = lab.suite(["constant", "notanumber", "uniform"], metrics='["fid-pixels-n200", "nll"]')
    assert lab.harness("run", suite).code == 1
    for model in ("constant", "notanumber"):
        record = lab.record(model)
        assert record.scores["fid-pixels-n200"].status == "degenerate"
        assert record.scores["fid-pixels-n200"].value is None
        assert record.scores["nll"].status == "done"
    assert "all 200 samples are the same image" in lab.record("constant").scores["fid-pixels-n200"].failure.message
    assert lab.record("uniform").scores["fid-pixels-n200"].value > 0


def test_a_kill_from_outside_is_gone_on_with_by_the_same_command(lab):
    suite = lab.suite(["killed", "uniform"])
    assert lab.harness("run", suite).code == 1
    assert lab.record("killed").status == "killed"
    assert set(lab.states(suite).values()) == {"missing", "hit"}


@pytest.fixture(scope="module")
def whole(make_lab):
    """What the good models come to."""
    lab = make_lab()
    lab.done("run", lab.suite(GOOD, metrics='["nll", "ink"]'))
    return lab.figures()


@pytest.fixture(scope="module")
def mended(make_lab):
    """A lab that was whole once."""
    lab = make_lab()
    lab.done("run", lab.suite(GOOD, metrics='["nll", "ink"]'))
    return lab


@pytest.mark.parametrize(
    "name",
    ["run.json", "fit.json", "model.safetensors", "scores/nll.json", "scores/nll.safetensors", "failure.json"],
)
def test_a_file_that_is_cut_off_is_named_set_aside_and_done_again(mended, whole, name):
    lab, suite = mended, mended.root / "suite.toml"
    file = lab.folder(lab.record("tilted")).path / name
    content = file.read_bytes() if file.exists() else b'{"stage": "fit", "type'
    file.write_bytes(content[: len(content) // 2])
    untouched = lab.times("uniform-*/**/*")
    answer = lab.done("run", suite)
    assert lab.figures() == whole
    assert lab.times("uniform-*/**/*") == untouched
    [line] = [line for line in answer.err.splitlines() if f" {file.name}: it " in line]
    assert line.endswith("set aside, and done again")
    assert file.with_name(f"{file.name}.damaged").exists()
    assert "tilted-digits" not in lab.done("run", suite).err


def test_weights_that_were_changed_are_not_scored(lab, whole):
    suite = lab.suite(GOOD, metrics='["nll", "ink"]')
    lab.done("run", suite)
    folder = lab.folder(lab.record("tilted"))
    content = bytearray(folder.weights.read_bytes())
    content[-1] ^= 1
    folder.weights.write_bytes(content)
    folder.score_file("nll").unlink()
    lab.done("run", suite)
    assert lab.figures() == whole
    assert "model.safetensors has changed since it was written" in folder.log.read_text()


def cut_off(state):
    state.write_bytes(state.read_bytes()[:-100])


def changed(state):
    state.write_bytes(state.read_bytes().replace(b"phase", b"phasf", 1))


def incomplete(state):
    content = load_state(state)
    content["tracked"] = {}
    save_state(state, content)


@pytest.mark.parametrize("damage", [cut_off, changed, incomplete])
def test_a_saved_state_that_is_wrong_starts_the_training_again_to_the_same_figures(lab, whole, monkeypatch, damage):
    monkeypatch.setenv("TINKER_STEP_SECONDS", "0.05")
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "0.1")
    suite = lab.suite(GOOD, metrics='["nll", "ink"]')
    with lab.interrupting(lambda: lab.training("tilted", step=5)):
        assert lab.harness("run", suite, "--jobs", "1").code == 130
    state = lab.folder(lab.record("tilted")).state
    assert load_state(state)["step"] >= 5
    damage(state)
    monkeypatch.setenv("TINKER_STEP_SECONDS", "0")
    answer = lab.done("run", suite)
    assert ("training.safetensors: it is cut off" in answer.err) == (damage is cut_off)
    assert state.with_name(f"{state.name}.damaged").exists()
    assert lab.figures() == whole


def test_a_run_whose_file_cannot_be_opened_is_done_again_and_stops_no_other(lab):
    lab.done("run", lab.suite(["uniform", "independent-pixels"]))
    unreadable, newer = (
        lab.folder(lab.record("uniform")).path / "fit.json",
        lab.folder(lab.record("independent-pixels")),
    )
    unreadable.unlink()
    unreadable.mkdir()
    (unreadable / "x").touch()
    (newer.path / "run.json").write_text('{"version": 99}')
    suite = lab.suite(["uniform", "independent-pixels", "tilted"])
    assert lab.states(suite)[newer.path.name] == "newer"
    answer = lab.done("run", suite)
    assert "fit.json: it cannot be read (Is a directory); set aside, and done again" in answer.err
    assert "a newer genharness did it; this one leaves it as it is" in answer.err
    assert (newer.path / "run.json").read_text() == '{"version": 99}'
    assert {lab.record(model).status for model in ("uniform", "tilted")} == {"done"}


def test_what_a_full_disk_does_not_take_of_a_failure_is_in_the_store(lab, monkeypatch):
    from harness.records.run_folder import RunFolder

    write = RunFolder._write

    def full(self, name, content):
        if self.run.startswith("exits") and name == "failure.json":  # which this process writes, not the child
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path / name))
        write(self, name, content)

    monkeypatch.setattr(RunFolder, "_write", full)
    answer = lab.harness("run", lab.suite(["exits", *GOOD]), "--jobs", "1")
    assert answer.code == 1
    record = lab.record("exits")
    assert (record.status, record.failure.message) == ("failed", "the child process ended with exit status 3")
    assert [lab.record(model).status for model in GOOD] == ["done", "done"]


@pytest.fixture
def small_disk(lab):
    """An artifact folder on a file system of its own that is soon full; ``grow`` makes it larger."""
    lab.artifacts.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(lab.artifacts)]
    try:
        done = subprocess.run(options, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield lambda: subprocess.run(["mount", "-o", "remount,size=50m", str(lab.artifacts)], check=True)
    subprocess.run(["umount", "-l", str(lab.artifacts)], check=True)


def test_a_full_disk_is_one_line_at_once_and_with_room_the_same_suite_is_completed(lab, small_disk, whole, monkeypatch):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "200")
    suite, began = lab.suite(GOOD, metrics='["nll", "ink"]'), time.monotonic()
    answer = lab.harness("run", suite, "--jobs", "1")
    assert answer.code != 0
    assert time.monotonic() - began < 100
    assert any("No space left" in line or "disk is full" in line for line in answer.err.splitlines())
    small_disk()
    lab.done("run", suite, "--retry-failed")
    assert lab.figures() == whole


def test_a_store_that_is_locked_for_a_while_loses_nothing(lab, whole, monkeypatch):
    suite = lab.suite(GOOD, metrics='["nll", "ink"]')
    lab.done("run", suite, "--only", "uniform")
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.1")
    monkeypatch.setattr("harness.running.ingest.Ingest._put_all", _locked_twice(lab))
    answer = lab.done("run", suite)
    assert lab.figures() == whole
    [line] = [line for line in answer.err.splitlines() if "locked" in line]
    assert "trying again" in line


def _locked_twice(lab):
    from harness.running.ingest import Ingest

    put, count = Ingest._put_all, iter(range(100))

    def locked(self):
        if next(count) >= 2:
            return put(self)
        with sqlite3.connect(lab.artifacts / "store.sqlite") as other:
            other.execute("BEGIN EXCLUSIVE")
            try:
                return put(self)
            finally:
                other.rollback()

    return locked


def test_a_store_that_stays_locked_is_one_line_and_the_folders_keep_the_results(lab, whole, monkeypatch):
    suite = lab.suite(GOOD, metrics='["nll", "ink"]')
    lab.done("run", suite, "--only", "uniform")
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.1")
    with sqlite3.connect(lab.artifacts / "store.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = lab.harness("run", suite)
        other.rollback()
    assert answer.code != 0
    assert "locked" in answer.err.splitlines()[-1]
    lab.done("run", suite)
    assert lab.figures() == whole


def test_progress_and_log_of_a_run_that_never_began_do_not_matter(lab):
    suite = lab.suite(["uniform"])
    lab.done("run", suite)
    folder = lab.folder(lab.record("uniform"))
    (folder.path / "progress.json").write_text('{"stage": "nll')
    (folder.path / "log.txt").unlink()
    lab.done("run", suite)
    lab.done("status")
    lab.done("show", folder.run)
    assert lab.record("uniform").status == "done"
