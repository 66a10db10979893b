"""The curve of a training: which points are kept, and what a record of it must agree with."""

import json

import pytest
from pydantic import ValidationError

from harness.records.curve import curve_of
from harness.records.record import MOST_POINTS, Curve, FitRecord


def lines(points):
    """Curve lines of (step, loss or valid score by name), ten steps an epoch and half a second each."""
    return [json.dumps({"step": step, "epoch": step / 10, "seconds": step / 2, **values}) for step, values in points]


def fit(curve, **changes):
    values = {"steps": 20, "epochs": 2.0, "seconds": 10.0, "checkpoint": "best-on-valid", "weights_sha256": "0" * 64}
    return FitRecord(**{**values, "valid_score": 3.0, "valid_step": 10, **changes}, curve=curve)


VALIDATED = [(5, {"loss": 8.0}), (10, {"valid": 3.0}), (10, {"loss": 4.0}), (15, {"loss": 2.0}), (20, {"valid": 5.0})]


def test_a_point_is_a_validation_with_the_mean_loss_since_the_one_before():
    found = curve_of(lines(VALIDATED))
    assert found == Curve(step=(10, 20), epoch=(1, 2), seconds=(5, 10), loss=(6, 2), valid=(3, 5))


def test_what_does_not_validate_has_the_points_of_its_losses():
    found = curve_of(lines([(5, {"loss": 8.0, "critic": 1.0}), (10, {"loss": 1e300})]))
    assert (found.step, found.loss, found.valid) == ((5, 10), (8.0, None), (None, None))  # no record takes 1e300


@pytest.mark.parametrize("told", [[], ['{"step": 1, "loss": 2.0}']], ids=["nothing", "without-time"])
def test_a_training_that_did_not_say_when_has_no_curve(told):
    assert curve_of(told) is None


def test_of_many_points_the_best_and_the_last_are_kept_and_the_losses_are_means_over_what_is_left_out():
    points = [(step, {"valid": 1.0 if step == 334 else 2.0 + 1 / step}) for step in range(1, 1001)]
    points += [(step, {"loss": float(step)}) for step in range(1, 1001)]
    found = curve_of(lines(points))
    assert len(found.step) <= MOST_POINTS
    assert min(found.valid) == 1.0
    assert 334 in found.step
    assert (found.step[0], found.step[-1]) == (1, 1000)
    before = found.step[-2]
    assert found.loss[-1] == pytest.approx((before + 1 + 1000) / 2)


def test_a_curve_that_agrees_with_its_training_is_taken():
    assert fit(curve_of(lines(VALIDATED))).curve.valid == (3.0, 5.0)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"valid_score": 2.9}, "best validation score is 3.0, the training's 2.9 at step 10"),
        ({"valid_step": 20}, "best validation score is 3.0, the training's 3.0 at step 20"),
        ({"valid_score": None, "valid_step": None}, "best validation score is 3.0, the training's None"),
        ({"steps": 19}, "goes to step 20, the training had 19"),
    ],
)
def test_a_curve_of_another_training_is_refused(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        fit(curve_of(lines(VALIDATED)), **changes)


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [("loss", (1.0,), "columns have different lengths"), ("step", (20, 10), "steps do not ascend")],
)
def test_a_curve_that_is_no_table_is_refused(column, values, problem):
    content = curve_of(lines(VALIDATED)).model_dump() | {column: values}
    with pytest.raises(ValidationError, match=problem):
        Curve.model_validate(content)
