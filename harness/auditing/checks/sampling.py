"""Sampling: every named sampler draws from the distribution that is scored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor

from harness.auditing.estimates import (
    MOST_SAMPLES,
    affordable_samples,
    bound_estimates,
    draws_inside,
    sample_counts,
    weight_estimates,
)
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen
from harness.auditing.trial import (
    Evidence,
    NotApplicable,
    Note,
    Trial,
    chi_square,
    smallest_total_variation,
    total_variation,
)
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Invertible,
    Unsupported,
    VariationalBound,
)
from harness.interface.sampling import BoundSampler

_SHARED = 64
_FEWEST_INSIDE = 200
_WELL_BELOW = 6.0  # standard errors that a bound is lowered by before an image's count is held against it
_CAUSES = (
    "a temperature, another prior, order or activation than in scoring, a mode or mean taken instead of a draw, "
    "or a density that belongs to another distribution"
)


def sampling(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields tests of every sampler on every enumerated space; samplers that share their noise also image by image."""
    reason = "an implicit model has no likelihood to hold its samples against"
    model = laboratory.require(ExactLikelihood | VariationalBound, reason)
    if not laboratory.small:
        raise NotApplicable("no space that can be enumerated is taken by the model")
    if isinstance(model, ExactLikelihood):
        for exact in laboratory.specimens("random", "fitted"):
            specimen = laboratory.single(exact)
            errors = torch.zeros_like(specimen.log_probs)
            for name, sampler in specimen.model.samplers().items():
                where = f"{specimen.where}, sampler {name!r}"
                counts = sample_counts(specimen, sampler, affordable_samples(specimen, name), name)
                yield from _frequencies(where, counts, specimen.log_probs.exp(), errors)
            yield from _shared_noise(specimen)
    elif isinstance(model, ImportanceWeighted):
        yield from _weighted(laboratory)
    else:
        for specimen in laboratory.specimens("initial", "random", "fitted"):
            bound = bound_estimates(specimen)
            for name, sampler in specimen.model.samplers().items():
                counts = sample_counts(specimen, sampler, affordable_samples(specimen, name), name)
                yield _at_least(f"{specimen.where}, sampler {name!r}", counts, *bound)


def _weighted(laboratory: Laboratory) -> Iterator[Evidence]:
    found = False
    for specimen in laboratory.specimens("gentle", "fitted"):
        mean, error, reliable = weight_estimates(specimen)
        if specimen.state != "gentle" and not reliable:
            yield Note(f"{specimen.where}: importance weights vary too much to hold frequencies against their mean")
            continue
        found = True
        if isinstance(specimen.model, Invertible):
            counts = draws_inside(specimen, MOST_SAMPLES)
            inside, where = float(mean.sum()), f"{specimen.where}, prior and inverse"
            if int(counts.sum()) >= _FEWEST_INSIDE:
                yield from _frequencies(where, counts, mean / inside, error / inside)
            else:
                yield Note(f"{where}: hardly any of the density's mass lies in the images' range")
        for name, sampler in specimen.model.samplers().items():
            where = f"{specimen.where}, sampler {name!r}"
            counts = sample_counts(specimen, sampler, affordable_samples(specimen, name), name)
            if isinstance(specimen.model, Invertible):
                log_error = error / mean.clamp_min(1e-300)
                yield _at_least(where, counts, mean.clamp_min(1e-300).log(), log_error)
            else:
                yield from _frequencies(where, counts, mean, error)
    if not found:
        raise NotApplicable("the importance weights vary too much, in every state, for their mean to say anything")


def _frequencies(where: str, counts: Tensor, probs: Tensor, errors: Tensor) -> Iterator[Trial]:
    total = float(counts.sum())
    exact = not bool(errors.any())
    distance = total_variation(counts, probs)
    p, freedom = chi_square(counts, probs, None if exact else errors)
    meaning = (
        f"samples do not follow the likelihood: their frequencies are {distance:.3g} away in total variation; {_CAUSES}"
    )
    yield Trial.p_value(
        where, f"frequencies of {int(total)} samples against p (total variation {distance:.3g})", p,
        smallest_defect=smallest_total_variation(freedom, total), meaning=meaning,
    )  # fmt: skip
    impossible = int(((counts > 0) & (probs == 0)).sum())
    if impossible:
        yield Trial.broken(where, f"{impossible} of the images that were drawn have probability zero")
        return
    log_probs = probs.clamp_min(1e-300).log()
    variance = float(probs @ (log_probs - probs @ log_probs).square()) / total
    shift = float((counts.double() / total - probs) @ log_probs)
    extra = float((errors * log_probs).square().sum())
    yield Trial.z_test(
        where, "mean log p of samples, plus the entropy", estimate=shift, standard_error=(variance + extra) ** 0.5,
        unit="nats", rounding=1e-6,
        meaning=f"samples are {'likelier' if shift > 0 else 'less likely'} than the model says they are: {_CAUSES}",
    )  # fmt: skip


def _at_least(where: str, counts: Tensor, bound: Tensor, error: Tensor) -> Trial:
    """The frequency of every image is at least exp(bound), one test for all images."""
    total = int(counts.sum())
    floor = (bound - _WELL_BELOW * error).exp().clamp_max(1.0)
    p_values = torch.from_numpy(stats.binom.cdf(counts.numpy(), total, floor.numpy()))
    p = min(1.0, float(p_values.min()) * len(p_values))
    worst = int(p_values.argmin())
    meaning = (
        f"an image is drawn {int(counts[worst])} times in {total}, where its bound promises at least "
        f"{float(bound[worst].exp()) * total:.1f}: the bound is above log p, or the sampler draws from something else"
    )
    return Trial.p_value(
        where, f"counts of {total} samples against exp(bound), the least likely image", p, meaning=meaning,
        smallest_defect=lambda t: _smallest_shortfall(t / len(p_values), float(floor.max()), total),
    )  # fmt: skip


def _smallest_shortfall(threshold: float, top: float, total: int) -> str:
    deviation = (stats.norm.isf(max(threshold, 1e-300)) + stats.norm.isf(0.05)) * (top * (1 - top) / total) ** 0.5
    share = deviation / max(top, 1e-12)
    if share >= 1:
        return "none: the bounds promise too few draws of any image"
    return f"a shortfall of {share:.2g} of what the highest bound promises"


@torch.no_grad()
def _shared_noise(specimen: Specimen) -> Iterator[Trial]:
    model = specimen.model
    if not isinstance(model, Autoregressive):
        return
    with specimen.rng("noise"):
        noise = model.draw_noise(_SHARED)
    drawn: dict[str, Tensor] = {}
    for name, sampler in model.samplers().items():
        try:
            drawn[name] = sampler(_SHARED, noise=noise)
        except Unsupported:
            continue
        yield from _clamping(specimen, name, sampler)
    names = list(drawn)
    for name in names[1:]:
        different = (drawn[name] != drawn[names[0]]).flatten(1).any(1)
        unexplained = sum(
            not _is_rounding(specimen, drawn[names[0]][i], drawn[name][i], noise.gumbel[i], int(noise.ordering[i]))
            for i in different.nonzero().flatten().tolist()
        )
        yield Trial.exact(
            f"{specimen.where}, samplers {names[0]!r} and {name!r}", f"of {_SHARED} images, those that differ",
            unexplained, tolerance=0, unit="images",
            meaning=f"with the same noise, {name!r} and {names[0]!r} draw different images: one of them is wrong",
        )  # fmt: skip


def _is_rounding(specimen: Specimen, first: Tensor, second: Tensor, gumbel: Tensor, ordering: int) -> bool:
    """Whether two images differ first where the decision lies within rounding."""
    model = specimen.model_as(Autoregressive)
    steps = model.generation_steps(ordering)
    step = int(steps[first != second].min())
    scores = model.conditional_logits(first[None], ordering)[0] + gumbel
    top = scores.topk(2, dim=0).values
    margin = (top[0] - top[1])[(first != second) & (steps == step)]
    return float(margin.max()) < (1e-9 if specimen.dtype == torch.float64 else 1e-5)


def _clamping(specimen: Specimen, name: str, sampler: BoundSampler) -> Iterator[Trial]:
    known = specimen.images(8, "known")
    mask = torch.zeros(1, *specimen.spec.shape, dtype=torch.bool)
    mask[..., : (specimen.spec.height + 1) // 2, :] = True
    try:
        with specimen.rng("clamping"):
            images = sampler(8, known=known, mask=mask)
    except Unsupported:
        return
    changed = int(((images != known) & mask).sum())
    yield Trial.exact(
        f"{specimen.where}, sampler {name!r}", "known entries that were changed", changed, tolerance=0, unit="entries",
        meaning="the sampler does not keep the pixels that it is told are known",
    )  # fmt: skip
