"""Neighbours: a score is its image's alone, whatever its batch, however large, and whatever was scored before."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.auditing.checks.conduct import few_specimens
from harness.auditing.cost import operations
from harness.auditing.estimates import affordable, has_own_elbo, weigher, worst_of
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, apart
from harness.auditing.trial import Evidence, Trial
from harness.interface.model import ExactLikelihood, ImportanceWeighted, VariationalBound
from harness.interface.spec import ImageSpec

_IMAGES, _OTHERS = 9, 20
_WEIGHTS, _FEWEST_WEIGHTS = 400, 50
_DRAWS, _FEWEST_DRAWS = 128, 16
_SHARE = 1 / 3  # of the budget, for the weights of a specimen, and for its draws of a bound
_MOST_ENTRIES = 2**15  # of a batch whose size is that of something else


def neighbours(laboratory: Laboratory) -> Iterator[Evidence]:
    """A score depends neither on its batch nor on the call."""
    laboratory.require(ExactLikelihood | VariationalBound, "an implicit model scores nothing")
    for specimen in few_specimens(laboratory, "random", "fitted", "initial"):
        if isinstance(specimen.model, ExactLikelihood) and specimen.state != "initial":
            yield from _exact_scores(specimen, specimen.model.log_prob)
        if isinstance(specimen.model, VariationalBound):
            yield from _stochastic_scores(specimen)


def _telling_sizes(spec: ImageSpec) -> dict[int, str]:
    """Returns sizes of batches from two on, and what else is of that size: code that finds an axis by its size errs."""
    named = {"levels": spec.levels, "rows": spec.height, "columns": spec.width, "channels": spec.channels}
    named |= {"entries": spec.num_dimensions, "classes": spec.num_classes or 0}
    sizes = dict.fromkeys((2, 3, 4), "")
    for name, size in named.items():
        if 1 < size <= _MOST_ENTRIES // spec.num_dimensions:
            sizes[size] = f"{sizes[size]} and {name}" if sizes.get(size) else f"as many as {name}"
    return sizes


@torch.no_grad()
def _exact_scores(specimen: Specimen, score: Callable[[Tensor], Tensor]) -> Iterator[Trial]:
    """Scores the same images in many batches, one of them in the memory of another: what is cached must not go by it.

    The first way of going wrong that shows is told: others would follow from it.
    """
    pool, nine = specimen.images(_IMAGES + _OTHERS, "neighbours"), torch.arange(_IMAGES)
    by_size, by_place = "a score depends on the size of its batch", "or depend on their place in the batch"
    cached = "scores are those of an earlier batch: a cache that goes by the first image, the shape or the memory"
    batches = {
        "": ([nine], ""),  # what others are held against
        "from call to call": ([nine], "log_prob is random: dropout, or noise that a bound would have to integrate"),
        "alone and together": ([*torch.split(nine, 1)], f"{by_size}: batch norm, a mean or a maximum"),
        "with other neighbours": ([torch.arange(len(pool)).flip(0)], "a score depends on its neighbours in the batch"),
        "in another order": ([nine.flip(0)], f"scores come back in another order, {by_place}"),
        "after another batch with the same first image": ([nine, torch.cat([nine[:1], nine[1:].flip(0)])], cached),
    }  # fmt: skip
    for size, name in _telling_sizes(specimen.spec).items():
        hint = f"; {name}: an axis that is found by its size" if name else ""
        batches[f"in a batch of {size}"] = [torch.arange(size) % _IMAGES], by_size + hint
    held, together, tolerance = [pool[nine].clone()], torch.empty(0), 0.0
    for quantity, (indices, meaning) in batches.items():
        far = list[Tensor]()
        for index in indices:
            held += [held[0].copy_(pool[index]) if meaning == cached else pool[index]]  # no memory is used again
            found = score(held[-1]).double()
            if found.shape != index.shape:
                what = f"log_prob returns {tuple(found.shape)} for {len(index)} images"
                yield Trial.broken(specimen.where, f"{what}: some are dropped, squeezed away, or of an earlier batch")
                return
            if not quantity:
                together, tolerance = found, specimen.tolerance(scale=found)
            known = index < _IMAGES
            far.append(apart(found[known], together[index[known]]).abs().max())
        if quantity:
            trial = Trial.exact(
                specimen.where, f"log_prob {quantity}", float(torch.stack(far).max()), unit="nats", meaning=meaning,
                tolerance=tolerance,
            )  # fmt: skip
            yield trial
            if trial.fails(0.0):
                return


@torch.no_grad()
def _stochastic_scores(specimen: Specimen) -> Iterator[Trial]:
    """Compares means over draws of each of five images."""
    images, five = specimen.images(5, "neighbours"), torch.arange(5)
    crowd, sizes = torch.cat([images, specimen.images(1, "crowd").repeat(7, 1, 1, 1)]), _telling_sizes(specimen.spec)
    draws: dict[str, Callable[[Tensor], Tensor]] = {}  # from images (N, ...) to (draws, N)
    model = specimen.model
    if isinstance(model, ImportanceWeighted):
        weights, largest = model.log_importance_weights, max(len(crowd), *sizes)
        limits = _FEWEST_WEIGHTS * largest, _WEIGHTS * largest
        count = affordable(specimen, weigher(model), _SHARE, *limits) // largest
        draws["the log-weights"] = lambda batch: weights(batch, count).double()
    if isinstance(model, VariationalBound) and has_own_elbo(model):
        elbo, calls = model.elbo, len(images) + 3  # for each draw
        paid = int(_SHARE * specimen.budget / operations(specimen, elbo, calls=calls))
        drawn = max(_FEWEST_DRAWS, min(_DRAWS, paid))
        draws["elbo"] = lambda batch: torch.stack([elbo(batch).double() for _ in range(drawn)])
    for name, draw in draws.items():
        with specimen.rng(name, "alone"):
            alone = torch.stack([draw(image)[:, 0] for image in torch.split(images, 1)], 1)  # (draws, N)
        with specimen.rng(name, "crowd"):
            batches = {"among neighbours": draw(crowd)[:, :5]}
        if name != "elbo":
            with specimen.rng(name, "square"):
                square = torch.cat([weights(images, 5).double() for _ in range(count // 5)])
            batches["where as many weights are asked for as there are images, 5"] = square
        for size in list(sizes)[: 2 if name == "elbo" else None]:  # of an elbo, every draw is a call
            with specimen.rng(name, size):
                batch = f"in a batch of {size}" + (f", {sizes[size]}" if sizes[size] else "")
                batches[batch] = draw(images[torch.arange(size) % 5])[:, :5]
        for quantity, values in batches.items():
            finite = values.isfinite().all(0) & alone.isfinite().all(0)[: values.shape[1]]  # the others have no mean
            some, values = five[: values.shape[1]][finite], values[:, finite]
            if not len(some):
                continue
            errors = (alone[:, some].var(0) / len(alone) + values.var(0) / len(values)).sqrt()
            yield Trial.z_test(
                specimen.where, f"mean of {name}, alone minus {quantity}",
                *worst_of(apart(alone[:, some].mean(0), values.mean(0)), errors.nan_to_num()), unit="nats",
                meaning=f"a bound depends on its batch ({quantity}): batch norm in training mode, a mean over the "
                "batch, or an axis that is found by its size", rounding=specimen.tolerance(scale=alone),
            )  # fmt: skip
