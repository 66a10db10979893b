"""Latent variables: the joint density that importance weights average, the decoder, and the density of the latents.

An importance weight is p(z) p(x | z) / q(z | x). So what is left of it after ``log_prior`` and ``log_likelihood`` is
log q at the latents that were drawn, and for any density g on the range of the draws, E[g(z) / q(z)] = 1. That needs no
weight to be near p(x): it holds for every encoder, under any weights. Which latents a weight was made of is seen by
watching what the model calls ``log_prior`` and ``log_likelihood`` with, or told by its ``draw_posterior``.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor

from harness.auditing.estimates import flops, has_variance, log_weights, worst_of
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, State, apart, largest
from harness.auditing.trial import Evidence, Trial
from harness.interface.model import Inference, LatentVariable, Model

_JOINT = ("log_prior", "log_likelihood")
_LATENTS, _IMAGES, _DRAWS = 3, 5, 3000
_WIDEST = 64  # latents, where their number has to be tried out
_LEAST_EFFECTIVE = 0.2  # of the ratios g/q: below, their mean rests on too few
_MARGIN = 0.05  # of mass: g may reach a little further than the draws
_MOST_RATIO, _POINTS, _QUANTILES = 20.0, 500, torch.tensor([0.5, 0.75, 0.9, 0.95, 0.98], dtype=torch.float64)
_FARTHEST = 1e100  # of a latent: squares of what lies beyond overflow
_LEAST_COUNT = 20.0  # of a discrete latent's draws, to hold its frequency against q
_UNSEEN = (
    "which latents the weights are made of is not seen: they are held against log_prior and log_likelihood if "
    "log_importance_weights calls one of these, or if there is a draw_posterior"
)


class _Draws(NamedTuple):
    """Latents of one image (K, D), as the model has them, and what weights say of log q at each (K,), float64."""

    latents: Tensor
    log_q: Tensor


def joint(laboratory: Laboratory) -> Iterator[Evidence]:
    """log_prior and log_likelihood are the joint density that the weights average, and decode its expectation."""
    laboratory.require(LatentVariable, "the model has no joint density of images and latents")
    for specimen in laboratory.specimens("initial", "random", "fitted", spaces=laboratory.small[:3]):
        if (latents := _some_latents(specimen)) is None:
            yield f"{specimen.where}: the number of latents is not known: let encode return them, or latent_sizes"
            continue
        with torch.no_grad():
            table = _given_latents(specimen, latents)
        if table is None:
            yield f"{specimen.where}: log_likelihood is random"
            continue
        totals = table.logsumexp(1).exp()
        total = float(totals[(totals - 1).abs().argmax()])
        yield Trial.exact(
            specimen.where, "sum of p(x | z) over all images, minus 1", abs(total - 1), tolerance=specimen.tolerance(),
            unit="of mass", meaning=f"p(x | z) of log_likelihood sums to {total:.4g} over all images, not to 1: a mean "
            "where a sum is due, or entries, a channel or a normaliser that are left out",
        )  # fmt: skip
        if isinstance(specimen.model, Inference):
            yield from _decoded(specimen, latents, table)
    meaning = "log_prior and log_likelihood are not the joint density that the weights average"
    yield from _densities(laboratory, [("initial", 0), ("gentle", 0), ("fitted", 0)], meaning)


def posterior(laboratory: Laboratory) -> Iterator[Evidence]:
    """Latents are drawn from the density that the weights divide by, wherever the encoder puts them."""
    laboratory.require(LatentVariable, "the model has no joint density of images and latents")
    meaning = "log q is not the density that latents are drawn from: clamped or scaled in one of both places"
    yield from _densities(laboratory, [("random", 0), ("strong", 0), ("strong", 1)], meaning)


# --- p(x | z) ---


def _some_latents(specimen: Specimen) -> Tensor | None:
    """Returns (3, D) latents such as the model makes them, of any kind; None where their number is not known."""
    model, images = specimen.model_as(LatentVariable), specimen.images(_LATENTS, "latents")
    found = [_draws(specimen, image, 2) for image in torch.split(images, 1)]
    if watched := [draws.latents[:1] for draws in found if draws is not None]:
        return torch.cat(watched)
    widths: list[int] = list(range(1, _WIDEST + 1))
    if isinstance(model, Inference):
        with torch.no_grad():
            codes = model.encode(images)
        if _log_joint(model, images, codes) is not None:
            return codes
        widths = [sum(_sizes(model) or ())]
    with specimen.rng("some latents"):
        tried = [torch.randn(_LATENTS, width, dtype=specimen.dtype) for width in widths if width]
    accepted = [latents for latents in tried if _log_joint(model, images, latents) is not None]
    return accepted[0] if len(accepted) == 1 else None


@torch.no_grad()
def _log_joint(model: LatentVariable, images: Tensor, latents: Tensor) -> Tensor | None:
    """Returns (N,) float64 nats; None where these are no latents, or what is said of them is random."""
    try:
        one, two = (
            model.log_prior(z) + model.log_likelihood(x, z) for x, z in ((images, latents), (images[:9], latents[:9]))
        )
    except Exception:  # somebody else's code: anything can happen
        return None
    fits = tuple(one.shape) == (len(images),) and not bool(one.isnan().any())
    return one.double() if fits and bool((apart(one[:9], two).abs() < 1e-3).all()) else None


def _given_latents(specimen: Specimen, latents: Tensor) -> Tensor | None:
    """Returns (K, M) float64: log p(x | z) of every image given each of the latents (K, D); None where it is random."""
    images, score = specimen.everything, specimen.model_as(LatentVariable).log_likelihood
    table = torch.stack([score(images, each.repeat(len(images), 1)) for each in torch.split(latents, 1)]).double()
    again = score(images[:8], latents[:1].repeat(8, 1))
    return table if float(apart(again, table[0, :8]).abs().max()) < 1e-3 or bool(again.isnan().any()) else None


def _sizes(model: Inference) -> tuple[int, ...] | None:
    try:
        return model.latent_sizes
    except NotImplementedError:
        return None


@torch.no_grad()
def _decoded(specimen: Specimen, latents: Tensor, table: Tensor) -> Iterator[Evidence]:
    model, spec = specimen.model_as(Inference), specimen.spec
    sizes, columns = _sizes(model), model.encode(specimen.images(2, "encode")).shape[1]
    if sizes is not None:
        yield Trial.exact(
            specimen.where, "columns of encode, minus the sum of latent_sizes", abs(columns - sum(sizes)),
            unit="columns", meaning=f"encode returns {columns} columns, latent_sizes {tuple(sizes)} promises "
            f"{sum(sizes)}: log standard deviations beside the means, or a layer too many",
        )  # fmt: skip
    if latents.shape[1] != (columns if sizes is None else sum(sizes)):
        return
    expected = torch.einsum("km,mchw->kchw", table.exp(), specimen.everything.double())  # E[x | z]
    found, top = model.decode(latents).double(), spec.levels - 1
    far = float((found - expected).abs().max())
    like = {
        "in units of [0, 1]": expected / top,
        "in units of [-1, 1]": 2 * expected / top - 1,
        "in units of 1 / levels": expected / spec.levels,
        "in units of 8 bits": 255 * expected / top,
    }
    tolerance = specimen.tolerance(scale=float(spec.levels))
    words = [name for name, other in like.items() if top > 1 or "[0, 1]" not in name
             if float((found - other).abs().max()) <= tolerance]  # fmt: skip
    words += ["rounded, the mode or a draw"] if bool((found == found.round()).all()) else []
    if far > tolerance and not words and (top > 1 or len(sizes or ()) > 1):
        yield f"{specimen.where}: decode(z) is up to {far:.3g} levels from E[x | z], where {top} is white"
        return
    yield Trial.exact(
        specimen.where, "decode(z) minus E[x | z]", far, tolerance=tolerance, unit="levels",
        meaning=f"decode(z) is up to {far:.3g} levels from E[x | z], the expected image in levels of 0 to {top}"
        + (f": it is {words[0]}" if words else ""),
    )  # fmt: skip


# --- the density of the latents ---


def _densities(laboratory: Laboratory, states: list[tuple[State, int]], meaning: str) -> Iterator[Evidence]:
    for state, variant in states:
        for specimen in laboratory.specimens(state, spaces=laboratory.some(2), variant=variant):
            images = specimen.images(_IMAGES, "density")
            if _draws(specimen, images[:1], 2) is None:
                yield _UNSEEN
                return
            cost = 3 * _IMAGES * _DRAWS * flops(specimen, specimen.model_as(LatentVariable).elbo)
            if specimen.spec not in laboratory.small and not laboratory.affords(cost, f"{specimen.where}, latents"):
                continue
            if states[0][0] == "initial" and _says_its_draws(specimen.model):
                yield _against_weights(specimen, images)
            test = _discrete if _is_discrete(specimen, images) else _continuous
            yield test(specimen, [_draws(specimen, image, _DRAWS) for image in torch.split(images, 1)], meaning)


def _says_its_draws(model: Model) -> bool:
    return isinstance(model, LatentVariable) and type(model).draw_posterior is not LatentVariable.draw_posterior


@torch.no_grad()
def _against_weights(specimen: Specimen, images: Tensor) -> Evidence:
    """The mean of log_prior + log_likelihood - log q over draws of ``draw_posterior``, against that of log-weights."""
    model, pairs = specimen.model_as(LatentVariable), list[tuple[Tensor, Tensor]]()
    for image in torch.split(images, 1):
        found = _draws(specimen, image, _DRAWS)
        log_joint = None if found is None else _log_joint(model, image.repeat(_DRAWS, 1, 1, 1), found.latents)
        if found is not None and log_joint is not None:
            weights = log_weights(specimen, image, _DRAWS, "against draws")[:, 0]
            pairs.append((log_joint - found.log_q, weights))
    pairs = [pair for pair in pairs if all(bool(values.isfinite().all()) for values in pair)]
    if not pairs:
        return f"{specimen.where}: log-weights are not finite"
    one, other = (torch.stack(values) for values in zip(*pairs, strict=True))
    far, error = worst_of(one.mean(1) - other.mean(1), ((one.var(1) + other.var(1)) / _DRAWS).sqrt())
    return Trial.z_test(
        specimen.where, "mean of log_prior + log_likelihood - log q, minus that of the log-weights", far, error,
        unit="nats", rounding=specimen.tolerance(scale=other), meaning="log_prior, log_likelihood and draw_posterior "
        f"make another weight than log_importance_weights: its logarithm is {far:.3g} nats off",
    )  # fmt: skip


def _is_discrete(specimen: Specimen, images: Tensor) -> bool:
    found = _draws(specimen, images[:1], 50)
    return found is not None and bool((found.latents == found.latents.round()).all())


@contextmanager
def _watching(model: type) -> Iterator[dict[str, list[Tensor]]]:
    """Yields the latents that the two methods are called with meanwhile, whichever class of the model has them."""
    seen, within = dict[str, list[Tensor]](), set[str]()
    own = [(cls, name, vars(cls)[name]) for cls in model.__mro__ for name in _JOINT if name in vars(cls)]

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            if name in within or not given or given[-1].ndim < 2:
                return method(*args, **kwargs)
            seen.setdefault(name, []).append(given[-1].detach().flatten(0, -2))
            within.add(name)
            try:
                return method(*args, **kwargs)
            finally:
                within.remove(name)

        return call

    for cls, name, method in own:
        setattr(cls, name, watched(name, method))
    try:
        yield seen
    finally:
        for cls, name, method in own:
            setattr(cls, name, method)


@torch.no_grad()
def _draws(specimen: Specimen, image: Tensor, count: int) -> _Draws | None:
    """Draws latents of an image (1, C, H, W); None where it is not seen which those of a weight are."""
    model = specimen.model_as(LatentVariable)
    with specimen.rng("latents of", *image.flatten().tolist(), count):
        if _says_its_draws(model):
            latents, log_q = model.draw_posterior(image.repeat(count, 1, 1, 1))
            return _Draws(latents, log_q.double())
        with _watching(type(model)) as seen:
            weights = model.log_importance_weights(image, count).double().flatten()
    repeated = image.repeat(count, 1, 1, 1)
    for name in _JOINT:
        latents = torch.cat(seen[name]) if name in seen else weights
        if latents.ndim == 2 and len(latents) == count and (found := _log_joint(model, repeated, latents)) is not None:
            lost = (
                largest(found) > 0.01 / 50 / torch.finfo(specimen.precision).eps
            )  # their digits, to what is cancelled
            return _Draws(latents, found - weights + (math.nan if lost else 0.0))
    return None


def _continuous(specimen: Specimen, draws: list[_Draws | None], meaning: str) -> Evidence:
    """The mean of g/q, g being a product of narrower Gaussians, cut off within the range of the other half's draws."""
    means, errors = list[float](), list[float]()
    for found in draws:
        if found is None or not bool(found.log_q.isfinite().all()):
            continue
        latents = found.latents.double()
        if not bool((latents.abs() < _FARTHEST).all()) or _is_thin(latents):
            continue
        half = len(latents) // 2
        given, drawn = latents[:half], latents[half:]
        narrow = math.sqrt(1 - min(0.4, given.shape[1] ** -0.5))
        mean, scale = given.mean(0), narrow * given.std(0)
        low, high = given.quantile(0.01, dim=0), given.quantile(0.99, dim=0)
        floor, top = (torch.special.ndtr((end - mean) / scale) for end in (low, high))
        of_g = mean + scale * torch.special.ndtri(floor + (top - floor) * torch.rand_like(drawn[:_POINTS]))
        log_g = (
            -0.5 * ((drawn - mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi) - (top - floor).log()
        )
        inside = ((drawn > low) & (drawn < high)).all(1)
        ratio = torch.where(inside, (log_g.sum(1) - found.log_q[half:]).exp(), 0.0)
        effective = float(ratio.sum() ** 2 / ratio.square().sum().clamp_min(1e-300)) / len(ratio)
        positive = ratio[inside]
        holds = effective > _LEAST_EFFECTIVE and len(positive) > 50 and has_variance(positive)
        holds = holds and _is_covered(of_g / scale, drawn[:_POINTS] / scale, given / scale)
        ratio = ratio if holds else ratio.clamp_max(_MOST_RATIO)  # its mean is 1 at most, whatever its tail
        far = float(ratio.mean()) - 1
        if far > 0 or holds:
            means.append(far)
            errors.append(float(ratio.std()) / len(ratio) ** 0.5)
    if not means:
        return f"{specimen.where}: the density of the latents varies too much for a mean of its inverse to say anything"
    far, error = worst_of(torch.tensor(means).double(), torch.tensor(errors).double())
    return Trial.z_test(
        specimen.where, "mean of g/q over an image's latents, minus 1", far, error, unit="of mass",
        rounding=max(_MARGIN, 100 * specimen.tolerance()),
        meaning=f"{meaning}: a density that is divided by theirs has the mean {1 + far:.4g}, not 1",
    )  # fmt: skip


def _is_covered(points: Tensor, own: Tensor, others: Tensor) -> bool:
    """Whether points (K, D) of g have draws of q as near as draws of q have: else no draw shows what g has there."""
    near, nearest = (torch.cdist(each, others).amin(1).quantile(_QUANTILES) for each in (points, own))
    return bool((near <= nearest).all())


def _is_thin(latents: Tensor) -> bool:
    """Whether latents (K, D) lie in a set without volume, as a simplex or a sphere: densities are others there."""
    spread = latents.std(0)
    if bool((spread < 1e-9 * (1 + latents.abs().amax(0))).any()) or bool((latents == latents.round()).all(0).any()):
        return True
    radius = latents.norm(dim=1)
    flat = latents.shape[1] > 1 and float(torch.linalg.eigvalsh(torch.corrcoef(latents.T))[0]) < 1e-8
    return flat or float(radius.std()) < 1e-6 * float(radius.mean())


def _discrete(specimen: Specimen, draws: list[_Draws | None], meaning: str) -> Evidence:
    """How often each of an image's discrete latents was drawn, against what the weights say of q: binomial tests."""
    p_values = list[float]()
    for found in draws:
        if found is None or not bool(found.log_q.isfinite().all()):
            continue
        _, number, counts = torch.unique(found.latents, dim=0, return_inverse=True, return_counts=True)
        probs = torch.zeros(len(counts), dtype=torch.float64).scatter(0, number, found.log_q.exp())
        total = float(probs.sum())
        if total > 1 + 1e3 * specimen.tolerance():
            what = f"{meaning}: those of the latents that were drawn have a mass of {total:.4g}, above 1"
            return Trial.broken(specimen.where, what)
        rare = probs * len(number) < _LEAST_COUNT
        for share, count in [*zip(probs[~rare].tolist(), counts[~rare].tolist(), strict=True)]:
            low, high = (float(tail(count, len(number), min(share, 1.0))) for tail in (stats.binom.cdf, _at_least))
            p_values.append(min(1.0, 2 * min(low, high)))
    if not p_values:
        return f"{specimen.where}: no latents are drawn often enough to hold their frequency against q"
    return Trial(
        specimen.where, "frequency of discrete latents against q, the worst",
        min(1.0, len(p_values) * min(p_values)), meaning=meaning,
    )  # fmt: skip


def _at_least(count: int, total: int, share: float) -> float:
    return float(stats.binom.sf(count - 1, total, share))
