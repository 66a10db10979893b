"""Exact likelihoods of the integer images: nats for each image, bits for each dimension."""

from __future__ import annotations

from harness import Evaluation, ExactLikelihood, Metric, Score
from harness.builtin.metrics.averages import average


class NLL(Metric):
    """The mean negative log-likelihood of the whole split, -1/N sum_n log p(x_n), in nats for each image."""

    name = "nll"
    board = "likelihood"
    header = "NLL"
    unit = "nats"
    requires = ExactLikelihood

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores every image of the split once for each draw; ``per_image`` is (N,) in the metric's unit."""
        model = evaluation.model
        assert isinstance(model, ExactLikelihood)
        values = -evaluation.per_image(model.log_prob, purpose="log_prob")
        return average(values, evaluation, kind="exact", unit=self.unit)


class BitsPerDim(NLL):
    """The mean negative log-likelihood in bits for each dimension: nats / (D ln 2) with D = C H W."""

    name = "bits-per-dim"
    header = ""
    unit = "bits/dim"
