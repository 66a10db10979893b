"""Invertible models: the log-determinant and the inverse, on small spaces, a wide one and at full size."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softplus

from harness.auditing.estimates import flops, has_variance, mean_and_error
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, State
from harness.auditing.trial import NOT_DECIDED, Evidence, Trial
from harness.interface.model import Invertible

_IMAGES = 12
_STATES: tuple[State, ...] = ("initial", "random", "strong", "fitted")
_ROWS = 128  # of a Jacobian in one call
Integral = tuple[str, Tensor, float]  # a function in words, its values (K, D), and its integral


def flows_of(laboratory: Laboratory, *states: State) -> Iterator[tuple[Specimen, Invertible, int]]:
    """Yields specimens, their models, and how many images are affordable where each costs a Jacobian."""
    laboratory.require(Invertible, "the model is not invertible")
    for specimen in laboratory.specimens(*states, spaces=laboratory.some(4)):
        yield specimen, specimen.model_as(Invertible), _IMAGES if specimen.spec.num_dimensions <= 64 else 1


def flows_at_size(laboratory: Laboratory) -> Iterator[tuple[Specimen, Invertible]]:
    """Yields them on a wide space and at the benchmark's size, with random weights, or at least its own."""
    for spec in dict.fromkeys([*laboratory.wide[:1], laboratory.full]):
        if spec is not None and spec not in laboratory.some(4):
            specimen = next(laboratory.specimens("random", "initial", spaces=[spec]), None)
            if specimen is not None:
                yield specimen, specimen.model_as(Invertible)


def _with_jacobians(laboratory: Laboratory, each: int) -> Iterator[tuple[Specimen, Invertible, int]]:
    """Yields flows and numbers of images, first small, then at size where ``each`` Jacobians of one are affordable."""
    yield from flows_of(laboratory, *_STATES)
    for specimen, model in flows_at_size(laboratory):
        size, cost = specimen.spec.num_dimensions, flops(specimen, partial(_transformed, model))
        if laboratory.affords(each * (3 * size * cost + 10 * size**3), f"{specimen.where}: a Jacobian"):
            yield specimen, model, 1


def _transformed(model: Invertible, images: Tensor) -> Tensor:
    return model.transform(images.to(model.dtype) + 0.5)[0]


def _points(specimen: Specimen, model: Invertible, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns images, x, and the Jacobians there, which both checks look at."""
    if "jacobians" not in specimen.kept:
        images = specimen.images(count, "jacobian")
        with torch.no_grad(), specimen.rng("jacobian"):
            x, _ = model.dequantize(images)
        specimen.kept["jacobians"] = images, x, _jacobians(model, x)
    return specimen.kept["jacobians"]  # type: ignore[no-any-return]


def log_determinant(laboratory: Laboratory) -> Iterator[Evidence]:
    """The returned log-determinant is that of the Jacobian of the whole map."""
    for specimen, model, count in _with_jacobians(laboratory, 1):
        images, x, jacobians = _points(specimen, model, count)
        with torch.no_grad():
            _, returned = model.transform(x)
        found = torch.linalg.slogdet(jacobians).logabsdet
        explained = len(jacobians[0]) * _rounding(specimen, jacobians)
        if bool((explained > 0.1 * found.abs().clamp_min(1)).all()):
            yield f"{specimen.where}: {NOT_DECIDED}: the map amplifies rounding too much"
        excess = (found - returned.double()).abs() - explained
        far, scale = float(excess.max().clamp_min(0)), float(found.abs().max())
        yield Trial.exact(
            specimen.where, "log-determinant against autograd, beyond rounding", far, unit="nats",
            tolerance=(1e-6 if specimen.precision == torch.float64 else 1e-3) * max(1.0, scale),
            meaning=f"the returned log-determinant is {far:.3g} nats from the Jacobian's: a wrong sign, a term that is "
            "missing (the logit's, a scaling's, a layer's, those of some entries), or a sum over the wrong axis",
        )  # fmt: skip
        yield from noise_in_cells(specimen, images, x)


def _jacobians(model: Invertible, x: Tensor) -> Tensor:
    """Returns (N, D, D) float64: the Jacobian of ``transform`` at each of the images x (N, C, H, W)."""
    rows = torch.eye(x[0].numel(), dtype=x.dtype)
    found = torch.zeros(len(x), *rows.shape, dtype=torch.float64)
    for point, jacobian in zip(x, found, strict=True):
        for part, filled in zip(torch.split(rows, _ROWS), torch.split(jacobian, _ROWS), strict=True):
            with torch.enable_grad():  # one backward pass of many copies of the image, each for one latent
                copies = point.expand(len(part), *point.shape).clone().requires_grad_()
                latents, _ = model.transform(copies.clone())
                if latents.requires_grad:
                    (rowwise,) = torch.autograd.grad(latents, copies, part.to(latents.dtype), allow_unused=True)
                    filled.copy_(filled if rowwise is None else rowwise.flatten(1))
    return found


def _rounding(specimen: Specimen, jacobians: Tensor) -> Tensor:
    """Returns (N,): relative errors that rounding may make of a map and its inverse; it grows with the condition."""
    finite = torch.isfinite(jacobians).flatten(1).all(1)
    condition = torch.full((len(jacobians),), math.inf, dtype=torch.float64)
    condition[finite] = torch.linalg.cond(jacobians[finite])
    return 1e3 * torch.finfo(specimen.precision).eps * condition


def _rounding_on_the_way(specimen: Specimen, jacobians: Tensor, x: Tensor, latents: Tensor) -> Tensor:
    """Returns (N,): ``_rounding``, or what the last digits of x (N, C, H, W) make of the latents (N, D), if it is more.

    A logit that is saturated magnifies them without bound, while the condition says nothing where all entries are so.
    """
    size = (jacobians.abs() @ (1 + x.flatten(1).abs().double())[..., None]).squeeze(2)  # (N, D)
    magnified = (size / (1 + latents.abs().double())).amax(1).nan_to_num(math.inf)
    return torch.maximum(_rounding(specimen, jacobians), 1e3 * torch.finfo(specimen.precision).eps * magnified)


def noise_in_cells(specimen: Specimen, images: Tensor, x: Tensor) -> Iterator[Evidence]:
    """Says whether x stays in the cells of images (N, C, H, W) uint8, and whether noise has its density."""
    levels = images.double()  # one more than level 255 is no uint8
    outside = int(((x < levels - 1e-9) | (x > levels + 1 + 1e-9)).sum())
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
    for specimen, model, count in _with_jacobians(laboratory, 2):
        _, x, jacobians = _points(specimen, model, count)
        with torch.no_grad(), specimen.rng("inverse"):
            there = _distance(model.inverse(model.transform(x)[0]), x)
            drawn = model.sample_prior(count)
            image = model.inverse(drawn)
            back = _distance(model.transform(image)[0], drawn)
        there -= _rounding(specimen, jacobians)
        round_trips = [("from images", "inverse(transform(x)) from x", there)]
        if specimen.state != "strong":  # large weights map latents beyond all numbers
            excess = back - _rounding_on_the_way(specimen, _jacobians(model, image), image, drawn)
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
