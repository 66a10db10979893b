"""Normalisation: probabilities of all images sum to one, bounds to no more; and no mean score beats a known entropy.

Where nothing can be enumerated, an identity holds on a model's own samples, at any size: for x drawn from p and any
normalised r, E[r(x) / p(x)] = 1. With small weights a model's pixels are nearly independent, so that the product of its
samples' pixel frequencies, taken from other samples, is an r for which the ratio varies little. A lower bound in the
place of log p makes the expectation larger, never smaller.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from harness.auditing.cost import operations
from harness.auditing.estimates import (
    bound_estimates,
    each_image_once,
    elbo_shares_noise,
    elbos,
    error_of_sum,
    log_weights,
    mass_outside,
    mean_and_error,
    sampling_cost,
    trusted_weights,
)
from harness.auditing.laboratory import SHRINKS, Laboratory
from harness.auditing.subject import Specimen, State, describe, index_of, num_images
from harness.auditing.trial import NOT_FINITE, Evidence, NotApplicable, Trial, unlike
from harness.interface.metric import Evaluation, check_samples
from harness.interface.model import Autoregressive, ExactLikelihood, ImportanceWeighted, Invertible, VariationalBound

_STATES: tuple[State, ...] = ("random", "fitted", "strong", "initial")
_SHARE = 0.3  # of the budget: of an expensive model, some states on some spaces are left out
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
    """Probabilities of all images sum to one, bounds to no more."""
    model = laboratory.require(ExactLikelihood | VariationalBound, "an implicit model promises no likelihood")
    if not laboratory.small:
        yield from _by_own_samples(laboratory)
    elif isinstance(model, ExactLikelihood):
        for state in _STATES:
            for specimen in laboratory.specimens(state):
                cost = operations(specimen, specimen.model_as(ExactLikelihood).log_prob, len(specimen.everything))
                if state == _STATES[0] or laboratory.affords(cost, specimen.where, share=_SHARE):
                    yield _exact(specimen)
        if not isinstance(model, Autoregressive):  # ``conditionals`` shows as much of those, and costs less
            yield from _many_levels(laboratory)
    elif isinstance(model, ImportanceWeighted):
        yield from _weighted(laboratory)
    else:
        for specimen in laboratory.specimens("initial", "random", "lopsided", "fitted"):
            mean, error = bound_estimates(specimen)  # of log-weights, (M,)
            mass, total = mean.exp(), float(mean.exp().sum())
            deviation = error_of_sum(specimen, mass * error) + torch.finfo(torch.float32).eps
            yield Trial.z_test(
                specimen.where, "sum of exp(bound) over all images, minus 1", total - 1, deviation, side=1,
                unit="of mass", meaning=f"exp of the bounds of all images sums to {unlike(total, 1)}, above 1: "
                "they are no lower bounds of log p",
            )  # fmt: skip


def _many_levels(laboratory: Laboratory) -> Iterator[Trial]:
    for spec in filter(None, [laboratory.many_levels]):
        for specimen in laboratory.specimens("random", spaces=[spec]):
            cost = operations(specimen, specimen.model_as(ExactLikelihood).log_prob, num_images(spec))
            if laboratory.affords(cost, f"{describe(spec)}, the sum"):
                yield _exact(specimen)


def _exact(specimen: Specimen) -> Trial:
    log_probs = specimen.log_probs
    if count := int(log_probs.isnan().sum()):
        return Trial.broken(specimen.where, f"log_prob is NaN for {count} of {len(log_probs)} images; {NOT_FINITE}")
    total = float(log_probs.logsumexp(0).exp())
    return Trial.exact(
        specimen.where, "sum of p over all images, minus 1", abs(total - 1), tolerance=specimen.tolerance(),
        meaning=f"the probabilities of all images sum to {unlike(total, 1)}, not to 1: {_CAUSES}", unit="of mass",
    )  # fmt: skip


def _weighted(laboratory: Laboratory) -> Iterator[Evidence]:
    for found in trusted_weights(laboratory):
        if isinstance(found, str):
            yield found
            continue
        specimen, mean, error = found
        outside, outside_error = mass_outside(specimen) if isinstance(specimen.model, Invertible) else (0.0, 0.0)
        if outside > 0:
            yield f"{specimen.where}: {outside:.1%} of the density's mass lies beyond the images' range"
        total = float(mean.sum()) + outside
        yield Trial.z_test(
            specimen.where, "sum of the mean weights of all images, minus 1", total - 1,
            (float(error.square().sum()) + outside_error**2) ** 0.5, unit="of mass", rounding=specimen.tolerance(),
            meaning=f"the mean importance weights of all images sum to {unlike(total, 1)}, not to 1: {_CAUSES}",
        )  # fmt: skip


def known_entropy(laboratory: Laboratory) -> Iterator[Evidence]:
    """No mean score beats the entropy of a known distribution.

    The mean of log p(x) - log q(x) estimates a KL divergence, which is at least zero; pairing makes its error small.
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
            scores = evaluation.per_image(partial(_floored, score), purpose="known entropy")[0]
        mean, error = mean_and_error(known.log_probs[index_of(evaluation.split.images, specimen.spec)] - scores)
        if not isinstance(model, ExactLikelihood) and elbo_shares_noise(specimen):  # perhaps all images share it
            error = math.hypot(error, float(elbos(specimen, evaluation.split.images[:64], 64).std(0).mean()))
        yield Trial.z_test(
            specimen.where, f"mean negative score minus the entropy ({mean:.3f} nats)", mean, error, side=-1,
            unit="nats", meaning=f"test scores lie {-mean:.3g} nats below what the data's entropy of "
            f"{known.entropy:.4g} nats allows: the likelihood is not one, or the test images are looked at while they "
            "are scored", rounding=1e-6,
        )  # fmt: skip


def _floored(score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Returns scores (N,), those of impossible images as low as to be no mistake: the mean is beyond any entropy."""
    return score(images).clamp_min(-1e9)


# --- where nothing can be enumerated ---


def _by_own_samples(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields the mean of r/p over own samples on the smallest space that the model takes."""
    found = looked_at_bounds = False
    for spec in laboratory.some(1):
        for variant in range(len(SHRINKS)):
            specimen = next(laboratory.specimens("shrunk", spaces=[spec], variant=variant), None)
            if specimen is None:
                continue
            what = f"{describe(spec)}, own samples"
            if variant == 0 and not laboratory.affords(sampling_cost(specimen, 5 * _SEARCH), what):
                break
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
        reason = "and whatever the weights, samples are no independent pixels, or they are too expensive"
        raise NotApplicable(f"nothing can be enumerated, {reason}")


def _mass(specimen: Specimen) -> Trial:
    mean, error = mean_and_error(_log_ratios(specimen, count := _affordable(specimen)).exp())
    two_sided = isinstance(specimen.model, ExactLikelihood) or _is_nearly_exact(specimen)
    return Trial.z_test(
        f"{specimen.where}, {count} own samples", "mean over own samples of r(x)/p(x), minus 1", mean - 1, error,
        side=0 if two_sided else -1, unit="of mass",
        meaning=f"on own samples, scores are off by {-math.log(max(mean, 1e-300)):+.3g} nats: {_SAMPLE_CAUSES}",
    )  # fmt: skip


def _excess(specimen: Specimen) -> Trial:
    """Samples are independent pixels, but for ``_MARGIN``, so no bound lies above what such a model scores."""
    mean, error = mean_and_error(-_log_ratios(specimen, _FEWEST))
    return Trial.z_test(
        f"{specimen.where}, {_FEWEST} own samples", "mean over own samples of the bound minus log r", mean, error,
        side=1, unit="nats", rounding=_MARGIN,
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
    own, others = images[:count], images[count:]
    found = [(others == value).sum(0) for value in range(specimen.spec.levels)]
    counts = torch.stack(found).double() + 0.5  # (levels, C, H, W)
    table = (counts / counts.sum(0)).log().expand(count, *counts.shape)
    return table.gather(1, own.long().unsqueeze(1)).flatten(1).sum(1) - _log_probs(specimen, own)


def _effective_share(log_weights: Tensor) -> float:
    """Returns the share of weights (K, ...) that their mean rests on, in (0, 1]; NaN where they are not numbers."""
    log_sizes = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return float(log_sizes.exp().mean()) / len(log_weights)


@torch.no_grad()
def _weights_agree(specimen: Specimen) -> bool:
    """Whether the mean of the weights is close to p: they vary little. Other models have none."""
    if not _is_nearly_exact(specimen):
        return True
    with specimen.rng("weights agree"):
        images = specimen.model.sample(50)
    return _effective_share(log_weights(specimen, images, _WEIGHTS, "weights agree")) > _AGREE


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
        rows = 1 if elbo_shares_noise(specimen) else 500
        return torch.cat([elbos(specimen, part, 8).mean(0) for part in torch.split(images, rows)])


def _affordable(specimen: Specimen) -> int:
    model = specimen.model
    if isinstance(model, Autoregressive):
        cost = 5 * specimen.spec.num_dimensions * operations(specimen, model.conditional_logits, calls=0)
    elif isinstance(model, ImportanceWeighted):
        cost = operations(specimen, lambda images: model.log_importance_weights(images, _WEIGHTS), calls=0)
    else:
        return _MOST
    return max(_FEWEST, min(_MOST, int(_SHARE * specimen.budget / cost)))
