"""A run's folder: what is written comes back, and adds up to a record."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from harness.records.record import Failure, FitRecord
from harness.records.run_folder import RunFolder
from harness.support.names import slug

FIT = FitRecord(steps=3, epochs=0.5, seconds=1.0, checkpoint="last", weights_sha256="w")


@pytest.fixture
def folder(tmp_path, make_record):
    made = RunFolder(tmp_path / "made-digits-s0-0000000000")
    made.begin(make_record(status="pending"))
    made.weights.write_bytes(save({"weight": np.arange(3.0)}))
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iwae-5000", "iwae-5000"),
        ("sampling-throughput@0a1b", "sampling-throughput@0a1b"),
        ("fid-0.5", "fid-0.5"),
        ("images:/data/my photos", "images-data-my-photos"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "x"),
        (".hidden", "hidden"),
        ("", "x"),
        ("ä", "x"),
        ("a\x00b\\c", "a-b-c"),
    ],
)
def test_a_name_becomes_a_file_name_that_stays_in_its_folder(name, expected):
    assert slug(name) == expected


def test_a_folder_is_named_by_its_run(folder, make_record):
    assert folder.run == make_record().run


def test_what_a_run_is_comes_back(folder, make_record):
    assert folder.description() == make_record(status="pending")


def test_a_folder_without_description_has_none_and_adds_up_to_nothing(tmp_path):
    empty = RunFolder(tmp_path / "empty")
    assert empty.description() is None
    assert (empty.fit(), empty.failure(), empty.score("nll"), empty.progress()) == (None, None, None, {})
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        empty.collect()


def test_a_complete_run_adds_up_to_its_results(folder, make_score):
    folder.write_fit(FIT, {"cores": 1})
    names = ["nll", "sampling-throughput@0a1b", "fid-0.5", "valid--nll"]
    for index, name in enumerate(names):
        folder.write_score(name, make_score(name, float(index)))
    record = folder.collect()
    assert (record.status, record.fit, record.environment) == ("done", FIT, {"cores": 1})
    assert {name: score.value for name, score in record.scores.items()} == {
        name: float(i) for i, name in enumerate(names)
    }
    assert (record.failure, record.reason) == (None, None)
    assert record.created.endswith("+00:00")


def test_a_run_that_has_not_started_is_pending(folder):
    assert folder.collect().status == "pending"


@pytest.mark.parametrize("name", ["training.safetensors", "log.txt"])
def test_a_run_that_left_a_trace_and_no_result_is_interrupted(folder, name):
    (folder.path / name).touch()
    assert folder.collect().status == "interrupted"


def test_a_failure_is_the_runs_status(folder):
    folder.write_failure(Failure(stage="fit", type="Diverged", message="the loss is nan", traceback="…"))
    record = folder.collect()
    assert (record.status, record.failure.message, record.reason) == ("failed", "the loss is nan", None)


def test_what_a_model_does_not_support_is_skipped_with_the_reason(folder):
    folder.write_failure(Failure(stage="fit", type="Unsupported", message="binary images only"))
    record = folder.collect()
    assert (record.status, record.reason) == ("skipped", "binary images only")


def test_a_run_with_a_failed_score_has_failed_and_keeps_the_others(folder, make_score):
    folder.write_fit(FIT, {})
    folder.write_score("nll", make_score())
    folder.write_score("fid", make_score("fid", None, status="failed"))
    record = folder.collect()
    assert (record.status, record.scores["nll"].value) == ("failed", 1.5)


def test_a_run_with_a_skipped_score_is_done(folder, make_score):
    folder.write_fit(FIT, {})
    folder.write_score("nll", make_score("nll", None, status="skipped"))
    assert folder.collect().status == "done"


def test_forgetting_failures_leaves_what_succeeded(folder, make_score):
    folder.write_fit(FIT, {})
    folder.write_score("nll", make_score())
    folder.write_score("fid", make_score("fid", None, status="failed"))
    folder.write_failure(Failure(stage="score", type="Died", message="killed"))
    folder.forget()
    record = folder.collect()
    assert (record.status, list(record.scores), record.failure) == ("done", ["nll"], None)


def test_per_image_scores_lie_beside_their_score(folder):
    assert folder.per_image_file("fid-0.5") == folder.path / "scores" / "fid-0.5.safetensors"
    assert folder.score_file("fid-0.5") == folder.path / "scores" / "fid-0.5.json"


def test_progress_is_the_last_that_was_said(folder):
    folder.write_progress(stage="fit", step=1)
    folder.write_progress(stage="fit", step=2, loss=None)
    assert folder.progress() == {"stage": "fit", "step": 2, "loss": None}


@pytest.mark.parametrize("content", ["", "{", '{"fit": ', "[]", '{"fit": {}}', "\udcff"])
def test_a_damaged_file_counts_as_not_there_and_is_named_and_set_aside(folder, content):
    file = folder.path / "fit.json"
    file.write_text(content, errors="surrogateescape")
    assert folder.fit() is None
    assert list(folder.damage()) == [file]
    folder.set_damage_aside()
    assert (folder.path / "fit.json.damaged").read_text(errors="surrogateescape") == content
    assert folder.damage() == {}


def test_what_cannot_be_opened_is_named_and_set_aside_again_and_again(folder):
    for content in ("a", "b"):
        for file in (folder.path / "fit.json", folder.weights, folder.state):
            file.unlink(missing_ok=True)
            file.mkdir()
            (file / content).touch()
        assert folder.fit() is None
        assert {file.name for file in folder.damage()} == {"fit.json", "model.safetensors", "training.safetensors"}
        assert all("cannot be read" in problem for problem in folder.damage().values())
        folder.set_damage_aside()
        assert (folder.path / "fit.json.damaged" / content).exists()
        assert folder.damage() == {}


def test_a_lock_that_cannot_be_asked_counts_as_held(folder):
    folder.lock.mkdir()
    assert folder.is_held()


def test_a_training_without_its_whole_weights_is_not_complete(folder):
    folder.write_fit(FIT, {})
    assert folder.fit() is not None
    content = folder.weights.read_bytes()
    for damaged in (content[:-1], content + b"x", content[:5], b""):
        folder.weights.write_bytes(damaged)
        assert folder.fit() is None
        assert list(folder.damage()) == [folder.weights]
        assert folder.collect().status == "pending"


def test_a_record_of_a_newer_version_is_refused_and_left_alone(folder):
    content = json.loads((folder.path / "run.json").read_text())
    (folder.path / "run.json").write_text(json.dumps({**content, "version": 99, "mood": "good"}))
    with pytest.raises(ValueError, match=r"run\.json is a record of version 99, this genharness knows 1: update"):
        folder.description()


def test_only_the_scores_that_are_named_are_forgotten_and_only_if_they_failed(folder, make_score):
    folder.write_fit(FIT, {})
    for name, status in [("nll", "done"), ("fid", "killed"), ("kid", "degenerate")]:
        folder.write_score(name, make_score(name, None if status != "done" else 1.5, status=status))
    folder.forget(scores=["nll", "fid"])
    assert set(folder.collect().scores) == {"nll", "kid"}


def test_only_what_was_ended_from_outside_is_forgotten_as_temporary(folder):
    crash = Failure(stage="fit", type="Died", message="crash", status="killed", signal="SIGSEGV")
    folder.write_failure(crash)
    folder.forget(only_temporary=True)
    assert folder.failure() == crash
    folder.write_failure(crash.model_copy(update={"signal": "SIGKILL"}))
    folder.forget(only_temporary=True)
    assert folder.failure() is None


def test_no_temporary_files_stay_behind(folder, make_score):
    folder.write_fit(FIT, {})
    folder.write_score("nll", make_score())
    found = sorted(str(file.relative_to(folder.path)) for file in folder.path.rglob("*") if file.is_file())
    assert found == ["fit.json", "model.safetensors", "run.json", "scores/nll.json"]


@pytest.mark.parametrize("asked", ["photos crop=square resize=8", "photos crop=square resize=8 as faces"])
def test_where_data_are_is_noted_with_what_is_done_to_them(folder, tmp_path, monkeypatch, asked):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    folder.write_sources(tmp_path, folder.description().spec.model_copy(update={"dataset": f"images:{asked}"}))
    noted = json.loads((folder.path / "code.json").read_text())
    assert noted["dataset"] == f"images:{tmp_path}/photos crop=square resize=8"
