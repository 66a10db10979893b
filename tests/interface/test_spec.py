"""The sample space, budgets, runs, and the digest by which they are recognised."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from harness.interface.spec import Budget, ImageSpec, RunSpec
from harness.support.names import digest_of


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_an_image_spec_counts_its_dimensions(levels):
    spec = ImageSpec(3, 4, 5, levels)
    assert spec.shape == (3, 4, 5)
    assert spec.num_dimensions == 60


@pytest.mark.parametrize("levels", [-1, 0, 1, 257])
def test_levels_outside_2_to_256_are_refused_by_their_value(levels):
    with pytest.raises(ValueError, match=f"levels must be from 2 to 256, not {levels}"):
        ImageSpec(1, 2, 2, levels)


@pytest.mark.parametrize("name", ["channels", "height", "width"])
def test_an_empty_side_is_refused_by_its_name(name):
    sides = {"channels": 1, "height": 2, "width": 2, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        ImageSpec(**sides, levels=2)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("20 epochs", 20, "epochs"),
        ("1 epoch", 1, "epochs"),
        ("0.5 epochs", 0.5, "epochs"),
        ("10000 steps", 10_000, "steps"),
        ("1 step", 1, "steps"),
        ("60 minutes", 60, "minutes"),
        ("1.5 minutes", 1.5, "minutes"),
        ("  3epochs ", 3, "epochs"),
        ("2.0 steps", 2, "steps"),
    ],
)
def test_a_budget_reads_an_amount_and_a_unit(text, amount, unit):
    assert Budget.parse(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    "text",
    ["", "20", "epochs", "20 hours", "-5 epochs", "5 epochs 3 steps", "1e3 steps", "nan epochs", "inf steps", 20],
)
def test_a_budget_of_another_form_is_refused_by_its_text(text):
    with pytest.raises(ValueError, match=f"budget {text!r} is not of the form"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0 epochs", "0 steps", "0.0 minutes"])
def test_an_empty_budget_is_refused_by_its_text(text):
    with pytest.raises(ValueError, match=f"budget {text!r} must be positive"):
        Budget.parse(text)


def test_a_fraction_of_a_step_is_refused_by_its_text():
    with pytest.raises(ValueError, match=r"budget '1\.5 steps' is not a whole number of steps"):
        Budget.parse("1.5 steps")


@pytest.mark.parametrize(
    ("text", "steps_an_epoch", "steps"),
    [
        ("1 epoch", 7, 7),
        ("0.5 epochs", 7, 4),  # a started step is a step
        ("0.1 epochs", 30, 3),  # 0.1 * 30 is a little above 3 in binary
        ("0.7 epochs", 10, 7),
        ("0.001 epochs", 7, 1),  # never no step at all
        ("3 epochs", 1, 3),
        ("12 steps", 7, 12),
        ("12 steps", 1, 12),
    ],
)
def test_epochs_become_whole_steps_rounded_up(text, steps_an_epoch, steps):
    assert Budget.parse(text).num_steps(steps_an_epoch) == steps


def test_minutes_have_to_be_calibrated_first():
    with pytest.raises(ValueError, match="minutes has to be calibrated"):
        Budget.parse("5 minutes").num_steps(10)


@pytest.mark.parametrize(
    "text",
    ["20 epochs", "0.1 epochs", "0.00001 epochs", "12345.678 minutes", "99999 steps", "100000 steps", "12345678 steps"],
)
def test_a_budget_written_out_reads_back_as_itself(text):
    budget = Budget.parse(text)
    assert Budget.parse(str(budget)) == budget


def test_a_run_writes_its_budget_in_one_form():
    assert RunSpec(model="made", dataset="digits", budget=" 20.0  epoch").budget == "20 epochs"
    assert RunSpec(model="made", dataset="digits").budget is None


def test_a_run_survives_json():
    run = RunSpec(
        model="made", dataset="digits", metrics=("nll", "iwae-5"), hyperparameters={"hidden": [5, 5], "rate": 1e-3},
        budget="3 steps", seed=7, precision="float64", threads=2, device="cpu", checkpoint="a.safetensors",
    )  # fmt: skip
    assert RunSpec.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hyperparameter", {}, "hyperparameter\n.*Extra inputs are not permitted"),
        ("budget", "20 hours", "budget '20 hours' is not of the form"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**31, "less than 2147483648"),
        ("threads", 0, "greater than or equal to 1"),
        ("precision", "float16", "'float32', 'bfloat16' or 'float64'"),
    ],
)
def test_a_run_refuses_what_it_does_not_know_by_its_name(field, value, message):
    with pytest.raises(ValidationError, match=f"(?s){field}.*{message}" if field != "hyperparameter" else message):
        RunSpec(model="made", dataset="digits", **{field: value})


def test_a_run_cannot_be_changed():
    run = RunSpec(model="made", dataset="digits")
    with pytest.raises(ValidationError, match="frozen"):
        run.seed = 1


def test_the_digest_is_the_sha256_of_compact_sorted_json():
    assert (
        digest_of({"b": [1, 2.5, None], "a": "\u00e9"})
        == hashlib.sha256('{"a":"é","b":[1,2.5,null]}'.encode()).hexdigest()
    )


def test_the_digest_ignores_the_order_of_keys_at_every_depth_and_minds_that_of_lists():
    assert digest_of({"a": {"x": 1, "y": 2}, "b": 3}) == digest_of({"b": 3, "a": {"y": 2, "x": 1}})
    assert digest_of([1, 2]) != digest_of([2, 1])


def test_the_digest_tells_values_of_different_types_apart():
    values = [1, "1", True, None, [1], {"1": 1}, 1.5, "", [], {}, False, 0]
    assert len({digest_of(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_does_not_have_get_no_digest(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of({"a": value})


def test_importing_the_package_and_its_specs_imports_no_torch():
    code = "import sys, harness, harness.interface.spec, harness.interface.hooks; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
