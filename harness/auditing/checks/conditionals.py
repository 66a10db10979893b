"""Conditionals: their product is the likelihood, and own samples of a benchmark's size are surprising as draws must be.

For x drawn from the model, log p(x_k | x_<k) plus the conditional's entropy has mean zero given x_<k at every k, and
its variance is known. Summed over entries it is a martingale. No enumeration is needed, so it holds at any size.
"""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from harness.auditing.cost import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import WIDE, Specimen, apart, describe
from harness.auditing.trial import Evidence, NotApplicable, Trial
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, Unsupported
from harness.interface.sampling import Noise

_IMAGES, _FEW = 64, 4  # on small spaces, and at size
_FEWEST, _MOST = 8, 128
_SHARE = 1.5  # of the budget: what is not optional


def conditionals(laboratory: Laboratory) -> Iterator[Evidence]:
    """The likelihood is the product of the conditionals that are sampled from."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    small = laboratory.some(4)
    for specimen in laboratory.specimens("random", "fitted", spaces=small):
        yield from _product(specimen, _FEW if specimen.spec.num_dimensions > _IMAGES else _IMAGES)
    at_size = dict.fromkeys(filter(None, [laboratory.full, laboratory.many_levels, *laboratory.wide[:1]]))
    for spec in [spec for spec in at_size if spec not in small]:
        for specimen in islice(laboratory.specimens("random", "fitted", spaces=[spec]), 1):
            model, count = specimen.model_as(Autoregressive), _FEW if spec.num_dimensions > _IMAGES else _IMAGES
            passes = 3 * count * model.num_orderings
            if laboratory.affords(passes * flops(specimen, model.conditional_logits), f"{describe(spec)}, the product"):
                yield from _product(specimen, count)


@torch.no_grad()
def _product(specimen: Specimen, count: int) -> Iterator[Trial]:
    model, images = specimen.model_as(Autoregressive), specimen.images(count, "conditionals")
    members, far = [], 0.0
    for ordering in range(model.num_orderings):
        table = model.conditional_logits(images, ordering).log_softmax(1)
        expected = table.gather(1, images.long().unsqueeze(1)).squeeze(1)
        far = max(far, float(apart(model.conditional_log_probs(images, ordering), expected).abs().max()))
        members.append(expected.flatten(1).sum(1))
    mixture = torch.stack(members).logsumexp(0) - math.log(model.num_orderings)
    tolerance = specimen.tolerance(scale=mixture)
    yield Trial.exact(
        specimen.where, "conditional_log_probs against the log-softmax of conditional_logits", far, unit="nats",
        tolerance=tolerance, meaning="conditional_log_probs are not those of conditional_logits",
    )  # fmt: skip
    yield Trial.exact(
        specimen.where, "log_prob against the sum of the conditionals",
        float(apart(model.log_prob(images), mixture).abs().max()), tolerance=tolerance, unit="nats",
        meaning="log_prob is not the sum of the conditionals' log-probabilities: what is scored is not what is "
        "sampled (another activation or clamp, a mean, a missing entry, or a mixture over orderings that is "
        "averaged in logs)",
    )  # fmt: skip


def full_size(laboratory: Laboratory) -> Iterator[Evidence]:
    """Scores of own samples at a benchmark's size behave as draws must."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    wanted = [*filter(None, [laboratory.full]), *laboratory.wide, *WIDE, *laboratory.small]
    for spec in filter(laboratory.takes, dict.fromkeys(wanted)):
        for specimen in list(laboratory.specimens("random", "fitted", spaces=[spec]))[:1]:
            model = specimen.model_as(Autoregressive)
            # raster samplers take a full pass for each generation step, others a few
            passes = len(torch.unique(model.generation_steps())) if next(iter(model.samplers())) == "raster" else 4
            count = min(_MOST, int(_SHARE * laboratory.budget / (flops(specimen, model.conditional_logits) * passes)))
            if count < _FEWEST and spec not in laboratory.small:
                yield f"{describe(spec)}: {_FEWEST} samples take too long; they are drawn at a smaller size"
                continue
            yield from _martingale(laboratory.single(specimen), max(_FEWEST, count))
            return
    raise NotApplicable("the model takes no space with weights that it can be sampled from")


@torch.no_grad()
def _martingale(specimen: Specimen, count: int) -> Iterator[Trial]:
    model = specimen.model_as(Autoregressive)
    where, _, sampler = next(specimen.samplers)
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
    where = f"{where}, {count} samples"
    meaning = (
        "samples of full size do not follow the conditionals that score them: a temperature, another order, a cache "
        "that is not kept up to date, or a step that is taken twice or not at all"
    )
    steps = images.numel()
    yield Trial.z_test(
        where, "mean of log p(x_k | x_<k) + entropy, over all entries", float(surprise.sum()) / steps,
        float(variance.sum().sqrt()) / steps, unit="nats an entry", meaning=meaning, rounding=1e-6,
    )  # fmt: skip
    p = _bernstein(surprise.sum(0), variance.sum(0), largest.amax(0))  # (D,)
    worst = int(p.argmin())
    deviation = math.sqrt(float(variance[:, worst].sum()))

    def smallest(threshold: float) -> str:
        needed = math.sqrt(2 * math.log(2 / max(threshold / p.numel(), 1e-300))) * deviation + 1.645 * deviation
        return f"{needed / count:.2g} nats at one entry"

    yield Trial(
        where, f"the same at each of {p.numel()} entries, the worst is number {worst}",
        min(1.0, float(p.min()) * p.numel()), smallest_defect=smallest, meaning=meaning,
    )  # fmt: skip


def _surprises(model: Autoregressive, images: Tensor, noise: Noise) -> Tensor:
    """Returns (3, N, D): log p + entropy, its variance under the conditional, and its largest absolute value."""
    size = model.spec.num_dimensions
    found = torch.empty(3, len(images), size, dtype=torch.float64)
    rows = max(1, 2**22 // (size * model.spec.levels))
    for ordering in sorted(set(noise.ordering.tolist())):
        for index in torch.split((noise.ordering == ordering).nonzero().squeeze(1), rows):
            table = model.conditional_logits(images[index], ordering).double().log_softmax(1).flatten(2)
            probs = table.exp()
            known = torch.where(probs > 0, table, torch.zeros_like(table))
            mean = (probs * known).sum(1, keepdim=True)  # minus the entropy
            values = images[index].flatten(1).long()[:, None]
            found[0, index] = (table.gather(1, values) - mean).squeeze(1)
            found[1, index] = (probs * (known - mean).square()).sum(1)
            found[2, index] = (known - mean).abs().amax(1)
    return found


def _bernstein(total: Tensor, variance: Tensor, largest: Tensor) -> Tensor:
    """Bounds the two-sided p-values of sums of independent bounded terms: exact tests would need normal sums."""
    exponent = total.square() / (2 * (variance + largest * total.abs() / 3)).clamp_min(1e-300)
    p = (2 * (-exponent).exp()).clamp_max(1.0)
    return torch.where(total.abs() <= 1e-9, torch.ones_like(p), p)
