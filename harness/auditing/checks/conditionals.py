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
from harness.interface.model import Autoregressive

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


def of_logits(model: Autoregressive, images: Tensor) -> Tensor:
    """Returns (orderings, N, C, H, W) nats: the log-softmax of ``conditional_logits`` at what images (N, ...) show."""
    values, orderings = images.long().unsqueeze(1), range(model.num_orderings)
    tables = (model.conditional_logits(images, ordering).log_softmax(1) for ordering in orderings)
    return torch.stack([table.gather(1, values).squeeze(1) for table in tables])


def product(conditionals: Tensor) -> Tensor:
    """Returns (N,) nats: the equal mixture over orderings of the product of conditionals (orderings, N, C, H, W)."""
    return conditionals.flatten(2).sum(2).logsumexp(0) - math.log(len(conditionals))


@torch.no_grad()
def _product(specimen: Specimen, count: int) -> Iterator[Trial]:
    model, images = specimen.model_as(Autoregressive), specimen.images(count, "conditionals")
    expected = of_logits(model, images)
    found = torch.stack([model.conditional_log_probs(images, ordering) for ordering in range(model.num_orderings)])
    far, mixture = float(apart(found, expected).abs().max()), product(expected)
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
        if model.num_orderings > 1:  # else a sampler draws its own noise, as it does for everybody
            noise = model.draw_noise(count)
            images, orderings = sampler(count, noise=noise), noise.ordering
        else:
            images, orderings = sampler(count), torch.zeros(count, dtype=torch.int64)
    images = check_samples(images, count, model)
    surprises, values = _residuals(model, images, orderings)
    surprise, variance, largest = surprises
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
    steps_of = [model.generation_steps(ordering).flatten().argsort(stable=True) for ordering in orderings.tolist()]
    order = torch.stack(steps_of).expand(3, -1, -1)
    for words, residuals in (("log p(x_k | x_<k) + entropy", surprises), ("x_k minus its mean given x_<k", values)):
        if bool(residuals.isfinite().all()):
            yield _coupling(where, words, residuals.gather(2, order), jointly=model.draws_jointly)


def _coupling(where: str, words: str, residuals: Tensor, *, jointly: bool) -> Trial:
    """No draw tells anything of another: products of residuals (3, N, D) have mean 0 at every lag of images and steps.

    Of two entries the later one has mean zero given the other, so that the sum of products over all pairs of a lag is
    a martingale S whose conditional variances add up to V, here of terms in [-1, 1]. For every t > 0 the expectation of
    exp(t S - (e^t - 1 - t) V) is at most 1 (Freedman 1975), so is that of the mean over several t and both signs, and
    its inverse is a p-value (Markov). Images of a model that draws jointly may depend on one another.
    """
    value, variance, largest = residuals
    unit = torch.where(largest > 0, value / largest, 0.0)
    spread = torch.where(largest > 0, variance / largest.square(), 0.0)
    (count, size), padded = unit.shape, (2 * unit.shape[0], 2 * unit.shape[1])
    one, square, other = (torch.fft.rfft2(each, s=padded) for each in (unit, unit.square(), spread))
    total, total_variance = (
        torch.fft.irfft2(product, s=padded)[:, :size] for product in (one.conj() * one, square.conj() * other)
    )
    is_lag = torch.ones(2 * count, size, dtype=torch.bool)  # row j: images j apart, or j - 2N, column d: d steps later
    is_lag[count:, 0] = is_lag[0, 0] = is_lag[count] = False
    if jointly:
        is_lag[1:] = False
    rates = [2.0 ** (-step / 2) for step in range(-2, 15)]
    evidence = torch.full_like(total, -math.inf)
    for rate in rates:
        cost = (math.expm1(rate) - rate) * total_variance.clamp_min(0)
        evidence = evidence.logaddexp(rate * total - cost).logaddexp(-rate * total - cost)
    evidence -= math.log(2 * len(rates))
    lags, worst = int(is_lag.sum()), int(torch.where(is_lag, evidence, -math.inf).argmax())
    p = min(1.0, math.exp(-float(evidence.flatten()[worst])) * lags) if lags else 1.0
    image, step = (worst // size + count) % (2 * count) - count, worst % size

    def smallest(threshold: float) -> str:
        needed = math.sqrt(2 * math.log(2 * len(rates) * lags / max(threshold, 1e-300))) + 1.645
        return f"a correlation of {needed / math.sqrt(count * size):.2g} at one lag"

    return Trial(
        where, f"products of {words} at {lags} lags, the worst is {image} images and {step} entries", p,
        smallest_defect=smallest, meaning="draws of different entries or images depend on one another: random numbers "
        "that are shared, repeated or mirrored",
    )  # fmt: skip


def _residuals(model: Autoregressive, images: Tensor, orderings: Tensor) -> tuple[Tensor, Tensor]:
    """Returns twice (3, N, D): a residual, its variance under the conditional, and its largest absolute value.

    The first are of log p, the second of the values themselves.
    """
    size = model.spec.num_dimensions
    found = torch.empty(2, 3, len(images), size, dtype=torch.float64)
    rows = max(1, 2**22 // (size * model.spec.levels))
    levels = torch.arange(model.spec.levels, dtype=torch.float64)[None, :, None]
    for ordering in sorted(set(orderings.tolist())):
        for index in torch.split((orderings == ordering).nonzero().squeeze(1), rows):
            table = model.conditional_logits(images[index], ordering).double().log_softmax(1).flatten(2)
            probs, values = table.exp(), images[index].flatten(1).long()[:, None]
            for kind, score in enumerate((table, levels.expand_as(table))):
                known = torch.where(probs > 0, score, torch.zeros_like(score))
                mean = (probs * known).sum(1, keepdim=True)  # of log p: minus the entropy
                found[kind, 0, index] = (score.gather(1, values) - mean).squeeze(1)
                found[kind, 1, index] = (probs * (known - mean).square()).sum(1)
                found[kind, 2, index] = torch.where(probs > 0, known - mean, 0.0).abs().amax(1)
    return found[0], found[1]


def _bernstein(total: Tensor, variance: Tensor, largest: Tensor) -> Tensor:
    """Bounds the two-sided p-values of sums of independent bounded terms: exact tests would need normal sums."""
    exponent = total.square() / (2 * (variance + largest * total.abs() / 3)).clamp_min(1e-300)
    p = (2 * (-exponent).exp()).clamp_max(1.0)
    return torch.where(total.abs() <= 1e-9, torch.ones_like(p), p)
