"""The coding receipt of trained runs and of weights from elsewhere; and the gap to the entropy as a run's figure."""

import contextlib
import io
import json
import math

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file

from harness import Autoregressive
from harness.api import load_model
from harness.auditing.coding import decode
from harness.cli.audit import code_images
from harness.cli.context import Context

pytest.importorskip("constriction", reason="constriction is not installed")

MADE = 'name = "made"\nbudget = "30 steps"\n[models.hyperparameters]\nhidden = [20]\n'
SUITE = [MADE, 'name = "mixture-of-categoricals"\nbudget = "2 epochs"']


@pytest.fixture(scope="module")
def trained(make_lab):
    lab = make_lab()
    lab.done("run", lab.suite(SUITE))
    lab.done("run", lab.suite([MADE], name="other", dataset="ising-8x8", metrics='["nll", "entropy-gap"]'))
    return lab


def options(lab):
    return Context(lab.artifacts, None, ())


UNSAID = {
    "output": None,
    "suite": None,
    "weights": None,
    "dataset": None,
    "changes": (),
    "device": "cpu",
    "json": False,
}


def code(options, model, number, **arguments):
    code_images(options, model, number, **{**UNSAID, **arguments})


def receipt(lab, model, number=60, **arguments):
    """What it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code(options(lab), model, number, **arguments)
    return out.getvalue()


def made(lab, dataset):
    [record] = [r for r in lab.records() if (r.spec.model, r.spec.dataset) == ("made", dataset)]
    return record


def test_the_receipt_of_a_run_says_size_likelihood_and_that_the_images_came_back(trained):
    text = receipt(trained, "made-digits-binary-s0")
    assert "60 test images of digits-binary, coded by made-digits-binary-s0-" in text
    assert "returns the same images" in text
    assert "as long as the likelihood says, to 1%" in text


def test_the_whole_split_is_coded_in_the_nll_of_its_record(trained):
    text = receipt(trained, "made", number=10_000, dataset="digits-binary", json=True)
    found = json.loads(text)
    assert found["num_images"] == 360
    assert found["nll"] == pytest.approx(made(trained, "digits-binary").scores["nll"].value, rel=1e-6)
    assert found["holds"]
    assert found["nats_per_image"] == pytest.approx(8 * found["num_bytes"] * math.log(2) / 360)


def test_the_file_that_is_kept_gives_back_a_seeded_choice_of_test_images(trained, tmp_path):
    file = tmp_path / "images.bin"
    receipt(trained, "made", output=str(file), dataset="digits-binary")
    with torch.no_grad():
        model = load_model(made(trained, "digits-binary"), options(trained).settings(device="cpu"))
        images = decode(model, file.read_bytes())
    assert len(images) == 60
    receipt(trained, "made", output=str(tmp_path / "again.bin"), dataset="digits-binary")
    assert (tmp_path / "again.bin").read_bytes() == file.read_bytes()


def test_weights_from_a_file_are_coded_with_their_hyperparameters(trained):
    weights = trained.folder(made(trained, "digits-binary")).weights
    text = receipt(trained, "made", weights=str(weights), dataset="digits-binary", changes=["hidden=[20]"])
    assert f"coded by made with {weights}" in text


def test_a_receipt_that_does_not_hold_ends_with_status_one_and_says_why(trained, monkeypatch, capsys):
    log_prob = Autoregressive.log_prob
    monkeypatch.setattr(Autoregressive, "log_prob", lambda self, images: log_prob(self, images) / math.log(2))
    with pytest.raises(typer.Exit) as end:
        code(options(trained), "made", 60, dataset="digits-binary")
    assert end.value.exit_code == 1
    assert "log_prob is not that of these conditionals, or they see the future" in capsys.readouterr().out


def test_weights_that_are_not_finite_are_one_line(trained, tmp_path):
    weights = load_file(trained.folder(made(trained, "digits-binary")).weights)
    weights["output.bias"][3] = math.nan
    save_file(weights, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="the conditional of entry 3 is NaN"):
        code(options(trained), "made", 5, weights=str(tmp_path / "nan.safetensors"), dataset="digits-binary",
             changes=["hidden=[20]"])  # fmt: skip


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("made", {}, "'made' has 2 trained runs, name one of them: made-"),
        ("nade", {}, r"no trained run 'nade': train one with 'harness run', or give --weights FILE --dataset NAME"),
        ("mixture-of-categoricals", {}, "MixtureOfCategoricals has no conditionals to code by"),
        ("made", {"suite": "nowhere"}, "no suite at nowhere.toml"),
        ("made", {"weights": "x.safetensors"}, "--weights needs --dataset"),
        ("made", {"weights": "nowhere.safetensors", "dataset": "digits-binary"}, "nowhere.safetensors: not a readable"),
        ("made", {"weights": "x", "dataset": "digits-binary", "changes": ["hidden"]}, "write HYPERPARAMETER=VALUE"),
        ("made", {"weights": "x", "dataset": "digits-binary", "changes": ["hiden=[2]"]}, "did you mean 'hidden'"),
        ("made", {"changes": ["hidden=[2]"]}, "a run knows its own"),
    ],
)
def test_what_cannot_be_coded_is_one_line_that_says_what_would_be_right(trained, model, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        code(options(trained), model, **{"number": 5, **arguments})
    assert "\n" not in str(caught.value)


def test_a_suite_narrows_the_runs_to_its_own(trained):
    text = receipt(trained, "made", suite=str(trained.root / "other.toml"), json=True)
    assert json.loads(text)["dataset"] == "ising-8x8"


def test_the_gap_to_the_entropy_is_a_figure_of_a_run_on_known_data_and_skipped_elsewhere(trained, make_lab):
    scores = made(trained, "ising-8x8").scores
    gap = scores["entropy-gap"]
    assert gap.status == "done"
    assert gap.value == pytest.approx(scores["nll"].value - gap.details["true_nll"])
    lab = make_lab()
    lab.done("run", lab.suite(["uniform"], metrics='["nll", "entropy-gap"]'))
    skipped = lab.record("uniform").scores["entropy-gap"]
    assert skipped.status == "skipped"
    assert "the entropy of digits-binary is not known" in skipped.failure.message


def test_the_command_line_codes_instead_of_checking(trained, tmp_path):
    answer = trained.done("audit", "made-ising-8x8", "--code", 20, "--code-file", tmp_path / "x.bin", "--json")
    assert answer.json["holds"]
    assert answer.json["num_bytes"] == (tmp_path / "x.bin").stat().st_size
    assert "no trained run 'nade'" in trained.harness("audit", "nade", "--code", 20).complaint
