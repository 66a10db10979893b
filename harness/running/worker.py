"""The stages of one run, in order: fit, checkpoint, scores. Runs inside the child process, and knows no store.

Fit and each metric are stages of their own: what is complete is not done again, so a new metric scores the old
checkpoint, and a run that was killed goes on from the trainer's last saved state.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.executor import INTERRUPTED, NO_SPACE, Job
from harness.interface.model import Model, Unsupported
from harness.interface.spec import Budget, RunSpec
from harness.interface.training import FitSummary, Interrupted, Progress, Trainer
from harness.records.record import Failure, FitRecord
from harness.records.run_folder import RunFolder
from harness.running.calibration import calibrate_steps
from harness.running.failures import failure_from
from harness.running.scoring import Scorer
from harness.support.checkpoint import load_weights, save_weights
from harness.support.environment import choose_device, describe_environment
from harness.support.files import write_atomically
from harness.support.randomness import derive_seed

log = logging.getLogger("harness")

CHECKPOINT_VARIABLE = "HARNESS_CHECKPOINT_SECONDS"


def work(job: Job, *, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Does a job in this process, alone on its run, and returns the exit status that its executor passes on.

    Args:
        job: what is to be done.
        should_stop: asked again and again; once it says so, the state is saved, and the job ends.

    Returns:
        0, ``INTERRUPTED`` or ``NO_SPACE``.

    Raises:
        OSError: the run's folder cannot be used, for another reason than a lack of space.
    """
    with FileLock(str(RunFolder(job.folder).lock)):
        try:
            execute(job, should_stop=should_stop)
        except Interrupted as error:
            log.info("interrupted: %s", error)
            return INTERRUPTED
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return NO_SPACE
    return 0


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
    folder.write_progress(stage=stage)
    try:
        torch.set_num_threads(spec.threads)
        device = choose_device(job.device or spec.device)
        plugins = PluginManager(blocked=job.blocked).at(job.code_folder)
        data_folder = DataFolder.resolve(job.data_folder)
        data = load_dataset(plugins, spec.dataset, data_folder)
        stage = "fit"
        model = build_model(plugins, spec, data, device)
        if not _is_trained(folder):
            _fit(spec, data, model, folder, should_stop)
        load_weights(folder.weights, model)
    except Interrupted:
        raise
    except Unsupported as error:
        folder.write_failure(Failure(stage=stage, type="Unsupported", message=str(error)))
        log.info("skipped: %s", error)
        return
    except Exception as error:
        log.exception("%s failed", stage)
        folder.write_failure(failure_from(stage, error))
        return
    scorer = Scorer(plugins, spec, data, model, folder, data_folder)
    for wanted in job.stages:
        if should_stop():
            raise Interrupted(f"stopped before {wanted.name}")
        scorer.score(wanted)


def _is_trained(folder: RunFolder) -> bool:
    """Whether the training is complete, and the weights are those that it ended with."""
    fit = folder.fit()
    if fit is None:
        return False
    if _digest_of_file(folder.weights) == fit.weights_sha256:
        return True
    log.warning("%s has changed since it was written: the training is done again", folder.weights.name)
    for file in (folder.path / "fit.json", folder.weights):
        file.replace(file.with_name(f"{file.name}.damaged"))
    return False


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fit(spec: RunSpec, data: Dataset, model: Model, folder: RunFolder, should_stop: Callable[[], bool]) -> None:
    environment = describe_environment(model.device, spec.threads)
    if spec.checkpoint is not None:
        load_weights(Path(spec.checkpoint), model)
        summary = FitSummary(0, 0.0, 0.0, f"given: {Path(spec.checkpoint).name}", None, None)
        _finish_fit(folder, model, summary, environment, None)
        return
    budget = Budget.parse(spec.budget or type(model).default_budget)
    calibrated = None
    if budget.unit == "minutes":
        calibrated = _calibrate(spec, data, model, folder, budget)
        budget = Budget(calibrated, "steps")
    torch.manual_seed(derive_seed(spec.seed, "training"))

    resumed = folder.state.exists()

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


def _calibrate(spec: RunSpec, data: Dataset, model: Model, folder: RunFolder, budget: Budget) -> int:
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
    weights = _digest_of_file(folder.weights)
    fit = FitRecord(**asdict(summary), calibrated_steps=calibrated, weights_sha256=weights)
    folder.write_fit(fit, environment)
    folder.state.unlink(missing_ok=True)
