"""Sampling: every named sampler draws from the distribution that is scored."""

from collections.abc import Iterator
from contextlib import suppress

import torch
from scipy import stats
from torch import Tensor

from harness.auditing import estimates
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen
from harness.auditing.trial import POWER, Evidence, NotApplicable, Trial
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Invertible,
    Unsupported,
    VariationalBound,
)
from harness.interface.sampling import Noise

_SHARED = 64
_FEWEST_INSIDE = 200
_WELL_BELOW = 6.0  # standard errors that a bound is lowered by before an image's count is held against it
_CAUSES = (
    "a temperature, another prior, order or activation than in scoring, a mode or mean taken instead of a draw, "
    "or a density that belongs to another distribution"
)


def sampling(laboratory: Laboratory) -> Iterator[Evidence]:
    """Every sampler draws from the distribution that is scored."""
    reason = "an implicit model has no likelihood to hold its samples against"
    model = laboratory.require(ExactLikelihood | VariationalBound, reason)
    if not laboratory.small:
        raise NotApplicable("no space that can be enumerated is taken by the model")
    if isinstance(model, ExactLikelihood):
        for exact in laboratory.specimens("random", "fitted"):
            specimen = laboratory.single(exact)
            for where, counts in _drawn(specimen):
                yield from _frequencies(where, counts, specimen.log_probs.exp(), torch.zeros_like(specimen.log_probs))
            yield from _shared_noise(specimen)
    elif isinstance(model, ImportanceWeighted):
        for found in estimates.trusted_weights(laboratory):
            yield from [found] if isinstance(found, str) else _weighted(*found)
    else:
        for specimen in laboratory.specimens("initial", "random", "fitted"):
            bound = estimates.bound_estimates(specimen)
            for where, counts in _drawn(specimen):
                yield _at_least(where, counts, *bound)


def _drawn(specimen: Specimen) -> Iterator[tuple[str, Tensor]]:
    """Yields for each sampler where it is, in words, and how often it drew each image (M,)."""
    for where, name, sampler in specimen.samplers:
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


def _at_least(where: str, counts: Tensor, bound: Tensor, error: Tensor) -> Trial:
    """The frequency of every image is at least exp(bound), one test for all images."""
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


@torch.no_grad()
def _shared_noise(specimen: Specimen) -> Iterator[Trial]:
    """Samplers that share their noise draw the same images, and all keep what they are told is known."""
    model = specimen.model
    if not isinstance(model, Autoregressive):
        return
    with specimen.rng("noise"):
        noise = model.draw_noise(_SHARED)
    known, mask = specimen.images(8, "known"), torch.zeros(1, *specimen.spec.shape, dtype=torch.bool)
    mask[..., : (specimen.spec.height + 1) // 2, :] = True
    drawn: dict[str, Tensor] = {}
    for where, name, sampler in specimen.samplers:
        with suppress(Unsupported):
            drawn[name] = sampler(_SHARED, noise=noise)
            with specimen.rng("clamping"):
                images = sampler(8, known=known, mask=mask)
            yield Trial.exact(
                where, "known entries that were changed", int(((images != known) & mask).sum()), unit="entries",
                meaning="the sampler does not keep the pixels that it is told are known",
            )  # fmt: skip
    names = list(drawn)
    for first, name in ((names[0], name) for name in names[1:]):
        images, found = drawn[first], drawn[name]
        different = (images != found).flatten(1).any(1).nonzero().flatten().tolist()
        unexplained = sum(not _is_rounding(specimen, images[i], found[i], noise, i) for i in different)
        yield Trial.exact(
            f"{specimen.where}, samplers {first!r} and {name!r}", f"of {_SHARED} images, those that differ",
            unexplained, unit="images",
            meaning=f"with the same noise, {name!r} and {first!r} draw different images: one of them is wrong",
        )  # fmt: skip


def _is_rounding(specimen: Specimen, first: Tensor, second: Tensor, noise: Noise, index: int) -> bool:
    """Whether two images differ first where the decision lies within rounding."""
    model, ordering = specimen.model_as(Autoregressive), int(noise.ordering[index])
    steps, differ = model.generation_steps(ordering), first != second
    scores = model.conditional_logits(first[None], ordering)[0] + noise.gumbel[index]
    top = scores.topk(2, dim=0).values
    margin = (top[0] - top[1])[differ & (steps == steps[differ].min())]
    return float(margin.max()) < (1e-9 if specimen.dtype == torch.float64 else 1e-5)
