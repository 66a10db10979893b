"""Normalisation: probabilities of all images sum to one, bounds to no more; and no mean score beats a known entropy."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.auditing.estimates import (
    bound_estimates,
    each_image_once,
    flops,
    mass_outside,
    mean_and_error,
    trusted_weights,
)
from harness.auditing.laboratory import Laboratory
from harness.auditing.own_samples import by_own_samples
from harness.auditing.spaces import index_of
from harness.auditing.subject import Specimen, State
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.metric import Evaluation
from harness.interface.model import ExactLikelihood, ImportanceWeighted, Invertible, VariationalBound

_STATES: tuple[State, ...] = ("random", "fitted", "strong", "initial")
_FLOPS = 3e10  # of an expensive model, some states on some spaces are left out
_CAUSES = (
    "an unnormalised output, a wrong base of the logarithm, a mean where a sum is due, "
    "a conditional that sees its own entry, or a term of the density that is missing or counted twice"
)


def normalisation(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields the total mass of every enumerated space, in every state of the weights."""
    model = laboratory.require(ExactLikelihood | VariationalBound, "an implicit model promises no likelihood")
    if not laboratory.small:
        yield from by_own_samples(laboratory)
    elif isinstance(model, ExactLikelihood):
        spent = 0
        for state in _STATES:
            for specimen in laboratory.specimens(state):
                if spent < _FLOPS or state == _STATES[0]:
                    spent += flops(specimen, specimen.model_as(ExactLikelihood).log_prob) * len(specimen.everything)
                    yield _exact(specimen)
    elif isinstance(model, ImportanceWeighted):
        yield from _weighted(laboratory)
    else:
        for specimen in laboratory.specimens("initial", "random", "lopsided", "fitted"):
            yield _bounded(specimen)


def _exact(specimen: Specimen) -> Trial:
    log_probs = specimen.log_probs
    if count := int(log_probs.isnan().sum()):
        return Trial.broken(specimen.where, f"log_prob is NaN for {count} of {len(log_probs)} images")
    total = float(log_probs.logsumexp(0).exp())
    return Trial.exact(
        specimen.where, "sum of p over all images, minus 1", abs(total - 1), tolerance=specimen.tolerance(),
        meaning=f"the probabilities of all images sum to {total:.6g}, not to 1: {_CAUSES}", unit="of mass",
    )  # fmt: skip


def _weighted(laboratory: Laboratory) -> Iterator[Evidence]:
    for found in trusted_weights(laboratory):
        if isinstance(found, Note):
            yield found
            continue
        specimen, mean, error = found
        outside, outside_error = mass_outside(specimen) if isinstance(specimen.model, Invertible) else (0.0, 0.0)
        if outside > 0:
            yield Note(f"{specimen.where}: {outside:.1%} of the density's mass lies beyond the images' range")
        total = float(mean.sum()) + outside
        yield Trial.z_test(
            specimen.where, "sum of the mean weights of all images, minus 1", total - 1,
            (float(error.square().sum()) + outside_error**2) ** 0.5, unit="of mass", rounding=specimen.tolerance(),
            meaning=f"the mean importance weights of all images sum to {total:.6g}, not to 1: {_CAUSES}",
        )  # fmt: skip


def _bounded(specimen: Specimen) -> Trial:
    mean, error = bound_estimates(specimen)  # of log-weights, (M,)
    mass = mean.exp()
    total = float(mass.sum())
    return Trial.z_test(
        specimen.where, "sum of exp(bound) over all images, minus 1", total - 1,
        float((mass * error).square().sum().sqrt() + torch.finfo(torch.float32).eps), side=1, unit="of mass",
        meaning=f"exp of the bounds of all images sums to {total:.4g}, above 1: they are no lower bounds of log p",
    )  # fmt: skip


def known_entropy(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields, after a short fit, how far test scores lie from the entropy, scored as a benchmark scores them.

    The mean over test images of log p(x) - log q(x) estimates a KL divergence, which is at least zero; images are
    paired, so that its error is small.
    """
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
        mean, error = mean_and_error(known.log_probs[index_of(evaluation.split.images, specimen.spec)] - scores)
        yield Trial.z_test(
            specimen.where, f"mean negative score minus the entropy ({mean:.3f} nats)", mean, error, side=-1,
            unit="nats", meaning=f"test scores lie {-mean:.3g} nats below what the data's entropy of "
            f"{known.entropy:.4g} nats allows: the likelihood is not one, or the test images are looked at while they "
            "are scored", rounding=1e-6,
        )  # fmt: skip
