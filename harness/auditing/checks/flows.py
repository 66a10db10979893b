"""Invertible models: the log-determinant, the inverse, and the prior that is sampled and scored."""

import math
from collections.abc import Iterator

import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import softplus

from harness.auditing.estimates import MOST_SAMPLES, has_variance, mean_and_error, sample_counts
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, State, num_images
from harness.auditing.trial import POWER, Evidence, Trial, same_distribution, smallest_total_variation
from harness.interface.model import Invertible

_IMAGES = 12
_STATES: tuple[State, ...] = ("initial", "random", "strong", "fitted")
_PRIOR_DRAWS = 20_000
Integral = tuple[str, Tensor, float]  # a function in words, its values (K, D), and its integral


def _flows(laboratory: Laboratory, *states: State) -> Iterator[tuple[Specimen, Invertible, int]]:
    """Yields specimens, their models, and how many images are affordable where each costs a Jacobian."""
    laboratory.require(Invertible, "the model is not invertible")
    for specimen in laboratory.specimens(*states, spaces=laboratory.some(4)):
        yield specimen, specimen.model_as(Invertible), _IMAGES if specimen.spec.num_dimensions <= 64 else 1


def log_determinant(laboratory: Laboratory) -> Iterator[Evidence]:
    """The returned log-determinant is that of the Jacobian of the whole map."""
    for specimen, model, count in _flows(laboratory, *_STATES):
        images = specimen.images(count, "log-determinant")
        with torch.no_grad(), specimen.rng("noise"):
            x, _ = model.dequantize(images)
            _, returned = model.transform(x)
        jacobians = _jacobians(model, x)
        found = torch.linalg.slogdet(jacobians).logabsdet
        excess = (found - returned.double()).abs() - len(jacobians[0]) * _rounding(specimen, jacobians)
        far, scale = float(excess.max().clamp_min(0)), float(found.abs().max())
        yield Trial.exact(
            specimen.where, "log-determinant against autograd, beyond rounding", far, unit="nats",
            tolerance=(1e-6 if specimen.precision == torch.float64 else 1e-3) * max(1.0, scale),
            meaning=f"the returned log-determinant is {far:.3g} nats from the Jacobian's: a wrong sign, a term that is "
            "missing (the logit's, a scaling's, a layer's), or a sum over the wrong axis",
        )  # fmt: skip
        yield from _noise(specimen, images, x)


def _jacobians(model: Invertible, x: Tensor) -> Tensor:
    """Returns (N, D, D) float64: the Jacobian of ``transform`` at each of the images x (N, C, H, W)."""

    def latents(flat: Tensor) -> Tensor:
        return model.transform(flat.view(1, *x.shape[1:]))[0][0]

    with torch.enable_grad():
        found = [torch.autograd.functional.jacobian(latents, point.flatten()) for point in x]  # type: ignore[no-untyped-call]
    return torch.stack(found).detach().double()


def _rounding(specimen: Specimen, jacobians: Tensor) -> Tensor:
    """Returns (N,): relative errors that rounding may make of a map and its inverse; it grows with the condition."""
    finite = torch.isfinite(jacobians).flatten(1).all(1)
    condition = torch.full((len(jacobians),), math.inf, dtype=torch.float64)
    condition[finite] = torch.linalg.cond(jacobians[finite])
    return 1e3 * torch.finfo(specimen.precision).eps * condition


def _noise(specimen: Specimen, images: Tensor, x: Tensor) -> Iterator[Evidence]:
    outside = int(((x < images - 1e-9) | (x > images + 1 + 1e-9)).sum())
    yield Trial.exact(
        specimen.where, "dequantized entries outside of their level's cell", outside, unit="entries",
        meaning="dequantize leaves the cell [image, image + 1): the weights integrate over something else",
    )  # fmt: skip
    dequantize, many = specimen.model_as(Invertible).dequantize, images.repeat(400, 1, 1, 1)
    with torch.no_grad(), specimen.rng("volume"):
        x, log_noise = dequantize(many)
        if bool((x[: len(images)] == x[len(images) : 2 * len(images)]).any()):  # images share noise: one a call
            many = images[:1].repeat(400, 1, 1, 1)
            x, log_noise = map(torch.cat, zip(*map(dequantize, torch.split(many, 1)), strict=True))
    noise, log_q = (x - many).double().flatten(1), log_noise.double()
    weights, g = (-log_q).exp(), "1"
    quantities = [("1", noise**0, 1.0), ("u", noise, 1 / 2), ("u^2", noise.square(), 1 / 3)]
    if float(log_q.max() - log_q.min()) > 1e-6 and (narrower := _without_tails(specimen, noise.view(400, -1), log_q)):
        weights, quantities, g = narrower
    if not has_variance(weights):
        yield f"{specimen.where}: the density of the noise varies too much for a mean of its inverse to say anything"
        return
    for name, values, expected in quantities:
        yield Trial.z_test(
            specimen.where, f"mean of {name} {g}/q over the noise, minus its integral over the cell, {expected:.3g}",
            *mean_and_error(weights * values.mean(1) - expected), unit="of volume", rounding=specimen.tolerance(),
            meaning="log q of the dequantization noise is not the density that it is drawn from",
        )  # fmt: skip


def _without_tails(specimen: Specimen, noise: Tensor, log_q: Tensor) -> tuple[Tensor, list[Integral], str] | None:
    """Returns g/q (K,) of half of the noise (draws, N D) and what to integrate by it; None where it has no variance.

    E[g/q] = 1 for any density g, and 1/q alone may have no variance: g is a product of kernel densities of the other
    half's log-odds v, but for their tails.
    """
    most = 24.0 if specimen.dtype == torch.float64 else 8.0  # beyond, a number near one has too few digits
    given, odds = torch.logit(noise).clamp(-most, most).chunk(2)
    given = given.sort(0).values[len(given) // 40 : -(len(given) // 40)]
    mean, deviation = given.mean(0), given.std(0, correction=0).clamp_min(1e-3)
    width = 0.3 * deviation
    if bool((given.abs() + 2.5 * width > most).any()):
        return None
    log_g = torch.stack([(-0.5 * ((each - given) / width).square()).logsumexp(0) for each in odds])
    log_g = log_g - (len(given) * math.sqrt(2 * math.pi) * width).log() + softplus(odds) + softplus(-odds)
    size = specimen.spec.num_dimensions
    ratio = (log_g.view(-1, size).sum(1) - log_q[len(log_q) // 2 :]).exp()
    z = ((odds - mean) / deviation).view(-1, size)
    integrals = [("1", z**0, 1.0), ("v", z, 0.0), ("v^2", z**2, 1 + 0.3**2)]
    return (ratio, integrals, "g(v)") if has_variance(ratio) else None


def inverse(laboratory: Laboratory) -> Iterator[Evidence]:
    """Inverse undoes transform."""
    for specimen, model, count in _flows(laboratory, *_STATES):
        images = specimen.images(count, "inverse")
        with torch.no_grad(), specimen.rng("inverse"):
            x, _ = model.dequantize(images)
            there = _distance(model.inverse(model.transform(x)[0]), x)
            drawn = model.sample_prior(count)
            image = model.inverse(drawn)
            back = _distance(model.transform(image)[0], drawn)
        there -= _rounding(specimen, _jacobians(model, x))
        round_trips = [("from images", "inverse(transform(x)) from x", there)]
        if specimen.state != "strong":  # large weights map latents beyond all numbers
            excess = back - _rounding(specimen, _jacobians(model, image))
            # the logit of a number that was rounded to one is not finite
            round_trips.append(("from latents", "transform(inverse(z)) from z", excess[torch.isfinite(back)]))
        for start, which, excess in round_trips:
            yield Trial.exact(
                f"{specimen.where}, {start}", f"relative distance of {which}, beyond rounding",
                float(excess.max().clamp_min(0)) if len(excess) else 0.0,
                tolerance=1e-6 if specimen.precision == torch.float64 else 1e-2,
                meaning="inverse does not undo transform: the map is not invertible, or another one",
            )  # fmt: skip


def _distance(found: Tensor, expected: Tensor) -> Tensor:
    """Returns (N,) float64: the largest relative distance of an image's, or a latent's, entries."""
    return ((found - expected).abs() / (1 + expected.abs())).flatten(1).amax(1).double().nan_to_num(math.nan, math.nan)


def prior(laboratory: Laboratory) -> Iterator[Evidence]:
    """The prior that is sampled is the prior that is scored."""
    for specimen, model, _ in _flows(laboratory, "random", "fitted"):
        with torch.no_grad(), specimen.rng("prior"):
            latents = model.sample_prior(_PRIOR_DRAWS).double()
        yield from _stein(specimen, model, latents)
        yield _mass(specimen, model, latents)
        if num_images(specimen.spec) <= 2**12:
            where, _, sampler = next(specimen.samplers)
            counts = sample_counts(specimen, sampler, MOST_SAMPLES, "lotus")
            with torch.no_grad(), specimen.rng("base"):
                x = model.inverse(model.sample_prior(MOST_SAMPLES))
            mapped = specimen.counts(x.floor().clamp(0, specimen.spec.levels - 1).to(torch.uint8))
            p, freedom = same_distribution(counts, mapped)
            yield Trial(
                where, "samples against the prior's draws, mapped back", p,
                smallest_defect=smallest_total_variation(freedom, MOST_SAMPLES / 2),
                meaning="sample() does not draw from the prior through the inverse",
            )  # fmt: skip


def _stein(specimen: Specimen, model: Invertible, latents: Tensor) -> Iterator[Trial]:
    """E[f'(z_d) + f(z_d) d log p / d z_d] = 0 for every f that is bounded (Stein 1972): no normaliser is needed."""
    with torch.enable_grad():
        given = latents.detach().to(specimen.dtype, copy=True).requires_grad_()
        (score,) = torch.autograd.grad(model.log_prior(given).sum(), given)
    score = score.detach().double()
    terms = {
        "1": score,
        "tanh z": 1 - latents.tanh().square() + latents.tanh() * score,
        "sin z": latents.cos() + latents.sin() * score,
    }
    if latents.shape[1] > 1:
        terms["tanh of another z"] = latents.roll(1, dims=1).tanh() * score
    for name, values in terms.items():
        yield _stein_identity(specimen, name, values)


def _stein_identity(specimen: Specimen, name: str, values: Tensor) -> Trial:
    """The worst of D two-sided z-tests that the mean of (N, D) is zero."""
    errors, two_sided = values.std(0) / math.sqrt(len(values)), 2 * values.shape[1]
    z = (values.mean(0).abs() / errors.clamp_min(1e-300)).nan_to_num(posinf=1e3, nan=1e3)
    worst, seen = int(z.argmax()), stats.norm.isf(1 - POWER)
    return Trial(
        f"{specimen.where}, latent {worst}", f"Stein's identity with f = {name}, the worst of {len(z)} latents",
        min(1.0, two_sided * float(stats.norm.sf(float(z[worst])))),
        smallest_defect=lambda t: f"{(stats.norm.isf(t / two_sided) + seen) * float(errors[worst]):.2g}",
        meaning="sample_prior does not draw from what log_prior scores: another family, scale or mean",
    )  # fmt: skip


def _mass(specimen: Specimen, model: Invertible, latents: Tensor) -> Evidence:
    """E[q(z) / p(z)] = 1 for a narrower Gaussian q: so p is normalised."""
    mean, scale = latents.mean(0), 0.8 * latents.std(0)
    normal = (-0.5 * ((latents - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(1)
    with torch.no_grad():
        ratio = (normal - model.log_prior(latents.to(specimen.dtype)).double()).exp()
    if not has_variance(ratio):
        return f"{specimen.where}: q/p varies too much over the prior's draws for its mean to say anything"
    return Trial.z_test(
        specimen.where, "mean of q/p over the prior's draws, minus 1", *mean_and_error(ratio - 1), unit="of mass",
        meaning="log_prior is not a normalised density of what sample_prior draws",
    )  # fmt: skip
