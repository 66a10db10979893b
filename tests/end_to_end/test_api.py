"""The same from Python."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch

import harness
from harness import RunSpec
from harness.builtin.datasets.seeded import digits_binary

SCRIPT = """\
import sys
import harness
record = harness.run(
    harness.RunSpec(model="uniform", dataset="digits-binary", metrics=("nll",)), artifacts="artifacts"
)
print(record.status, record.scores["nll"].value)
"""


@pytest.fixture(scope="module")
def record_and_lab(make_lab):
    lab = make_lab()
    spec = RunSpec(model="tilted", dataset="digits-binary", metrics=("nll",), budget="15 steps", seed=4)
    return harness.run(spec, artifacts=lab.artifacts), lab


def test_run_gives_the_record_that_is_in_the_store(record_and_lab):
    record, lab = record_and_lab
    assert record.status == "done"
    assert record.fit.steps == 15
    assert [record] == lab.records()


def test_run_of_what_is_done_starts_nothing(record_and_lab, no_children):
    record, lab = record_and_lab
    assert harness.run(record.spec, artifacts=lab.artifacts) == record


def test_the_loaded_model_gives_the_likelihood_that_was_recorded(record_and_lab):
    record, lab = record_and_lab
    stream = torch.get_rng_state()
    images = digits_binary(None).test.images
    for handle in (record, record.run):
        model = harness.load(handle, artifacts=lab.artifacts, device="cpu")
        assert not model.training
        with torch.no_grad():
            assert -model.log_prob(images).double().mean().item() == pytest.approx(record.scores["nll"].value, abs=1e-4)
    assert torch.equal(torch.get_rng_state(), stream)


def test_run_of_a_training_that_fails_is_a_record_and_loading_it_says_why_not(lab):
    record = harness.run(RunSpec(model="exits", dataset="digits-binary"), artifacts=lab.artifacts)
    assert (record.status, record.failure.type) == ("failed", "Died")
    with pytest.raises(ValueError, match=r"has no trained weights: its status is failed"):
        harness.load(record, artifacts=lab.artifacts)


def test_run_trains_again_what_is_stale(lab, site):
    module = site / "harness_tinker" / "edited.py"
    original = module.read_text()
    spec = RunSpec(model="edited", dataset="digits-binary", metrics=("nll",))
    old = harness.run(spec, artifacts=lab.artifacts)
    try:
        module.write_text(original.replace("SHIFT = 0.0", "SHIFT = 5.0 * 2"))
        new = harness.run(spec, artifacts=lab.artifacts)
    finally:
        module.write_text(original)
    assert new.run != old.run
    assert new.scores["nll"].value == pytest.approx(old.scores["nll"].value + 10)


def test_a_child_sees_the_environment_and_the_folder_as_they_are_when_it_starts(lab, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINKER_WATCH", "watched-by")  # relative: in the folder that this process is in now
    record = harness.run(RunSpec(model="uniform", dataset="watched", metrics=("nll",)), artifacts=lab.artifacts)
    assert (tmp_path / "watched-by").read_text().split() == [record.run]


def test_a_script_without_a_main_guard_runs_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    assert line.split()[0] == "done"
    assert float(line.split()[1]) == pytest.approx(64 * math.log(2))


def test_a_run_from_python_belongs_to_no_suite(lab):
    record = harness.run(RunSpec(model="uniform", dataset="digits-binary"), artifacts=lab.artifacts)

    assert lab.done("clean", "--json").json["unreferenced"] == [record.run]
