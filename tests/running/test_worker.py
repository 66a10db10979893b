"""A job's process: what it forgets before it loads anything, and what it does where another one works on the run."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from torch import nn

import harness
from harness.discovery.manager import PluginManager
from harness.interface.executor import INTERRUPTED, Job
from harness.records.run_folder import RunFolder
from harness.running import worker


def test_a_job_forgets_the_passwords_that_its_command_line_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["harness", "--store", "postgresql://lab:s3cret@host/runs", "run", "digits"])
    monkeypatch.setenv("HARNESS_STORE", "postgresql://lab:s3cret@host/runs")
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        worker.work(Job(tmp_path))
    assert sys.argv == ["harness", "--store", "postgresql://lab:***@host/runs", "run", "digits"]
    assert "HARNESS_STORE" not in worker.os.environ


def test_a_run_on_which_another_process_works_all_the_time_is_left_to_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(worker, "_LOCK_SECONDS", 0.2)
    with FileLock(RunFolder(tmp_path).lock):
        assert worker.work(Job(tmp_path)) == INTERRUPTED
    assert "another process works on this run" in caplog.text
    assert list(tmp_path.glob("*.json")) == []


class Counting(harness.ExactLikelihood):
    """Counts its steps of training."""

    def __init__(self, spec):
        super().__init__(spec)
        self.bias = nn.Parameter(torch.zeros(spec.levels))
        self.steps = 0

    def tracked(self):
        return {"optimizer": torch.optim.Adam(self.parameters())}

    def after_a_step(self): ...

    def fit(self, data, trainer):
        trainer.track(**self.tracked())
        for _ in trainer.batches(data.train, batch_size=2):
            self.steps += 1
            self.after_a_step()
            trainer.log(loss=self.bias.square().sum())

    def log_prob(self, images):
        return self.bias.log_softmax(0)[images.flatten(1).long()].sum(1)

    def sample(self, num_samples):
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)


class WithExtraState(Counting):
    def get_extra_state(self):
        return {"seen": 3}


class Odd:
    """A plugin's own trainer, which keeps a type."""

    def __init__(self, model=None):
        self.model = model

    def state_dict(self):
        return {"kind": torch.float32} if self.model is None or self.model.steps else {}


class TracksAType(Counting):
    def tracked(self):
        return {"helper": Odd()}


class TracksATypeAfterAStep(Counting):
    def tracked(self):
        return {"helper": Odd(self)}


class GrowsALayer(Counting):
    def after_a_step(self):
        self.head = nn.Linear(2, 2)


class GrowsAParameter(Counting):
    def after_a_step(self):
        self.bias = nn.Parameter(torch.zeros(7))


class GrowsInAClosedForm(Counting):
    def fit(self, data, trainer):
        self.register_buffer("mean", torch.zeros(3))


SPEC = harness.ImageSpec(1, 2, 2, levels=2)
IMAGES = harness.Split(torch.zeros(8, *SPEC.shape, dtype=torch.uint8))
DATA = harness.Dataset("zeros", SPEC, IMAGES, IMAGES, IMAGES)
WANTED = harness.RunSpec(model="counting", dataset="zeros", budget="5 steps")


def fitted(model_class, folder):
    model, record = model_class(SPEC), SimpleNamespace(spec=WANTED)
    try:
        run = worker._Run(Job(folder), record, record.spec, PluginManager(only=()), None, DATA, model)
        worker._fit(run, lambda: False)
    except harness.CheckpointError as error:
        return model.steps, str(error)
    return model.steps, ""


@pytest.mark.parametrize(
    ("model_class", "steps", "message"),
    [
        (Counting, 5, ""),
        (WithExtraState, 0, "WithExtraState: _extra_state cannot be saved: it is a dict"),
        (TracksAType, 0, "the state of 'helper' (Odd)/kind: a checkpoint holds"),
        (TracksATypeAfterAStep, 1, "the state of 'helper' (Odd)/kind: a checkpoint holds"),
        (GrowsALayer, 1, "a new model could not load it: make it in __init__: missing [], unknown ['head.bias', "),
        (GrowsAParameter, 1, "make it in __init__: bias has shape (7,), expected (2,)"),
        (GrowsInAClosedForm, 0, "make it in __init__: missing [], unknown ['mean']"),
    ],
)
def test_what_could_not_be_saved_or_loaded_ends_a_training_at_its_first_step(tmp_path, model_class, steps, message):
    found, told = fitted(model_class, tmp_path)
    assert found == steps
    assert (message in told) if message else told == ""


@pytest.mark.parametrize("value", ["soon", "-1", "nan", ""])
def test_how_often_the_state_is_saved_has_to_be_a_number_of_seconds(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", value)
    with pytest.raises(ValueError, match=f"HARNESS_CHECKPOINT_SECONDS='{value}': how many seconds .*, such as 20$"):
        fitted(Counting, tmp_path)


class AsksForNothing(Counting):
    def fit(self, data, trainer):
        for _ in trainer.batches(data.train, batch_size=0):
            pass


def test_what_the_loop_refuses_is_the_failure_where_there_is_no_saved_state(tmp_path, monkeypatch):
    known = {"key": "k", "identity": "i", "provider": "p", "code": "c", "dataset_digest": "d", "status": "pending"}
    RunFolder(tmp_path).begin(harness.RunRecord(run="counting", spec=WANTED, hyperparameters={}, **known))
    monkeypatch.setattr(worker, "load_dataset", lambda *_: DATA)
    monkeypatch.setattr(worker, "build_model", lambda *_: AsksForNothing(SPEC))
    monkeypatch.setattr(worker, "_check_run", lambda run: None)
    assert worker.work(Job(tmp_path)) == 0
    assert RunFolder(tmp_path).failure().message == "batch_size must be at least 1, not 0"


def test_what_a_stage_says_of_how_far_it_is_stands_beside_it_and_what_it_says_often_once_a_second(
    tmp_path, monkeypatch
):
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=0.0)
    monkeypatch.setattr(worker, "time", clock)
    folder, logger = RunFolder(tmp_path), logging.Logger("progress", logging.DEBUG)
    logger.addHandler(worker._Telling(folder))
    folder.write_progress(stage="iwae-50")
    evaluation = harness.Evaluation(Counting(SPEC), DATA)
    monkeypatch.setattr("harness.interface.metric._progress", logger)
    evaluation.per_image(lambda images: torch.zeros(len(images)), purpose="x")
    assert folder.progress() == {"stage": "iwae-50"}
    clock.now = 2.0
    evaluation.per_image(lambda images: torch.zeros(len(images)), purpose="x", batch_size=2)
    assert folder.progress() == {"stage": "iwae-50", "doing": "0 % of the images are scored"}
    logger.info("normalisation, check 2 of 17")
    assert folder.progress() == {"stage": "iwae-50", "doing": "normalisation, check 2 of 17"}
