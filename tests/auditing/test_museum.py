"""The audit is held against a museum: every mutant is caught by the check named for it, every right model passes."""

from __future__ import annotations

import pytest
import torch
from museum import MUTANTS, RIGHT, Mutant

from harness import Subject, audit
from harness.auditing.engine import CHECKS, ERROR_RATE
from harness.auditing.laboratory import Laboratory
from harness.auditing.trial import Trial
from harness.support.randomness import derive_seed, isolated_rng

FEWEST_MUTANTS, FEWEST_MECHANISMS, FEWEST_RIGHT = 40, 20, 12
MOST_TRIALS = 200  # of one check: the audit shares a check's error rate among them
FIRST_OF_A_CHECK = {mutant.check: mutant for mutant in reversed(MUTANTS)}

# Of each check the whole report of one mutant is looked at
OTHERS = [mutant for mutant in MUTANTS if mutant is not FIRST_OF_A_CHECK[mutant.check]]

MUSEUM = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
EVERY_CHECK = pytest.mark.parametrize("check", CHECKS)


@pytest.mark.parametrize("mutant", OTHERS, ids=lambda mutant: mutant.name)
def test_the_named_check_catches_the_mutant_and_says_why(mutant: Mutant) -> None:
    """What fails at an even smaller error rate than the audit's fails the audit: the first such trial is enough."""
    laboratory = Laboratory(Subject(mutant.name, mutant.model))
    error_rate = ERROR_RATE / len(CHECKS) / MOST_TRIALS

    with isolated_rng(derive_seed(laboratory.seed, "check", mutant.check), torch.device("cpu")):
        found = (
            trial for trial in CHECKS[mutant.check](laboratory) if isinstance(trial, Trial) and trial.fails(error_rate)
        )
        trial = next(found, None)

    assert trial is not None, f"{mutant.model.__doc__} It was not seen by {mutant.check}"
    assert trial.meaning


def assert_caught(mutant: Mutant) -> None:
    report = audit(Subject(mutant.name, mutant.model), only=[mutant.check])
    result = report.result(mutant.check)
    assert result.verdict == "fail", f"{mutant.model.__doc__} It was not seen: {result}"
    assert result.meaning
    assert "raises" not in result.meaning, "a crash is not what this mutant is here for"
    assert result.failures
    assert 1 <= result.num_trials <= MOST_TRIALS
    assert report.standing == "failed"


@EVERY_CHECK
def test_the_audit_of_a_mutant_reports_the_check_that_failed(check) -> None:
    assert_caught(FIRST_OF_A_CHECK[check])


@pytest.mark.thorough
@MUSEUM
def test_the_whole_of_the_named_check_fails_the_mutant(mutant: Mutant) -> None:
    assert_caught(mutant)


# Quick ones, of every capability; the others' whole audits are thorough
AT_EACH_CHANGE = (
    "mixture", "kernel-density", "made", "vae", "bound-only", "affine-flow", "gan",
    "conditional-made", "conditional-gan",
)  # fmt: skip
WHOLE = [
    pytest.param(name, model, seed, id=f"{seed}-{name}", marks=() if quick else pytest.mark.thorough)
    for name, model in RIGHT
    for seed, quick in ((0, name in AT_EACH_CHANGE), (1, False))
]


@pytest.mark.parametrize(("name", "model", "seed"), WHOLE)
def test_a_right_model_passes_the_whole_audit(name, model, seed, quick_audits) -> None:
    report = audit(Subject(name, model), seed=seed)

    assert [f"{result.check}: {result.failures}" for result in report.failed] == []
    assert report.standing in ("passed", "no likelihood")


@MUSEUM
def test_a_mutant_differs_from_a_right_model_to_which_its_check_applies(mutant: Mutant) -> None:
    assert mutant.model is not mutant.parent
    assert mutant.model.__doc__ != mutant.parent.__doc__
    assert mutant.check in CHECKS


def test_the_museum_is_as_large_as_it_says() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= FEWEST_MUTANTS
    assert len({mutant.mechanism for mutant in MUTANTS}) >= FEWEST_MECHANISMS
    assert len({name for name, _ in RIGHT}) >= FEWEST_RIGHT
