"""The stages of one run, in order: fit, then each figure. Runs inside the child process, and knows no store.

Fit and each metric are stages of their own: what is complete is not done again, so a new metric scores the old
checkpoint, and a run that was killed goes on from the trainer's last saved state.
"""

import errno
import hashlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.numpy import save

from harness.discovery.loading import build_model, drawing_code, load_dataset, load_metric, load_network, origin_of
from harness.discovery.manager import Kind, PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.executor import INTERRUPTED, NO_SPACE, STORE_SECRETS, Job, Stage
from harness.interface.metric import Evaluation, FeatureNetwork, Metric, check_score, why_not
from harness.interface.model import Model, StoredSamples, Unsupported
from harness.interface.spec import Budget, RunSpec
from harness.interface.training import FitSummary, Interrupted, Stateful, Trainer
from harness.records.archive import is_mean
from harness.records.record import Failure, FitRecord, RunRecord, ScoreRecord
from harness.records.run_folder import RunFolder
from harness.running.calibration import calibrate_steps
from harness.running.failures import failure_from
from harness.running.keys import Changed, figure_key, named_by_content, run_key, what_changed
from harness.support.checkpoint import check_shapes, check_state, check_weights, load_state, load_weights, save_weights
from harness.support.environment import choose_device, describe_environment, fingerprint, hardware
from harness.support.files import write_atomically
from harness.support.guard import undisturbed
from harness.support.limits import seconds_of_variable
from harness.support.names import heading, redact
from harness.support.randomness import derive_seed, seed_everything

log = logging.getLogger("harness")

_LOCK_SECONDS = 60.0  # a child whose coordinator was killed is gone long before
_CHANGED = "the state's names or shapes changed in fit, and a new model could not load it: make it in __init__"
CHECKPOINT_VARIABLE = "HARNESS_CHECKPOINT_SECONDS"


def work(job: Job, *, should_stop: Callable[[], bool] = lambda: False) -> int:
    """Does a job in this process, alone on its run, and returns the exit status that its executor passes on.

    First it forgets what opens a store: no code of a plugin is to see it.

    Args:
        job: what is to be done.
        should_stop: asked again and again; once it says so, the state is saved, and the job ends.

    Returns:
        0, ``INTERRUPTED``, also where another process works on the run all the time, or ``NO_SPACE``.

    Raises:
        OSError: the run's folder cannot be used, for another reason than a lack of space.
    """
    for name in STORE_SECRETS:
        os.environ.pop(name, None)
    sys.argv = [redact(argument) for argument in sys.argv]
    try:
        held = FileLock(str(RunFolder(job.folder).lock)).acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        log.warning("another process works on this run, for more than %g s: left to it", _LOCK_SECONDS)
        return INTERRUPTED
    with held:
        telling = logging.getLogger("harness.progress")
        telling.handlers, telling.propagate = [_Telling(RunFolder(job.folder))], False
        telling.setLevel(logging.DEBUG)
        try:
            _execute(job, should_stop)
        except Interrupted as error:
            log.info("interrupted: %s", error)
            return INTERRUPTED
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return NO_SPACE
        finally:
            telling.handlers = []
    return 0


class _Telling(logging.Handler):
    """Notes what a stage says of how far it is beside the stage, for who waits: once a second what it says often."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder, self._noted = folder, time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO or time.monotonic() - self._noted > 1:
            self._folder.write_progress(**{**self._folder.progress(), "doing": record.getMessage()})
            self._noted = time.monotonic()


@dataclass(frozen=True)
class _Run:
    """What every stage of a run needs."""

    job: Job
    record: RunRecord
    spec: RunSpec  # what is asked for, with places
    plugins: PluginManager
    data_folder: DataFolder
    data: Dataset
    model: Model

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.job.folder)


def _plugins(job: Job, *more: str) -> PluginManager:
    """Returns what a job needs and no more: whatever is imported may change the figures of others."""
    only = None if job.plugins is None else (*job.plugins, *more)
    return PluginManager(blocked=job.blocked, only=only).at(job.code_folder)


def _check_run(run: _Run) -> None:
    """Raises ``Changed`` unless code and data, as this process has imported and loaded them, are those of the plan."""
    record, spec = run.record, run.spec
    code, data = record.code, record.dataset_digest
    asked = named_by_content(spec, data, code)
    given = None if (weights := run.folder.checkpoint()) is None else _digest_of_file(weights)
    what = what_changed(record.model_copy(update={"spec": spec}), run.plugins, run.data)
    if what is None and record.key != run_key(asked, type(run.model), data=data, code=code, checkpoint=given):
        what = "what the run depends on" if weights is None else weights.name
    if what is not None:
        raise Changed(f"{what} has changed since the suite was planned: the same command plans and runs it anew")


@contextmanager
def _watching(run: _Run) -> Iterator[None]:
    """Checks the code again if the body imports more of it: a stage may import when it needs something."""
    tops, before = run.plugins.packages(), set(sys.modules)
    yield
    if any(name.partition(".")[0] in tops for name in set(sys.modules) - before):
        _check_run(run)


def _execute(job: Job, should_stop: Callable[[], bool]) -> None:
    """Does what is missing of a run; every result, and what went wrong, is left in the run's folder."""
    folder = RunFolder(job.folder)
    record = folder.description()
    if record is None:
        raise FileNotFoundError(f"{job.folder}: no run.json")
    spec, stage = folder.located(record.spec), "set-up"
    folder.write_progress(stage=stage)
    try:
        torch.set_num_threads(spec.threads)
        device = choose_device(job.device or spec.device)
        plugins = _plugins(job)
        data_folder = DataFolder.resolve(job.data_folder)
        data = load_dataset(plugins, spec.dataset, data_folder)
        stage = "fit"
        with undisturbed(spec.model):
            run = _Run(job, record, spec, plugins, data_folder, data, build_model(plugins, spec, data, device))
            _check_run(run)
        if not _is_trained(folder):
            try:
                _fit(run, should_stop)
            except Exception as error:
                if not folder.state.exists() or not _is_of_the_state(error):
                    raise
                log.warning(
                    "%s is whole and wrong (%r): set aside; the training starts again", folder.state.name, error
                )
                folder.state.replace(folder.state.with_name(f"{folder.state.name}.damaged"))
                run = replace(run, model=build_model(plugins, spec, data, device))
                _fit(run, should_stop)
        load_weights(folder.weights, run.model)
    except Interrupted:
        raise
    except Exception as error:
        folder.write_failure(_failure_logged(stage, error))
        return
    # one evaluation for each split, so that metrics share samples and features
    evaluation_on = cache(lambda split: _evaluation(run, split))
    for wanted in job.stages:
        if should_stop():
            raise Interrupted(f"stopped before {wanted.name}")
        found = folder.score(wanted.name)
        if found is None or found.key != wanted.key:
            _score(run, wanted, evaluation_on)


def _failure_logged(stage: str, error: Exception) -> Failure:
    failure = failure_from(stage, error)
    if isinstance(error, Unsupported):
        log.info("skipped: %s", failure.message)
    else:
        log.error("%s failed\n%s", stage, failure.traceback)
    return failure


def _is_of_the_state(error: Exception) -> bool:
    """Whether a training could not take its saved state: by where it was raised, in what reads and restores it."""
    if isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
        return False
    where = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return Trainer._restore.__code__ in where or load_state.__code__ in where or where[-1] is Trainer.batches.__code__


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


def _fit(run: _Run, should_stop: Callable[[], bool]) -> None:
    folder, spec, model = run.folder, run.spec, run.model
    environment = describe_environment(model.device, spec.threads)
    calibrated, weights_before = None, check_weights(model)
    if (given := folder.checkpoint()) is not None:
        load_weights(given, model)
        summary = FitSummary(0, 0.0, 0.0, f"given: {given.name}", None, None)
    else:
        budget = Budget.parse(spec.budget or type(model).default_budget)
        if budget.unit == "minutes":
            calibrated = _calibrate(run, budget)
            budget = Budget(calibrated, "steps")
        summary = _train(run, budget, should_stop)
    if isinstance(model, StoredSamples):
        words = f"{len(model.images):,} images from a file, SHA-256 {run.record.code[:16]}"
        summary = replace(summary, checkpoint=words)
    check_shapes(weights_before, check_weights(model), _CHANGED)
    save_weights(folder.weights, model)
    weights = _digest_of_file(folder.weights)
    fit = FitRecord(**asdict(summary), calibrated_steps=calibrated, weights_sha256=weights, curve=folder.curve())
    folder.write_fit(fit, environment)
    folder.state.unlink(missing_ok=True)


def _calibrate(run: _Run, budget: Budget) -> int:
    """Returns the steps that a budget in minutes buys here; measured once, and the same on resumption."""
    file, spec = run.folder.path / "calibrated_steps.txt", run.spec
    with suppress(OSError, ValueError):
        if (steps := int(file.read_text())) > 0:
            return steps
    run.folder.write_progress(stage="calibration")
    steps = calibrate_steps(run.model, run.data, budget.amount, seed=spec.seed, precision=spec.precision)
    log.info("calibration: %s are %d steps", budget, steps)
    write_atomically(file, str(steps).encode())
    return steps


class _CheckingTrainer(Trainer):
    """Tries to save what is tracked when it is named: a training is not lost to what its last save finds.

    Its curves say when: after how many epochs and seconds.
    """

    def _write_curve(self, scalars: dict[str, float]) -> None:
        super()._write_curve({"epoch": round(self.epochs, 6), "seconds": round(self.seconds, 3), **scalars})

    def track(self, **stateful: Stateful) -> None:
        """Names them, if their state can be saved; else a CheckpointError."""
        super().track(**stateful)
        self.check_tracked()

    def check_tracked(self) -> None:
        """Tries to save the state of all that is tracked."""
        for name, item in self._tracked.items():
            check_state(item.state_dict(), whose=f"the state of {name!r} ({type(item).__name__})")


def _train(run: _Run, budget: Budget, should_stop: Callable[[], bool]) -> FitSummary:
    folder, spec = run.folder, run.spec
    seed_everything(derive_seed(spec.seed, "training"))
    where = "from the saved state" if folder.state.exists() else "from the start"
    before, tried = check_weights(run.model), False

    def try_once_then_ask() -> bool:
        nonlocal tried
        if not tried:  # an optimizer has its state after the first step, as has a layer that is made when it is used
            tried = True
            check_shapes(before, check_weights(run.model), _CHANGED)
            trainer.check_tracked()
        return should_stop()

    trainer = _CheckingTrainer(
        run.model,
        run.data,
        budget=budget,
        seed=derive_seed(spec.seed, "batches"),
        precision=spec.precision,
        folder=folder.path,
        checkpoint_seconds=seconds_of_variable(CHECKPOINT_VARIABLE, 20, "how many seconds between two saved states"),
        should_stop=try_once_then_ask,
        on_progress=lambda progress: folder.write_progress(stage="fit", **asdict(progress)),
    )
    log.info("fit: %s on %s, %s, seed %d, %s", run.record.spec.model, run.record.spec.dataset, budget, spec.seed, where)
    folder.write_progress(stage="fit", step=0, total_steps=None)
    with undisturbed(spec.model), _watching(run):
        run.model.fit(run.data, trainer)
    summary = trainer.summary()
    log.info("fit: %d steps in %.1f s, %s", summary.steps, summary.seconds, summary.checkpoint)
    return summary


def _evaluation(run: _Run, split: Literal["test", "valid"]) -> Evaluation:
    fit, spec, artifacts = run.folder.fit(), run.spec, run.folder.path.parent.parent
    assert fit is not None
    code = drawing_code(run.plugins, spec.model)
    return Evaluation(
        run.model,
        run.data,
        split=split,
        fit=FitSummary(**{item.name: getattr(fit, item.name) for item in fields(FitSummary)}),
        seed=spec.seed,
        feature_folder=artifacts / "features",
        load_dataset=partial(_other_dataset, run),
        load_network=partial(_other_network, run),
        data_folder=run.data_folder,
        origin=origin_of(run.plugins, type(run.model), spec.model, spec.hyperparameters, code),
        audit_folder=artifacts / "audits",
    )


def _other_dataset(run: _Run, name: str) -> Dataset:
    return load_dataset(_plugins_with(run, "dataset", name), name, run.data_folder)


def _other_network(run: _Run, name: str, evaluation: Evaluation) -> FeatureNetwork:
    return load_network(_plugins_with(run, "network", name), name, evaluation)


def _plugins_with(run: _Run, kind: Kind, name: str, plugin: str | None = None) -> PluginManager:
    """Returns the run's plugins where they have a name, else those with ``plugin`` as well, else all that there are."""
    if run.plugins.has(kind, name):
        return run.plugins
    few = run.plugins if plugin is None else _plugins(run.job, plugin)
    return few if few.has(kind, name) else PluginManager(blocked=run.job.blocked).at(run.job.code_folder)


def _score(run: _Run, wanted: Stage, evaluation_on: Callable[[Literal["test", "valid"]], Evaluation]) -> None:
    """Measures one figure, and leaves it, or what went wrong, in the run's folder."""
    run.folder.write_progress(stage=wanted.name)
    started = time.monotonic()
    base = _described(wanted, run.model.device, run.spec.threads)
    try:
        metric = load_metric(_plugins_with(run, "metric", wanted.metric, wanted.plugin), wanted.metric)
        base |= _described_metric(metric)
        with undisturbed(wanted.metric):
            evaluation = evaluation_on(wanted.split)
            seed_everything(derive_seed(run.spec.seed, "metric", wanted.name))
            result = ScoreRecord(**base, **_measured(run, wanted, metric, evaluation))
    except Exception as error:
        result = _failed(base, _failure_logged(wanted.name, error))
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    run.folder.write_score(wanted.name, result)
    log.info("%s: %s %s (%s, %.1f s)", wanted.name, result.value, result.unit, result.status, result.seconds)


def _check_figure(run: _Run, wanted: Stage, metric: Metric) -> None:
    drawing, where = drawing_code(run.plugins, run.spec.model), wanted.name.partition("@")[2]
    known = figure_key(run.record, metric, wanted.metric, drawing=drawing, split=wanted.split, where=where)
    if known != wanted.key:
        raise Changed(
            f"the metric or a sampler has changed since {wanted.name} was planned: the same command measures it"
        )


def _measured(run: _Run, wanted: Stage, metric: Metric, evaluation: Evaluation) -> dict[str, Any]:
    """Returns the fields of a score that come of measuring it; its scores per image are written beside it."""
    if (reason := why_not(metric, type(evaluation.model))) is not None:
        raise Unsupported(reason)
    folder = run.folder
    with _watching(run):
        score = check_score(metric.evaluate(evaluation), wanted.metric, len(evaluation.split))
    _check_figure(run, wanted, metric)
    reference = num_images = None
    if score.per_image is not None:
        num_images, reference = len(score.per_image), f"{folder.run}/{wanted.name}"
        values, images = score.per_image.numpy(), np.asarray(evaluation.split.image_digests())
        if not is_mean(score.value, values):
            raise ValueError(f"{wanted.metric} is {score.value}, and the mean of its scores per image {values.mean()}")
        write_atomically(folder.per_image_file(wanted.name), save({"per_image": values, "images": images}))
    return {
        "value": score.value,
        "standard_error": score.standard_error,
        "kind": score.kind,
        "num_images": num_images,
        "per_image": reference,
        "protocol": dict(score.protocol),
        "details": dict(score.details),
    }


def _described(wanted: Stage, device: torch.device, threads: int) -> dict[str, Any]:
    """Returns the fields of a score that are known before its metric is loaded."""
    where = {"fingerprint": fingerprint(device, threads), "hardware": hardware(device, threads)}
    return {"metric": wanted.metric, "key": wanted.key, **where}


def _described_metric(metric: Metric) -> dict[str, Any]:
    said = {name: getattr(metric, name) for name in ("board", "stage", "unit", "higher_is_better")}
    return {**said, "header": metric.header or heading(metric.name)}


def _failed(base: Mapping[str, Any], failure: Failure) -> ScoreRecord:
    status = "skipped" if failure.type == "Unsupported" else failure.status
    return ScoreRecord(**base, status=status, failure=failure)


def failed_score(plugins: PluginManager, spec: RunSpec, wanted: Stage, failure: Failure) -> ScoreRecord:
    """Returns the record of a figure whose measuring ended the process."""
    base = _described(wanted, choose_device(spec.device), spec.threads)
    return _failed(base | _described_metric(load_metric(plugins, wanted.metric)), failure)
