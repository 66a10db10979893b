"""Conditionals: their product is the likelihood; own samples are surprising as draws must be; nothing sees the future.

For x drawn from the model, log p(x_k | x_<k) plus the conditional's entropy has mean zero given x_<k at every k, and
its variance is known. Summed over entries it is a martingale. No enumeration is needed, so it holds at any size.

What is seen is found without gradients, and so what rounds, compares or looks up is found as well: one input is changed
at a time, and every conditional that changes with it has seen it. A finite receptive field or a blind spot does not
show on 3x3 images, and so wider ones are looked at too.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from harness.auditing.estimates import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import WIDE, Specimen, State, describe
from harness.auditing.trial import Evidence, NotApplicable, Trial
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, Unsupported
from harness.interface.sampling import Noise
from harness.interface.spec import ImageSpec

_IMAGES = 64
_FEWEST, _MOST = 8, 128
_FLOPS = 1.5e11

_ORDERINGS = 3
_CONTEXTS = 40  # a unit that is dead in one is alive in another
_ALL_INPUTS = 3  # contexts in which all inputs are changed; later ones look for what is missing
_SMALL = 64  # dimensions: up to here, nothing may be missing
_FEW = 0.03  # of the past: on wider images, this much may be, if it is scattered
_SCATTERED = "a mask hides too much (type A where B is due), units are too few, or the receptive field ends"
_MOST_FLOPS = 2e10  # a context
_ALL_FLOPS = 5e10
_KINDS: tuple[State, ...] = ("random", "positive", "strong")


@torch.no_grad()
def conditionals(laboratory: Laboratory) -> Iterator[Evidence]:
    """The likelihood is the product of the conditionals that are sampled from."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for specimen in laboratory.specimens("random", "fitted", spaces=laboratory.some(4)):
        model, images = specimen.model_as(Autoregressive), specimen.images(_IMAGES, "conditionals")
        members, far = [], 0.0
        for ordering in range(model.num_orderings):
            table = model.conditional_logits(images, ordering).log_softmax(1)
            expected = table.gather(1, images.long().unsqueeze(1)).squeeze(1)
            far = max(far, float((model.conditional_log_probs(images, ordering) - expected).abs().max()))
            members.append(expected.flatten(1).sum(1))
        mixture = torch.stack(members).logsumexp(0) - math.log(model.num_orderings)
        tolerance = specimen.tolerance(scale=float(mixture.abs().max()))
        yield Trial.exact(
            specimen.where, "conditional_log_probs against the log-softmax of conditional_logits", far, unit="nats",
            tolerance=tolerance, meaning="conditional_log_probs are not those of conditional_logits",
        )  # fmt: skip
        yield Trial.exact(
            specimen.where, "log_prob against the sum of the conditionals",
            float((model.log_prob(images) - mixture).abs().max()), tolerance=tolerance, unit="nats",
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
            count = min(_MOST, int(_FLOPS / (flops(specimen, model.conditional_logits) * passes)))
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


def dependence(laboratory: Laboratory) -> Iterator[Evidence]:
    """Nothing sees the future; all of the past is seen, or what is declared."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for first, cost in _affordable(laboratory):
        most = max(_ALL_INPUTS, min(_CONTEXTS, int(_ALL_FLOPS / cost)))
        for ordering in range(min(first.model_as(Autoregressive).num_orderings, _ORDERINGS)):
            yield from _compare(laboratory, first, ordering, most)


def _affordable(laboratory: Laboratory) -> Iterator[tuple[Specimen, int]]:
    """Yields the small spaces, the widest of each number of channels, and the full size, as far as they are cheap."""
    others = [laboratory.full] if laboratory.full is not None else []
    channels_done = set[int]()
    least: tuple[Specimen, int] | None = None
    for spec in filter(laboratory.takes, [*laboratory.small, *WIDE, *others]):
        is_small = spec in laboratory.small
        if spec.channels in channels_done and not is_small and spec not in others:
            continue
        first = next(laboratory.specimens("random", "fitted", "initial", spaces=[spec]), None)
        if first is None:
            continue
        cost = flops(first, first.model_as(Autoregressive).conditional_logits) * spec.num_dimensions
        if cost <= _MOST_FLOPS or is_small:
            yield first, cost
            if not is_small:
                channels_done.add(spec.channels)
        elif least is None or cost < least[1]:
            least = first, cost
    if least is not None and not channels_done:
        yield least  # expensive, but nothing wider than a kernel has been looked at


def _compare(laboratory: Laboratory, first: Specimen, ordering: int, most: int) -> Iterator[Evidence]:
    model, spec = first.model_as(Autoregressive), first.spec
    where = first.where + (f", ordering {ordering}" if model.num_orderings > 1 else "")
    steps = model.generation_steps(ordering).flatten()
    past = steps[:, None] > steps[None, :]  # (entry, input)
    declared = model.dependence(ordering)
    expected = past if declared is None else declared.cpu()
    if bool((expected & ~past).any()):
        what = "{} sees {}, which is not drawn before it".format(*_names((expected & ~past).nonzero()[0], spec))
        yield Trial.broken(where, f"dependence() declares that {what}")
        return
    seen = torch.zeros_like(past)
    for index in range(most):
        inputs = (expected & ~seen).any(0) if index >= _ALL_INPUTS else torch.ones(len(past), dtype=torch.bool)
        if index >= _ALL_INPUTS and not bool(inputs.any()):
            break
        specimen = first  # of a model without weights, always the same
        if first.state == "random":
            specimen = laboratory.specimen(spec, _KINDS[index % 3], variant=index // 3)
        seen |= _what_is_seen(specimen, ordering, index, inputs.nonzero().squeeze(1))
    leaks = seen & ~past
    yield _count(where, "entries seen that are not in the past", leaks, _leak(leaks, steps, spec))
    missing, extra = past & expected & ~seen, past & seen & ~expected
    unseen = float(missing.sum()) / max(1, int(expected.sum()))
    is_faint = spec.num_dimensions > _SMALL and 0 < unseen < _FEW
    if declared is None:
        yield from _undeclared(where, missing, unseen, spec, is_faint=is_faint)
        return
    if is_faint:
        # a recurrent network forgets: what is far away may change a conditional by less than its rounding
        yield f"{where}: {unseen:.1%} of what is declared is not seen: it is not there, or too faint to be"
        missing = torch.zeros_like(missing)
    yield _count(
        where, "entries of the past that are seen, but not as declared", missing | extra,
        f"dependence() is not what is found: {int(extra.sum())} entries are seen that it does not declare, "
        f"{int(missing.sum())} that it declares are not seen",
    )  # fmt: skip
    share = float(expected.sum()) / max(1, int(past.sum()))
    yield f"{where}: by its own declaration, a conditional sees {share:.1%} of its past"


def _undeclared(where: str, missing: Tensor, share: float, spec: ImageSpec, *, is_faint: bool) -> Iterator[Evidence]:
    """What is not seen is a defect, but for a few scattered entries of a wide image: random masks leave them out."""
    pairs = [[np.unravel_index(entry, spec.shape) for entry in pair] for pair in missing.nonzero().tolist()]
    pattern, meaning = _SCATTERED, ""
    if all(one[1:] == two[1:] for one, two in pairs):
        pattern = "channels of the same pixel are not seen"
    elif all(two[1] < one[1] and two[2] > one[2] for one, two in pairs):
        pattern = "a blind spot above and to the right, as masked convolutions without a vertical stack have it"
    elif is_faint:
        yield f"{where}: {share:.1%} of the past is never seen, {pattern}; dependence() would declare it"
        missing, pairs = torch.zeros_like(missing), []
    if pairs:
        example = " does not see ".join(_names(missing.nonzero()[-1], spec))
        nature = "Where this is the model's nature, declare it by dependence()"
        meaning = f"{share:.1%} of the past is never seen: {example}; {pattern}. {nature}"
    yield _count(where, "entries of the past that are not seen", missing, meaning)


@torch.no_grad()
def _what_is_seen(specimen: Specimen, ordering: int, base: int, which: Tensor) -> Tensor:
    """Returns (D, D) bool: whether entry (row) changes with input (column), in one context, of inputs ``which``."""
    model, spec = specimen.model_as(Autoregressive), specimen.spec
    image = specimen.images(1, "dependence", base)
    size = spec.num_dimensions
    seen = torch.zeros(size, size, dtype=torch.bool)
    for inputs in torch.split(which, max(1, 2**22 // (size * spec.levels))):
        changed = image.flatten(1).repeat(len(inputs) + 1, 1)  # the last one stays as it is
        index = torch.arange(len(inputs))
        shift = 1 + (inputs + base) % (spec.levels - 1)
        changed[index, inputs] = ((changed[index, inputs].long() + shift) % spec.levels).to(torch.uint8)
        found = model.conditional_logits(changed.view(-1, *spec.shape), ordering).log_softmax(1).flatten(2)
        reference = found[-1:]  # (1, levels, D)
        threshold = (1e-11 if specimen.dtype == torch.float64 else 1e-5) * max(1.0, float(reference.abs().max()))
        far = (found[:-1] - reference).abs().amax(1)  # (inputs, D)
        seen[:, inputs] = torch.logical_not(far.le(threshold)).T  # NaN counts as seen
    return seen


def _count(where: str, quantity: str, wrong: Tensor, meaning: str) -> Trial:
    return Trial.exact(where, quantity, int(wrong.sum()), unit="entries", meaning=meaning)


def _leak(wrong: Tensor, steps: Tensor, spec: ImageSpec) -> str:
    if not bool(wrong.any()):
        return ""
    pair = wrong.nonzero()[0]
    (one, other), (entry, seen) = _names(pair, spec), pair.tolist()
    if entry == seen:
        why = "the mask of a first layer lets an entry's own value through, or the order is one off"
        return f"{one} sees itself (and {int(wrong.diagonal().sum())} entries of {len(steps)} do): {why}"
    when = "in the same step" if int(steps[entry]) == int(steps[seen]) else "later"
    same_pixel = entry % (spec.height * spec.width) == seen % (spec.height * spec.width)
    cause = "the order of channels is not kept" if same_pixel else "a mask, a shift or an order is wrong"
    return f"the future leaks: {one} sees {other}, which is drawn {when}; {cause}"


def _names(entries: Tensor, spec: ImageSpec) -> list[str]:
    places = zip(*np.unravel_index(entries.numpy(), spec.shape), strict=True)
    return [
        f"(row {row}, column {column}, channel {channel})" if spec.channels > 1 else f"(row {row}, column {column})"
        for channel, row, column in places
    ]
