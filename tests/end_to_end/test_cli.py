"""The commands: what they print, and one line for every mistake."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from PIL import Image

from harness.interface import data_folder
from harness.interface.data_folder import DownloadFailed


def suite_of(lab):
    return lab.root / "suite.toml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('models = [{name = "unifrom"}]', "unknown model 'unifrom' (did you mean 'uniform'?)"),
        ('datasets = ["digits-binry"]', "unknown dataset 'digits-binry' (did you mean 'digits-binary'"),
        ('metrics = ["nl"]', "unknown metric 'nl' (did you mean 'nll'"),
        ('metrics = ["iwae-0"]', "unknown metric 'iwae-0'"),
        ('metric = ["nll"]', "unknown key 'metric' (did you mean 'metrics'?)"),
        ('models = [{name = "uniform", labels = "x"}]', "unknown key 'models.0.labels' (did you mean 'label'?)"),
        (
            'models = [{name = "tilted", hyperparameters = {learning_rat = 1.0}}]',
            "Tilted has no hyperparameter 'learning_rat' (did you mean 'learning_rate'?)",
        ),
        (
            'models = [{name = "tilted", hyperparameters = {learning_rate = "fast"}}]',
            "hyperparameter learning_rate has to be a number, not 'fast'",
        ),
        ('budget = "3 weeks"', "'3 weeks'"),
        ('datasets = ["broken"]', "dataset 'broken': harness_tinker.datasets:broken failed: KeyError: 'pixels'"),
        ("seeds = [0", "cannot be read as TOML"),
    ],
)
def test_a_suite_that_cannot_be_used_is_one_line_that_says_what_would_be_right(lab, no_children, text, says):
    defaults = {"title": "'T'", "datasets": '["digits-binary"]', "models": '[{name = "uniform"}]'}
    lines = [f"{key} = {value}" for key, value in defaults.items() if not text.startswith(f"{key} ")]
    suite = lab.write("suite.toml", "\n".join([text, *lines]))
    assert says in lab.harness("run", suite).complaint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "tilted.learning_rat=1"], "has no hyperparameter 'learning_rat' (did you mean 'learning_rate'?)"),
        (["--set", "tilted.learning_rate=fast"], "learning_rate has to be a number, not 'fast'"),
        (["--set", "tiltd.learning_rate=1"], "no model 'tiltd' in the suite (did you mean 'tilted'?)"),
        (["--set", "budgte=1"], "the suite has no key 'budgte' (did you mean 'budget'"),
        (["--set", "budget"], "write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE"),
        (["--only", "unifrom"], "no such model, label or dataset in the suite (did you mean 'uniform'?)"),
        (["--seeds", "a"], "write seeds as 0,1,2 or 0-4"),
        (["--executor", "locl", "--seeds", "7"], "unknown executor 'locl' (did you mean 'local'?)"),
        (["--device", "gpu9"], "device 'gpu9' is not a device name"),
        (["--checkpoint", "x.safetensors"], "a checkpoint belongs to one row, this is 3"),
    ],
)
def test_an_option_that_cannot_be_used_is_one_line_that_says_what_would_be_right(finished, arguments, says):
    answer = finished.harness("run", suite_of(finished), *arguments)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("error: ")
    assert says in answer.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["list", "modles"], "unknown kind 'modles' (did you mean 'models'"),
        (["run", "nowhere"], "no suite at nowhere.toml"),
        (["show", "unifrm"], "no run 'unifrm'"),
        (["show", "tilt"], "'tilt' is the beginning of 2 runs: tilted-digits-binary-s0-"),
        (["sample", "tilted-digits-binary-s0", "-o", "x.jpg"], "the name has to end in .png"),
        (["sample", "tilted-digits-binary-s0", "--sampler", "fast"], "no sampler 'fast'"),
    ],
)
def test_a_command_on_something_that_is_not_there_is_one_line(finished, command, says):
    assert says in finished.harness(*command).complaint


def test_a_device_that_is_not_there_is_one_line(finished, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    complaint = finished.harness("run", suite_of(finished), "--device", "cuda").complaint
    assert "device 'cuda' is not available" in complaint
    assert "finds no accelerator" in complaint


def test_a_data_file_that_cannot_be_had_is_one_line_that_names_it_and_its_place(lab, monkeypatch, tmp_path):
    def refuse(url, **_):
        raise DownloadFailed("connection refused")

    monkeypatch.setattr(data_folder, "download", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    suite = lab.suite(["uniform"], dataset="mnist")
    complaint = lab.harness("--data", data, "run", suite).complaint
    assert f"mnist/train-images-idx3-ubyte is not in {data}" in complaint
    assert "connection refused" in complaint


def test_other_seeds_models_and_values_are_run_for_once(lab):
    suite = lab.suite(
        ["uniform", "tilted", 'name = "tilted"\nlabel = "slow one"\nhyperparameters.learning_rate = 0.01']
    )
    plan = lab.done(
        "run", suite, "--dry-run", "--json", "--only", "slow one", "--seeds", "3-4", "--set", "budget='2 steps'"
    ).json
    assert [(item["row"], item["dataset"], item["state"], item["missing"]) for item in plan] == [
        ("slow one", "digits-binary", "missing", ["nll"])
    ] * 2
    assert [item["run"].split("-s")[-1][0] for item in plan] == ["3", "4"]
    arguments = ["--only", "tilted", "--set", "tilted.learning_rate=0.5", "--set", "budget='2 steps'", "--json"]
    records = lab.done("run", suite, *arguments, "--only", "digits-binary").json
    assert [(item["hyperparameters"], item["fit"]["steps"]) for item in records] == [({"learning_rate": 0.5}, 2)]


def test_weights_that_are_given_score_as_those_they_were_copied_from(finished, lab):
    trained = finished.record("tilted", seed=1)
    weights = finished.folder(trained).weights
    suite = lab.suite(["tilted", "uniform"], seeds="[5]")
    lab.done("run", suite, "--checkpoint", weights, "--only", "tilted")
    record = lab.record("tilted", seed=5)
    assert record.scores["nll"].value == trained.scores["nll"].value
    assert (record.fit.steps, record.fit.checkpoint) == (0, "given: model.safetensors")
    assert record.fit.weights_sha256 == trained.fit.weights_sha256
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record.spec.checkpoint == f"sha256:{digest[:12]}"
    assert str(weights.parent) not in record.model_dump_json(exclude={"environment"})
    elsewhere = lab.root / "elsewhere.safetensors"
    elsewhere.write_bytes(weights.read_bytes())
    again = lab.done("run", suite, "--checkpoint", elsewhere, "--only", "tilted", "--dry-run", "--json").json
    assert [(item["run"], item["state"]) for item in again] == [(record.run, "hit")]


def test_weights_that_do_not_fit_or_cannot_be_read_are_one_line(finished, lab, no_children):
    suite = lab.suite(["tilted"])
    other = finished.folder(finished.record("uniform")).weights
    complaint = lab.harness("run", suite, "--checkpoint", other).complaint
    assert f"{other}: does not fit Tilted: missing ['logits']" in complaint
    half = lab.root / "half.safetensors"
    half.write_bytes(finished.folder(finished.record("tilted")).weights.read_bytes()[:200])
    assert f"{half}: not a readable safetensors file" in lab.harness("run", suite, "--checkpoint", half).complaint
    assert "cannot be read" in lab.harness("run", suite, "--checkpoint", lab.root / "none").complaint


def test_status_and_show_tell_what_the_store_holds(finished):
    status = finished.done("status", "--json").json
    assert [item["status"] for item in status] == ["done"] * 6
    run = finished.record("tilted").run
    assert run in finished.done("status").out
    assert {item["state"] for item in finished.done("status", suite_of(finished), "--json").json} == {"hit"}
    shown = finished.done("show", run[:-3])
    assert "fit: 40 steps" in shown.out
    assert "learning_rate=0.1" in shown.out
    assert finished.done("show", run, "--json").json["run"] == run


def test_samples_are_a_png_of_the_grid_and_the_same_for_the_same_seed(finished, tmp_path):
    run = finished.record("tilted").run

    def draw(name, *arguments):
        file = tmp_path / name
        finished.done("sample", run, "-n", "10", "-o", file, *arguments)
        return file.read_bytes()

    first = draw("a.png", "--seed", "1")
    assert draw("b.png", "--seed", "1") == first
    assert draw("c.png", "--seed", "2") != first
    image = Image.open(io.BytesIO(first))
    # 4 columns and 3 rows of 8 x 8 pixels, each seven times as large, with seven pixels between and around
    assert (image.format, image.size) == ("PNG", (4 * 63 + 7, 3 * 63 + 7))


def test_doctor_tells_machine_and_data(lab, tmp_path):
    answer = lab.done("--data", tmp_path, "doctor", "--json").json
    assert answer["data"]["digits"] == "found"
    assert "mnist/train-images-idx3-ubyte is not in" in answer["data"]["mnist"]
    assert (
        answer["data"]["broken"]
        == "ValueError: dataset 'broken': harness_tinker.datasets:broken failed: KeyError: 'pixels'"
    )
    assert answer["environment"]["torch"]
    assert answer["broken_plugins"] == {}


def test_clean_removes_what_no_suite_refers_to_and_nothing_else(lab):
    one = lab.suite(["uniform"], name="one")
    lab.done("run", one)
    lab.done("run", lab.suite(["uniform"], name="two", seeds="[0, 1]"))
    kept, loose = lab.record("uniform", 0).run, lab.record("uniform", 1).run
    assert lab.done("clean", "--json").json["unreferenced"] == []
    lab.done("run", lab.suite(["uniform"], name="two"))
    listed = lab.done("clean", "--json").json
    assert (listed["unreferenced"], listed["removed"], listed["runs"]) == ([loose], [], 2)
    assert "--remove removes the runs of no suite" in lab.done("clean").out
    assert lab.done("clean", "--remove", "--json").json["removed"] == [loose]
    assert [record.run for record in lab.records()] == [kept]
    assert [file.name for file in (lab.artifacts / "runs").iterdir()] == [kept]


def test_lists_of_what_is_installed_parse(lab):
    models = lab.done("list", "models", "--json").json
    assert {"kind": "model", "name": "raises", "summary": "", "paper": None, "plugin": "harness-tinker 0.1"} in models
    [tinker] = [item for item in lab.done("plugins", "--json").json if item["name"] == "tinker"]
    assert tinker["problems"] == []
    assert "model tilted" in tinker["registers"]
    blocked = lab.harness("-p", "no:tinker", "run", lab.suite(["tilted"])).complaint
    assert "unknown model 'tilted'" in blocked
    assert "blocked plugins: tinker" in blocked


def test_boards_are_written_from_the_store(finished, tmp_path):
    answer = finished.done("leaderboard", suite_of(finished), "-o", tmp_path / "boards", "--json").json
    assert answer["source"] == "store"
    assert json.dumps(answer["written"]).count(".md") >= 1


@pytest.mark.parametrize(("name", "why"), [("tinkr", "did you mean 'tinker'"), ("metrics", "is built in")])
def test_blocking_what_cannot_be_blocked_is_one_line(lab, name, why):
    assert why in lab.harness("-p", f"no:{name}", "list").complaint


def test_a_suite_of_the_same_name_in_another_folder_takes_nothing_from_a_suite(lab):
    lab.done("run", lab.suite(["uniform"], name="a/suite"))
    lab.done("run", lab.suite(["independent-pixels"], name="b/suite"))
    before = lab.records()
    assert lab.done("clean", "--remove", "--json").json["unreferenced"] == []
    assert lab.records() == before
    assert all(lab.folder(record).fit() is not None for record in before)
