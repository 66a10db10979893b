"""Right models of many kinds pass: a few of each file at each change, all of them where tests are thorough."""

from __future__ import annotations

import pytest
from kinds import MODELS
from museum import RIGHT

from harness import Subject, audit

QUICK = ("complex-born-machine", "two-chains", "beta-binomial", "cholesky-flow")
QUICK_CHECKS = ("contract", "normalisation", "conditionals", "neighbours")
OTHERS = [name for name in MODELS if name not in dict(RIGHT)]  # the museum's own are audited by its test


def failures(name, **options):
    report = audit(Subject(name, MODELS[name].model), seed=0, **options)
    return [f"{result.check}: {result.failures}" for result in report.failed]


@pytest.mark.parametrize("name", QUICK)
def test_a_right_model_passes_the_quickest_checks(name, quick_audits) -> None:
    assert failures(name, only=QUICK_CHECKS) == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", OTHERS)
def test_a_right_model_passes_the_whole_audit(name) -> None:
    assert failures(name) == []
