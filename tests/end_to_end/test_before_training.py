"""What can be known before training is said before training; and what the command line says, whoever reads it."""

from __future__ import annotations

import io
import shutil
import sys

import pytest

from harness import cli

BOUND = """
import torch
import harness

class Bound(harness.VariationalBound):
    default_budget = "1 steps"

    def __init__(self, spec, *, scale: float = 1.0, sizes: "tuple[int, ...]" = (3, 4)):
        super().__init__(spec)

    def fit(self, data, trainer):
        pass

    def elbo(self, images):
        return torch.full((len(images),), -100.0)

    def sample(self, num_samples):
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)
"""


def head(**changes):
    content = {"title": '"T"', "datasets": '["digits-binary"]', "metrics": '["nll"]', "audit": "false", **changes}
    return "".join(f"{key} = {value}\n" for key, value in content.items())


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("fid-lenet-mnits", ".toml: metrics: 'fid-lenet-mnits': unknown dataset 'mnits' (did you mean 'mnist'"),
        ("nl", ".toml: metrics: unknown metric 'nl' (did you mean 'nll'"),
        ("kid-lenet-n100-n50", "unknown dataset 'n100'"),
        ("fid-lenet-broken-n100", "dataset 'broken': harness_tinker.datasets:broken failed"),
        ("fid-n19", "fid-n19: at least 20 samples are needed, not 19"),
    ],
)
def test_a_metric_whose_name_cannot_be_used_is_refused_before_training(lab, no_children, metric, says):
    suite = lab.suite(["uniform"], metrics=f'["{metric}"]')
    assert says in lab.harness("run", suite).complaint


@pytest.mark.parametrize("where", ["run", "status"])
def test_a_published_figure_that_there_is_not_is_refused_before_training(lab, no_children, where):
    suite = lab.suite(['name = "uniform"\npublished = "made-2hl"'])
    assert (
        "'uniform': published = 'made-2hl': published.toml beside the suite has no such figure"
        in lab.harness(where, suite).complaint
    )


@pytest.fixture(scope="module")
def vain(make_lab):
    """A run that is asked for an exact likelihood, and has a bound; what the plan and the run said of it."""
    lab = make_lab()
    lab.write("bound.py", BOUND)
    suite = lab.suite(["bound.py:Bound"])
    return lab, suite, lab.done("run", suite, "--dry-run"), lab.done("run", suite)


def test_a_plan_says_which_metric_measures_what_a_model_has_instead(vain):
    _, _, plan, run = vain
    says = "note: bound.py:Bound: nll is left out: Bound has no exact likelihood: negative-elbo measures its bound"
    assert says in plan.err
    assert says in run.err


def test_a_run_whose_figures_were_all_skipped_is_not_just_done(vain):
    lab, _, _, run = vain
    assert "done, nothing measured (fit" in run.err
    assert "nll SKIPPED: Bound has no exact likelihood: negative-elbo measures its bound" in run.err
    assert "1 runs: 1 done, nothing measured" in run.err
    [record] = lab.records()
    assert record.scores["nll"].status == "skipped"


def test_the_board_of_what_was_skipped_names_the_bound_that_the_model_has(vain, tmp_path):
    lab, suite, _, _ = vain
    board = lab.done("leaderboard", suite, "-o", tmp_path, "--board", "likelihood", "--format", "csv").out
    assert "negative-elbo measures its bound" in board


# --- names ---


def test_a_folder_beside_a_suite_or_in_the_working_folder_hides_none(lab, monkeypatch):
    monkeypatch.chdir(lab.root)
    lab.suite(["uniform"], name="tiny")
    (lab.root / "leaderboards").mkdir()
    shutil.copy(lab.root / "tiny.toml", lab.root / "leaderboards" / "boards.toml")
    for name in ("tiny", "boards"):
        (lab.root / name).mkdir()
        assert lab.done("run", name, "--dry-run", "--json").json[0]["state"] == "missing"
    assert "no suite at leaderboards.toml" in lab.harness("run", "leaderboards").complaint


def test_a_suite_that_is_not_found_by_its_name_says_where_names_are_looked_for(lab, monkeypatch):
    monkeypatch.chdir(lab.root)
    assert "no suite at digits.toml, and none at leaderboards/digits.toml" in lab.harness("run", "digits").complaint


def test_a_row_that_is_not_found_says_that_a_suite_knows_its_label(finished, monkeypatch):
    monkeypatch.chdir(finished.root)
    assert "found with --suite SUITE" in finished.harness("compare", "A label", "uniform").complaint


def test_a_model_shows_its_hyperparameters_with_types_and_defaults(lab, monkeypatch):
    monkeypatch.chdir(lab.root)
    lab.write("bound.py", BOUND)
    shown = lab.done("show", "bound.py:Bound", "--json").json
    assert shown == [
        {"hyperparameter": "scale", "default": 1.0, "type": "a number"},
        {"hyperparameter": "sizes", "default": [3, 4], "type": "a list of whole numbers"},
    ]
    text = lab.done("show", "bound.py:Bound").out
    assert "trains for 1 steps unless told otherwise" in text
    assert "sizes           [3, 4]   a list of whole numbers" in text


def test_a_model_that_has_runs_shows_their_names(finished):
    runs = [record.run for record in finished.records() if record.spec.model == "tilted"]
    shown = finished.done("show", "tilted").out
    assert all(f"run: {run}" in shown for run in runs)


def test_doctor_says_all_of_what_to_do_about_data_in_lines_that_can_be_read(lab, tmp_path):
    whole = lab.done("--data", tmp_path, "doctor", "--json").json["data"]["mnist"]
    out = lab.done("--data", tmp_path, "doctor").out
    assert f"mnist: {whole}" in " ".join(out.split())
    assert all(len(line) < 80 or len(line.split()) == 1 for line in out.partition("dataset ")[2].splitlines())


def test_the_version_is_said(command_line):
    assert command_line("--version").out.startswith("genharness 0.")


# --- streams ---


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "gbk", "latin-1"])
def test_what_an_encoding_lacks_is_replaced_and_the_exit_status_is_kept(monkeypatch, encoding):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    monkeypatch.setattr(sys, "argv", ["harness"])
    monkeypatch.setattr("harness.cli.commands.app", lambda **_: sys.exit(print("✓ 3 ≤ 4 –") or 1))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    sys.stdout.flush()
    assert ended.value.code == 1
    assert b" 4 " in content.getvalue()
