"""Normalisation: probabilities of all images sum to one, bounds to no more.

Where nothing can be enumerated, an identity holds on a model's own samples, at any size: for x drawn from p and any
normalised r, E[r(x) / p(x)] = 1. With small weights a model's pixels are nearly independent, so that the product of its
samples' pixel frequencies, taken from other samples, is an r for which the ratio varies little. A lower bound in the
place of log p makes the expectation larger, never smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.auditing.estimates import bound_estimates, flops, log_weights, mass_outside, weight_estimates
from harness.auditing.laboratory import SHRINKS, Laboratory
from harness.auditing.subject import Specimen, State
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, ExactLikelihood, ImportanceWeighted, Invertible, VariationalBound

_STATES: tuple[State, ...] = ("random", "fitted", "strong", "initial")
_FLOPS = 3e10  # of an expensive model, some states on some spaces are left out
_QUANTITY = "sum of p over all images, minus 1"
_CAUSES = (
    "an unnormalised output, a wrong base of the logarithm, a mean where a sum is due, "
    "a conditional that sees its own entry, or a term of the density that is missing or counted twice"
)
_SAMPLE_CAUSES = "a term is missing, has the wrong sign or is averaged, or samples come from something else"

_MOST, _FEWEST, _SEARCH = 4000, 400, 250  # own samples
_FITTED = 10_000  # samples that r is taken from, where they cost little
_WEIGHTS = 32
_LEAST_EFFECTIVE, _NEARLY_ALL, _AGREE = 0.2, 0.85, 0.6
_MARGIN = 0.5  # nats that samples may be away from independent pixels


def normalisation(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields the total mass of every enumerated space, in every state of the weights."""
    model = laboratory.require(ExactLikelihood | VariationalBound, "an implicit model promises no likelihood")
    if not laboratory.small:
        yield from _by_own_samples(laboratory)
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


# --- where nothing can be enumerated ---


def _by_own_samples(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields the mean of r/p over own samples on the smallest space that the model takes."""
    found = looked_at_bounds = False
    for spec in laboratory.some(1):
        for variant in range(len(SHRINKS)):
            specimen = laboratory.specimen(spec, "shrunk", variant=variant)
            share = _effective_share(_log_ratios(specimen, _SEARCH))
            if share >= _LEAST_EFFECTIVE and not found and _weights_agree(specimen):
                found = True
                yield _mass(specimen)
            if share >= _NEARLY_ALL and not looked_at_bounds:
                looked_at_bounds = True
                for lopsided in laboratory.specimens("lopsided", spaces=[spec], variant=variant):
                    if not isinstance(lopsided.model, ExactLikelihood):
                        yield _excess(lopsided)
            if found and looked_at_bounds:
                return
    if not found:
        raise NotApplicable("nothing can be enumerated, and whatever the weights, samples are no independent pixels")


def _mass(specimen: Specimen) -> Trial:
    ratios = _log_ratios(specimen, _affordable(specimen)).exp()
    two_sided = isinstance(specimen.model, ExactLikelihood) or _is_nearly_exact(specimen)
    mean = float(ratios.mean())
    return Trial.z_test(
        f"{specimen.where}, {len(ratios)} own samples", "mean over own samples of r(x)/p(x), minus 1",
        estimate=mean - 1, standard_error=float(ratios.std()) / len(ratios) ** 0.5, side=0 if two_sided else -1,
        unit="of mass",
        meaning=f"on own samples, scores are off by {-math.log(max(mean, 1e-300)):+.3g} nats: {_SAMPLE_CAUSES}",
    )  # fmt: skip


def _excess(specimen: Specimen) -> Trial:
    """Samples are independent pixels, but for ``_MARGIN``, so no bound lies above what such a model scores."""
    excess = -_log_ratios(specimen, _FEWEST)
    mean = float(excess.mean())
    return Trial.z_test(
        f"{specimen.where}, {len(excess)} own samples", "mean over own samples of the bound minus log r", estimate=mean,
        standard_error=float(excess.std()) / len(excess) ** 0.5, side=1, unit="nats", rounding=_MARGIN,
        meaning=f"on own samples the bound lies {mean:.3g} nats above log p: {_SAMPLE_CAUSES}",
    )  # fmt: skip


@torch.no_grad()
def _log_ratios(specimen: Specimen, count: int) -> Tensor:
    """Returns (count,) nats: log r - log p of own samples, r from other ones."""
    model = specimen.model
    total = count + (4 * count if isinstance(model, Autoregressive) else max(4 * count, _FITTED))
    sizes = [min(500, total - start) for start in range(0, total, 500)]
    with specimen.rng("own samples"):
        images = torch.cat([check_samples(model.sample(size), size, model) for size in sizes])
    reference = _product_of_frequencies(images[count:], images[:count], specimen.spec.levels)
    return reference - _log_probs(specimen, images[:count])


def _effective_share(log_ratios: Tensor) -> float:
    """Returns the share of the ratios that their mean rests on, in (0, 1]; NaN where they are not numbers."""
    return float((2 * log_ratios.logsumexp(0) - (2 * log_ratios).logsumexp(0)).exp()) / len(log_ratios)


@torch.no_grad()
def _weights_agree(specimen: Specimen) -> bool:
    """Whether the mean of the weights is close to p: they vary little. Other models have none."""
    if not _is_nearly_exact(specimen):
        return True
    with specimen.rng("weights agree"):
        images = specimen.model.sample(50)
    weights = log_weights(specimen, images, _WEIGHTS, "weights agree")
    effective = (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp() / _WEIGHTS
    return float(effective.mean()) > _AGREE


def _is_nearly_exact(specimen: Specimen) -> bool:
    """Whether what is scored is log p itself, nearly: the mean of many weights that vary little."""
    model = specimen.model
    return specimen.state == "shrunk" and isinstance(model, ImportanceWeighted) and not isinstance(model, Invertible)


def _log_probs(specimen: Specimen, images: Tensor) -> Tensor:
    model = specimen.model
    with specimen.rng("own scores"):
        if isinstance(model, ExactLikelihood):
            return torch.cat([model.log_prob(part) for part in torch.split(images, 500)]).double()
        if _is_nearly_exact(specimen):
            weights = log_weights(specimen, images, _WEIGHTS, "own samples")
            # E[1 / mean weight] is 1/p (1 + relative variance / K) to first order: half of it is taken back in logs
            spread = (weights - weights.logsumexp(0)).exp().square().sum(0) - 1 / _WEIGHTS
            return weights.logsumexp(0) - math.log(_WEIGHTS) + spread.clamp_min(0)
        assert isinstance(model, VariationalBound)  # the mean of a few draws of a bound is one as well
        draws = [torch.cat([model.elbo(part) for part in torch.split(images, 500)]).double() for _ in range(8)]
        return torch.stack(draws).mean(0)


def _product_of_frequencies(fitted: Tensor, scored: Tensor, levels: int) -> Tensor:
    """Returns (N,) nats of ``scored`` under independent pixels, whose frequencies are those of ``fitted``."""
    counts = torch.stack([(fitted == value).sum(0) for value in range(levels)]).double() + 0.5  # (levels, C, H, W)
    table = (counts / counts.sum(0)).log()
    return table.unsqueeze(0).expand(len(scored), *table.shape).gather(1, scored.long().unsqueeze(1)).flatten(1).sum(1)


def _affordable(specimen: Specimen) -> int:
    model = specimen.model
    if isinstance(model, Autoregressive):
        cost = 5 * specimen.spec.num_dimensions * flops(specimen, model.conditional_logits)
    elif isinstance(model, ImportanceWeighted):
        cost = flops(specimen, lambda images: model.log_importance_weights(images, _WEIGHTS))
    else:
        return _MOST
    return max(_FEWEST, min(_MOST, int(_FLOPS / cost)))
