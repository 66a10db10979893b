"""Samplers of autoregressive models that are given their noise: it determines the image, and so what they must draw."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.auditing.cost import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, apart, describe, largest
from harness.auditing.trial import Evidence, Trial
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, Unsupported
from harness.interface.sampling import Noise

_SHARED, _CLAMPED, _KNOWN, _AT_SIZE = 64, 16, 8, 8  # images of one call
_CALL = 4  # full passes that a call of a sampler costs, roughly; one for each generation step if it is "raster"
_MOST_ROUNDING = 0.01  # of the largest logit


def at_size(laboratory: Laboratory) -> Iterator[Evidence]:
    """Holds samplers against their noise where rows are wide, levels many, and entries coupled strongly."""
    spaces = [*laboratory.wide[:1], laboratory.full, laboratory.many_levels, *laboratory.wide[1:]]
    for spec in dict.fromkeys(filter(None, spaces)):
        for exact in laboratory.specimens("strong", "random", "fitted", spaces=[spec]):
            specimen = laboratory.single(exact)
            model = specimen.model_as(Autoregressive)
            calls = [
                len(torch.unique(model.generation_steps())) if name == "raster" else _CALL for name in tested(model)
            ]
            cost = _AT_SIZE * (sum(calls) + 2) * flops(specimen, model.conditional_logits)
            if not laboratory.affords(cost, f"{describe(spec)}, samplers that are given their noise"):
                break
            if (rounding := _rounding(exact, specimen)) < _MOST_ROUNDING:
                yield from _shared_noise(specimen, rounding, _AT_SIZE)
                break


def given_noise(exact: Specimen, single: Specimen) -> Iterator[Trial]:
    """Holds the samplers of a specimen against their noise; ``single`` is the same in float32, in which they draw."""
    if (rounding := _rounding(exact, single)) < _MOST_ROUNDING:
        yield from _shared_noise(single, rounding)
        yield from _clamped(single, rounding)


def tested(model: Autoregressive) -> list[str]:
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
    for where, name, sampler in [it for it in specimen.samplers if it[1] in tested(model)]:
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
        for words, count, mask, given in cases if name in tested(model) else ():
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
