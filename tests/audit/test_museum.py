"""The audit is held against a museum: every mutant is caught by the check named for it, every right model passes."""

from __future__ import annotations

import pytest
from museum import MUTANTS, RIGHT, Mutant

from harness import Subject, audit
from harness.auditing.checks import CHECKS

FEWEST_MUTANTS, FEWEST_MECHANISMS, FEWEST_RIGHT = 40, 20, 12


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_named_check_catches_the_mutant_and_says_why(mutant: Mutant) -> None:
    report = audit(Subject(mutant.name, mutant.model), only=[mutant.check])

    result = report.result(mutant.check)
    assert result.verdict == "fail", f"{mutant.model.__doc__} It was not seen: {result}"
    assert result.meaning
    assert "raises" not in result.meaning, "a crash is not what this mutant is here for"
    assert result.failures
    assert report.standing == "failed"


@pytest.mark.parametrize(("name", "model"), RIGHT, ids=[name for name, _ in RIGHT])
def test_a_right_model_passes_the_whole_audit(name, model) -> None:
    report = audit(Subject(name, model))

    assert [f"{result.check}: {result.failures}" for result in report.failed] == []
    assert report.standing in ("passed", "no likelihood")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_differs_from_a_right_model_to_which_its_check_applies(mutant: Mutant) -> None:
    assert mutant.model is not mutant.parent
    assert mutant.model.__doc__ != mutant.parent.__doc__
    assert mutant.check in {check.name for check in CHECKS}


def test_the_museum_is_as_large_as_it_says() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= FEWEST_MUTANTS
    assert len({mutant.mechanism for mutant in MUTANTS}) >= FEWEST_MECHANISMS
    assert len({name for name, _ in RIGHT}) >= FEWEST_RIGHT


@pytest.mark.parametrize("check", [check.name for check in CHECKS])
def test_every_check_is_the_one_that_catches_some_mutant(check: str) -> None:
    assert check in {mutant.check for mutant in MUTANTS}
