"""Upper bounds on the negative log-likelihood: the negative ELBO, and the importance-weighted bound of K samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness import Evaluation, ImportanceWeighted, Metric, NonFiniteScore, Score, VariationalBound
from harness.builtin.metrics.averages import average

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
    """Returns log (1/K sum_k w_k) and the effective sample size (sum w)^2 / sum w^2, accumulated in float64.

    Args:
        model: gives the weights.
        images: (N, C, H, W) uint8.
        num_samples: K.
        chunk: how many weights for each image are drawn at a time.

    Returns:
        (N,) float64 nats and (N,) float64, both on the CPU.

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
