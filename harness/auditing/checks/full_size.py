"""Full size: on a model's own samples of a benchmark's size, scores behave as draws from the conditionals must.

For x drawn from the model, log p(x_k | x_<k) plus the conditional's entropy has mean zero given x_<k at every k, and
its variance is known. Summed over entries it is a martingale. No enumeration is needed, so it holds at any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.auditing.estimates import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.spaces import WIDE, describe
from harness.auditing.subject import Specimen
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, Unsupported
from harness.interface.sampling import Noise

_FEWEST, _MOST = 8, 128
_FLOPS = 1.5e11


def full_size(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields tests of the martingale, overall and at every entry, by the first of the model's samplers."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    wanted = [*filter(None, [laboratory.full]), *laboratory.wide, *WIDE, *laboratory.small]
    for spec in dict.fromkeys(wanted):
        if not laboratory.takes(spec):
            continue
        for specimen in list(laboratory.specimens("random", "fitted", spaces=[spec]))[:1]:
            count = _affordable(specimen)
            if count < _FEWEST and spec not in laboratory.small:
                yield Note(f"{describe(spec)}: {_FEWEST} samples take too long; they are drawn at a smaller size")
                continue
            yield from _martingale(laboratory.single(specimen), max(_FEWEST, count))
            return
    raise NotApplicable("the model takes no space with weights that it can be sampled from")


def _affordable(specimen: Specimen) -> int:
    """Returns how many samples are drawn: raster samplers take a full pass for each generation step, others a few."""
    model = specimen.model_as(Autoregressive)
    passes = len(torch.unique(model.generation_steps())) if next(iter(model.samplers())) == "raster" else 4
    return min(_MOST, int(_FLOPS / (flops(specimen, model.conditional_logits) * passes)))


@torch.no_grad()
def _martingale(specimen: Specimen, count: int) -> Iterator[Trial]:
    model = specimen.model_as(Autoregressive)
    name, sampler = next(iter(model.samplers().items()))
    with specimen.rng("full-size"):
        noise = model.draw_noise(count)
        try:
            images = sampler(count, noise=noise)
        except Unsupported:
            if model.num_orderings > 1:
                raise
            images = sampler(count)
    images = check_samples(images, count, model)
    surprise, variance, largest = _surprises(model, images, noise)
    where = f"{specimen.where}, sampler {name!r}, {count} samples"
    meaning = (
        "samples of full size do not follow the conditionals that score them: a temperature, another order, a cache "
        "that is not kept up to date, or a step that is taken twice or not at all"
    )
    total, steps = float(surprise.sum()), images.numel()
    yield Trial.z_test(
        where, "mean of log p(x_k | x_<k) + entropy, over all entries", estimate=total / steps,
        standard_error=float(variance.sum().sqrt()) / steps, unit="nats an entry", meaning=meaning, rounding=1e-6,
    )  # fmt: skip
    p = _bernstein(surprise.sum(0), variance.sum(0), largest.amax(0))  # (D,)
    worst = int(p.argmin())
    yield Trial.p_value(
        where, f"the same at each of {p.numel()} entries, the worst is number {worst}",
        min(1.0, float(p.min()) * p.numel()), meaning=meaning,
        smallest_defect=lambda t: _smallest(t / p.numel(), float(variance[:, worst].sum()), count),
    )  # fmt: skip


def _surprises(model: Autoregressive, images: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (N, D) each: log p + entropy, its variance under the conditional, and its largest absolute value."""
    size = model.spec.num_dimensions
    parts: list[Tensor] = [torch.empty(len(images), size, dtype=torch.float64) for _ in range(3)]
    rows = max(1, 2**22 // (size * model.spec.levels))
    for ordering in sorted(set(noise.ordering.tolist())):
        for index in torch.split((noise.ordering == ordering).nonzero().squeeze(1), rows):
            table = model.conditional_logits(images[index], ordering).double().log_softmax(1).flatten(2)
            probs = table.exp()
            known = torch.where(probs > 0, table, torch.zeros_like(table))
            mean = (probs * known).sum(1)  # minus the entropy
            values = images[index].flatten(1).long()
            parts[0][index] = table.gather(1, values[:, None]).squeeze(1) - mean
            parts[1][index] = (probs * (known - mean[:, None]).square()).sum(1)
            parts[2][index] = (known - mean[:, None]).abs().amax(1)
    return parts[0], parts[1], parts[2]


def _bernstein(total: Tensor, variance: Tensor, largest: Tensor) -> Tensor:
    """Bounds the two-sided p-values of sums of independent bounded terms: exact tests would need normal sums."""
    exponent = total.square() / (2 * (variance + largest * total.abs() / 3)).clamp_min(1e-300)
    p = (2 * (-exponent).exp()).clamp_max(1.0)
    return torch.where(total.abs() <= 1e-9, torch.ones_like(p), p)


def _smallest(threshold: float, variance: float, count: int) -> str:
    needed = math.sqrt(2 * variance * math.log(2 / max(threshold, 1e-300))) + 1.645 * math.sqrt(variance)
    return f"{needed / count:.2g} nats at one entry"
