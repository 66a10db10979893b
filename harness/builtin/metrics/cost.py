"""What a model costs: learned numbers and floating-point operations, whatever the machine; the time of its training."""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness import (
    Evaluation,
    Metric,
    Score,
    TouchedStorages,
    Unsupported,
    count_flops,
    default_sampler,
    derive_seed,
    isolated_rng,
    scorer,
    unique_tensors,
)
from harness.builtin.metrics.averages import precision_of


class _Cost(Metric):
    board = "cost"
    stage = "cost"


class ParametersTraining(_Cost):
    """The number of floating-point entries of the model's ``state_dict``; tied tensors count once."""

    name = "parameters-training"
    header = "Parameters trained"
    unit = "parameters"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Counts the entries; exact."""
        entries = unique_tensors(evaluation.model.state_dict().values())
        return Score(float(sum(tensor.numel() for tensor in entries if tensor.is_floating_point())), None, "exact")


class ParametersSampling(_Cost):
    """The number of floating-point entries of those ``state_dict`` tensors that are read while two images are drawn.

    A tensor counts whole as soon as one operation reads any part of the memory that it lives in.
    """

    name = "parameters-sampling"
    header = "Parameters sampling"
    unit = "parameters"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Draws two images and counts what was read; exact."""
        model, touched = evaluation.model, TouchedStorages()
        state = unique_tensors(model.state_dict().values())
        with isolated_rng(derive_seed(evaluation.seed, self.name), evaluation.device), torch.no_grad(), touched:
            model.sample(2)
        used = sum(tensor.numel() for tensor in state if tensor.is_floating_point() and tensor in touched)
        return Score(float(used), None, "exact", protocol={"sampler": default_sampler(model)})


class _Flops(_Cost):
    """Counts the multiply-adds of matrix products, convolutions and attention as two operations each; nothing else."""

    unit = "FLOPs"

    def _count(self, evaluation: Evaluation, call: Callable[[], object], protocol: dict[str, str]) -> Score:
        with isolated_rng(derive_seed(evaluation.seed, self.name), evaluation.device):
            flops = count_flops(call)
        protocol = {"batch size": "1", "precision": precision_of(evaluation), **protocol}
        return Score(float(flops), None, "exact", protocol=protocol, details={"batch_size": 1.0})


class FlopsScoring(_Flops):
    """The floating-point operations of scoring one image, at batch 1: ``log_prob``, or one draw of the bound."""

    name = "flops-scoring"
    header = "FLOPs scoring"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores the split's first image.

        Raises:
            Unsupported: the model has neither a likelihood nor a bound.
        """
        function, call = scorer(evaluation.model)
        images = evaluation.split.draw(0).images[:1].to(evaluation.device)
        return self._count(evaluation, lambda: call(images), {"function": function})


class FlopsSampling(_Flops):
    """The floating-point operations of drawing one image, at batch 1, by the model's default sampler."""

    name = "flops-sampling"
    header = "FLOPs sampling"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Draws one image."""
        model = evaluation.model
        return self._count(evaluation, lambda: model.sample(1), {"sampler": default_sampler(model)})


class FitSeconds(_Cost):
    """The seconds spent in ``fit``, validation and resumptions included."""

    name = "fit-seconds"
    header = "Training time"
    unit = "s"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Reads the figure from the training's summary.

        Raises:
            Unsupported: nothing was trained.
        """
        fit = evaluation.fit
        if fit is None:
            raise Unsupported("nothing was trained: the weights come from a checkpoint")
        details = {"steps": float(fit.steps), "epochs": fit.epochs}
        protocol = {"device": evaluation.device.type, "threads": str(torch.get_num_threads())}
        return Score(fit.seconds, None, "estimate", protocol=protocol, details=details)
