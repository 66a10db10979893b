"""What a model costs: learned numbers and floating-point operations, whatever the machine; the time of its training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

import harness


class _Cost(harness.Metric):
    board = "cost"
    stage = "cost"


class ParametersTraining(_Cost):
    """The number of floating-point entries of the model's ``state_dict``; tied tensors count once."""

    name = "parameters-training"
    header = "Parameters trained"
    unit = "parameters"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Counts the entries; exact."""
        return harness.Score(float(sum(tensor.numel() for tensor in _floating(evaluation))), None, "exact")


class ParametersSampling(_Cost):
    """The number of floating-point entries of those ``state_dict`` tensors that are read while two images are drawn.

    A tensor counts whole as soon as one operation reads any part of the memory that it lives in.
    """

    name = "parameters-sampling"
    header = "Parameters sampling"
    unit = "parameters"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws two images and counts what was read; exact."""
        model, state, touched = evaluation.model, _floating(evaluation), harness.TouchedStorages()
        seed = harness.derive_seed(evaluation.seed, self.name)
        with harness.isolated_rng(seed, evaluation.device), torch.no_grad(), touched:
            model.sample(2)
        used = sum(tensor.numel() for tensor in state if tensor in touched)
        return harness.Score(float(used), None, "exact", protocol={"sampler": harness.default_sampler(model)})


def _floating(evaluation: harness.Evaluation) -> list[Tensor]:
    return [x for x in harness.unique_tensors(evaluation.model.state_dict().values()) if x.is_floating_point()]


class _Flops(_Cost):
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each; nothing else."""

    unit = "FLOPs"

    @abstractmethod
    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        """Returns what the protocol says of the call, and the call whose operations are counted."""

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        protocol, call = self._call(evaluation)
        with harness.isolated_rng(harness.derive_seed(evaluation.seed, self.name), evaluation.device):
            flops = harness.count_flops(call)
        precision = str(evaluation.model.dtype).removeprefix("torch.")
        protocol = {"batch size": "1", "precision": precision, **protocol}
        return harness.Score(float(flops), None, "exact", protocol=protocol, details={"batch_size": 1.0})


class FlopsScoring(_Flops):
    """The floating-point operations of scoring one image, at batch 1: ``log_prob``, or one draw of the bound.

    The image is the split's first; a model with neither is ``Unsupported``.
    """

    name = "flops-scoring"
    header = "FLOPs scoring"

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        function, score = harness.scorer(evaluation.model)
        images = evaluation.split.draw(0).images[:1].to(evaluation.device)
        return {"function": function}, lambda: score(images)


class FlopsSampling(_Flops):
    """The floating-point operations of drawing one image, at batch 1, by the model's default sampler."""

    name = "flops-sampling"
    header = "FLOPs sampling"

    def _call(self, evaluation: harness.Evaluation) -> tuple[dict[str, str], Callable[[], object]]:
        return {"sampler": harness.default_sampler(evaluation.model)}, lambda: evaluation.model.sample(1)


class FitSeconds(_Cost):
    """The seconds spent in ``fit``, validation and resumptions included."""

    name = "fit-seconds"
    header = "Training time"
    unit = "s"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Reads the figure from the training's summary; a model that was not trained here has none."""
        fit = evaluation.fit
        if fit is None:
            raise harness.Unsupported("nothing was trained: the weights come from a checkpoint")
        details = {"steps": float(fit.steps), "epochs": fit.epochs}
        protocol = {"device": evaluation.device.type, "threads": str(torch.get_num_threads())}
        return harness.Score(fit.seconds, None, "estimate", protocol=protocol, details=details)
