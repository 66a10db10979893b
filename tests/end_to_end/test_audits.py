"""Audits, from the suite and from the command line: with child processes, on models that are right and wrong."""

from __future__ import annotations

import json

import pytest

PARTS = {"claims", "tests", "fails a right model", "cannot see"}  # of what a check is explained by
CHEAT = """
    import math

    import torch

    import harness


    class Cheat(harness.ExactLikelihood):
        '''Uniform images, each with ten times its probability.'''

        def __init__(self, spec: harness.ImageSpec, *, factor: float = 10.0) -> None:
            super().__init__(spec)
            self.factor = factor

        def fit(self, data: harness.Dataset, trainer: harness.Trainer) -> None:
            pass

        def log_prob(self, images: torch.Tensor) -> torch.Tensor:
            print("scoring", len(images))
            uniform = -self.spec.num_dimensions * math.log(self.spec.levels)
            return torch.full((len(images),), uniform + math.log(self.factor), dtype=self.dtype)

        def sample(self, num_samples: int) -> torch.Tensor:
            return torch.randint(self.spec.levels, (num_samples, *self.spec.shape), dtype=torch.uint8)


    @harness.hookimpl
    def register_models():
        return [harness.ModelEntry("cheat", Cheat)]
"""


@pytest.fixture
def cheat(install_plugin, site):
    """Installs a model whose likelihood sums to ten; returns its file."""
    return install_plugin("harness-cheat", {"harness_cheat.py": CHEAT}, entry_points={"cheat": "harness_cheat"}) / (
        "harness_cheat.py"
    )


def reports(lab):
    return sorted((lab.artifacts / "audits").glob("*.json"))


def test_a_mutant_is_trained_and_listed_and_not_ranked(lab, cheat):
    suite = lab.suite(["uniform", "cheat"], seeds="[0, 1]", audit=True)
    answer = lab.done("run", suite)
    assert "4 done" in answer.err
    assert "✗ cheat failed its audit (normalisation" in answer.err
    assert "✗ uniform" not in answer.err
    record = lab.record("cheat", 1)
    assert record.scores["audit"].value >= 1
    assert record.scores["audit"].unit == "checks failed"
    assert len(reports(lab)) == 2  # four runs: one a model
    assert set(lab.states(suite).values()) == {"hit"}

    shown = lab.done("show", record.run).out
    assert "audit: ✗ normalisation" in shown
    assert f"again: harness audit {record.run} --checks normalisation" in shown
    assert str(reports(lab)[0]) in shown

    lab.done("export", suite)
    lab.done("leaderboard", suite)
    board = (suite.with_suffix("") / "likelihood.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in board.splitlines() if line.startswith("|")]
    assert [row[1:3] for row in rows[2:]] == [["1", "uniform"], ["–", "cheat"]]
    assert rows[3][3].startswith(("41.", "42."))  # it would have won
    assert "- cheat: ✗ normalisation" in board
    assert "the probabilities of all images sum to 10, not to 1" in board
    lab.done("leaderboard", suite, "--check")


def test_a_suite_or_a_command_can_do_without_audits(lab):
    suite = lab.suite(["uniform"], audit=False)
    lab.done("run", suite)
    assert lab.record("uniform").scores.keys() == {"nll"}
    suite = lab.suite(["uniform"], audit=True)
    assert set(lab.states(suite, "--no-audit").values()) == {"hit"}
    assert set(lab.states(suite).values()) == {"scores missing"}
    lab.done("run", suite)
    assert lab.record("uniform").scores.keys() == {"nll", "audit"}
    assert "audit: ✓; " in lab.done("show", lab.record("uniform").run).out


def test_references_are_not_audited(lab):
    lab.done("run", lab.suite(['name = "uniform"\nrole = "reference"'], audit=True))
    assert lab.record("uniform").scores.keys() == {"nll"}


def test_the_chosen_of_a_grid_alone_is_audited(lab):
    rows = ['name = "mixture-of-categoricals"\nbudget = "1 epochs"\ngrid.components = [1, 2]']
    lab.done("run", lab.suite(rows, audit=True))
    scores = [record.scores.keys() for record in lab.records()]
    assert sorted(map(sorted, scores)) == [["audit", "nll", "valid--nll"], ["valid--nll"]]
    assert len(reports(lab)) == 1


def test_a_grid_is_never_chosen_by_the_audit(lab):
    suite = lab.suite(['name = "tilted"\ngrid.learning_rate = [0.1, 0.2]'], metrics='["fit-seconds"]', audit=True)
    assert "a grid needs a quality metric" in lab.harness("run", suite).complaint


def test_changed_code_is_audited_again(lab, site):
    module = site / "harness_tinker" / "edited.py"
    original = module.read_text()
    suite = lab.suite(["edited"], audit=True)
    lab.done("run", suite)
    assert len(reports(lab)) == 1
    try:
        module.write_text(original.replace("SHIFT = 0.0", "SHIFT = 1000.0"))
        lab.done("run", suite, "--redo-stale")
        assert len(reports(lab)) == 2
        standings = [json.loads(file.read_text())["standing"] for file in reports(lab)]
        assert sorted(standings) == ["failed", "passed"]
    finally:
        module.write_text(original)


def test_given_weights_are_scored_with_the_audit_of_their_model(lab):
    suite = lab.suite(["independent-pixels"], audit=True)
    lab.done("run", suite, "--no-audit")
    weights = lab.folder(lab.record("independent-pixels")).weights
    lab.done("run", suite, "--checkpoint", weights)
    [given] = [record for record in lab.records() if record.spec.checkpoint is not None]
    assert given.scores["audit"].protocol["standing"] == "passed"


# --- harness audit ---


def test_the_command_names_what_is_wrong_and_how_to_see_it_again(lab, cheat):
    answer = lab.harness("audit", "cheat", "--set", "factor=2.0", "--checks", "contract,normalisation")
    assert answer.code == 1
    assert "✗  normalisation" in answer.out
    assert "the probabilities of all images sum to 2, not to 1" in answer.out
    again = "harness audit cheat --set factor=2.0 --checks normalisation --seed 0"
    assert f"again: {again}\n" in answer.out
    assert lab.harness(*again.split()[1:]).code == 1
    assert answer.out.splitlines()[-1].startswith("✗ cheat: failed normalisation; 1 checks passed")
    assert lab.done("audit", "cheat", "--set", "factor=1", "--checks", "contract,normalisation").out


def test_a_model_that_is_not_installed_is_audited_by_its_file_or_module(lab, install_plugin, monkeypatch):
    file = lab.write("mine.py", "\n".join(line[4:] for line in CHEAT.splitlines()))
    answer = lab.harness("audit", f"{file}:Cheat", "--checks", "normalisation")
    assert (answer.code, "sum to 10, not to 1" in answer.out) == (1, True)
    install_plugin("nothing", {"loose/cheating.py": CHEAT, "loose/__init__.py": ""})
    answer = lab.harness("audit", "loose.cheating:Cheat", "--checks", "normalisation", "--json")
    assert answer.code == 1
    assert answer.json["standing"] == "failed"
    assert "did you mean 'Cheat'" in lab.harness("audit", "loose.cheating:Cheta").complaint


def test_what_a_model_prints_is_no_part_of_the_report(lab, cheat):
    answer = lab.harness("audit", "cheat", "--checks", "contract", "--json")
    assert answer.json["model"] == "cheat"
    assert "scoring 5" in answer.err
    assert "scoring" not in lab.harness("audit", "cheat", "--checks", "contract").out


def test_a_run_is_audited_with_its_hyperparameters_at_its_size(lab):
    lab.done("run", lab.suite(['name = "tilted"\nhyperparameters.learning_rate = 0.2'], audit=False))
    answer = lab.done("audit", "tilted-digits", "--checks", "contract,normalisation", "--json")
    assert answer.json["hyperparameters"] == {"learning_rate": 0.2}
    assert answer.json["model"] == "tilted"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["unifrom"], "unknown model 'unifrom' (did you mean 'uniform'"),
        (["uniform", "--checks", "normalization"], "no check 'normalization' (did you mean 'normalisation'"),
        (["--explain", "normalization"], "no check 'normalization' (did you mean 'normalisation'"),
        (["uniform", "--set", "width=3"], "no hyperparameter 'width'"),
        (["uniform", "--set", "width"], "write HYPERPARAMETER=VALUE"),
        (["fvsbn", "--size", "2x2x3x0"], "levels must be from 2 to 256, not 0"),
        (["independent-pixels", "--size", "0x2x3x2"], "height must be at least 1, not 0"),
        (["made", "--set", "hidden=[-1]"], "hidden must be one positive number or more, not [-1]"),
        (["harness.interface.model:Model"], "nothing can be checked: the model takes no sample space that was tried"),
        (["unable"], "nothing can be checked"),
        (["uniform", "--size", "28x28"], "write height x width x channels x levels"),
        (["uniform", "--size", "8x8x1x2", "--dataset", "digits"], "give one of them"),
        (["uniform", "--dataset", "digit"], "unknown dataset 'digit'"),
        (["nowhere.py:Model"], "there is no file nowhere.py"),
        (["nowhere.models:Model"], "cannot be imported: ModuleNotFoundError"),
        (["uniform", "--code-file", "x"], "--code-file goes with --code N"),
        ([], "name a model to audit"),
    ],
)
def test_a_mistake_is_one_line(lab, arguments, complaint):
    assert complaint in lab.harness("audit", *arguments).complaint


def test_the_checks_are_listed_with_what_a_right_model_does(lab):
    listed = lab.done("audit", "--list", "--json").json
    assert {"check": "normalisation", "promise": "probabilities of all images sum to one, bounds to no more"} in listed
    assert "normalisation" in lab.done("audit", "--list").out


def test_a_check_is_explained_without_a_model(lab):
    told = lab.done("audit", "--explain", "dependence").out
    assert told.startswith("claims: nothing sees the future; all of the past is seen, or what is declared.\ntests: ")
    assert list(lab.done("audit", "--explain", "dependence", "--json").json) == sorted(PARTS)
