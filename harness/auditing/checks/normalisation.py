"""Normalisation: probabilities of all images sum to one; bounds to no more."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.auditing.estimates import bound_estimates, flops, mass_outside, weight_estimates
from harness.auditing.laboratory import Laboratory
from harness.auditing.own_samples import by_own_samples
from harness.auditing.subject import Specimen, State
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.model import ExactLikelihood, ImportanceWeighted, Invertible, VariationalBound

_STATES: tuple[State, ...] = ("random", "fitted", "strong", "initial")
_FLOPS = 3e10  # of an expensive model, some states on some spaces are left out
_QUANTITY = "sum of p over all images, minus 1"
_CAUSES = (
    "an unnormalised output, a wrong base of the logarithm, a mean where a sum is due, "
    "a conditional that sees its own entry, or a term of the density that is missing or counted twice"
)


def normalisation(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields the total mass of every enumerated space, in every state of the weights."""
    model = laboratory.require(ExactLikelihood | VariationalBound, "an implicit model promises no likelihood")
    if not laboratory.small:
        yield from by_own_samples(laboratory)
        return
    if isinstance(model, ExactLikelihood):
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
    if bool(log_probs.isnan().any()):
        count = int(log_probs.isnan().sum())
        return Trial.broken(specimen.where, f"log_prob is NaN for {count} of {len(log_probs)} images")
    total = float(log_probs.logsumexp(0).exp())
    meaning = f"the probabilities of all images sum to {total:.6g}, not to 1: {_CAUSES}"
    return Trial.exact(
        specimen.where, _QUANTITY, abs(total - 1), tolerance=specimen.tolerance(), meaning=meaning, unit="of mass"
    )


def _weighted(laboratory: Laboratory) -> Iterator[Evidence]:
    found = False
    for specimen in laboratory.specimens("gentle", "fitted"):
        mean, error, reliable = weight_estimates(specimen)
        if specimen.state != "gentle" and not reliable:
            yield Note(f"{specimen.where}: importance weights vary too much for their mean to say anything")
            continue
        found = True
        outside, outside_error = mass_outside(specimen) if isinstance(specimen.model, Invertible) else (0.0, 0.0)
        if outside > 0:
            yield Note(f"{specimen.where}: {outside:.1%} of the density's mass lies beyond the images' range")
        total = float(mean.sum()) + outside
        variance = float(error.square().sum()) + outside_error**2
        meaning = f"the mean importance weights of all images sum to {total:.6g}, not to 1: {_CAUSES}"
        yield Trial.z_test(
            specimen.where, "sum of the mean weights of all images, minus 1", estimate=total - 1,
            standard_error=variance**0.5, unit="of mass", meaning=meaning, rounding=specimen.tolerance(),
        )  # fmt: skip
    if not found:
        raise NotApplicable("the importance weights vary too much, in every state, for their mean to say anything")


def _bounded(specimen: Specimen) -> Trial:
    mean, error = bound_estimates(specimen)  # of log-weights, (M,)
    mass = mean.exp()
    total = float(mass.sum())
    meaning = f"exp of the bounds of all images sums to {total:.4g}, above 1: they are no lower bounds of log p"
    return Trial.z_test(
        specimen.where, "sum of exp(bound) over all images, minus 1", estimate=total - 1,
        standard_error=float((mass * error).square().sum().sqrt() + torch.finfo(torch.float32).eps), side=1,
        unit="of mass", meaning=meaning,
    )  # fmt: skip
