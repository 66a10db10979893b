"""A model in a file beside its suite, before there is a package: trained, ranked, loaded, and its code followed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import harness
from harness.discovery import targets
from harness.discovery.loading import load_model_class
from harness.discovery.manager import plugin_manager

MODEL = '''
import math

import torch

import harness
from odds import LOG_ODDS


class Coins(harness.ExactLikelihood):
    """A coin for every pixel, the same everywhere."""

    def __init__(self, spec: harness.ImageSpec, *, bias: float = 0.0) -> None:
        super().__init__(spec)
        if spec.levels != 2:
            raise harness.Unsupported("coins have two sides")
        self.register_buffer("logit", torch.tensor(LOG_ODDS + bias, dtype=torch.float64))

    def fit(self, data: harness.Dataset, trainer: harness.Trainer) -> None:
        pass

    def log_prob(self, images: torch.Tensor) -> torch.Tensor:
        ones = images.flatten(1).double()
        coins = ones * self.logit - torch.nn.functional.softplus(self.logit)
        return coins.sum(1)

    def sample(self, num_samples: int) -> torch.Tensor:
        chance = torch.sigmoid(self.logit).expand(num_samples, *self.spec.shape)
        return torch.bernoulli(chance).to(torch.uint8)


NOT_A_MODEL = 3
'''
DATA = """
import torch

import harness


def stripes(folder):
    images = (torch.arange(48).reshape(3, 1, 4, 4) // 2 % 2).to(torch.uint8)
    splits = [harness.Split(images) for _ in range(3)]
    return harness.Dataset("stripes", harness.ImageSpec(1, 4, 4, 2), *splits, "three images, thrice")
"""


@pytest.fixture(autouse=True)
def no_trace(monkeypatch):
    """Takes back what importing a file leaves in this process."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(targets, "_came_along", set())
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("file_", "odds", "beside")):
            del sys.modules[name]


@pytest.fixture
def project(lab):
    """A folder with a model, its neighbour and a suite; the command is given elsewhere."""
    lab.write("project/my_model.py", MODEL)
    lab.write("project/odds.py", "LOG_ODDS = -1.0\n")
    lab.suite(["uniform", "my_model.py:Coins"], name="project/suite")
    return lab.root / "project"


def test_a_file_beside_the_suite_is_planned_trained_ranked_and_loaded(lab, project):
    suite = project / "suite.toml"
    assert set(lab.states(suite).values()) == {"missing"}
    lab.done("run", suite)
    assert set(lab.states(suite).values()) == {"hit"}

    record = lab.record("my_model.py:Coins")
    assert (record.status, record.provider) == ("done", "my_model.py")
    assert record.run.startswith("my_model.py-Coins-digits-binary-s0-")
    assert str(lab.root) not in record.model_dump_json(exclude={"environment"})  # which has the command as it was typed

    model = harness.load(record, artifacts=lab.artifacts)
    assert model.logit.item() == -1.0
    lab.done("sample", record.run, "-n", "4", "-o", lab.root / "samples.png")
    assert (lab.root / "samples.png").stat().st_size > 0

    lab.done("export", suite)
    assert (project / "suite" / "records.jsonl").exists()
    lab.done("leaderboard", suite)
    assert "my_model.py:Coins" in (project / "suite" / "likelihood.md").read_text()
    lab.done("leaderboard", suite, "--check")


def test_the_audit_and_the_profile_take_a_file_and_a_run_of_it(lab, project):
    lab.done("run", project / "suite.toml", "--only", "my_model.py:Coins")
    run = lab.record("my_model.py:Coins").run
    few = ("--sizes", "3", "--batch-sizes", "2", "--rounds", "1", "--json")
    for name in (f"{project}/my_model.py:Coins", run):
        assert "✓" in lab.done("audit", name, "--checks", "normalisation").out
        sizes = few if ":" in name else few[2:]
        assert lab.done("profile", "generation", name, *sizes, "-o", lab.root / "profile").out
    profile = 'title = "T"\nprofile = "generation"\nsizes = [3]\nbatch_sizes = [2]\nrounds = 1\n'
    file = lab.write("project/speed.toml", profile + '[[models]]\nname = "my_model.py:Coins"\n')
    lab.done("profile", "generation", "--suite", file)
    assert "my_model.py:Coins" in (project / "speed" / "speed.md").read_text()


def test_hyperparameters_of_a_file_are_set_from_the_command_line(lab, project):
    only = ("--only", "my_model.py:Coins", "--set", "my_model.py:Coins.bias=0.5")
    lab.done("run", project / "suite.toml", *only)
    assert lab.record("my_model.py:Coins").hyperparameters == {"bias": 0.5}
    assert "no hyperparameter 'base'" in lab.harness("run", project / "suite.toml", "--set", "uniform.base=1").complaint


@pytest.mark.parametrize(
    ("file", "text", "state"),
    [
        ("my_model.py", MODEL.replace("+ bias", "- bias"), "stale"),
        ("my_model.py", f"# a remark\n{MODEL}", "hit"),
        ("odds.py", "LOG_ODDS = -1.25\n", "stale"),
        ("other.py", "UNUSED = 1\n", "hit"),
    ],
    ids=["a line", "a comment", "a line of its neighbour", "a file that it does not import"],
)
def test_a_run_is_stale_once_the_code_has_changed(lab, project, file, text, state):
    suite = project / "suite.toml"
    lab.done("run", suite, "--only", "my_model.py:Coins")
    (project / file).write_text(text)
    assert list(lab.states(suite, "--only", "my_model.py:Coins").values()) == [state]


def test_what_looks_at_a_run_says_in_a_line_what_has_changed_since_it_was_trained(lab, project, caplog):
    suite, output = project / "suite.toml", lab.root / "looked"
    lab.done("run", suite, "--only", "my_model.py:Coins")
    run = lab.record("my_model.py:Coins").run
    lab.done("export", suite, "--no-samples")
    caplog.clear()
    lab.done("sample", run, "-n", "4", "-o", f"{output}.png")
    assert caplog.messages == []
    (project / "odds.py").write_text("LOG_ODDS = -1.25\n")
    lab.done("sample", run, "-n", "4", "-o", f"{output}.png")
    lab.done("profile", "trace", run, "-o", f"{output}.json")
    lab.done("figure", "samples", suite)
    assert len(caplog.messages) == 3
    assert all(line.startswith(f"{run}: the code of 'my_model.py:Coins' has changed since") for line in caplog.messages)


def test_an_edited_file_is_run_again_from_the_same_process(lab, project, monkeypatch):
    monkeypatch.chdir(project)
    spec = harness.RunSpec(model="my_model.py:Coins", dataset="digits-binary", metrics=("nll",))
    first = harness.run(spec, artifacts=lab.artifacts)
    (project / "odds.py").write_text("LOG_ODDS = -1.25\n")
    again = harness.run(spec, artifacts=lab.artifacts)
    assert first.run != again.run
    assert first.scores["nll"].value != again.scores["nll"].value
    assert harness.load(again, artifacts=lab.artifacts).logit.item() == -1.25


def test_files_of_one_name_in_two_folders_have_their_own_neighbours(lab, project):
    lab.write("other/my_model.py", MODEL)
    lab.write("other/odds.py", "LOG_ODDS = 2.0\n")
    spec = harness.ImageSpec(1, 3, 3, 2)
    plugins = plugin_manager()
    for _ in range(2):
        logits = [
            load_model_class(plugins.at(folder), "my_model.py:Coins")(spec).logit.item()
            for folder in (project, lab.root / "other")
        ]
        assert logits == [-1.0, 2.0]


def test_a_package_beside_the_file_that_was_imported_before_stays(lab, project):
    lab.write("project/beside/__init__.py", "")
    sys.path.insert(0, str(project))
    beside = importlib.import_module("beside")
    (project / "my_model.py").write_text(f"import beside\n{MODEL}")
    for line in ("", "# a change\n"):
        (project / "odds.py").write_text(f"LOG_ODDS = -1.0\n{line}")
        load_model_class(plugin_manager().at(project), "my_model.py:Coins")
        assert sys.modules["beside"] is beside


def test_a_file_that_is_not_changed_is_imported_once(project):
    plugins = plugin_manager().at(project)
    assert load_model_class(plugins, "my_model.py:Coins") is load_model_class(plugins, "my_model.py:Coins")


def test_a_file_may_be_called_as_a_module_that_is_needed(lab, project):
    (project / "random.py").write_text(MODEL)
    assert load_model_class(plugin_manager().at(project), "random.py:Coins").__name__ == "Coins"
    assert sys.modules["random"].__file__ != str(project / "random.py")


def test_a_dataset_is_named_by_its_file_as_well(lab, project):
    lab.write("project/data.py", DATA)
    suite = lab.suite(["my_model.py:Coins"], name="project/striped", dataset="data.py:stripes")
    lab.done("run", suite)
    record = lab.record("my_model.py:Coins")
    assert (record.status, record.num_images["test"]) == ("done", 3)
    assert harness.load(record, artifacts=lab.artifacts).spec.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere.py:Coins", "there is no file "),
        ("my_model.py", "model 'my_model.py' is a file: say what in it is meant, my_model.py:NAME"),
        ("my_model.py:Coin", "my_model.py has no 'Coin' (did you mean 'Coins'"),
        ("my_model.py:NOT_A_MODEL", "'my_model.py:NOT_A_MODEL': 3 is not a subclass of harness.Model"),
        ("broken.py:Coins", "broken.py cannot be imported: SyntaxError: invalid syntax (broken.py, line 2)"),
        ("raises.py:Coins", "raises.py cannot be imported: ZeroDivisionError: division by zero"),
        ("leaves.py:Coins", "leaves.py cannot be imported: it called sys.exit(3)"),
        ("/tmp/my_model.py:Coins", "models.1.name: a record names no absolute path: write it relative to the suite"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(lab, project, name, complaint):
    lab.write("project/broken.py", "import torch\nclass Coins(:\n")
    lab.write("project/raises.py", "1 / 0\n")
    lab.write("project/leaves.py", "import sys\nsys.exit(3)\n")
    suite = lab.suite(["uniform", name], name="project/mistaken")
    assert complaint in lab.harness("run", suite).complaint
    assert lab.records() == []


def test_a_file_named_twice_needs_labels(lab, project):
    suite = lab.suite(["my_model.py:Coins", "my_model.py:Coins"], name="project/twice")
    assert "two rows are labelled 'my_model.py:Coins'; give one of them a label" in lab.harness("run", suite).complaint


def test_a_metric_is_registered_by_a_plugin_not_named_by_its_file(lab, project):
    suite = lab.suite(["uniform"], name="project/measured", metrics='["my_model.py:Coins"]')
    assert "unknown metric 'my_model.py:Coins'" in lab.harness("run", suite).complaint


def test_a_project_that_has_moved_with_its_runs_is_still_loaded(lab, project):
    lab.done("run", project / "suite.toml", "--only", "my_model.py:Coins")
    moved = lab.root.with_name(f"{lab.root.name}-moved")
    lab.root.rename(moved)
    try:
        [run] = (moved / "artifacts" / "runs").iterdir()
        model = harness.load(run.name, artifacts=moved / "artifacts")
        assert Path(sys.modules[type(model).__module__].__file__).is_relative_to(moved.resolve())
    finally:
        moved.rename(lab.root)
