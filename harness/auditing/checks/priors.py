"""Invertible models: the prior that is sampled and scored, and the samples that are made of it."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import normalize

from harness.auditing.checks.flows import flows_at_size, flows_of
from harness.auditing.estimates import MOST_SAMPLES, flops, has_variance, mean_and_error, sample_counts
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, num_images
from harness.auditing.trial import POWER, Evidence, Trial, same_distribution, smallest_total_variation
from harness.interface.model import Invertible
from harness.support.randomness import generator

_PRIOR_DRAWS = 40_000
_FEWEST_DRAWS, _MOST_DRAWS = 250, 4000  # of each of two samples at size
_NOT_THROUGH_THE_INVERSE = "sample() does not draw from the prior through the inverse"


def prior(laboratory: Laboratory) -> Iterator[Evidence]:
    """The prior that is sampled is the prior that is scored."""
    for specimen, model, _ in flows_of(laboratory, "random", "fitted"):
        yield from _latents(specimen, model, _PRIOR_DRAWS)
        if num_images(specimen.spec) <= 2**12:
            where, _, sampler = next(specimen.samplers)
            counts = sample_counts(specimen, sampler, MOST_SAMPLES, "lotus")
            with torch.no_grad(), specimen.rng("base"):
                x = model.inverse(model.sample_prior(MOST_SAMPLES))
            mapped = specimen.counts(x.floor().clamp(0, specimen.spec.levels - 1).to(torch.uint8))
            p, freedom = same_distribution(counts, mapped)
            yield Trial(
                where, "samples against the prior's draws, mapped back", p,
                smallest_defect=smallest_total_variation(freedom, MOST_SAMPLES / 2), meaning=_NOT_THROUGH_THE_INVERSE,
            )  # fmt: skip
    for specimen, model in flows_at_size(laboratory):
        yield from _at_size(laboratory, specimen, model)


def _at_size(laboratory: Laboratory, specimen: Specimen, model: Invertible) -> Iterator[Evidence]:
    with torch.no_grad(), specimen.rng("prior"):
        one = model.sample_prior(1)
    scoring = 3 * flops(specimen, lambda images: model.log_prior(one.repeat(len(images), 1))) + 10 * one.numel() ** 2
    if laboratory.affords(_MOST_DRAWS * scoring, f"{specimen.where}: the prior"):
        yield from _latents(specimen, model, _MOST_DRAWS)
    drawing = 2 * flops(specimen, lambda images: model.inverse(one.repeat(len(images), 1)))
    count = max(_FEWEST_DRAWS, min(_MOST_DRAWS, int(0.1 * laboratory.budget / drawing)))
    if laboratory.affords(count * drawing, f"{specimen.where}: samples against the prior's draws"):
        yield from _images_of_the_prior(laboratory.single(specimen), count)


@torch.no_grad()
def _images_of_the_prior(specimen: Specimen, count: int) -> Iterator[Trial]:
    """Two samples of images: is any of many numbers of an image more often above its median in one of them?

    Fisher's exact test (1922), given how many of both are: no moment is needed, and Bonferroni's bound takes the worst.
    """
    model, spec = specimen.model_as(Invertible), specimen.spec
    where, _, sampler = next(specimen.samplers)
    with specimen.rng("sampled"):
        drawn = sampler(count)
    with specimen.rng("mapped"):
        mapped = model.inverse(model.sample_prior(count)).floor().clamp(0, spec.levels - 1).to(torch.uint8)
    x = torch.cat([drawn, mapped.view_as(drawn)]).double()
    x = x - x.mean(0)
    flat, random = x.flatten(1), generator(specimen.seed, "directions")
    sums = (flat @ torch.randn(flat.shape[1], 64, dtype=torch.float64, generator=random)).round(decimals=6)
    others = flat[:, torch.randperm(flat.shape[1], generator=random)]
    right, below = (x[..., 1:] * x[..., :-1]).flatten(1), (x[..., 1:, :] * x[..., :-1, :]).flatten(1)
    numbers = {
        "entries": flat,
        "their distances from the mean": flat.abs(),
        "products of two": torch.cat([right, below, flat * others], 1),
        "sums in random directions, and their sizes": torch.cat([sums, sums.abs()], 1),
    }
    for name, values in numbers.items():
        above = values > values.median(0).values
        first, both = above[:count].sum(0), above.sum(0)
        share = both.double() / (2 * count)
        far = (first - both / 2).abs() / (share * (1 - share) * count / 2).sqrt().clamp_min(1e-9)
        worst, many = int(far.argmax()), 2 * len(far)
        hit, total = int(first[worst]), int(both[worst])
        tail = float(stats.hypergeom.sf(max(hit, total - hit) - 1, 2 * count, total, count))
        yield Trial(
            f"{where}, {count} images each", f"samples against the prior's draws, mapped back: {name}",
            min(1.0, many * tail), smallest_defect=partial(_share_moved, many, count), meaning=_NOT_THROUGH_THE_INVERSE,
        )  # fmt: skip


def _share_moved(many: int, count: int, threshold: float) -> str:
    share = (stats.norm.isf(threshold / many) + stats.norm.isf(1 - POWER)) / math.sqrt(2 * count)
    return f"{share:.2g} of the images on the other side of a median"


def _latents(specimen: Specimen, model: Invertible, count: int) -> Iterator[Evidence]:
    with torch.no_grad(), specimen.rng("prior"):
        latents = model.sample_prior(count).double()
    yield from _stein(specimen, model, latents)
    yield _mass(specimen, model, latents)


def _stein(specimen: Specimen, model: Invertible, latents: Tensor) -> Iterator[Trial]:
    """E[f'(z_d) + f(z_d) d log p / d z_d] = 0 for every f that is bounded (Stein 1972): no normaliser is needed.

    It holds where p vanishes at the ends of its support, as a uniform or exponential density does not, or where f does:
    so every f is multiplied by a window w that is zero from the outermost of the first eighth of the draws on.
    """
    given, latents = latents[: len(latents) // 8], latents[len(latents) // 8 :]
    window, slope = _window(latents, given.amin(0), given.amax(0))
    with torch.enable_grad():
        given = latents.detach().to(specimen.dtype, copy=True).requires_grad_()
        (score,) = torch.autograd.grad(model.log_prior(given).sum() + 0 * given.sum(), given)  # it may be constant
    score = slope + window * score.detach().double()  # w' + w d log p / d z
    tanh, one = latents.tanh(), torch.ones(len(latents), 1, dtype=torch.float64)
    bent = window * (1 - tanh.square()) + tanh * score
    random = generator(specimen.seed, "directions")
    directions = normalize(torch.randn(latents.shape[1], 32, generator=random).double(), dim=0)
    along = (latents @ directions).tanh()
    across = (1 - along.square()) * (window @ directions.square())
    yield _stein_identity(specimen, "1", one, score)
    yield _stein_identity(specimen, "tanh z", one, bent)
    yield _stein_identity(specimen, "sin z", one, window * latents.cos() + latents.sin() * score)
    yield _stein_identity(specimen, "tanh z, z along a random direction", one, across + along * (score @ directions))
    if latents.shape[1] > 1:
        yield _stein_identity(specimen, "tanh of another z", tanh, score)
        yield _stein_identity(specimen, "tanh z times cos of another", latents.cos(), bent)


def _window(values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Returns w and dw/dz of values (N, D): 1 inside, 0 beyond low and high (D,), a cubic in the outer sixths."""
    edge = (high - low).clamp_min(1e-300) / 6
    up, down = ((values - low) / edge).clamp(0, 1), ((high - values) / edge).clamp(0, 1)
    inner = torch.minimum(up, down)
    slope = 6 * inner * (1 - inner) / edge
    return inner.square() * (3 - 2 * inner), torch.where(up < down, slope, -slope)


def _stein_identity(specimen: Specimen, name: str, factors: Tensor, values: Tensor) -> Trial:
    """The worst of two-sided z-tests that E[f v] is zero for each of the factors f (N, F) and values v (N, D).

    Of as many factors as values, f is another latent's.
    """
    mean, square = factors.T @ values / len(values), factors.square().T @ values.square() / len(values)
    errors = (((square - mean.square()).clamp_min(0)) / (len(values) - 1)).sqrt()
    z = (mean.abs() / errors.clamp_min(1e-300)).nan_to_num(posinf=1e3, nan=1e3)
    if factors.shape[1] > 1:
        z.fill_diagonal_(0.0)
    z, errors, two_sided = z.flatten(), errors.flatten(), 2 * z.numel()
    worst, seen = int(z.argmax()), stats.norm.isf(1 - POWER)
    latent = " and ".join(str(number) for number in divmod(worst, values.shape[1])[factors.shape[1] == 1 :])
    return Trial(
        f"{specimen.where}, latent {latent}", f"Stein's identity with f = {name}, the worst of {len(z)}",
        min(1.0, two_sided * float(stats.norm.sf(float(z[worst])))),
        smallest_defect=lambda t: f"{(stats.norm.isf(t / two_sided) + seen) * float(errors[worst]):.2g}",
        meaning="sample_prior does not draw from what log_prior scores: another family, scale or mean",
    )  # fmt: skip


def _mass(specimen: Specimen, model: Invertible, latents: Tensor) -> Evidence:
    """E[q(z) / p(z)] = 1 for a narrower q, that the first half of the draws gives: so p is normalised.

    q is Gaussian, cut off at the outermost draws: beyond, there may be no density.
    """
    given, latents = latents.chunk(2)
    size = latents.shape[1]
    mean, scale = given.mean(0), (1 - 0.5 / math.sqrt(size)) * given.std(0)
    low, high = given.amin(0), given.amax(0)
    inside = torch.special.ndtr((high - mean) / scale) - torch.special.ndtr((low - mean) / scale)
    normal = -0.5 * ((latents - mean) / scale).square() - (scale * inside).log() - 0.5 * math.log(2 * math.pi)
    normal = normal.masked_fill((latents < low) | (latents > high), -math.inf).sum(1)
    with torch.no_grad():
        ratio = (normal - model.log_prior(latents.to(specimen.dtype)).double()).exp()
    if not has_variance(ratio):
        return f"{specimen.where}: q/p varies too much over the prior's draws for its mean to say anything"
    return Trial.z_test(
        specimen.where, "mean of q/p over the prior's draws, minus 1", *mean_and_error(ratio - 1), unit="of mass",
        meaning="log_prior is not a normalised density of what sample_prior draws",
    )  # fmt: skip
