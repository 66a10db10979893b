"""The metric ``audit``: what it records, and when an audit is made again."""

from __future__ import annotations

import json
import logging
import math
import threading
from dataclasses import replace

import pytest
import torch
from filelock import FileLock

import harness
from harness import AuditReport
from harness.auditing import engine
from harness.auditing.trial import Trial
from harness.builtin.metrics import audit as audit_metric
from harness.builtin.metrics.audit import Audit
from harness.discovery.loading import origin_of
from harness.discovery.manager import plugin_manager
from harness.interface.metric import Evaluation
from harness.interface.spec import ImageSpec

SPEC = ImageSpec(1, 2, 2, 2)


class Coin(harness.ExactLikelihood):
    """Independent pixels, each 1 with one probability."""

    def __init__(self, spec: ImageSpec, *, bias: float = 0.5, excess: float = 0.0) -> None:
        super().__init__(spec)
        if spec.levels != 2:
            raise harness.Unsupported("binary images only")
        self.bias, self.excess = bias, excess

    def fit(self, data, trainer):
        pass

    def log_prob(self, images):
        ones = images.flatten(1).to(self.dtype).sum(1)
        return (
            ones * math.log(self.bias)
            + (self.spec.num_dimensions - ones) * math.log1p(-self.bias)
            + math.log1p(self.excess)
        )

    def sample(self, num_samples):
        return (torch.rand(num_samples, *self.spec.shape) < self.bias).to(torch.uint8)


def evaluation(folder=None, *, code="c", spec=SPEC, seed=0, **hyperparameters):
    images = torch.zeros(4, *spec.shape, dtype=torch.uint8)
    split = harness.Split(images, None)
    data = harness.Dataset("zeros", spec, split, split, split)
    origin = origin_of(plugin_manager(), Coin, "coin", hyperparameters, code)
    return Evaluation(origin.construct(spec), data, seed=seed, origin=origin, audit_folder=folder)


@pytest.fixture
def counted(monkeypatch):
    """Two quick checks, one of which finds that ``excess`` is not zero; returns a list that grows with each audit."""
    made = []

    def sums(laboratory):
        made.append(laboratory.subject.full)
        model = laboratory.any_specimen.model
        yield Trial.exact("everywhere", "excess mass", model.excess, tolerance=1e-9, meaning="too much", unit="of mass")

    def names(laboratory):
        yield Trial.exact("here", "distance", 0.0, tolerance=1e-9, meaning="no")

    monkeypatch.setattr(engine, "CHECKS", {"normalisation": sums, "contract": names})
    return made


def test_it_counts_the_failed_checks_and_records_what_a_board_has_to_say(counted):
    score = Audit().evaluate(evaluation(excess=0.25))
    assert (score.value, score.kind, score.standard_error) == (1.0, "exact", None)
    assert score.details == {"pass": 1.0, "fail": 1.0, "not_applicable": 0.0}
    assert score.protocol["standing"] == "failed"
    assert score.protocol["seed"] == "0"
    failed, passed = json.loads(score.protocol["checks"])
    assert (failed["check"], failed["verdict"], failed["meaning"]) == ("normalisation", "fail", "too much")
    assert (failed["statistic"], failed["threshold"]) == (0.25, 1e-9)
    assert failed["smallest_defect"] == "1e-09 of mass"
    assert (passed["check"], passed["verdict"]) == ("contract", "pass")
    assert not {"seconds", "seed"} & (failed.keys() | passed.keys())


def test_the_real_checks_pass_a_right_model_and_name_a_wrong_one():
    right, wrong = (
        Audit().evaluate(evaluation(bias=0.3)),
        Audit().evaluate(evaluation(bias=0.3, excess=0.01)),
    )
    assert (right.value, right.protocol["standing"]) == (0.0, "passed")
    assert wrong.protocol["standing"] == "failed"
    verdicts = {item["check"]: item["verdict"] for item in json.loads(wrong.protocol["checks"])}
    assert verdicts["normalisation"] == "fail"


def test_seeds_share_one_audit_and_the_folder_keeps_the_whole_report(counted, tmp_path):
    first, second = (Audit().evaluate(evaluation(tmp_path, seed=seed)) for seed in (0, 1))
    assert len(counted) == 1
    assert first.protocol == second.protocol
    kept = AuditReport.model_validate_json((tmp_path / first.protocol["report"]).read_bytes())
    assert [result.check for result in kept.checks] == ["normalisation", "contract"]


@pytest.mark.parametrize("change", [{"code": "edited"}, {"bias": 0.4}, {"spec": ImageSpec(1, 2, 3, 2)}])
def test_code_hyperparameters_and_sample_space_are_audited_anew(counted, tmp_path, change):
    Audit().evaluate(evaluation(tmp_path))
    Audit().evaluate(evaluation(tmp_path, **change))
    assert len(counted) == 2


def test_another_version_of_the_audit_is_made_anew(counted, tmp_path, monkeypatch):
    Audit().evaluate(evaluation(tmp_path))
    monkeypatch.setattr(audit_metric, "AUDIT_VERSION", "next")
    Audit().evaluate(evaluation(tmp_path))
    assert len(counted) == 2


def test_a_default_that_is_written_out_is_the_same_model(counted, tmp_path):
    Audit().evaluate(evaluation(tmp_path))
    Audit().evaluate(evaluation(tmp_path, bias=0.5))
    assert len(counted) == 1


def test_a_damaged_report_is_made_again(counted, tmp_path):
    score = Audit().evaluate(evaluation(tmp_path))
    (tmp_path / score.protocol["report"]).write_text('{"model": ')
    assert Audit().evaluate(evaluation(tmp_path)).protocol == score.protocol
    assert len(counted) == 2


def test_who_wants_an_audit_that_another_makes_waits_for_it_and_says_so(counted, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = Audit().evaluate(evaluation(tmp_path)).protocol
    report = tmp_path / first["report"]
    made = report.read_bytes()
    report.unlink()
    lock = FileLock(str(report.with_suffix(".lock")), thread_local=False)
    lock.acquire()
    ended = threading.Timer(1.0, lambda: (report.write_bytes(made), lock.release()))
    ended.start()
    assert Audit().evaluate(evaluation(tmp_path)).protocol == first
    ended.join()
    assert len(counted) == 1
    assert "another process makes it; waiting for it" in caplog.text


def test_who_waits_too_long_for_anothers_audit_makes_its_own(counted, tmp_path, monkeypatch):
    name = Audit().evaluate(evaluation(tmp_path)).protocol["report"]
    (tmp_path / name).unlink()
    monkeypatch.setattr(audit_metric, "_PATIENCE_SECONDS", 0.1)
    with FileLock(str((tmp_path / name).with_suffix(".lock"))):
        assert Audit().evaluate(evaluation(tmp_path)).protocol["standing"] == "passed"
    assert len(counted) == 2


def test_the_datasets_sample_space_is_the_full_size(counted):
    Audit().evaluate(evaluation(spec=ImageSpec(1, 5, 4, 2)))
    assert counted == [ImageSpec(1, 5, 4, 2)]


def test_a_model_of_which_nobody_knows_how_it_is_made_is_skipped():
    known = evaluation()
    with pytest.raises(harness.Unsupported, match="how the model was made"):
        Audit().evaluate(Evaluation(known.model, known.data))


def test_an_audit_neither_trains_nor_changes_the_model_nor_moves_the_random_numbers(counted):
    given = evaluation()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Audit().evaluate(given)
    assert torch.equal(torch.rand(3), expected)
    assert replace(given.origin, construct=None) == replace(evaluation().origin, construct=None)
