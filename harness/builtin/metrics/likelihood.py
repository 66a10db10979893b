"""Exact likelihoods of the integer images: nats an image, bits a dimension."""

from __future__ import annotations

import math

from harness import Evaluation, ExactLikelihood, Metric, Score
from harness.builtin.metrics.averages import average


class NLL(Metric):
    """The mean negative log-likelihood of the whole split, -1/N sum_n log p(x_n), in nats an image."""

    name = "nll"
    board = "likelihood"
    header = "NLL"
    unit = "nats"
    requires = ExactLikelihood

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores every image of the split once for each draw; ``per_image`` is (N,) nats."""
        model = evaluation.model
        assert isinstance(model, ExactLikelihood)
        values = -evaluation.per_image(model.log_prob, purpose="log_prob")
        return average(values, evaluation, kind="exact")


class BitsPerDim(Metric):
    """The mean negative log-likelihood in bits a dimension: nats / (D ln 2) with D = C H W."""

    name = "bits-per-dim"
    board = "likelihood"
    unit = "bits/dim"
    requires = ExactLikelihood

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores every image of the split once for each draw; ``per_image`` is (N,) bits a dimension."""
        model = evaluation.model
        assert isinstance(model, ExactLikelihood)
        values = -evaluation.per_image(model.log_prob, purpose="log_prob")
        return average(values / (model.spec.num_dimensions * math.log(2)), evaluation, kind="exact")
