"""Conditionals: their product is the likelihood; and dependence: nothing sees the future, all of the past is seen.

For dependence one input is changed at a time, and every conditional that changes with it has seen it (the method needs
no gradients, and so finds what rounds, compares or looks up as well). A finite receptive field or a blind spot does not
show on 3x3 images, and so wider ones are looked at too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.auditing.estimates import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.spaces import WIDE
from harness.auditing.subject import Specimen, State
from harness.auditing.trial import Evidence, Note, Trial
from harness.interface.model import Autoregressive
from harness.interface.spec import ImageSpec

_IMAGES = 64
_ORDERINGS = 3
_CONTEXTS = 40  # a unit that is dead in one is alive in another
_ALL_INPUTS = 3  # contexts in which all inputs are changed; later ones look for what is missing
_SMALL = 64  # dimensions: up to here, nothing may be missing
_FEW = 0.03  # of the past: on wider images, this much may be, if it is scattered
_SCATTERED = "a mask hides too much (type A where B is due), units are too few, or the receptive field ends"
_MOST_FLOPS = 2e10  # a context
_ALL_FLOPS = 5e10


def conditionals(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields how far ``log_prob`` and ``conditional_log_probs`` are from what ``conditional_logits`` say."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for specimen in laboratory.specimens("random", "fitted", spaces=laboratory.some(4)):
        yield from _agreement(specimen)


@torch.no_grad()
def _agreement(specimen: Specimen) -> Iterator[Trial]:
    model = specimen.model_as(Autoregressive)
    images = specimen.images(_IMAGES, "conditionals")
    members, worst = [], 0.0
    for ordering in range(model.num_orderings):
        table = model.conditional_logits(images, ordering).log_softmax(1)
        expected = table.gather(1, images.long().unsqueeze(1)).squeeze(1)
        worst = max(worst, _distance(model.conditional_log_probs(images, ordering), expected))
        members.append(expected.flatten(1).sum(1))
    mixture = torch.stack(members).logsumexp(0) - math.log(model.num_orderings)
    scale = float(mixture.abs().max())
    yield Trial.exact(
        specimen.where, "conditional_log_probs against the log-softmax of conditional_logits", worst, unit="nats",
        tolerance=specimen.tolerance(scale=scale), meaning="conditional_log_probs are not those of conditional_logits",
    )  # fmt: skip
    meaning = (
        "log_prob is not the sum of the conditionals' log-probabilities: what is scored is not what is sampled "
        "(another activation or clamp, a mean, a missing entry, or a mixture over orderings that is averaged in logs)"
    )
    yield Trial.exact(
        specimen.where, "log_prob against the sum of the conditionals", _distance(model.log_prob(images), mixture),
        tolerance=specimen.tolerance(scale=scale), unit="nats", meaning=meaning,
    )  # fmt: skip


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def dependence(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields, for every space and some orderings, what is seen against what should be."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for contexts, cost in _affordable(laboratory):
        model = contexts.specimen.model_as(Autoregressive)
        for ordering in range(min(model.num_orderings, _ORDERINGS)):
            yield from _compare(contexts, ordering, most=max(_ALL_INPUTS, min(_CONTEXTS, int(_ALL_FLOPS / cost))))


def _affordable(laboratory: Laboratory) -> Iterator[tuple[_Contexts, int]]:
    """Yields the small spaces, the widest of each number of channels, and the full size, as far as they are cheap."""
    others = [laboratory.full] if laboratory.full is not None else []
    channels_done = set[int]()
    least: tuple[_Contexts, int] | None = None
    for spec in [*laboratory.small, *WIDE, *others]:
        is_small, is_full = spec in laboratory.small, spec in others
        if not laboratory.takes(spec) or (spec.channels in channels_done and not is_small and not is_full):
            continue
        contexts = _Contexts(laboratory, spec)
        if not contexts.can_be_had:
            continue
        model = contexts.specimen.model_as(Autoregressive)
        cost = flops(contexts.specimen, model.conditional_logits) * spec.num_dimensions
        if cost <= _MOST_FLOPS or is_small:
            yield contexts, cost
            if not is_small:
                channels_done.add(spec.channels)
        elif least is None or cost < least[1]:
            least = (contexts, cost)
    if least is not None and not channels_done:
        yield least  # expensive, but nothing wider than a kernel has been looked at


class _Contexts:
    """Weights and images under which conditionals are looked at: random ones of several kinds, if they can be had."""

    def __init__(self, laboratory: Laboratory, spec: ImageSpec) -> None:
        self._laboratory, self._spec = laboratory, spec
        trained = list(laboratory.specimens("random", spaces=[spec]))
        self._only = None if trained else next(laboratory.specimens("fitted", "initial", spaces=[spec]), None)
        self._first = trained[0] if trained else self._only

    @property
    def can_be_had(self) -> bool:
        """Whether there are any."""
        return self._first is not None

    @property
    def specimen(self) -> Specimen:
        """One of them."""
        assert self._first is not None
        return self._first

    def __getitem__(self, index: int) -> Specimen:
        if self._only is not None:
            return self._only
        kinds: tuple[State, ...] = ("random", "positive", "strong")
        return self._laboratory.specimen(self._spec, kinds[index % 3], variant=index // 3)


def _compare(contexts: _Contexts, ordering: int, *, most: int) -> Iterator[Evidence]:
    first = contexts.specimen
    model, spec = first.model_as(Autoregressive), first.spec
    where = first.where + (f", ordering {ordering}" if model.num_orderings > 1 else "")
    steps = model.generation_steps(ordering).flatten()
    past = steps[:, None] > steps[None, :]  # (entry, input)
    declared = model.dependence(ordering)
    expected = past if declared is None else declared.cpu()
    if bool((expected & ~past).any()):
        entry, other = (expected & ~past).nonzero()[0].tolist()
        what = f"{_name(entry, spec)} sees {_name(other, spec)}, which is not drawn before it"
        yield Trial.broken(where, f"dependence() declares that {what}")
        return
    seen = torch.zeros_like(past)
    for index in range(most):
        missing = expected & ~seen
        inputs = missing.any(0) if index >= _ALL_INPUTS else torch.ones(len(past), dtype=torch.bool)
        if index >= _ALL_INPUTS and not bool(inputs.any()):
            break
        seen |= _what_is_seen(contexts[index], ordering, index, inputs.nonzero().squeeze(1))
    leaks = seen & ~past
    yield _trial(where, "entries seen that are not in the past", leaks, _leak(leaks, steps, spec))
    missing, extra = past & expected & ~seen, past & seen & ~expected
    if declared is None:
        yield from _undeclared(where, missing, past, spec)
        return
    unseen = float(missing.sum()) / max(1, int(expected.sum()))
    if spec.num_dimensions > _SMALL and 0 < unseen < _FEW:
        # a recurrent network forgets: what is far away may change a conditional by less than its rounding
        yield Note(f"{where}: {unseen:.1%} of what is declared is not seen: it is not there, or too faint to be")
        missing = torch.zeros_like(missing)
    yield _trial(
        where, "entries of the past that are seen, but not as declared", missing | extra,
        f"dependence() is not what is found: {int(extra.sum())} entries are seen that it does not declare, "
        f"{int(missing.sum())} that it declares are not seen",
    )  # fmt: skip
    share = float(expected.sum()) / max(1, int(past.sum()))
    yield Note(f"{where}: by its own declaration, a conditional sees {share:.1%} of its past")


def _undeclared(where: str, missing: Tensor, past: Tensor, spec: ImageSpec) -> Iterator[Evidence]:
    """What is not seen is a defect, but for a few scattered entries of a wide image: random masks leave them out."""
    pattern, share = _pattern(missing, spec), float(missing.sum()) / max(1, int(past.sum()))
    if pattern == _SCATTERED and spec.num_dimensions > _SMALL and 0 < share < _FEW:
        yield Note(f"{where}: {share:.1%} of the past is never seen, {pattern}; dependence() would declare it")
        missing = torch.zeros_like(missing)
    meaning = ""
    if bool(missing.any()):
        entry, other = missing.nonzero()[-1].tolist()
        meaning = (
            f"{share:.1%} of the past is never seen: {_name(entry, spec)} does not see {_name(other, spec)}; "
            f"{pattern}. Where this is the model's nature, declare it by dependence()"
        )
    yield _trial(where, "entries of the past that are not seen", missing, meaning)


@torch.no_grad()
def _what_is_seen(specimen: Specimen, ordering: int, base: int, which: Tensor) -> Tensor:
    """Returns (D, D) bool: whether the conditional of entry (row) changes with input (column), in one context.

    ``which`` (n,) int64 are the inputs that are changed; columns of others are false.
    """
    model, spec = specimen.model_as(Autoregressive), specimen.spec
    image = specimen.images(1, "dependence", base)
    size = spec.num_dimensions
    seen = torch.zeros(size, size, dtype=torch.bool)
    rows = max(1, 2**22 // (size * spec.levels))
    for inputs in torch.split(which, rows):
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


def _trial(where: str, quantity: str, wrong: Tensor, meaning: str) -> Trial:
    return Trial.exact(where, quantity, int(wrong.sum()), tolerance=0, unit="entries", meaning=meaning)


def _leak(wrong: Tensor, steps: Tensor, spec: ImageSpec) -> str:
    if not bool(wrong.any()):
        return ""
    entry, other = wrong.nonzero()[0].tolist()
    if entry == other:
        return (
            f"{_name(entry, spec)} sees itself (and {int(wrong.diagonal().sum())} entries of {len(steps)} do): "
            "the mask of a first layer lets an entry's own value through, or the order is one off"
        )
    when = "in the same step" if int(steps[entry]) == int(steps[other]) else "later"
    same_pixel = _place(entry, spec)[1:] == _place(other, spec)[1:]
    cause = "the order of channels is not kept" if same_pixel else "a mask, a shift or an order is wrong"
    return f"the future leaks: {_name(entry, spec)} sees {_name(other, spec)}, which is drawn {when}; {cause}"


def _pattern(missing: Tensor, spec: ImageSpec) -> str:
    pairs = [(_place(one, spec), _place(two, spec)) for one, two in missing.nonzero().tolist()]
    if all(one[1:] == two[1:] for one, two in pairs):
        return "channels of the same pixel are not seen"
    if all(two[1] < one[1] and two[2] > one[2] for one, two in pairs):
        return "a blind spot above and to the right, as masked convolutions without a vertical stack have it"
    return _SCATTERED


def _place(entry: int, spec: ImageSpec) -> tuple[int, int, int]:
    channel, rest = divmod(entry, spec.height * spec.width)
    return channel, *divmod(rest, spec.width)


def _name(entry: int, spec: ImageSpec) -> str:
    channel, row, column = _place(entry, spec)
    where = f"row {row}, column {column}"
    return f"({where}, channel {channel})" if spec.channels > 1 else f"({where})"
