"""The gap to the entropy: how far a model is from the distribution that its data were drawn from."""

from __future__ import annotations

from torch import Tensor

from harness import (
    Evaluation,
    ExactLikelihood,
    ImportanceWeighted,
    KnownDataset,
    Metric,
    Score,
    Unsupported,
    VariationalBound,
)
from harness.builtin.metrics.averages import average
from harness.builtin.metrics.bounds import IWAE, NegativeELBO
from harness.builtin.metrics.likelihood import NLL

NUM_WEIGHTS = 500


class EntropyGap(Metric):
    """The mean over the split of log p_true(x) - log p_model(x), in nats an image.

    Its expectation is the Kullback-Leibler divergence from the model to the truth, which is at least zero. The entropy
    of the images at hand cancels, so the error is much smaller than that of the negative log-likelihood. A gap that is
    further below zero than its error allows is impossible for a right likelihood.

    The model's part is exact where there is an exact likelihood; else it is the importance-weighted bound of
    ``NUM_WEIGHTS`` samples, else the ELBO, and the gap is an upper bound.
    """

    name = "entropy-gap"
    board = "likelihood"
    header = "Gap to the entropy"
    unit = "nats"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores every image of the split; ``per_image`` is (N,) nats.

        The details are ``true_nll``, the mean of -log p_true over the split; ``entropy``, its expectation, where that
        is known exactly; and ``z``, the gap in units of its standard error.

        Raises:
            Unsupported: nobody knows what the data were drawn from, or the model has no likelihood.
        """
        data, model = evaluation.data, evaluation.model
        if not isinstance(data, KnownDataset):
            raise Unsupported(f"the entropy of {data.name} is not known")
        metric: Metric
        if isinstance(model, ExactLikelihood):
            metric = NLL()
        elif isinstance(model, ImportanceWeighted):
            metric = IWAE(num_samples=NUM_WEIGHTS)
        elif isinstance(model, VariationalBound):
            metric = NegativeELBO()
        else:
            raise Unsupported(f"{type(model).__name__} has no likelihood")
        score = metric.evaluate(evaluation)
        assert isinstance(score.per_image, Tensor)
        truth = -data.log_prob(evaluation.split.images)  # (N,)
        details = {"true_nll": truth.mean().item()}
        if data.entropy is not None:
            details["entropy"] = data.entropy
        protocol = {**score.protocol, "likelihood": metric.name}
        gap = average((score.per_image - truth)[None], evaluation, kind=score.kind, protocol=protocol, details=details)
        if gap.standard_error:
            details["z"] = gap.value / gap.standard_error
        return Score(gap.value, gap.standard_error, gap.kind, gap.per_image, gap.protocol, details)
