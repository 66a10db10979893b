"""What a suite's runs do and leave alone: planned, run, hit, extended, stale."""

from __future__ import annotations

import re

import pytest

from harness.support.environment import choose_device, fingerprint


def test_a_new_suite_is_planned_as_missing_and_after_its_run_as_hit(lab):
    suite = lab.suite(["uniform"], seeds="[0, 1]")
    assert set(lab.states(suite).values()) == {"missing"}
    assert not (lab.artifacts / "runs").exists()
    assert "2 done" in lab.done("run", suite).err
    assert list(lab.states(suite).values()) == ["hit", "hit"]
    assert {record.status for record in lab.records()} == {"done"}


def test_a_second_run_starts_no_child_and_touches_no_file(finished, no_children):
    before, records = finished.times(), finished.records()
    answer = finished.done("run", finished.root / "suite.toml")
    assert "plan: 6 hit" in answer.err
    assert finished.times() == before
    assert finished.records() == records


def test_a_metric_added_to_the_suite_scores_the_old_checkpoints(lab):
    lab.done("run", lab.suite(["uniform", "tilted"]))
    pattern = "*/[fm][io][td]*"  # fit.json and model.safetensors
    before, nll = lab.times(pattern), lab.times("*/scores/nll.*")
    assert len(before) == 4
    suite = lab.suite(["uniform", "tilted"], metrics='["nll", "bits-per-dim", "ink"]')
    assert set(lab.states(suite).values()) == {"scores missing"}
    lab.done("run", suite)
    assert lab.times(pattern) == before
    assert lab.times("*/scores/nll.*") == nll
    for record in lab.records():
        assert record.scores["bits-per-dim"].value == pytest.approx(record.scores["nll"].value / (64 * 0.693147), 1e-5)
        assert 0 < record.scores["ink"].value < 1
        assert record.spec.metrics == ("nll", "bits-per-dim", "ink")


def test_figures_do_not_depend_on_how_many_run_at_a_time(finished, lab):
    lab.write("suite.toml", (finished.root / "suite.toml").read_text())
    lab.done("run", lab.root / "suite.toml", "--jobs", "2")
    assert lab.figures() == finished.figures()


def test_speeds_are_measured_for_the_first_seed_alone_after_all_else_under_the_machines_fingerprint(finished):
    name = f"hardness@{fingerprint(choose_device('auto'), 1)}"
    files = finished.times("*/scores/*.json")
    speeds = {file: time for file, time in files.items() if file.name.startswith("hardness")}
    assert {file.stem for file in speeds} == {name}
    assert {re.search(r"-s(\d)-", file.parts[-3])[1] for file in speeds} == {"0"}
    assert len(speeds) == 3
    assert min(speeds.values()) > max(time for file, time in files.items() if file not in speeds)
    assert finished.record("tilted").scores[name].fingerprint == name.partition("@")[2]


def test_a_run_that_two_rows_want_is_scored_for_both(lab):
    rows = ['name = "tilted"\nlabel = "one"', 'name = "tilted"\nlabel = "all"\ngrid.learning_rate = [0.1, 0.2]']
    suite = lab.suite(rows)
    lab.done("run", suite)
    shared = next(record for record in lab.records() if record.hyperparameters == {"learning_rate": 0.1})
    assert shared.scores.keys() == {"nll", "valid--nll"}
    assert set(lab.states(suite).values()) == {"hit"}


def test_the_chosen_of_a_grid_alone_is_scored_on_the_test_split(lab, site):
    suite = lab.suite(['name = "tilted"\ngrid.learning_rate = [0.001, 0.1, 10.0]'], dataset="watched")
    lab.done("run", suite)
    records = lab.records()
    valid = {record.run: record.scores["valid--nll"].value for record in records}
    assert len(valid) == 3
    best = min(valid, key=valid.get)
    for record in records:
        assert record.scores.keys() == ({"valid--nll", "nll"} if record.run == best else {"valid--nll"})
        assert record.configurations_tried == (3 if record.run == best else 1)
    watched = set((site / "watch").read_text().split())
    assert best in watched
    assert watched.isdisjoint(valid.keys() - {best})

    # one choice more: the best stays, and says so
    suite = lab.suite(['name = "tilted"\ngrid.learning_rate = [0.001, 0.1, 10.0, 0.002]'], dataset="watched")
    lab.done("run", suite)
    [chosen] = [record for record in lab.records() if record.run == best]
    assert chosen.configurations_tried == 4


def test_a_run_whose_code_changed_is_stale_until_it_is_asked_for(lab, site):
    module = site / "harness_tinker" / "edited.py"
    original = module.read_text()
    suite = lab.suite(["edited", "uniform"])
    lab.done("run", suite)
    old = lab.record("edited")
    try:
        module.write_text(
            original.replace("SHIFT = 0.0", '"""Moved."""\n\nSHIFT = 0.0  # a comment')
            .replace("        return", "\n        # why\n        return")
            .replace('"""Moved."""\n\n', "")
        )
        assert set(lab.states(suite).values()) == {"hit"}

        module.write_text(original.replace("SHIFT = 0.0", "SHIFT = 1000.0"))
        assert sorted(lab.states(suite).values()) == ["hit", "stale"]
        assert f"code or data changed since {old.run}" in lab.done("run", suite, "--dry-run").out
        assert "stale" in lab.done("status", suite).out
        refusal = lab.harness("export", suite).complaint
        assert old.run in refusal
        assert "--redo-stale" in refusal
        assert not (lab.root / "suite").exists()

        before = lab.times()
        assert "1 runs are stale and were left as they are" in lab.done("run", suite).err
        assert lab.times() == before

        lab.done("run", suite, "--redo-stale")
        [new] = [record for record in lab.records() if record.spec.model == "edited" and record.run != old.run]
        assert new.scores["nll"].value == pytest.approx(old.scores["nll"].value + 1000)
        assert set(lab.states(suite).values()) == {"hit"}
        lab.done("export", suite)
        exported = (lab.root / "suite" / "records.jsonl").read_text()
        assert new.run in exported
        assert old.run not in exported

        # nothing refers to the old run any more
        assert lab.done("clean", "--json").json["unreferenced"] == [old.run]
    finally:
        module.write_text(original)


def test_a_figure_of_an_older_version_of_its_metric_is_stale_until_it_is_asked_for(lab, monkeypatch):
    suite = lab.suite(["uniform"], metrics='["ink"]')
    lab.done("run", suite)
    from harness_tinker.metrics import Ink

    monkeypatch.setattr(Ink, "version", "next")
    monkeypatch.setenv("TINKER_INK_VERSION", "next")  # for child processes
    [run] = lab.states(suite)
    assert lab.states(suite) == {run: "stale"}
    assert f"{run}/ink" in lab.harness("export", suite).complaint
    before = lab.times("*/scores/*")
    assert "are stale" in lab.done("run", suite).err
    assert lab.times("*/scores/*") == before
    fit = lab.times("*/fit.json")
    lab.done("run", suite, "--redo-stale")
    assert lab.times("*/scores/ink.json") != before
    assert lab.times("*/fit.json") == fit
    assert lab.states(suite) == {run: "hit"}


def test_seeds_that_are_given_twice_are_all_of_them(lab):
    planned = lab.done("run", lab.suite(["uniform"]), "--seeds", "0", "--seeds", "3-4", "--dry-run", "--json").json
    assert [re.search(r"-s(\d)-", item["run"])[1] for item in planned] == ["0", "3", "4"]
