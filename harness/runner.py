"""The stages of one run, in order: fit, checkpoint, scores. Runs inside the child process, and knows no store.

Fit and each metric are stages of their own: what is complete is not done again, so a new metric scores the old
checkpoint, and a run that was killed goes on from the trainer's last saved state.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import save

from harness.calibration import calibrate_steps
from harness.checkpoint import load_weights, save_weights
from harness.dataset import Dataset
from harness.datasets.folder import DataFolder
from harness.environment import choose_device, describe_environment, fingerprint, hardware
from harness.files import write_atomically
from harness.hyperparameters import resolve
from harness.metric import Evaluation, Metric, Score
from harness.model import Model, Unsupported
from harness.plugins import PluginManager
from harness.randomness import derive_seed
from harness.record import Failure, FitRecord, ScoreRecord
from harness.run_folder import RunFolder
from harness.spec import Budget, RunSpec
from harness.training import FitSummary, Interrupted, Progress, Trainer

log = logging.getLogger("harness")

CHECKPOINT_VARIABLE = "HARNESS_CHECKPOINT_SECONDS"


@dataclass(frozen=True)
class Stage:
    """One figure to measure: the name it is kept under, the metric, its cache key, and the split that is scored."""

    name: str
    metric: str
    key: str
    split: Literal["test", "valid"] = "test"


@dataclass(frozen=True)
class Job:
    """What a child process is told: the folder (``run.json`` is in it), the figures wanted, and where the data are."""

    folder: Path
    stages: tuple[Stage, ...] = ()
    data_folder: Path | None = None
    blocked: tuple[str, ...] = ()


def load_dataset(plugins: PluginManager, name: str, folder: DataFolder) -> Dataset:
    """Loads a dataset by its name as a suite writes it.

    Raises:
        ValueError, OSError: an unknown name, files that are missing or wrong, or whatever else its code raises.
    """
    entry, arguments = plugins.find("dataset", name)
    load = entry.load()
    try:
        data = load(folder, **arguments)
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"dataset {name!r}: {entry.target} failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, Dataset):
        raise ValueError(f"dataset {name!r}: {entry.target} returned {type(data).__name__}, not a harness.Dataset")
    return data


def load_metric(plugins: PluginManager, name: str) -> Metric:
    """Makes a metric by its name as a suite writes it."""
    entry, arguments = plugins.find("metric", name)
    metric = entry.load()(**arguments)
    if not isinstance(metric, Metric):
        raise ValueError(f"metric {name!r}: {entry.target} gave {type(metric).__name__}, not a harness.Metric")
    return metric


def load_model_class(plugins: PluginManager, name: str) -> type[Model]:
    """Imports a model's class."""
    found = plugins.load("model", name)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"model {name!r}: {found!r} is not a subclass of harness.Model")
    return found


def build_model(plugins: PluginManager, spec: RunSpec, data: Dataset, device: torch.device) -> Model:
    """Constructs a run's model as it is before training, on its device, under the run's seed."""
    model_class = load_model_class(plugins, spec.model)
    torch.manual_seed(derive_seed(spec.seed, "initialisation"))
    model = model_class(data.spec, **resolve(model_class, spec.hyperparameters))
    if spec.precision == "float64":
        model = model.double()
    return model.to(device)


def execute(job: Job, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Does what is missing of a run; every result, and what went wrong, is left in the run's folder.

    Raises:
        Interrupted: ``should_stop`` said so; the state is saved.
    """
    folder = RunFolder(job.folder)
    record = folder.description()
    if record is None:
        raise FileNotFoundError(f"{job.folder}: no run.json")
    spec = record.spec
    stage = "set-up"
    try:
        torch.set_num_threads(spec.threads)
        device = choose_device(spec.device)
        plugins = PluginManager(blocked=job.blocked)
        data = load_dataset(plugins, spec.dataset, DataFolder.resolve(job.data_folder))
        stage = "fit"
        model = build_model(plugins, spec, data, device)
        if folder.fit() is None:
            _fit(plugins, spec, data, model, folder, should_stop)
        load_weights(folder.weights, model)
    except Interrupted:
        raise
    except Unsupported as error:
        folder.write_failure(Failure(stage=stage, type="Unsupported", message=str(error)))
        log.info("skipped: %s", error)
        return
    except Exception as error:
        log.exception("%s failed", stage)
        folder.write_failure(_failure(stage, error))
        return
    for wanted in job.stages:
        if should_stop():
            raise Interrupted(f"stopped before {wanted.name}")
        _score(plugins, spec, data, model, folder, wanted)


def _fit(
    plugins: PluginManager,
    spec: RunSpec,
    data: Dataset,
    model: Model,
    folder: RunFolder,
    should_stop: Callable[[], bool],
) -> None:
    environment = describe_environment(model.device, spec.threads)
    if spec.checkpoint is not None:
        load_weights(Path(spec.checkpoint), model)
        summary = FitSummary(0, 0.0, 0.0, f"given: {Path(spec.checkpoint).name}", None, None)
        _finish_fit(folder, model, summary, environment, None)
        return
    budget = Budget.parse(spec.budget or type(model).default_budget)
    calibrated = None
    if budget.unit == "minutes":
        calibrated = _calibrate(plugins, spec, data, model, folder, budget)
        budget = Budget(calibrated, "steps")
    torch.manual_seed(derive_seed(spec.seed, "training"))

    resumed = (folder.path / "training.safetensors").exists()
    if not resumed:
        (folder.path / "curves.jsonl").unlink(missing_ok=True)  # of an attempt that was killed before it saved itself

    def report(progress: Progress) -> None:
        folder.write_progress(stage="fit", **asdict(progress))

    trainer = Trainer(
        model,
        data,
        budget=budget,
        seed=derive_seed(spec.seed, "batches"),
        precision=spec.precision,
        folder=folder.path,
        checkpoint_seconds=_checkpoint_seconds(),
        should_stop=should_stop,
        on_progress=report,
    )
    where = "from the saved state" if resumed else "from the start"
    log.info("fit: %s on %s, %s, seed %d, %s", spec.model, spec.dataset, budget, spec.seed, where)
    folder.write_progress(stage="fit", step=0, total_steps=None)
    model.fit(data, trainer)
    summary = trainer.summary()
    log.info("fit: %d steps in %.1f s, %s", summary.steps, summary.seconds, summary.checkpoint)
    _finish_fit(folder, model, summary, environment, calibrated)


def _checkpoint_seconds() -> float:
    text = os.environ.get(CHECKPOINT_VARIABLE, "20")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise ValueError(f"{CHECKPOINT_VARIABLE} is {text!r}, not a number of seconds such as 20")
    return seconds


def _calibrate(
    plugins: PluginManager, spec: RunSpec, data: Dataset, model: Model, folder: RunFolder, budget: Budget
) -> int:
    """Returns the steps that a budget in minutes buys here; measured once, and the same on resumption."""
    file = folder.path / "calibrated_steps.txt"
    if not file.exists():
        folder.write_progress(stage="calibration")
        steps = calibrate_steps(model, data, budget.amount, seed=spec.seed, precision=spec.precision)
        log.info("calibration: %s are %d steps", budget, steps)
        write_atomically(file, str(steps).encode())
    return int(file.read_text())


def _finish_fit(
    folder: RunFolder, model: Model, summary: FitSummary, environment: dict[str, Any], calibrated: int | None
) -> None:
    save_weights(folder.weights, model)
    weights = hashlib.sha256(folder.weights.read_bytes()).hexdigest()
    fit = FitRecord(**asdict(summary), calibrated_steps=calibrated, weights_sha256=weights)
    folder.write_fit(fit, environment)
    (folder.path / "training.safetensors").unlink(missing_ok=True)


def _score(
    plugins: PluginManager, spec: RunSpec, data: Dataset, model: Model, folder: RunFolder, wanted: Stage
) -> None:
    found = folder.score(wanted.name)
    if found is not None and found.key == wanted.key:
        return
    folder.write_progress(stage=wanted.name)
    started = time.monotonic()
    fit = folder.fit()
    assert fit is not None
    where = {
        "fingerprint": fingerprint(model.device, spec.threads),
        "hardware": hardware(model.device, spec.threads),
    }
    base: dict[str, Any] = {"metric": wanted.metric, "key": wanted.key, **where}
    try:
        metric = load_metric(plugins, wanted.metric)
        base |= {"stage": metric.stage, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
        summary = FitSummary(**fit.model_dump(exclude={"weights_sha256", "calibrated_steps"}))
        evaluation = Evaluation(model, data, split=wanted.split, fit=summary, seed=spec.seed)
        torch.manual_seed(derive_seed(spec.seed, "metric", wanted.name))
        score = metric.evaluate(evaluation)
        result = _keep(folder, wanted, evaluation, score, base)
    except Unsupported as error:
        result = ScoreRecord(**base, status="skipped", failure=_failure(wanted.name, error, with_traceback=False))
    except Exception as error:
        log.exception("%s failed", wanted.name)
        result = ScoreRecord(**base, status="failed", failure=_failure(wanted.name, error))
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    folder.write_score(wanted.name, result)
    log.info("%s: %s %s (%s, %.1f s)", wanted.name, result.value, result.unit, result.status, result.seconds)


def _keep(folder: RunFolder, wanted: Stage, evaluation: Evaluation, score: Score, base: dict[str, Any]) -> ScoreRecord:
    if not np.isfinite(score.value):
        raise ValueError(f"{wanted.metric} is {score.value}")
    reference = num_images = None
    if score.per_image is not None:
        num_images = len(score.per_image)
        if num_images != len(evaluation.split):
            raise ValueError(f"{wanted.metric} scored {num_images} of {len(evaluation.split)} images")
        arrays = {
            "per_image": score.per_image.double().cpu().numpy(),
            "images": np.asarray(evaluation.split.image_digests()),
        }
        write_atomically(folder.per_image_file(wanted.name), save(arrays))
        reference = f"{folder.run}/{wanted.name}"
    return ScoreRecord(
        **base,
        value=float(score.value),
        standard_error=score.standard_error,
        kind=score.kind,
        num_images=num_images,
        per_image=reference,
        protocol=dict(score.protocol),
        details={k: float(v) for k, v in score.details.items()},
    )


def _failure(stage: str, error: BaseException, *, with_traceback: bool = True) -> Failure:
    text = "".join(traceback.format_exception(error)) if with_traceback else None
    return Failure(stage=stage, type=type(error).__name__, message=str(error), traceback=text)


def remove_run(folder: RunFolder) -> None:
    """Deletes a run's folder."""
    shutil.rmtree(folder.path, ignore_errors=True)
