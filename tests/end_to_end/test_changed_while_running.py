"""What a figure depends on is what was planned: what changes after the plan fails, and counts for nothing."""

from __future__ import annotations

import os

import pytest

from harness.records.store import Artifacts
from harness.running.coordinator import plan_suite, run_plan
from harness.running.leases import remove_runs
from harness.running.planning import Settings
from harness.suites.suite import Suite

DATA = """
import torch
import harness

def load(folder):
    images = torch.zeros(8, 1, 2, 2, dtype=torch.uint8)
    images[0] = VALUE
    split = harness.Split(images)
    return harness.Dataset("leaves", harness.ImageSpec(1, 2, 2, 2), split, split, split)
"""


@pytest.fixture(scope="module")
def overtaken(make_lab, site):
    """A lab where code, data and a metric were edited between the plan and its runs, and the edits then undone."""
    lab, code = make_lab(), site / "harness_tinker" / "edited.py"
    original = code.read_text()
    data = lab.write("leaves.py", DATA.replace("VALUE", "0"))
    lab.suite(["uniform"], name="by-file", dataset="leaves.py:load")
    lab.suite(["uniform", "edited"], metrics='["nll", "ink"]')
    settings = Settings(Artifacts(lab.artifacts))
    plans = [plan_suite(Suite.read(lab.root / name), settings) for name in ("suite.toml", "by-file.toml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINKER_INK_VERSION", "next")
        code.write_text(original.replace("SHIFT = 0.0", "SHIFT = 1000.0"))
        data.write_text(DATA.replace("VALUE", "1 + 0"))  # another length: bytecode goes by seconds and sizes
        try:
            for plan in plans:
                run_plan(plan)
        finally:
            code.write_text(original)
            data.write_text(DATA.replace("VALUE", "0"))
    return lab


def run_of(lab, model, dataset):
    [record] = [item for item in lab.records() if (item.spec.model, item.spec.dataset) == (model, dataset)]
    return record


@pytest.mark.parametrize(
    ("model", "dataset", "what"),
    [
        ("edited", "digits-binary", "the code of 'edited'"),
        ("uniform", "leaves.py:load", "the data of 'leaves.py:load'"),
    ],
)
def test_a_run_of_what_was_edited_after_the_plan_fails_with_that_reason_and_has_no_figure(
    overtaken, model, dataset, what
):
    record = run_of(overtaken, model, dataset)
    assert (record.status, record.failure.type, record.fit, record.scores) == ("failed", "Changed", None, {})
    assert record.failure.message.startswith(f"{what} has changed since the suite was planned")


def test_a_figure_of_a_metric_of_another_version_than_planned_fails_alone(overtaken):
    scores = run_of(overtaken, "uniform", "digits-binary").scores
    assert scores["nll"].status == "done"
    assert (scores["ink"].status, scores["ink"].value, scores["ink"].failure.type) == ("failed", None, "Changed")


def test_the_same_command_does_what_was_overtaken(overtaken):
    states = {
        run.rpartition("-s0-")[0]: state for run, state in overtaken.states(overtaken.root / "suite.toml").items()
    }
    assert states == {"edited-digits-binary": "missing", "uniform-digits-binary": "scores missing"}
    assert set(overtaken.states(overtaken.root / "by-file.toml").values()) == {"missing"}


def test_the_same_command_measures_by_the_metric_that_there_is_now(overtaken, monkeypatch):
    monkeypatch.setenv("TINKER_INK_VERSION", "next")
    [state] = [state for run, state in overtaken.states(overtaken.root / "suite.toml").items() if "uniform" in run]
    assert state == "scores missing"


LOUD = """
import os, pathlib
import numpy, torch
import harness

with open(os.environ["LOUD_LOG"], "a") as log:
    trained = len(list(pathlib.Path(os.environ["LOUD_RUNS"]).glob("*/fit.json")))
    print(os.getpid(), os.getppid(), __name__, trained, file=log)
torch.set_default_dtype(torch.float64)
"""
MODEL = """
class Careless(harness.ExactLikelihood):
    def fit(self, data, trainer):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
    def log_prob(self, images):
        return torch.full((len(images),), -50.0)
    def sample(self, num_samples):
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)

@harness.hookimpl
def register_models():
    return [harness.ModelEntry("careless", Careless)]
"""
METRIC = """
class Settings(harness.Metric):
    name = "settings"
    unit = "changed"
    def evaluate(self, evaluation):
        changed = (torch.get_default_dtype() != torch.float32) + (not torch.is_grad_enabled())
        return harness.Score(float(changed), None, "estimate")

@harness.hookimpl
def register_metrics():
    return [harness.MetricEntry("settings", Settings)]
"""


def test_a_child_imports_what_it_needs_when_it_needs_it_and_no_setting_is_handed_on(lab, install_plugin, tmp_path):
    log = tmp_path / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOUD_LOG", str(log))
        patch.setenv("LOUD_RUNS", str(lab.artifacts / "runs"))
        for name, text in {"used": MODEL, "metric": METRIC, "unused": ""}.items():
            files = {f"loud_{name}.py": LOUD + text}
            install_plugin(f"harness-loud-{name}", files, entry_points={f"loud-{name}": f"loud_{name}"})
        lab.done("run", lab.suite(["careless"], metrics='["settings"]'))
    assert lab.record("careless").scores["settings"].value == 0
    lines, ours = [line.split() for line in log.read_text().splitlines()], str(os.getpid())
    assert {name for process, _, name, _ in lines if process == ours} == {"loud_used", "loud_metric", "loud_unused"}
    # an import is tried in a child of this process first
    others = [rest for process, parent, *rest in lines if ours not in (process, parent)]
    assert others == [["loud_used", "0"], ["loud_metric", "1"]]


def test_a_run_that_is_cleaned_away_after_it_was_planned_is_done_again(lab):
    suite, artifacts = lab.suite(["uniform"]), Artifacts(lab.artifacts)
    lab.done("run", suite)
    plan = plan_suite(Suite.read(suite), Settings(artifacts))
    [run] = plan.runs()
    assert run.state == "hit"
    artifacts.store.refer(artifacts.reference_of(suite), (), anew=True)
    assert remove_runs(artifacts, [run.run]) == [run.run]
    [record] = run_plan(plan).records
    assert (record.status, record.scores["nll"].status) == ("done", "done")
