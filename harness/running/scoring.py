"""Scoring: one figure of a trained model is one stage, kept in the run's folder under a key of its own."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import save

from harness.discovery.loading import drawing_code, load_dataset, load_metric, origin_of
from harness.discovery.manager import PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.executor import Stage
from harness.interface.metric import Evaluation, Metric, Score
from harness.interface.model import Model, Unsupported
from harness.interface.spec import RunSpec
from harness.interface.training import FitSummary
from harness.records.record import Failure, ScoreRecord
from harness.records.run_folder import RunFolder
from harness.running.failures import failure_from
from harness.support.environment import choose_device, fingerprint, hardware
from harness.support.files import write_atomically
from harness.support.names import heading
from harness.support.randomness import derive_seed

log = logging.getLogger("harness")


class Scorer:
    """Measures the figures of one run; one evaluation for each split, so that metrics share samples and features.

    Args:
        plugins: what is installed.
        spec: what was asked for.
        data: the run's dataset.
        model: the trained model.
        folder: the run's, where figures are kept.
        data_folder: where the data are.
    """

    def __init__(
        self,
        plugins: PluginManager,
        spec: RunSpec,
        data: Dataset,
        model: Model,
        folder: RunFolder,
        data_folder: DataFolder,
    ) -> None:
        self._plugins, self._spec, self._data, self._model = plugins, spec, data, model
        self._folder, self._data_folder = folder, data_folder
        self._evaluations: dict[str, Evaluation] = {}

    def score(self, wanted: Stage) -> None:
        """Measures one figure, unless it is there, and leaves it, or what went wrong, in the run's folder."""
        folder, threads = self._folder, self._spec.threads
        found = folder.score(wanted.name)
        if found is not None and found.key == wanted.key:
            return
        folder.write_progress(stage=wanted.name)
        started = time.monotonic()
        base = _describe(wanted, self._model.device, threads)
        try:
            metric = load_metric(self._plugins, wanted.metric)
            base |= _describe_metric(metric)
            evaluation = self._evaluation_on(wanted.split)
            torch.manual_seed(derive_seed(self._spec.seed, "metric", wanted.name))
            result = _keep(folder, wanted, evaluation, metric.evaluate(evaluation), base)
        except Unsupported as error:
            failure = failure_from(wanted.name, error, with_traceback=False)
            result = ScoreRecord(**base, status="skipped", failure=failure)
        except Exception as error:
            log.exception("%s failed", wanted.name)
            failure = failure_from(wanted.name, error)
            result = ScoreRecord(**base, status=failure.status, failure=failure)
        result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
        folder.write_score(wanted.name, result)
        log.info("%s: %s %s (%s, %.1f s)", wanted.name, result.value, result.unit, result.status, result.seconds)

    def _evaluation_on(self, split: Literal["test", "valid"]) -> Evaluation:
        if split not in self._evaluations:
            fit, spec = self._folder.fit(), self._spec
            assert fit is not None
            artifacts = self._folder.path.parent.parent
            code = drawing_code(self._plugins, spec.model)
            self._evaluations[split] = Evaluation(
                self._model,
                self._data,
                split=split,
                fit=FitSummary(**fit.model_dump(exclude={"weights_sha256", "calibrated_steps"})),
                seed=spec.seed,
                feature_folder=artifacts / "features",
                load_dataset=lambda name: load_dataset(self._plugins, name, self._data_folder),
                data_folder=self._data_folder,
                origin=origin_of(self._plugins, type(self._model), spec.model, spec.hyperparameters, code),
                audit_folder=artifacts / "audits",
            )
        return self._evaluations[split]


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


def _describe(wanted: Stage, device: torch.device, threads: int) -> dict[str, Any]:
    """Returns the fields of a score that are known before it is measured."""
    return {
        "metric": wanted.metric,
        "key": wanted.key,
        "fingerprint": fingerprint(device, threads),
        "hardware": hardware(device, threads),
    }


def _describe_metric(metric: Metric) -> dict[str, Any]:
    return {
        "board": metric.board,
        "header": metric.header or heading(metric.name),
        "stage": metric.stage,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
    }


def failed_score(plugins: PluginManager, spec: RunSpec, wanted: Stage, failure: Failure) -> ScoreRecord:
    """Returns the record of a figure whose measuring ended the process."""
    base = _describe(wanted, choose_device(spec.device), spec.threads)
    return ScoreRecord(
        **base, **_describe_metric(load_metric(plugins, wanted.metric)), status=failure.status, failure=failure
    )
