"""Known entropy: on draws from a known distribution, no mean score lies above minus its entropy.

The mean over test images of log p(x) - log q(x) estimates a KL divergence, which is at least zero; images are paired,
so that its error is small.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.auditing.estimates import each_image_once
from harness.auditing.laboratory import Laboratory
from harness.auditing.spaces import index_of
from harness.auditing.trial import Evidence, NotApplicable, Trial
from harness.interface.metric import Evaluation
from harness.interface.model import ExactLikelihood, VariationalBound


def known_entropy(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields, after a short fit, how far test scores lie from the entropy, scored as a benchmark scores them."""
    laboratory.require(ExactLikelihood | VariationalBound, "an implicit model scores nothing")
    if not laboratory.small:
        raise NotApplicable("no space that can be enumerated is taken by the model")
    for exact in laboratory.specimens("fitted"):
        specimen = laboratory.single(exact)
        known, model = laboratory.known(specimen.spec), specimen.model
        evaluation = Evaluation(model, known.dataset(), seed=laboratory.seed)
        score = model.log_prob if isinstance(model, ExactLikelihood) else specimen.model_as(VariationalBound).elbo
        with each_image_once(specimen):
            scores = evaluation.per_image(score, purpose="known entropy")[0]
        truth = known.log_probs[index_of(evaluation.split.images, specimen.spec)]
        gap = truth - scores  # nats, (N,)
        mean = float(gap.mean())
        meaning = (
            f"test scores lie {-mean:.3g} nats below what the data's entropy of {known.entropy:.4g} nats allows: the "
            "likelihood is not one, or the test images are looked at while they are scored"
        )
        yield Trial.z_test(
            specimen.where, f"mean negative score minus the entropy ({mean:.3f} nats)", estimate=mean,
            standard_error=float(gap.std()) / len(gap) ** 0.5, side=-1, unit="nats", meaning=meaning, rounding=1e-6,
        )  # fmt: skip
