"""Good conduct: methods return what they promise, outside ``fit`` nothing changes, and seeds and weights are all."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from harness.auditing.estimates import sampling_cost
from harness.auditing.laboratory import CPU, Laboratory
from harness.auditing.subject import Specimen, State, apart, cast, describe, probe
from harness.auditing.trial import Evidence, NotApplicable, Trial
from harness.interface.metric import check_samples
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Inference,
    Invertible,
    Model,
    Unsupported,
    VariationalBound,
)
from harness.support.checkpoint import load_weights, save_weights
from harness.support.randomness import derive_seed

_IMAGES = 9
_SAMPLES = 16
_GIVEN = 5  # images that are given to every method


class _Broken(Exception):
    """A promise that is not kept: which, and how."""


def contract(laboratory: Laboratory) -> Iterator[Evidence]:
    """What every method returns has the shape, type and range that it promises."""
    try:
        laboratory.require_a_space()
    except NotApplicable as reason:
        if not laboratory.crashed:
            raise  # it refuses them all, and says why
        yield Trial.broken("", str(reason))
        return
    spaces = [*laboratory.small, *laboratory.wide, *filter(None, [laboratory.full])]
    for specimen in laboratory.specimens("initial", "fitted", spaces=spaces):
        trial = Trial.exact(specimen.where, "promises broken", 0, meaning="")
        promises = [_scores, _latents, _conditionals, *([_samples] if specimen.spec in laboratory.small else [])]
        try:
            with torch.no_grad():
                for promise in promises:
                    promise(specimen)
        except _Broken as broken:
            trial = Trial.broken(specimen.where, str(broken), broken.__cause__)
        except Exception as error:  # somebody else's code: anything can happen
            raised = f"{promise.__name__.strip('_')}: raises {type(error).__name__}: {error}"
            trial = Trial.broken(specimen.where, raised.splitlines()[0], error)
        yield trial
    for why in dict.fromkeys(laboratory.crashed.values()):
        where = "; ".join(describe(spec) for spec, reason in laboratory.crashed.items() if reason == why)
        if why.startswith("fit raises"):
            yield Trial.broken(where, why)
        else:
            yield f"{where}: {why}; raise harness.Unsupported where a space cannot be done"


def _expect(name: str, found: object, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Returns what the method ``name`` gave, if it is a tensor of a shape and a type; None is any float."""
    if not isinstance(found, Tensor):
        words = type(found).__name__
    elif tuple(found.shape) == shape and (found.dtype == dtype if dtype else found.is_floating_point()):
        return found
    else:
        words = f"{tuple(found.shape)} {found.dtype}"
    raise _Broken(f"{name} must return {shape} {dtype or 'floating-point numbers'}, not {words}")


def _scores(specimen: Specimen) -> None:
    model, images = specimen.model, specimen.images(_GIVEN, "contract")
    before = images.clone()
    functions: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {}
    if isinstance(model, ExactLikelihood):
        functions["log_prob"] = (model.log_prob, (_GIVEN,))
    if isinstance(model, VariationalBound):
        functions["elbo"] = (model.elbo, (_GIVEN,))
    if isinstance(model, ImportanceWeighted):
        weights = model.log_importance_weights
        functions["log_importance_weights"] = (lambda given: weights(given, 3), (3, _GIVEN))
    for name, (function, shape) in functions.items():
        with specimen.rng("contract", name):
            values = function(images)
        if not torch.equal(images, before):
            raise _Broken(f"{name} changes the images that it is given")
        if bool((_expect(name, values, shape).isnan() | values.isposinf()).any()):
            raise _Broken(f"{name} returns NaN or infinity for some of {_GIVEN} random images")
        if name == "log_prob" and (most := float(values.max())) > specimen.tolerance():
            raise _Broken(f"log_prob returns {most:.4g}, but no probability is above 1: it must be at most 0")


def _latents(specimen: Specimen) -> None:
    model, images, size = specimen.model, specimen.images(_GIVEN, "contract"), specimen.spec.num_dimensions
    if isinstance(model, Inference):
        codes = model.encode(images)
        if codes.ndim != 2 or len(codes) != _GIVEN:
            raise _Broken(f"encode must return ({_GIVEN}, D), not {tuple(codes.shape)}")
        _expect("decode", model.decode(codes), tuple(images.shape))
    if isinstance(model, Invertible):
        with specimen.rng("contract", "flow"):
            x, log_noise = model.dequantize(images)
            latents, log_det = model.transform(x)
            back, prior = model.inverse(latents), model.sample_prior(3)
        _expect("dequantize, the images,", x, tuple(images.shape))
        _expect("dequantize, log q,", log_noise, (_GIVEN,))
        _expect("transform, the latents,", latents, (_GIVEN, size))
        _expect("transform, the log-determinant,", log_det, (_GIVEN,))
        _expect("inverse", back, tuple(images.shape))
        _expect("sample_prior", prior, (3, size))


def _conditionals(specimen: Specimen) -> None:
    model, spec = specimen.model, specimen.spec
    if isinstance(model, Autoregressive):
        if model.num_orderings < 1:
            raise _Broken(f"num_orderings must be at least 1, not {model.num_orderings}")
        logits = model.conditional_logits(specimen.images(_GIVEN, "contract"))
        _expect("conditional_logits", logits, (_GIVEN, spec.levels, *spec.shape))
        _expect("generation_steps", model.generation_steps(), spec.shape, torch.int64)
        declared = model.dependence()
        if declared is not None:
            _expect("dependence, unless None,", declared, (spec.num_dimensions, spec.num_dimensions), torch.bool)


def _samples(specimen: Specimen) -> None:
    for name, sampler in specimen.model.samplers().items():
        for count in (1, 2, 3, 4):
            with specimen.rng("contract", "sample"):
                images = sampler(count)
            try:
                check_samples(images, count, specimen.model)
            except ValueError as error:
                raise _Broken(f"sampler {name!r}: {error}") from error


def few_specimens(laboratory: Laboratory, *states: State, spaces: int = 2) -> Iterator[Specimen]:
    """Yields specimens on the first spaces, one or two: good conduct shows there."""
    laboratory.require_a_space()
    return laboratory.specimens(*states, spaces=laboratory.some(2)[:spaces])


def unchanged(laboratory: Laboratory) -> Iterator[Evidence]:
    """Outside fit nothing changes a parameter or buffer.

    What the first use alone changes, such as weights that a mask is multiplied into, leaves the same function behind.
    """
    for exact in few_specimens(laboratory, "initial", "random", "fitted"):
        specimen = laboratory.single(exact)
        start, modes = _tensors(specimen.model), _modes(specimen.model)
        sampling = _affords_samples(laboratory, specimen, 20)
        _use(specimen, "once", sampling=sampling)
        before = _tensors(specimen.model)
        if settled := _changed(start, before):
            yield f"{specimen.where}: the first call changes {', '.join(settled[:3])}, as a mask in place does"
        _use(specimen, "again", sampling=sampling)
        changed = _changed(before, _tensors(specimen.model)) + _changed(modes, _modes(specimen.model))
        yield Trial.exact(
            specimen.where, "parameters, buffers and modes that scoring or sampling changes", len(changed),
            unit="tensors", meaning=f"scoring or sampling changes {', '.join(changed[:3])}: a mask applied to weights "
            "in place, running statistics that are updated, or training at test time",
        )  # fmt: skip


def _affords_samples(laboratory: Laboratory, specimen: Specimen, count: int) -> bool:
    return laboratory.affords(sampling_cost(specimen, count, by_all=True), f"{specimen.where}, samples")


@torch.no_grad()
def _use(specimen: Specimen, purpose: str, *, sampling: bool) -> None:
    with specimen.rng("unchanged", purpose):
        for turn in range(2):
            probe(specimen.model, specimen.images(4, "unchanged", purpose, turn), sampling=sampling)
            for _, _, sampler in specimen.samplers if sampling else ():
                sampler(3)


def _tensors(model: Model) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


def _modes(model: Model) -> dict[str, Tensor]:
    return {f"mode of {name or 'the model'}": torch.tensor(part.training) for name, part in model.named_modules()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Returns the names of tensors that are gone, or have another shape or other values; NaN equals NaN."""
    pairs = ((name, value.nan_to_num(), after.get(name)) for name, value in before.items())
    return [name for name, value, now in pairs if now is None or not torch.equal(value, now.nan_to_num())]


@torch.no_grad()
def reproducible(laboratory: Laboratory) -> Iterator[Evidence]:
    """Torch's seed determines the samples."""
    for exact in few_specimens(laboratory, "initial", "random", "fitted", spaces=1):
        specimen = laboratory.single(exact)
        sampling = _affords_samples(laboratory, specimen, 4 * _SAMPLES)
        for where, _, sampler in specimen.samplers if sampling else ():
            torch.manual_seed(1)
            first, following = sampler(_SAMPLES), sampler(_SAMPLES)
            torch.manual_seed(1)
            again = sampler(_SAMPLES)
            torch.manual_seed(2)
            other = sampler(_SAMPLES)
            yield Trial.exact(
                where, f"of {_SAMPLES} images, those that differ under the same seed", _num_different(first, again),
                unit="images",
                meaning="torch's seed does not determine the samples: they come from another generator, or from state",
            )  # fmt: skip
            if bool((first == first[:1]).all()):
                yield f"{where}: all samples are one image"
                continue
            yield Trial.exact(
                where, "draws under another seed, or one after the other, that are the same",
                int(torch.equal(first, other)) + int(torch.equal(first, following)), unit="draws",
                meaning="the sampler seeds a generator itself: every call draws the same images",
            )  # fmt: skip


def _num_different(images: Tensor, others: Tensor) -> int:
    return int((images != others).flatten(1).any(1).sum())


def checkpoint(laboratory: Laboratory) -> Iterator[Evidence]:
    """Weights saved and loaded give the same scores and samples."""
    for specimen in few_specimens(laboratory, "random", "fitted", "initial"):
        try:
            with tempfile.TemporaryDirectory() as folder:
                save_weights(file := Path(folder) / "weights.safetensors", specimen.model)
                torch.manual_seed(derive_seed(laboratory.seed, "another seed"))
                copy = cast(laboratory.subject.make(specimen.spec).to(CPU), specimen.dtype)
                load_weights(file, copy)
        except Unsupported:
            raise
        except Exception as error:  # somebody else's code: anything can happen
            yield Trial.broken(specimen.where, f"weights do not come back: {error}".splitlines()[0], error)
            continue
        meaning = "what was learned, or drawn at construction, is not in state_dict: it is lost with the process"
        before, after = _scores_of(specimen, specimen.model), _scores_of(specimen, copy.eval())
        for name, scores in before.items():
            yield Trial.exact(
                specimen.where, f"{name} before and after", float(apart(after[name], scores).abs().max()),
                tolerance=specimen.tolerance(scale=scores), unit="nats", meaning=meaning,
            )  # fmt: skip
        if _affords_samples(laboratory, specimen, 2 * _SAMPLES):
            samples, others = (_samples_of(specimen, model) for model in (specimen.model, copy))
            yield Trial.exact(
                specimen.where, f"of {_SAMPLES} samples, those that differ before and after",
                _num_different(samples, others), unit="images", meaning=meaning,
            )  # fmt: skip


@torch.no_grad()
def _scores_of(specimen: Specimen, model: Model) -> dict[str, Tensor]:
    """Returns what a model makes of the specimen's random numbers: scores (N,) float64 by name."""
    images, scores = specimen.images(_IMAGES, "checkpoint"), dict[str, Tensor]()
    if isinstance(model, ExactLikelihood):
        with specimen.rng("score"):
            scores["log_prob"] = model.log_prob(images).double()
    if isinstance(model, VariationalBound):
        with specimen.rng("score"):
            scores["elbo"] = model.elbo(images).double()
    return scores


@torch.no_grad()
def _samples_of(specimen: Specimen, model: Model) -> Tensor:
    with specimen.rng("sample"):
        return model.sample(_SAMPLES)
