"""Dependence: nothing sees the future; all of the past is seen, or what is declared.

One input is changed at a time, and every conditional that changes with it has seen it (the method needs no gradients,
and so finds what rounds, compares or looks up as well). A finite receptive field or a blind spot does not show on 3x3
images, and so wider ones are looked at too.
"""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from harness.auditing.cost import operations
from harness.auditing.laboratory import Laboratory, randomise
from harness.auditing.subject import WIDE, Specimen, State, apart, largest
from harness.auditing.trial import NOT_REACHED, Evidence, NotApplicable, Trial
from harness.interface.model import Autoregressive
from harness.interface.spec import ImageSpec
from harness.support.randomness import derive_seed, generator

_ORDERINGS = 3
_CONTEXTS = 40  # a unit that is dead in one is alive in another
_ALL_INPUTS = 3  # contexts in which all inputs are changed; later ones look for what is missing
_SMALL = 64  # dimensions: up to here, nothing may be missing
_FEW = 0.03  # of the past: on wider images, this much may be, if it is scattered
_ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-5}  # of log-probabilities, as a part of them
_IMPOSSIBLE = -700.0  # nats, of what is masked by a large negative logit: it must not coarsen what others are held to
_FAINT = {torch.float64: 1e5, torch.float32: 100.0}  # of what rounding may do: what falls below it by and by fades away
_SCATTERED = "a mask hides too much (type A where B is due), units are too few, or the receptive field ends"
_CONTEXT, _SPACE = 0.3, 0.5  # of the budget: what a context may cost, and all of those of a space
_FEWEST_INPUTS = 16  # of an expensive model that takes nothing smaller
_KINDS: tuple[State, ...] = ("random", "positive", "strong")


def probe_dependence(model: Autoregressive, ordering: int = 0) -> Tensor:
    """Returns what a model's ``dependence`` declares, (D, D) bool, as its own conditionals show it.

    Row i is true where entry i's conditional sees entry j of its past. A receptive field that ends by construction is
    declared by ``return harness.probe_dependence(self, ordering)``.

    A copy with random weights is looked at in one image after another, until three in a row show nothing new: by the
    gradients of its logits, exactly zero where there is no path, so that a dependence fainter than rounding is found;
    and by changing one entry at a time, for what is compared or looked up. This takes some dozen evaluations of D
    images. It shows what the code does, not what was meant: hold the share of the past that the audit prints against
    your paper's. What cancels but for rounding counts as seen; what is both faint and looked up is missed.
    """
    steps = model.generation_steps(ordering).flatten().cpu()
    past, everything, since = steps[:, None] > steps[None, :], torch.arange(len(steps)), 0
    seen = torch.zeros_like(past)
    for index in range(_CONTEXTS):
        kind, seed = _KINDS[index % 3], derive_seed(0, "probe", index)
        specimen, before = Specimen(deepcopy(model).cpu().eval(), model.spec, kind, seed), seen
        randomise(specimen.model, gain=3.0 if kind == "strong" else 1.0, seed=seed, positive=kind == "positive")
        seen = seen | _gradients(specimen, ordering, index) | _what_is_seen(specimen, ordering, index, everything)
        since = since + 1 if torch.equal(seen, before) else 0
        if since == _ALL_INPUTS:
            break
    return seen & past


def _gradients(specimen: Specimen, ordering: int, base: int) -> Tensor:
    """Returns (D, D) bool: whether the log-odds of levels of an entry (row) have a gradient by an input (column)."""
    model, spec = specimen.model_as(Autoregressive), specimen.spec
    seen = torch.zeros(spec.num_dimensions, spec.num_dimensions, dtype=torch.bool)
    levels = torch.randperm(spec.levels, generator=generator(specimen.seed, "levels"))
    signs = (levels - (spec.levels - 1) / 2).sign().to(specimen.dtype)  # half of the levels against the other half
    image = specimen.images(1, "dependence", base).to(specimen.dtype)
    for rows in torch.split(torch.arange(len(seen)), max(1, 2**22 // (len(seen) * spec.levels))):
        inputs = image.repeat(len(rows), 1, 1, 1).requires_grad_()
        with torch.enable_grad(), suppress(RuntimeError, TypeError, IndexError):  # of code that takes integers alone
            logits = model.conditional_logits(inputs, ordering).flatten(2)[torch.arange(len(rows)), :, rows]
            [found] = torch.autograd.grad((logits @ signs).sum(), inputs)
            seen[rows] = torch.logical_not(found.flatten(1).eq(0))  # NaN counts as seen
    return seen


def dependence(laboratory: Laboratory) -> Iterator[Evidence]:
    """Nothing sees the future; all of the past is seen, or what is declared."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for first, cost in _affordable(laboratory):
        contexts = _SPACE * laboratory.budget / cost
        most = max(_ALL_INPUTS, min(_CONTEXTS, int(contexts)))
        size = first.spec.num_dimensions
        count = min(size, max(_FEWEST_INPUTS, int(size * contexts / _ALL_INPUTS)))
        if count < size:
            yield f"{first.where}: all but {count} of {size} inputs: {NOT_REACHED}"
        chosen = torch.randperm(size, generator=generator(first.seed, "inputs"))[:count]
        for ordering in range(min(first.model_as(Autoregressive).num_orderings, _ORDERINGS)):
            yield from _compare(laboratory, first, ordering, most, torch.isin(torch.arange(size), chosen))


def _affordable(laboratory: Laboratory) -> Iterator[tuple[Specimen, float]]:
    """Yields the small spaces, the widest of each number of channels, and the full size, as far as they are cheap."""
    others = [laboratory.full] if laboratory.full is not None else []
    channels_done = set[int]()
    least: tuple[Specimen, float] | None = None
    for spec in filter(laboratory.takes, [*laboratory.small, *WIDE, *others]):
        is_small = spec in laboratory.small
        if spec.channels in channels_done and not is_small and spec not in others:
            continue
        first = next(laboratory.specimens("random", "fitted", "initial", spaces=[spec]), None)
        if first is None:
            continue
        cost = operations(first, first.model_as(Autoregressive).conditional_logits, spec.num_dimensions)
        if cost <= _CONTEXT * laboratory.budget or is_small:
            yield first, cost
            if not is_small:
                channels_done.add(spec.channels)
            continue
        laboratory.notes[f"{first.where}: {NOT_REACHED}"] = None
        if least is None or cost < least[1]:
            least = first, cost
    if least is not None and not channels_done:
        del laboratory.notes[f"{least[0].where}: {NOT_REACHED}"]
        yield least  # expensive, but nothing wider than a kernel has been looked at


def _compare(laboratory: Laboratory, first: Specimen, ordering: int, most: int, chosen: Tensor) -> Iterator[Evidence]:
    """Changes the ``chosen`` inputs (D,) bool of up to ``most`` contexts."""
    model, spec = first.model_as(Autoregressive), first.spec
    where = first.where + (f", ordering {ordering}" if model.num_orderings > 1 else "")
    steps = model.generation_steps(ordering).flatten()
    past = steps[:, None] > steps[None, :]  # (entry, input)
    declared = model.dependence(ordering)
    expected = (past if declared is None else declared.cpu()) & chosen
    if bool((expected & ~past).any()):
        what = "{} sees {}, which is not drawn before it".format(*_names((expected & ~past).nonzero()[0], spec))
        yield Trial.broken(where, f"dependence() declares that {what}")
        return
    strength = torch.zeros(past.shape, dtype=torch.float64)
    for index in range(most):
        seen = strength > 1
        inputs = (expected & ~seen).any(0) if index >= _ALL_INPUTS else chosen
        if index >= _ALL_INPUTS and not bool(inputs.any()):
            break
        specimen = first  # of a model without weights, always the same
        with suppress(NotApplicable):  # of weights whose numbers are not finite
            if first.state == "random":
                specimen = laboratory.specimen(spec, _KINDS[index % 3], variant=index // 3)
        strength = strength.maximum(_changes(specimen, ordering, index, inputs.nonzero().squeeze(1)))
    seen = strength > 1
    leaks = seen & ~past
    yield _count(where, "entries seen that are not in the past", leaks, _leak(leaks, steps, spec))
    past = past & chosen
    missing, extra = past & expected & ~seen, past & seen & ~expected
    if spec not in laboratory.small and bool((faded := missing & _has_faded(strength, steps, first.precision)).any()):
        share = float(faded.sum()) / int(expected.sum())
        yield f"{where}: {share:.1%} of the past fades, with the steps between, to less than rounding"
        missing = missing & ~faded
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


def _has_faded(strength: Tensor, steps: Tensor, precision: torch.dtype) -> Tensor:
    """Returns (D, D) bool: whether no influence over so many steps is more than faint, after one that was just seen.

    A recurrent network or a filter forgets, and its influence falls step by step until rounding hides it; that of a
    mask, or of a receptive field that ends, is strong up to its end; and beside a blind spot, others see as far.
    """
    lags = (steps[:, None] - steps[None, :]).clamp_min(0)
    most = torch.zeros(int(lags.max()) + 1, dtype=torch.float64)
    most.scatter_reduce_(0, lags.flatten(), strength.flatten(), "amax")
    most[0] = torch.inf  # no past
    farther = most.flip(0).cummax(0).values.flip(0)  # over as many steps or more
    faintest = torch.where(most > 1, most, torch.inf).cummin(0).values  # that was seen, over as many steps or fewer
    return ((farther < _FAINT[precision]) & (faintest < _FAINT[precision]))[lags]


def _what_is_seen(specimen: Specimen, ordering: int, base: int, which: Tensor) -> Tensor:
    """Returns (D, D) bool: whether entry (row) changes with input (column), in one context, of inputs ``which``."""
    return _changes(specimen, ordering, base, which) > 1


@torch.no_grad()
def _changes(specimen: Specimen, ordering: int, base: int, which: Tensor) -> Tensor:
    """Returns (D, D): how far entry (row) changes with input (column), as a multiple of what rounding may do."""
    model, spec = specimen.model_as(Autoregressive), specimen.spec
    image = specimen.images(1, "dependence", base)
    size = spec.num_dimensions
    changes = torch.zeros(size, size, dtype=torch.float64)
    for inputs in torch.split(which, max(1, 2**22 // (size * spec.levels))):
        changed = image.flatten(1).repeat(len(inputs) + 1, 1)  # the last one stays as it is
        index = torch.arange(len(inputs))
        shift = 1 + (inputs + base) % (spec.levels - 1)
        changed[index, inputs] = ((changed[index, inputs].long() + shift) % spec.levels).to(torch.uint8)
        found = model.conditional_logits(changed.view(-1, *spec.shape), ordering).log_softmax(1).flatten(2)
        reference = found[-1:]  # (1, levels, D)
        possible = largest(reference.clamp_min(_IMPOSSIBLE))
        threshold = _ROUNDING[specimen.precision] * reference.abs().clamp_min(max(1.0, possible))
        far = (apart(found[:-1], reference).abs() / threshold).nan_to_num(nan=torch.inf)  # NaN counts as seen
        changes[:, inputs] = far.amax(1).T
    return changes


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
