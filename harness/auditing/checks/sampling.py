"""Sampling: every named sampler draws from the distribution that is scored."""

import math
from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor

from harness.auditing import estimates
from harness.auditing.cost import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, apart, describe, largest
from harness.auditing.trial import NOT_FINITE, POWER, Evidence, NotApplicable, Trial
from harness.interface.metric import check_samples
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Invertible,
    Unsupported,
    VariationalBound,
)
from harness.interface.sampling import Noise

_SHARED, _CLAMPED, _KNOWN, _AT_SIZE = 64, 16, 8, 8  # images of one call
_CALL = 4  # full passes that a call of a sampler costs, roughly; one for each generation step if it is "raster"
_FEWEST_INSIDE = 200
_MOST_ROUNDING = 0.01
_WELL_BELOW = 6.0  # standard errors that a bound is lowered by before an image's count is held against it
_CAUSES = (
    "a temperature, another prior, order or activation than in scoring, a mode or mean taken instead of a draw, "
    "or a density that belongs to another distribution"
)


def sampling(laboratory: Laboratory) -> Iterator[Evidence]:
    """Every sampler draws from the distribution that is scored."""
    reason = "an implicit model has no likelihood to hold its samples against"
    model = laboratory.require(ExactLikelihood | VariationalBound, reason)
    if isinstance(model, Autoregressive) and _tested(model):
        yield from _at_size(laboratory)
    if not laboratory.small:
        raise NotApplicable("no space that can be enumerated is taken by the model")
    if isinstance(model, ExactLikelihood):
        for exact in laboratory.specimens("random", "fitted"):
            specimen = laboratory.single(exact)
            for where, counts in _drawn(specimen):
                yield from _frequencies(where, counts, specimen.log_probs.exp(), torch.zeros_like(specimen.log_probs))
            if isinstance(model, Autoregressive) and (rounding := _rounding(exact, specimen)) < _MOST_ROUNDING:
                yield from _shared_noise(specimen, rounding)
                yield from _clamped(specimen, rounding)
    elif isinstance(model, ImportanceWeighted):
        for found in estimates.trusted_weights(laboratory):
            yield from [found] if isinstance(found, str) else _weighted(*found)
    else:
        for specimen in laboratory.specimens("initial", "random", "fitted"):
            bound = estimates.bound_estimates(specimen)
            for where, counts in _drawn(specimen):
                yield _at_least(where, counts, *bound)


def _drawn(specimen: Specimen) -> Iterator[tuple[str, Tensor]]:
    """Yields for each sampler where it is, in words, and how often it drew each image (M,).

    The harness's own ``raster`` is right if the conditionals are: it is drawn from only where it comes first.
    """
    first = next(iter(specimen.model.samplers()))
    for where, name, sampler in specimen.samplers:
        if isinstance(specimen.model, Autoregressive) and name not in [first, *_tested(specimen.model)]:
            continue
        yield where, estimates.sample_counts(specimen, sampler, estimates.affordable_samples(specimen, name), name)


def _weighted(specimen: Specimen, mean: Tensor, error: Tensor) -> Iterator[Evidence]:
    if not isinstance(specimen.model, Invertible):
        for where, counts in _drawn(specimen):
            yield from _frequencies(where, counts, mean, error)
        return
    counts = estimates.draws_inside(specimen, estimates.MOST_SAMPLES)
    inside, where = float(mean.sum()), f"{specimen.where}, prior and inverse"
    if int(counts.sum()) >= _FEWEST_INSIDE:
        yield from _frequencies(where, counts, mean / inside, error / inside)
    else:
        yield f"{where}: hardly any of the density's mass lies in the images' range"
    positive = mean.clamp_min(1e-300)
    for where, counts in _drawn(specimen):
        yield _at_least(where, counts, positive.log(), error / positive)


def _frequencies(where: str, counts: Tensor, probs: Tensor, errors: Tensor) -> Iterator[Trial]:
    unweighted = (counts > 0) & (probs == 0)
    if bool(errors.any()) and bool(unweighted.any()):  # all weights that were drawn of an image were zero: it is rare
        yield _left_over(where, counts, probs, errors, unweighted)
        counts, probs, errors = counts * ~unweighted, probs / probs.sum(), errors / probs.sum()
    total = float(counts.sum())
    yield Trial.follows(
        where, f"frequencies of {int(total)} samples against p", counts, probs, errors if bool(errors.any()) else None,
        meaning=f"samples do not follow the likelihood: {_CAUSES}",
    )  # fmt: skip
    if impossible := int(((counts > 0) & (probs == 0)).sum()):
        yield Trial.broken(where, f"{impossible} of the images that were drawn have probability zero")
        return
    log_probs = probs.clamp_min(1e-300).log()
    variance = float(probs @ (log_probs - probs @ log_probs).square()) / total
    shift = float((counts.double() / total - probs) @ log_probs)
    yield Trial.z_test(
        where, "mean log p of samples, plus the entropy", shift,
        (variance + float((errors * log_probs).square().sum())) ** 0.5, unit="nats", rounding=1e-6,
        meaning=f"samples are {'likelier' if shift > 0 else 'less likely'} than the model says they are: {_CAUSES}",
    )  # fmt: skip


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


# --- samplers of autoregressive models that are given their noise ---


def _at_size(laboratory: Laboratory) -> Iterator[Evidence]:
    """Holds samplers against their noise where rows are wide, levels many, and entries coupled strongly."""
    spaces = [*laboratory.wide[:1], laboratory.full, laboratory.many_levels, *laboratory.wide[1:]]
    for spec in dict.fromkeys(filter(None, spaces)):
        for exact in laboratory.specimens("strong", "random", "fitted", spaces=[spec]):
            specimen = laboratory.single(exact)
            model = specimen.model_as(Autoregressive)
            calls = [
                len(torch.unique(model.generation_steps())) if name == "raster" else _CALL for name in _tested(model)
            ]
            cost = _AT_SIZE * (sum(calls) + 2) * flops(specimen, model.conditional_logits)
            if not laboratory.affords(cost, f"{describe(spec)}, samplers that are given their noise"):
                break
            if (rounding := _rounding(exact, specimen)) < _MOST_ROUNDING:
                yield from _shared_noise(specimen, rounding, _AT_SIZE)
                break


def _tested(model: Autoregressive) -> list[str]:
    """Returns the names of the samplers but for the harness's own ``raster``, which every other is held against."""
    return [name for name in model.samplers() if name != "raster" or type(model).raster is not Autoregressive.raster]


@torch.no_grad()
def _rounding(exact: Specimen, single: Specimen) -> float:
    """Returns what rounding may do to a conditional, as a share of the largest logit; large in a chaotic recurrence."""
    if exact.dtype == torch.float32 and exact.state == "strong":
        return math.inf  # there is nothing to compare
    images = exact.images(4, "rounding")
    one, other = (it.model_as(Autoregressive).conditional_logits(images) for it in (exact, single))
    return 2e-4 + 30 * largest(apart(other, one)) / max(1.0, largest(one))


@torch.no_grad()
def _shared_noise(specimen: Specimen, rounding: float, count: int = _SHARED) -> Iterator[Trial]:
    """Samplers draw the images that the noise determines.

    Entry k is argmax_v (log p(x_k = v | x_<k) + g_v). By induction over the steps one image alone satisfies that at
    every entry, and a single pass over an image that was drawn tells whether it is the one, at any size.
    """
    model = specimen.model_as(Autoregressive)
    with specimen.rng("noise"):
        noise = model.draw_noise(count)
    first = None
    for where, name, sampler in [it for it in specimen.samplers if it[1] in _tested(model)]:
        try:
            images = check_samples(sampler(count, noise=noise), count, model)
        except Unsupported:
            continue
        off = _off(specimen, images, noise, rounding)
        if "raster" not in model.samplers():  # nothing says how noise is used, but all have to use it alike
            first = images if first is None else first
            off &= images != first
        yield Trial.exact(
            where, f"of {count} images, those that their noise does not give", int(off.flatten(1).any(1).sum()),
            unit="images", meaning=f"with the same noise, {name!r} and 'raster' or another sampler draw different "
            "images: one of them is wrong",
        )  # fmt: skip


@torch.no_grad()
def _clamped(specimen: Specimen, rounding: float) -> Iterator[Trial]:
    """All samplers keep what they are told is known, and draw the rest by the conditionals given that."""
    model, shape = specimen.model_as(Autoregressive), specimen.spec.shape
    with specimen.rng("masks"):
        noise = model.draw_noise(_CLAMPED)
        share = torch.linspace(0, 1, _CLAMPED).view(-1, 1, 1, 1)
        each = torch.rand(_CLAMPED, *shape) < share  # one for each image, from none to all
    top = torch.zeros(1, *shape, dtype=torch.bool)
    top[..., : (shape[1] + 1) // 2, :] = True
    cases = (("upper half", _KNOWN, top, None), ("masks for each image", _CLAMPED, each, noise))
    for where, name, sampler in specimen.samplers:
        for words, count, mask, given in cases if name in _tested(model) else ():
            known = specimen.images(count, "known")
            try:
                with specimen.rng("clamping"):
                    images = check_samples(sampler(count, noise=given, known=known, mask=mask), count, model)
            except Unsupported:
                continue
            yield Trial.exact(
                where, f"{words}: known entries that were changed", int(((images != known) & mask).sum()),
                unit="entries", meaning="the sampler does not keep the pixels that it is told are known",
            )  # fmt: skip
            if given and "raster" in model.samplers():
                off = (_off(specimen, images, given, rounding) & ~mask).flatten(1).any(1)
                yield Trial.exact(
                    where, f"{words}: of {count} images, those that their noise does not give", int(off.sum()),
                    unit="images", meaning="given known pixels, the others are not drawn by the conditionals",
                )  # fmt: skip


def _off(specimen: Specimen, images: Tensor, noise: Noise, rounding: float) -> Tensor:
    """Returns (N, C, H, W) bool: whether another value has a higher score, by more than rounding."""
    model, off = specimen.model_as(Autoregressive), torch.zeros_like(images, dtype=torch.bool)
    for ordering in set(noise.ordering.tolist()):
        rows = noise.ordering == ordering
        logits = model.conditional_logits(images[rows], ordering)
        scores = logits + noise.gumbel[rows]
        chosen = scores.gather(1, images[rows].long().unsqueeze(1))
        off[rows] = scores.amax(1) - chosen.squeeze(1) > rounding * max(1.0, largest(logits))
    return off
