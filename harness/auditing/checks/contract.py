"""The contract: what every method returns has the shape, type and range that it promises, on every space."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, describe
from harness.auditing.trial import Evidence, NotApplicable, Trial
from harness.interface.metric import check_samples
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Inference,
    Invertible,
    VariationalBound,
)

_IMAGES = 5


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
        promises = [_scores, _latents, _conditionals, *([_samples] if specimen.spec in laboratory.small else [])]
        problem = next(filter(None, (_problem(promise, specimen) for promise in promises)), "")
        if problem:
            yield Trial.broken(specimen.where, problem)
        else:
            yield Trial.exact(specimen.where, "promises broken", 0, meaning="")
    for spec, why in laboratory.crashed.items():
        if why.startswith("fit raises"):
            yield Trial.broken(describe(spec), why)
        else:
            yield f"{describe(spec)}: {why}; raise harness.Unsupported where a space cannot be done"


@torch.no_grad()
def _problem(promise: Callable[[Specimen], None], specimen: Specimen) -> str:
    try:
        promise(specimen)
    except NotApplicable:
        pass
    except _Broken as broken:
        return str(broken)
    except Exception as error:  # somebody else's code: anything can happen
        return f"{promise.__name__.strip('_')}: raises {type(error).__name__}: {error}".splitlines()[0]
    return ""


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
    model, images = specimen.model, specimen.images(_IMAGES, "contract")
    before = images.clone()
    functions: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {}
    if isinstance(model, ExactLikelihood):
        functions["log_prob"] = (model.log_prob, (_IMAGES,))
    if isinstance(model, VariationalBound):
        functions["elbo"] = (model.elbo, (_IMAGES,))
    if isinstance(model, ImportanceWeighted):
        weights = model.log_importance_weights
        functions["log_importance_weights"] = (lambda given: weights(given, 3), (3, _IMAGES))
    for name, (function, shape) in functions.items():
        with specimen.rng("contract", name):
            values = function(images)
        if not torch.equal(images, before):
            raise _Broken(f"{name} changes the images that it is given")
        if bool((_expect(name, values, shape).isnan() | values.isposinf()).any()):
            raise _Broken(f"{name} returns NaN or infinity for some of {_IMAGES} random images")
        if name == "log_prob" and (most := float(values.max())) > specimen.tolerance():
            raise _Broken(f"log_prob returns {most:.4g}, but no probability is above 1: it must be at most 0")


def _latents(specimen: Specimen) -> None:
    model, images, size = specimen.model, specimen.images(_IMAGES, "contract"), specimen.spec.num_dimensions
    if isinstance(model, Inference):
        codes = model.encode(images)
        if codes.ndim != 2 or len(codes) != _IMAGES:
            raise _Broken(f"encode must return ({_IMAGES}, D), not {tuple(codes.shape)}")
        _expect("decode", model.decode(codes), tuple(images.shape))
    if isinstance(model, Invertible):
        with specimen.rng("contract", "flow"):
            x, log_noise = model.dequantize(images)
            latents, log_det = model.transform(x)
            back, prior = model.inverse(latents), model.sample_prior(3)
        _expect("dequantize, the images,", x, tuple(images.shape))
        _expect("dequantize, log q,", log_noise, (_IMAGES,))
        _expect("transform, the latents,", latents, (_IMAGES, size))
        _expect("transform, the log-determinant,", log_det, (_IMAGES,))
        _expect("inverse", back, tuple(images.shape))
        _expect("sample_prior", prior, (3, size))


def _conditionals(specimen: Specimen) -> None:
    model, spec = specimen.model, specimen.spec
    if isinstance(model, Autoregressive):
        if model.num_orderings < 1:
            raise _Broken(f"num_orderings must be at least 1, not {model.num_orderings}")
        logits = model.conditional_logits(specimen.images(_IMAGES, "contract"))
        _expect("conditional_logits", logits, (_IMAGES, spec.levels, *spec.shape))
        _expect("generation_steps", model.generation_steps(), spec.shape, torch.int64)
        declared = model.dependence()
        if declared is not None:
            _expect("dependence, unless None,", declared, (spec.num_dimensions, spec.num_dimensions), torch.bool)


def _samples(specimen: Specimen) -> None:
    for name, sampler in specimen.model.samplers().items():
        for count in (1, 3):
            with specimen.rng("contract", "sample"):
                images = sampler(count)
            try:
                check_samples(images, count, specimen.model)
            except ValueError as error:
                raise _Broken(f"sampler {name!r}: {error}") from error
