"""Upper bounds on the negative log-likelihood: the negative ELBO, and the importance-weighted bound of K samples.

Also how far a model is from the distribution that its data were drawn from, where that is known.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness import (
    Evaluation,
    ImportanceWeighted,
    KnownDataset,
    Metric,
    NonFiniteScore,
    Score,
    Unsupported,
    VariationalBound,
)
from harness.builtin.metrics.averages import average
from harness.builtin.metrics.likelihood import NLL

NUM_WEIGHTS = 500
MAX_ELEMENTS = 2**21
MAX_ROWS = 4096


class NegativeELBO(Metric):
    """The mean of -elbo(x) over the whole split, one random estimate for each image and draw, in nats."""

    name = "negative-elbo"
    board = "bounds"
    header = "Negative ELBO"
    unit = "nats"
    requires = VariationalBound

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Scores every image of the split once for each draw; ``per_image`` is (N,) in the metric's unit."""
        model = evaluation.model
        assert isinstance(model, VariationalBound)
        values = -evaluation.per_image(model.elbo, purpose="elbo")
        return average(values, evaluation, kind="upper bound", unit=self.unit, protocol={"samples": "1"})


class BitsPerDimBound(NegativeELBO):
    """The negative ELBO in bits for each dimension: nats / (D ln 2) with D = C H W."""

    name = "bits-per-dim-bound"
    unit = "bits/dim"


class IWAE(Metric):
    """The importance-weighted bound -1/N sum_n log (1/K sum_k w_nk) with E[w_nk] = p(x_n), in nats an image.

    An upper bound in expectation, which falls to the negative log-likelihood as K grows (Burda, Grosse & Salakhutdinov
    2016, arXiv 1509.00519). Exactly K weights for each image are drawn.

    Args:
        num_samples: K, at least 1; the name ``iwae-5000`` gives it as text.
        max_elements: (weights for each call) x (images in each call) x D stays at or below this, unless one weight of
            one image exceeds it. With the ceiling of ``MAX_ROWS`` on weights x images, this bounds memory whatever K
            and N are. Which random numbers an image gets depends on it; what is estimated does not.
    """

    board = "bounds"
    unit = "nats"
    requires = ImportanceWeighted

    def __init__(self, *, num_samples: int | str, max_elements: int = MAX_ELEMENTS) -> None:
        self.num_samples, self.max_elements = int(num_samples), max_elements
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {num_samples}")
        self.name, self.header = f"iwae-{self.num_samples}", f"IWAE, K = {self.num_samples}"

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Draws K weights for every image of the split and draw; ``per_image`` is (N,) nats.

        The detail ``effective_sample_size`` is the mean over images of (sum w)^2 / sum w^2, from 1 to K: where it is
        small, a few weights carry the figure, and the bound may be loose.
        """
        model = evaluation.model
        assert isinstance(model, ImportanceWeighted)
        rows = max(1, min(MAX_ROWS, self.max_elements // model.spec.num_dimensions))
        chunk = min(self.num_samples, rows)
        sizes: list[Tensor] = []

        def score(images: Tensor) -> Tensor:
            bound, effective = log_mean_weight(model, images, self.num_samples, chunk=chunk)
            sizes.append(effective)
            return -bound

        batch_size = max(1, min(evaluation.batch_size, rows // chunk))
        values = evaluation.per_image(score, purpose=self.name, batch_size=batch_size)
        details = {"effective_sample_size": torch.cat(sizes).mean().item()}
        protocol = {"K": str(self.num_samples)}
        return average(values, evaluation, kind="upper bound", protocol=protocol, details=details)


def log_mean_weight(
    model: ImportanceWeighted, images: Tensor, num_samples: int, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Returns log (1/K sum_k w_k) and the effective sample size (sum w)^2 / sum w^2, both (N,) float64 on the CPU.

    ``images`` is (N, C, H, W) uint8, ``num_samples`` K; ``chunk`` weights for each image are drawn at a time.

    Raises:
        NonFiniteScore: a weight is NaN or plus infinity; a weight of zero (minus infinity in logarithms) is allowed.
        ValueError: the model returned another number of weights than it was asked for.
    """
    # on the CPU: some accelerators have no float64
    first = torch.full((len(images),), -math.inf, dtype=torch.float64)
    second = first.clone()
    for start in range(0, num_samples, chunk):
        wanted = min(chunk, num_samples - start)
        weights = model.log_importance_weights(images, wanted)
        if weights.shape != (wanted, len(images)):
            raise ValueError(
                f"log_importance_weights was asked for ({wanted}, {len(images)}) weights, "
                f"it returned {tuple(weights.shape)}"
            )
        weights = weights.detach().cpu().double()
        if bool((weights.isnan() | weights.isposinf()).any()):
            raise NonFiniteScore(f"{type(model).__name__}.log_importance_weights returned NaN or infinity")
        first = torch.logaddexp(first, weights.logsumexp(0))
        second = torch.logaddexp(second, (2 * weights).logsumexp(0))
    return first - math.log(num_samples), (2 * first - second).exp()


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
        choices: tuple[Metric, ...] = (NLL(), IWAE(num_samples=NUM_WEIGHTS), NegativeELBO())
        metric = next((metric for metric in choices if isinstance(model, metric.requires)), None)
        if metric is None:
            raise Unsupported(f"{type(model).__name__} has no likelihood")
        score = metric.evaluate(evaluation)
        assert isinstance(score.per_image, Tensor)
        truth = -data.log_prob(evaluation.split.images)  # (N,)
        details = {"true_nll": truth.mean().item()} | ({} if data.entropy is None else {"entropy": data.entropy})
        protocol = {**score.protocol, "likelihood": metric.name}
        gap = average((score.per_image - truth)[None], evaluation, kind=score.kind, protocol=protocol, details=details)
        if gap.standard_error:
            details["z"] = gap.value / gap.standard_error
        return Score(gap.value, gap.standard_error, gap.kind, gap.per_image, gap.protocol, details)
