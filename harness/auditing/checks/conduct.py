"""Good conduct: outside ``fit`` nothing changes, and a score or a sample depends on what it should alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from harness.auditing.estimates import has_own_elbo, log_weights
from harness.auditing.laboratory import CPU, Laboratory
from harness.auditing.subject import Specimen, State, probe
from harness.auditing.trial import Evidence, Note, Trial
from harness.interface.model import ExactLikelihood, ImportanceWeighted, Model, Unsupported, VariationalBound
from harness.interface.sampling import BoundSampler
from harness.interface.spec import ImageSpec
from harness.support.checkpoint import load_weights, save_weights
from harness.support.randomness import derive_seed

_IMAGES = 9
_SAMPLES = 16
_WEIGHTS = 400
_DRAWS = 128


def _spaces(laboratory: Laboratory) -> tuple[ImageSpec, ...]:
    laboratory.require_a_space()
    return laboratory.some(2)


def unchanged(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields how many parameters, buffers and modes scoring and sampling change, after they have been used once.

    What the first use alone changes, such as weights that a mask is multiplied into, leaves the same function behind.
    """
    states: tuple[State, ...] = ("initial", "random", "fitted")
    for specimen in laboratory.specimens(*states, spaces=_spaces(laboratory)):
        specimen = laboratory.single(specimen)
        model = specimen.model
        untouched, training = _tensors(model), {name: module.training for name, module in model.named_modules()}
        _use(specimen, "once")
        before = _tensors(model)
        settled = _changed(untouched, before)
        if settled:
            yield Note(f"{specimen.where}: the first call changes {', '.join(settled[:3])}, as a mask in place does")
        _use(specimen, "again")
        changed = _changed(before, _tensors(model))
        changed += [f"mode of {name or 'the model'}" for name, module in model.named_modules()
                    if training.get(name) != module.training]  # fmt: skip
        yield Trial.exact(
            specimen.where, "parameters, buffers and modes that scoring or sampling changes", len(changed),
            tolerance=0, unit="tensors",
            meaning=f"scoring or sampling changes {', '.join(changed[:3])}: a mask applied to weights in place, "
            "running statistics that are updated, or training at test time",
        )  # fmt: skip


@torch.no_grad()
def _use(specimen: Specimen, purpose: str) -> None:
    with specimen.rng("unchanged", purpose):
        for turn in range(2):
            probe(specimen.model, specimen.images(4, "unchanged", purpose, turn), sampling=True)
            for sampler in specimen.model.samplers().values():
                sampler(3)


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Returns the names of tensors that are gone, or have another shape or other values; NaN equals NaN."""
    return [
        name for name, value in before.items()
        if name not in after or not torch.equal(value.nan_to_num(), after[name].nan_to_num())
    ]  # fmt: skip


def _tensors(model: Model) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def neighbours(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields how far scores move with the size of the batch and with the neighbours in it, or from call to call."""
    model = laboratory.require(ExactLikelihood | VariationalBound, "an implicit model scores nothing")
    for specimen in laboratory.specimens("random", "fitted", spaces=_spaces(laboratory)):
        if isinstance(specimen.model, ExactLikelihood):
            yield from _exact_scores(specimen, specimen.model.log_prob)
        if isinstance(specimen.model, VariationalBound):
            yield from _stochastic_scores(specimen)
    if isinstance(model, VariationalBound):
        for specimen in laboratory.specimens("initial", spaces=_spaces(laboratory)):
            yield from _stochastic_scores(specimen)


@torch.no_grad()
def _exact_scores(specimen: Specimen, score: Callable[[Tensor], Tensor]) -> Iterator[Trial]:
    images, others = specimen.images(_IMAGES, "neighbours"), specimen.images(20, "others")
    with specimen.rng("first"):
        together = score(images).double()
    tolerance = specimen.tolerance(scale=float(together.abs().max()))
    with specimen.rng("second"):
        again = score(images).double()
    with specimen.rng("alone"):
        alone = torch.cat([score(images[i : i + 1]) for i in range(_IMAGES)]).double()
    crowd = score(torch.cat([others, images]))[len(others) :].double()
    backwards = score(images.flip(0)).flip(0).double()
    found = {
        "from call to call": (again, "log_prob is random: dropout, or noise that a bound would have to integrate"),
        "alone and together": (alone, "a score depends on the size of its batch: batch norm, a mean or a maximum"),
        "with other neighbours": (crowd, "a score depends on its neighbours in the batch"),
        "in another order": (backwards, "scores come back in another order, or depend on their place in the batch"),
    }  # fmt: skip
    for quantity, (values, meaning) in found.items():
        if values.shape != together.shape:
            shape = tuple(values.shape)
            yield Trial.broken(specimen.where, f"log_prob returns {shape} for {_IMAGES} images: some are dropped")
            continue
        yield Trial.exact(
            specimen.where, f"log_prob {quantity}", float((values - together).abs().max()), tolerance=tolerance,
            unit="nats", meaning=meaning,
        )  # fmt: skip


@torch.no_grad()
def _stochastic_scores(specimen: Specimen) -> Iterator[Trial]:
    model, images = specimen.model, specimen.images(5, "neighbours")
    meaning = "a bound depends on its neighbours in the batch: batch norm in training mode, or a mean over the batch"
    crowd = torch.cat([images, specimen.images(1, "crowd").repeat(7, 1, 1, 1)])
    for name, draw in _draws_of(specimen, model).items():
        with specimen.rng(name, "alone"):
            alone = torch.stack([draw(images[i : i + 1])[:, 0] for i in range(len(images))], 1)  # (draws, N)
        with specimen.rng(name, "crowd"):
            together = draw(crowd)[:, : len(images)]
        difference = alone.mean(0) - together.mean(0)
        error = ((alone.var(0) + together.var(0)) / len(alone)).sqrt()
        worst = int((difference.abs() / error.clamp_min(1e-12)).argmax())
        yield Trial.z_test(
            specimen.where, f"mean of {name}, alone minus among neighbours", estimate=float(difference[worst]),
            standard_error=float(error[worst]) * 1.3,  # the worst of five: at four standard errors, ln(5) costs as much
            unit="nats", meaning=meaning, rounding=specimen.tolerance(scale=float(alone.abs().max())),
        )  # fmt: skip


def _draws_of(specimen: Specimen, model: Model) -> dict[str, Callable[[Tensor], Tensor]]:
    """Returns functions from images (N, ...) to (draws, N): of log-weights, and of the bound where it is its own."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    if isinstance(model, ImportanceWeighted):
        found["the log-weights"] = lambda images: log_weights(specimen, images, _WEIGHTS, "neighbours", len(images))
    if isinstance(model, VariationalBound) and has_own_elbo(model):
        elbo = model.elbo
        found["elbo"] = lambda images: torch.stack([elbo(images).double() for _ in range(_DRAWS)])
    return found


def reproducible(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields whether samples follow torch's global generator, and it alone."""
    states: tuple[State, ...] = ("initial", "random", "fitted")
    for exact in laboratory.specimens(*states, spaces=_spaces(laboratory)[:1]):
        specimen = laboratory.single(exact)
        for name, sampler in specimen.model.samplers().items():
            where = f"{specimen.where}, sampler {name!r}"
            first, again, following = _draw_under(sampler, 1, 1)
            other, _, _ = _draw_under(sampler, 2, 2)
            same = int((first != again).flatten(1).any(1).sum())
            yield Trial.exact(
                where, f"of {_SAMPLES} images, those that differ under the same seed", same, tolerance=0, unit="images",
                meaning="torch's seed does not determine the samples: they come from another generator, or from state",
            )  # fmt: skip
            if bool((first == first[:1]).all()):
                yield Note(f"{where}: all samples are one image")
                continue
            repeated = int(torch.equal(first, other)) + int(torch.equal(first, following))
            yield Trial.exact(
                where, "draws under another seed, or one after the other, that are the same", repeated, tolerance=0,
                unit="draws", meaning="the sampler seeds a generator itself: every call draws the same images",
            )  # fmt: skip


@torch.no_grad()
def _draw_under(sampler: BoundSampler, first: int, second: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(first)
    one, following = sampler(_SAMPLES), sampler(_SAMPLES)
    torch.manual_seed(second)
    return one, sampler(_SAMPLES), following


def checkpoint(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields how far scores and samples move when weights go through a file into a model built under another seed."""
    for specimen in laboratory.specimens("random", "fitted", "initial", spaces=_spaces(laboratory)):
        try:
            copy = _through_a_file(laboratory, specimen)
        except Unsupported:
            raise
        except Exception as error:  # somebody else's code: anything can happen
            yield Trial.broken(specimen.where, f"weights do not come back: {error}".splitlines()[0])
            continue
        images = specimen.images(_IMAGES, "checkpoint")
        meaning = "what was learned, or drawn at construction, is not in state_dict: it is lost with the process"
        for name, score in _scores(specimen.model).items():
            with torch.no_grad(), specimen.rng("score"):
                before = score(images).double()
            with torch.no_grad(), specimen.rng("score"):
                after = _scores(copy)[name](images).double()
            scale = float(before.abs().nan_to_num(posinf=1.0).max())
            far = torch.where(before == after, torch.zeros_like(before), (after - before).abs())
            yield Trial.exact(
                specimen.where, f"{name} before and after", float(far.max()), unit="nats", meaning=meaning,
                tolerance=specimen.tolerance(scale=scale),
            )  # fmt: skip
        with torch.no_grad(), specimen.rng("sample"):
            samples = specimen.model.sample(_SAMPLES)
        with torch.no_grad(), specimen.rng("sample"):
            others = copy.sample(_SAMPLES)
        differ = int((samples != others).flatten(1).any(1).sum())
        yield Trial.exact(
            specimen.where, f"of {_SAMPLES} samples, those that differ before and after", differ, tolerance=0,
            unit="images", meaning=meaning,
        )  # fmt: skip


def _through_a_file(laboratory: Laboratory, specimen: Specimen) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        save_weights(file, specimen.model)
        torch.manual_seed(derive_seed(laboratory.seed, "another seed"))
        copy = laboratory.subject.make(specimen.spec).to(CPU, specimen.dtype)
        load_weights(file, copy)
    return copy.eval()


def _scores(model: Model) -> dict[str, Callable[[Tensor], Tensor]]:
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    if isinstance(model, ExactLikelihood):
        found["log_prob"] = model.log_prob
    if isinstance(model, VariationalBound):
        found["elbo"] = model.elbo
    return found
