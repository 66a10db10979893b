"""What shows only at size: entries that a score leaves out, and float32, in which benchmarks are run.

A slice, a chunk that is dropped or a product that underflows is right on every space that can be enumerated.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from harness.auditing.estimates import flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, State, describe, dtype_of, largest
from harness.auditing.trial import NOT_DECIDED, Evidence, NotApplicable, Trial
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    Inference,
    Invertible,
    LatentVariable,
    Model,
    Unsupported,
    VariationalBound,
)
from harness.support.observers import uses_digits
from harness.support.randomness import generator

_KINDS: tuple[State, ...] = ("random", "positive", "strong")
_CONTEXTS, _QUIET = 12, 3  # contexts in a row that show nothing new end the search
_SWEEP, _BLOCKS = 2e9, 8  # operations of a context, beyond those of the blocks
_TIES = 0.2  # of the entries: frequencies of a few random images may tie, and then move nothing
_FEW_MOVE = 0.02  # of the entries: a bound that draws which of them to score moves by few
_IMAGES, _SAMPLING = 4, 1e9  # operations of own samples
_WIDTHS = range(1, 513)  # of latents
_ROUNDING, _FACTOR, _AT_LEAST, _UNDECIDED = 2.0**-24, 30.0, 2e-4, 0.05


def _specimens(laboratory: Laboratory, *states: State) -> Iterator[Iterator[Specimen]]:
    """Yields specimens of the benchmark's own size, then of a wide space, of other channels where there is one.

    Flows have their first weights at full size: that others are finite shows in inverses, which may take a pass an
    entry.
    """
    model, full = (
        laboratory.require(ExactLikelihood | VariationalBound, "an implicit model scores nothing"),
        laboratory.full,
    )
    others = [spec for spec in laboratory.wide if full is None or spec.channels != full.channels]
    sizes = dict.fromkeys(filter(None, [full, *(others or laboratory.wide)[:1]]))
    if not sizes:
        raise NotApplicable("the model takes no space that is wide")
    for spec in sizes:
        first = isinstance(model, Invertible) and spec == full
        yield laboratory.specimens(*(("initial", "fitted") if first else states), spaces=[spec])


def _given(specimen: Specimen, count: int) -> Tensor | None:
    """Returns what makes a bound's score certain, (count, ...) float32: noise in the cells, or latents; else None."""
    model, random = specimen.model, generator(specimen.seed, "given")
    if isinstance(model, Invertible):
        return 0.05 + 0.9 * torch.rand(count, *specimen.spec.shape, generator=random)
    if not isinstance(model, LatentVariable) or isinstance(model, ExactLikelihood):
        return None
    widths, image = list(_WIDTHS), torch.zeros(1, *specimen.spec.shape, dtype=torch.uint8)
    with suppress(NotImplementedError):
        widths = [sum(model.latent_sizes)] if isinstance(model, Inference) else widths
    for width in widths:
        with suppress(Exception):  # of a width that is not the model's
            latents = torch.randn(count, width, generator=random)
            if _score(specimen, image, latents[:1]).shape == (1,):
                return latents
    return None


def _score(specimen: Specimen, images: Tensor, given: Tensor | None, *, jitter: int = 0) -> Tensor:
    """Returns (N,) float64 scores: log p, that of images and what is ``given``, or else a bound under one seed.

    ``jitter`` numbers a change, at random, of all weights and of what is given, as large as float32 rounds.
    """
    model, random = specimen.model, generator(jitter, "rounding")
    if isinstance(model, Invertible) and given is not None:
        given = images + given  # in float32: the same in both types
    with specimen.rng("score"), _rounded(model, jitter):
        if given is not None:
            noise = torch.randn(given.shape, generator=random, dtype=torch.float64) if jitter else torch.zeros(())
            given = (given * (1 + _ROUNDING * noise.double())).to(dtype_of(model))
        if isinstance(model, ExactLikelihood):
            values = model.log_prob(images)
        elif isinstance(model, Invertible) and given is not None:
            latents, log_det = model.transform(given)
            values = model.log_prior(latents) + log_det
        elif isinstance(model, LatentVariable) and given is not None:
            values = model.log_likelihood(images, given) + model.log_prior(given)
        else:
            values = specimen.model_as(VariationalBound).elbo(images)
    return values.double()


@contextmanager
def _rounded(model: Model, jitter: int) -> Iterator[None]:
    random, values = generator(jitter, "weights"), [*model.parameters(), *model.buffers()]
    changed = [value for value in values if jitter and value.is_floating_point()]
    before = [value.clone() for value in changed]
    try:
        for value in changed:
            noise = torch.randn(value.shape, dtype=torch.float64, generator=random)
            value.copy_(value * (1 + _ROUNDING * noise).to(value))
        yield
    finally:
        for value, old in zip(changed, before, strict=True):
            value.copy_(old)


@torch.no_grad()
def every_entry(laboratory: Laboratory) -> Iterator[Evidence]:
    """Every entry of an image moves its score."""
    for specimens in _specimens(laboratory, "random", "fitted", "initial"):
        for first in list(specimens)[:1]:
            yield from _unmoved(laboratory, first)


def _unmoved(laboratory: Laboratory, first: Specimen) -> Iterator[Evidence]:
    """Changes one entry after another in one image, in images and weights of several kinds, until nothing new shows.

    A dead unit is alive in another context, and random weights make no conditional uniform. Latents and noise are
    fixed, since an encoder sees all entries. Where all single entries cost too much, blocks are changed as one, and the
    last and the first entry and some others besides: an end that is cut off begins with the last, and where a block
    moves nothing, none of its entries does.
    """
    spec, where, given = first.spec, first.where, _given(first, 1)
    size, is_random = spec.num_dimensions, given is None and not isinstance(first.model, ExactLikelihood)
    cost = flops(first, lambda images: _score(first, images, _repeated(given, len(images))))
    rows, affordable = torch.eye(size, dtype=torch.bool), int(_SWEEP / cost)
    if affordable < size:
        drawn = torch.randperm(size, generator=generator(first.seed, "entries")).tolist()[:affordable]
        rows = torch.cat([one_hot(torch.arange(size) * _BLOCKS // size).T.bool(), rows[[size - 1, 0, *drawn]]])
        yield f"{where}: {len(rows) - _BLOCKS} of {size} entries were changed alone, and blocks of {size // _BLOCKS}"
    tried, quiet, specimen = len(rows), 0, first
    for context in range(_CONTEXTS):
        if not laboratory.affords(len(rows) * cost, f"{where}: all entries"):
            return
        if context and first.state == "random":
            with suppress(NotApplicable):  # of weights whose numbers are not finite
                specimen = laboratory.specimen(spec, _KINDS[context % 3], variant=context // 3)
        moved = _moved(specimen, rows, given, context, is_random=is_random)
        if is_random and context == 0 and float(moved.double().mean()) < _FEW_MOVE:
            yield f"{where}: few entries move one draw of the bound: {NOT_DECIDED}"
            return
        rows, quiet = rows[~moved], 0 if bool(moved.any()) else quiet + 1
        if not len(rows) or quiet == _QUIET:
            break
    if len(rows) == tried:
        yield f"{where}: no entry moves the score, as of a uniform distribution"
        return
    entries, few = rows.any(0), int(rows.any(0).sum())
    if first.state == "fitted" and 0 < few < _TIES * size:
        yield f"{where}: {few} entries do not move the score: frequencies tie, or a part is left out"
        entries = torch.zeros_like(entries)
    places = entries.view(spec.shape).nonzero().tolist()
    ends = ["row {1}, column {2}, channel {0}".format(*place) for place in places[:1] + places[-1:]]
    yield Trial.exact(
        where, "entries that do not move the score", len(places), unit="entries",
        meaning=f"{len(places)} of {size} entries do not move the score, from {' to '.join(ends)}: a slice, or a chunk "
        "that is dropped",
    )  # fmt: skip


def _repeated(given: Tensor | None, count: int) -> Tensor | None:
    return None if given is None else given.expand(count, *given.shape[1:])


def _moved(specimen: Specimen, rows: Tensor, given: Tensor | None, context: int, *, is_random: bool) -> Tensor:
    """Returns (R,) bool: whether changing the entries of each of (R, D) moves a score. What is unknown counts as moved.

    Random scores are compared under one seed, in batches of one size: what then differs, differs by the entries.
    """
    spec, moved = specimen.spec, list[Tensor]()
    image = specimen.images(1, "every entry", context)
    if not bool(_score(specimen, image, given).isfinite().all()):
        image = image // 2  # an upper level may be impossible
    shift = torch.randint(1, spec.levels, (spec.num_dimensions,), generator=generator(specimen.seed, "shift", context))
    for part in torch.split(rows, max(1, min(256, 2**21 // (spec.num_dimensions * spec.levels)))):
        changed = ((image.flatten(1).long() + part * shift) % spec.levels).to(torch.uint8).view(-1, *spec.shape)
        batches = [image.expand_as(changed), changed] if is_random else [torch.cat([image, changed])]
        values = torch.cat([_score(specimen, batch, _repeated(given, len(batch))) for batch in batches])
        before, after = values[: -len(changed)], values[-len(changed) :]
        threshold = (1e-11 if specimen.precision == torch.float64 else 1e-6) * max(1.0, largest(before))
        moved.append(torch.logical_not((after - before).abs().le(threshold)))  # of -inf twice, NaN: unknown
    return torch.cat(moved)


@torch.no_grad()
def float32(laboratory: Laboratory) -> Iterator[Evidence]:
    """Scores in float32 are finite where those in float64 are, and differ from them by rounding alone."""
    costly = True
    for specimens in _specimens(laboratory, "initial", "fitted", "shrunk"):
        for specimen in specimens:
            if specimen.dtype != torch.float64:
                yield f"{describe(specimen.spec)}: the model computes in float32 alone"
                continue
            is_cheap = _IMAGES * _sampling_flops(laboratory, specimen) <= _SAMPLING
            costly = costly and not is_cheap
            yield from _against_float64(laboratory, specimen, _IMAGES if is_cheap else 0)
    if costly:
        yield "own samples cost too much: random images alone were scored"


def _sampling_flops(laboratory: Laboratory, specimen: Specimen) -> float:
    """What a sample costs, as many scores as on a small space, or more: samplers may take a pass for each entry."""
    small = next(laboratory.specimens("initial", "fitted", spaces=laboratory.small[:1]), None)
    if small is None:
        return math.inf
    grown = specimen.spec.num_dimensions / small.spec.num_dimensions
    of_small, of_large = (flops(one, partial(_score, one, given=None)) for one in (small, specimen))
    a_sample = flops(small, lambda images: small.model.sample(len(images))) / of_small * of_large
    return a_sample * (grown if isinstance(small.model, Autoregressive | Invertible) else 1.0)


def _against_float64(laboratory: Laboratory, specimen: Specimen, count: int) -> Iterator[Evidence]:
    """Compares scores of ``count`` own samples, drawn in float32, and of random images.

    What rounding may do is measured: by how much the score in float64 changes when weights are rounded at random.
    """
    where, single, images = specimen.where, laboratory.single(specimen), specimen.images(_IMAGES, "float32")
    given = _given(specimen, count + _IMAGES)
    try:
        if count:
            with specimen.rng("float32 samples"):
                images = torch.cat([single.model.sample(count), images])
        found = _score(single, images, given)
    except Unsupported:
        raise
    except Exception as error:  # somebody else's code: anything can happen
        raised = f"raises {type(error).__name__} in float32, and not in float64: {error}".splitlines()[0]
        yield Trial.broken(where, raised, error)
        return
    expected = _score(specimen, images, given)
    lost, both = expected.isfinite() & ~found.isfinite(), expected.isfinite() & found.isfinite()
    if count:
        yield Trial.exact(
            where, "own samples whose score is finite in float64 and not in float32", int(lost[:count].sum()),
            tolerance=count / 2, unit="samples",
            meaning=f"in float32, own samples score {found[0]:.3g}, in float64 {expected[0]:.5g}: it underflows, as a "
            "product of probabilities or log(sum(exp(...))) does; logsumexp, log_softmax, logsigmoid do not",
        )  # fmt: skip
    if specimen.state != "shrunk" and bool((lost & found.isnan()).any()):
        yield Trial.broken(where, f"a score is NaN in float32, and {expected[lost][0]:.5g} in float64")
    if (given is None and not isinstance(specimen.model, ExactLikelihood)) or not bool(both.any()):
        return  # a bound that draws: other numbers in the other type
    if len(set(found[both].tolist())) > 2 and not uses_digits(found[both], 10):
        yield Trial.broken(where, f"all scores ({found[both][0]:.8g}, ...) have the digits of half precision: a cast")
    scale = max(1.0, largest(expected))
    changes = [_score(specimen, images, given, jitter=turn) - expected for turn in (1, 2)]
    rounding = _FACTOR * largest(torch.stack(changes)[:, both])
    if rounding > _UNDECIDED * scale:
        yield f"{where}: {NOT_DECIDED}: weights rounded to float32 move scores by {rounding / _FACTOR:.2g} nats"
        return
    far = float((found - expected).abs()[both].max())
    yield Trial.exact(
        where, "scores in float32 against float64", far, tolerance=max(rounding, _AT_LEAST * scale), unit="nats",
        meaning=f"scores in float32 are {far:.3g} nats from those in float64, rounding explains {rounding:.2g}: a "
        "small difference of large numbers, a sum in low precision, or a branch that is taken in one type alone",
    )  # fmt: skip
