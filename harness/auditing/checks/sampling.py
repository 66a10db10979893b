"""Sampling: every named sampler draws from the distribution that is scored."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from harness.auditing import estimates
from harness.auditing.cost import flops
from harness.auditing.given_noise import at_size, given_noise, tested
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, describe, num_images
from harness.auditing.trial import (
    NOT_FINITE,
    POWER,
    Evidence,
    NotApplicable,
    Trial,
    same_distribution,
    smallest_total_variation,
)
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Invertible,
    VariationalBound,
)

_FEWEST_INSIDE = 200
_FEW_LEVELS = 4
_LITTLE = 0.25  # of the variance of counts: that of the probabilities that they are held against
_WELL_BELOW = 6.0  # standard errors that a bound is lowered by before an image's count is held against it
_CAUSES = (
    "a temperature, another prior, order or activation than in scoring, a mode or mean taken instead of a draw, "
    "or a density that belongs to another distribution"
)


def sampling(laboratory: Laboratory) -> Iterator[Evidence]:
    """Every sampler draws from the distribution that is scored."""
    reason = "an implicit model has no likelihood to hold its samples against"
    model = laboratory.require(ExactLikelihood | VariationalBound, reason)
    if isinstance(model, Autoregressive) and tested(model):
        yield from at_size(laboratory)
    if not laboratory.small:
        raise NotApplicable("no space that can be enumerated is taken by the model")
    if isinstance(model, ExactLikelihood):
        for exact in laboratory.specimens("random", "fitted"):
            specimen = laboratory.single(exact)
            yield from _drawn(specimen, specimen.log_probs.exp())
            if isinstance(model, Autoregressive):
                yield from given_noise(exact, specimen)
        if not isinstance(model, Autoregressive):  # of those, ``at_size`` shows as much, and costs less
            yield from _many_levels(laboratory)
    elif isinstance(model, ImportanceWeighted):
        for found in estimates.trusted_weights(laboratory):
            yield from [found] if isinstance(found, str) else _weighted(*found)
    else:
        for specimen in laboratory.specimens("initial", "random", "fitted"):
            bound = estimates.bound_estimates(specimen)
            for where, halves in _halves(specimen):
                yield from _alike(specimen, where, halves)
                yield _at_least(where, halves.sum(0), *bound)


def _drawn(specimen: Specimen, probs: Tensor, errors: Tensor | None = None) -> Iterator[Trial]:
    for where, halves in _halves(specimen):
        yield from _alike(specimen, where, halves)
        yield from _frequencies(specimen, where, halves.sum(0), probs, errors)


def _halves(specimen: Specimen) -> Iterator[tuple[str, Tensor]]:
    """Yields for each sampler where it is, in words, and how often each half of its calls drew each image (2, M).

    The harness's own ``raster`` is right if the conditionals are: it is drawn from only where it comes first.
    """
    first = next(iter(specimen.model.samplers()))
    for where, name, sampler in specimen.samplers:
        if isinstance(specimen.model, Autoregressive) and name not in [first, *tested(specimen.model)]:
            continue
        yield where, estimates.sample_halves(specimen, sampler, estimates.affordable_samples(specimen, name), name)


def _alike(specimen: Specimen, where: str, halves: Tensor) -> Iterator[Trial]:
    """The first half of the draws has the distribution of the second, and is independent of it."""
    if not specimen.model.draws_jointly:
        p, freedom = same_distribution(halves[0], halves[1], both_tails=True)
        yield Trial(
            where, "the first half of a call's samples against the second", p,
            smallest_defect=smallest_total_variation(freedom, float(halves.sum()) / 4),
            meaning="the first half of the samples of a call and the second differ by more, or by less, than "
            "independent draws do: a state that is carried on, or draws that are repeated",
        )  # fmt: skip


def _many_levels(laboratory: Laboratory) -> Iterator[Trial]:
    """Holds frequencies, and those of each entry, against the probabilities where there are many levels."""
    for spec in filter(None, [laboratory.many_levels]):
        for exact in laboratory.specimens("random", spaces=[spec]):
            cost = num_images(spec) * flops(exact, exact.model_as(ExactLikelihood).log_prob)
            if laboratory.affords(cost, f"{describe(spec)}, frequencies"):
                yield from _drawn(laboratory.single(exact), exact.log_probs.exp())


def _weighted(specimen: Specimen, mean: Tensor, error: Tensor) -> Iterator[Evidence]:
    if not isinstance(specimen.model, Invertible):
        yield from _drawn(specimen, mean, error)
        return
    counts = estimates.draws_inside(specimen, estimates.MOST_SAMPLES)
    inside, where = float(mean.sum()), f"{specimen.where}, prior and inverse"
    if int(counts.sum()) >= _FEWEST_INSIDE:
        yield from _frequencies(specimen, where, counts, mean / inside, error / inside)
    else:
        yield f"{where}: hardly any of the density's mass lies in the images' range"
    positive = mean.clamp_min(1e-300)
    for where, halves in _halves(specimen):
        yield from _alike(specimen, where, halves)
        yield _at_least(where, halves.sum(0), positive.log(), error / positive)


def _frequencies(
    specimen: Specimen, where: str, counts: Tensor, probs: Tensor, errors: Tensor | None
) -> Iterator[Trial]:
    errors = errors if errors is not None and bool(errors.any()) else None
    unweighted = (counts > 0) & (probs == 0)
    if errors is not None and bool(unweighted.any()):  # all weights that were drawn of an image were zero: it is rare
        yield _left_over(where, counts, probs, errors, unweighted)
        counts, probs, errors = counts * ~unweighted, probs / probs.sum(), errors / probs.sum()
    rounding = 1e-6
    if errors is not None:
        counts = _fewer(counts, int(_LITTLE / float(errors.square().sum())))
        rounding += 2 * float((errors.square() / probs.clamp_min(1e-300)).sum())  # E[log mean] lies below log E
    total = float(counts.sum())
    tests = [(f"frequencies of {int(total)} samples against p", counts, probs)]
    if specimen.spec.levels > _FEW_LEVELS:  # most images are rare there, and pooled
        for k, values in enumerate(specimen.everything.flatten(1).long().T):
            observed, expected = (torch.bincount(values, table.double()) for table in (counts, probs))
            tests.append((f"values of entry {k}", observed, expected))
    for words, observed, expected in tests:
        yield Trial.follows(
            where, words, observed, expected, errors, both_tails=errors is None and not specimen.model.draws_jointly,
            meaning=f"samples do not follow the likelihood: {_CAUSES}, or draws that are not independent",
        )  # fmt: skip
    if impossible := int(((counts > 0) & (probs == 0)).sum()):
        yield Trial.broken(where, f"{impossible} of the images that were drawn have probability zero")
        return
    log_probs = probs.clamp_min(1e-300).log()
    variance = float(probs @ (log_probs - probs @ log_probs).square()) / total
    shift = float((counts.double() / total - probs) @ log_probs)
    extra = 0.0 if errors is None else float((errors * log_probs).square().sum())
    yield Trial.z_test(
        where, "mean log p of samples, plus the entropy", shift, (variance + extra) ** 0.5, unit="nats",
        rounding=rounding,
        meaning=f"samples are {'likelier' if shift > 0 else 'less likely'} than the model says they are: {_CAUSES}",
    )  # fmt: skip


def _fewer(counts: Tensor, most: int) -> Tensor:
    """Returns what counts (M,) of fewer samples are, drawn from them.

    The error of a probability is itself estimated, from a few skewed weights: it must be small beside the counts'.
    """
    if int(counts.sum()) <= most:
        return counts
    random = np.random.default_rng(int(torch.randint(2**31, ()))).multivariate_hypergeometric
    return torch.from_numpy(random(counts.numpy(), most, method="marginals"))


def _left_over(where: str, counts: Tensor, probs: Tensor, errors: Tensor, unweighted: Tensor) -> Trial:
    """Images without a weight are drawn no more often than the mass that the others leave them."""
    total = float(counts.sum())
    share = float(counts[unweighted].sum()) / total
    error = (share * (1 - share) / total + float(errors.square().sum())) ** 0.5
    return Trial.z_test(
        where, "share of samples whose weights are all zero, minus what others leave", share + float(probs.sum()) - 1,
        error, side=1, unit="of mass", meaning=f"{share:.2%} of the samples are images of probability zero",
    )  # fmt: skip


def _at_least(where: str, counts: Tensor, bound: Tensor, error: Tensor) -> Trial:
    """The frequency of every image is at least exp(bound), one test for all images."""
    if bool((bound.isnan() | error.isnan()).any()):
        return Trial.broken(where, f"the mean of the bound's draws is NaN for some images; {NOT_FINITE}")
    total = int(counts.sum())
    floor = (bound - _WELL_BELOW * error).exp().clamp_max(1.0)
    p_values = torch.from_numpy(stats.binom.cdf(counts.numpy(), total, floor.numpy()))
    worst, top = int(p_values.argmin()), float(floor.max())

    def smallest(threshold: float) -> str:
        z = stats.norm.isf(max(threshold / len(p_values), 1e-300)) + stats.norm.isf(1 - POWER)
        share = z * (top * (1 - top) / total) ** 0.5 / max(top, 1e-12)
        if not share < 1:  # or NaN, where a bound is infinite
            return "none: the bounds promise too few draws of any image"
        return f"a shortfall of {share:.2g} of what the highest bound promises"

    return Trial(
        where, f"counts of {total} samples against exp(bound), the least likely image",
        min(1.0, float(p_values.min()) * len(p_values)), smallest_defect=smallest,
        meaning=f"an image is drawn {int(counts[worst])} times in {total}, where its bound promises at least "
        f"{float(bound[worst].exp().clamp_max(1)) * total:.1f}: the bound is above log p, or the sampler draws from "
        "something else",
    )  # fmt: skip
