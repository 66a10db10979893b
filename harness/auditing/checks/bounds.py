"""Bounds: in expectation ELBO <= IWAE-5 <= IWAE-50 <= log p; and an ELBO of a model with weights is their mean log.

All comparisons are one-sided: where the posterior is exact, or has collapsed, they are equal. Importance
samples: K weights that are asked for are K weights, independent of one another and of other calls.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from scipy import stats
from torch import Tensor

from harness.auditing.estimates import (
    affordable,
    affordable_samples,
    bound_estimates,
    elbos,
    error_of_sum,
    flops,
    has_own_elbo,
    log_weights,
    sample_counts,
    weigher,
    weights_share_noise,
)
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen
from harness.auditing.trial import Evidence, Trial
from harness.interface.model import ExactLikelihood, ImportanceWeighted, VariationalBound

_IMAGES, _IMAGES_AT_FULL_SIZE = 32, 2
_WEIGHTS, _CALLS = 64, 200  # of one image, to see whether they are independent
_MOST_WEIGHTS, _MOST_ELEMENTS = 4096, 2**21  # of a call: as many weights, and weights x entries, as the metric asks for
_REPEATS = {1: 512, 5: 128, 50: 16}  # of each image, for a bound of so many weights
_SHARE = 0.2  # of the budget, for the repeats of a specimen
_IMAGES_IF_SHARED, _REPEATS_IF_SHARED = 4, {1: 128, 5: 32, 50: 24}


def bounds(laboratory: Laboratory) -> Iterator[Evidence]:
    """In expectation ELBO <= IWAE-5 <= IWAE-50 <= log p."""
    model = laboratory.require(VariationalBound, "the model has no bound")
    if isinstance(model, ImportanceWeighted):
        for specimen in laboratory.specimens("initial", "gentle", "fitted", spaces=laboratory.some(2)):
            yield from _ladder(specimen)
    for specimen in laboratory.specimens("initial", "lopsided", "random", "fitted", spaces=laboratory.small[:1]):
        yield _below_frequencies(specimen)


@torch.no_grad()
def _ladder(specimen: Specimen) -> Iterator[Trial]:
    """No rung, a mean over images and its standard error, lies above the next."""
    model = specimen.model_as(ImportanceWeighted)
    images = specimen.images(_IMAGES if specimen.spec.num_dimensions <= 64 else _IMAGES_AT_FULL_SIZE, "ladder")
    images = images[log_weights(specimen, images, 50, "possible").amax(0) > -math.inf]  # others have no finite bound
    if not len(images):
        return
    part = affordable(specimen, weigher(model), _SHARE, 2**13, 2**16) / 2**16
    rungs = dict[str, tuple[float, float]]()  # the mean over images of the bound, and its error
    shared = weights_share_noise(specimen)  # then every weight costs a call
    images = images[:_IMAGES_IF_SHARED] if shared else images
    for count, repeats in (_REPEATS_IF_SHARED if shared else _REPEATS).items():
        repeats = repeats if shared else max(8, int(part * repeats))
        weights = log_weights(specimen, images.repeat(repeats, 1, 1, 1), count, "bound", count)
        bound = (weights.logsumexp(0) - math.log(count)).view(repeats, len(images))
        rungs[f"IWAE-{count}"] = float(bound.mean()), _error_of_mean(bound)
    weight, weight_error = rungs["IWAE-1"]
    if isinstance(model, ExactLikelihood):
        rungs["log p"] = float(model.log_prob(images).double().mean()), 0.0
    for (low, (below, one)), (high, (above, other)) in pairwise(rungs.items()):
        yield Trial.z_test(
            specimen.where, f"{low} minus {high}", _minus(below, above), math.hypot(one, other), side=1, unit="nats",
            meaning=f"{low} lies above {high} by {below - above:.3g} nats: weights depend on how many are asked for, "
            "or are scaled twice", rounding=specimen.tolerance(),
        )  # fmt: skip
    if has_own_elbo(model):
        with specimen.rng("elbo"):
            values = elbos(specimen, images, 512)
        difference = _minus(float(values.mean()), weight)
        yield Trial.z_test(
            specimen.where, "elbo minus the mean log-weight", difference,
            math.hypot(_error_of_mean(values), weight_error), unit="nats",
            meaning=f"elbo differs from the mean log-weight by {difference:.3g} nats: another sign, direction or scale "
            "of the KL divergence, a term that is missing, or a mean where a sum is due",
            rounding=specimen.tolerance(scale=abs(weight)),
        )  # fmt: skip


def _minus(one: float, other: float) -> float:
    return 0.0 if one == other else one - other  # both may be minus infinity: the image is impossible


def _error_of_mean(values: Tensor) -> float:
    """The standard error of the mean of (repeats, N), images fixed; noise may be shared by the images of a repeat."""
    repeats, num_images = values.shape
    independent = float(values.var(0, correction=1).sum()) / num_images**2
    shared = float(values.mean(1).var(correction=1))
    return math.sqrt(max(independent, shared) / repeats)


def _below_frequencies(specimen: Specimen) -> Trial:
    """sum_x f(x) (log f(x) - bound(x)) is not below zero: it estimates KL(f, p) plus the bound's gap from above."""
    bound, error = bound_estimates(specimen)
    name, sampler = next(iter(specimen.model.samplers().items()))
    counts = sample_counts(specimen, sampler, affordable_samples(specimen, name), "bounds").double()
    drawn, total = counts > 0, counts.sum()
    share = counts[drawn] / total
    gap = share.log() - bound[drawn]
    mean = float(share @ gap)
    variance = float(share @ (gap - mean).square()) / float(total) + error_of_sum(specimen, share * error[drawn]) ** 2
    return Trial.z_test(
        specimen.where, "log frequency minus the bound, over own samples", mean, variance**0.5, side=-1, unit="nats",
        meaning=f"the bound lies above log p by {-mean:.3g} nats on the model's own samples: it is no bound, "
        "or it belongs to another distribution than is sampled", rounding=specimen.tolerance(),
    )  # fmt: skip


@torch.no_grad()
def importance_samples(laboratory: Laboratory) -> Iterator[Evidence]:
    """K weights asked for are K independent weights."""
    laboratory.require(ImportanceWeighted, "the model has no importance weights")
    for specimen in laboratory.specimens("initial", "random", "fitted", spaces=laboratory.some(1)):
        yield _independence(specimen)
        yield from _many(laboratory, specimen)


def _many(laboratory: Laboratory, specimen: Specimen) -> Iterator[Trial]:
    """Of two calls of many weights, values that occur twice are shared by both as often as not; halves are alike.

    What occurs n times among 2 K exchangeable draws lies in one call with a probability of 2^(1 - n) at most, whether
    latents are discrete or weights are rounded. Halves are compared by Smirnov's test.
    """
    weights, image = specimen.model_as(ImportanceWeighted).log_importance_weights, specimen.images(1, "many weights")
    count = min(_MOST_WEIGHTS, _MOST_ELEMENTS // specimen.spec.num_dimensions)
    cost = 2 * count * flops(specimen, lambda image: weights(image, 1))
    if not laboratory.affords(cost, f"{specimen.where}: {count} weights"):
        return
    with specimen.rng("many weights"):
        calls = torch.stack([weights(image, count)[:, 0].double() for _ in range(2)])  # (2, K)
    spread = float(calls.quantile(0.84) - calls.quantile(0.16))
    if not specimen.tolerance(scale=calls) < spread < math.inf:
        return  # all are equal, or many are of weight zero
    grain = spread * (1e-9 if specimen.precision == torch.float64 else 1e-5)  # equal but for rounding
    _, number = torch.unique((calls / grain).round(), return_inverse=True)
    in_each = torch.stack([torch.bincount(call, minlength=int(number.max()) + 1) for call in number])
    times, apart = in_each.sum(0), (in_each == 0).any(0)
    many, shared = int((times > 1).sum()), int(((times > 1) & ~apart).sum())
    most = int(times[apart].max()) if bool(apart.any()) else 0
    p = 2 * min(float(stats.binom.cdf(shared, many, 0.5)), many * 2.0 ** (1 - most))
    yield Trial(
        specimen.where, f"of {many} weights that occur more than once in two calls of {count}, {shared} are in both",
        min(1.0, p) if many else 1.0,
        smallest_defect=lambda t: f"{1 - math.log2(t):.0f} of {2 * count} weights repeated",
        meaning=f"of {count} weights that are asked for at once, {int((in_each[0] > 0).sum())} are distinct: draws are "
        "repeated by chunks, or expanded",
    )  # fmt: skip
    halves = [[half.numpy() for half in call.chunk(2)] for call in calls]
    p = 2 * min(float(stats.ks_2samp(first, last, method="asymp").pvalue) for first, last in halves)
    yield Trial(
        specimen.where, f"the first half of {count} weights of a call against the second", min(1.0, p),
        smallest_defect=lambda t: f"a distance of {math.sqrt(2 * math.log(4 / t) / count):.2g} of their distributions",
        meaning=f"of {count} weights that are asked for at once, the last half has another distribution than the first",
    )  # fmt: skip


def _independence(specimen: Specimen) -> Evidence:
    count = 4 if specimen.spec.num_dimensions <= 64 else 1
    model, images = specimen.model_as(ImportanceWeighted), specimen.images(count, "importance")
    with specimen.rng("importance"):
        calls = [model.log_importance_weights(images, _WEIGHTS).double() for _ in range(_CALLS)]
    if wrong := {tuple(weights.shape) for weights in calls} - {(_WEIGHTS, count)}:
        what = f"{_WEIGHTS} weights of {count} images were asked for, {wrong.pop()} were returned"
        return Trial.broken(specimen.where, what)
    values = torch.stack(calls)  # (calls, K, N)
    # any function of a weight will do: this one has no heavy tails
    flat = values.flatten(0, 1)
    middle, spread = flat.median(0).values, flat.quantile(0.84, dim=0) - flat.quantile(0.16, dim=0)
    if not bool((spread > specimen.tolerance(scale=float(flat.abs().max()))).any()):
        return f"{specimen.where}: all weights of an image are equal, as with an exact posterior"
    bounded = torch.tanh((values - middle) / spread.clamp_min(1e-300))
    single = bounded.flatten(0, 1).var(0, correction=1)
    ratio = _WEIGHTS * bounded.mean(1).var(0, correction=1) / single.clamp_min(1e-300)  # (N,)
    ratio = ratio[single > 1e-12]
    freedom, least, most = _CALLS - 1, float(ratio.min()), float(ratio.max())
    low, high = float(stats.chi2.cdf(freedom * least, freedom)), float(stats.chi2.sf(freedom * most, freedom))
    used = _WEIGHTS / (most if high < low else max(least, 1e-12))
    return Trial(
        specimen.where, f"variance of the mean of {_WEIGHTS} weights, times {_WEIGHTS}, against that of one",
        min(1.0, 2 * len(ratio) * min(low, high)),
        smallest_defect=lambda t: f"{_WEIGHTS} weights that average like "
        f"{_WEIGHTS * stats.chi2.ppf(0.05, freedom) / stats.chi2.isf(t / (2 * len(ratio)), freedom):.0f}",
        meaning=f"{_WEIGHTS} weights average like {used:.3g} independent ones: draws are repeated, capped, or shared "
        "by calls through a generator of their own",
    )  # fmt: skip
