"""The contract: what every method returns has the shape, type and range that it promises, on every space."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.auditing.laboratory import Laboratory
from harness.auditing.spaces import describe
from harness.auditing.subject import Specimen
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.metric import check_samples
from harness.interface.model import (
    Autoregressive,
    ExactLikelihood,
    ImportanceWeighted,
    Inference,
    Invertible,
    VariationalBound,
)
from harness.interface.spec import ImageSpec

_IMAGES = 5
_QUANTITY = "promises broken"


def contract(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields one trial a specimen: whether everything that its model promises has the right form."""
    spaces: list[ImageSpec] = [*laboratory.small, *laboratory.wide]
    if laboratory.full is not None:
        spaces.append(laboratory.full)
    try:
        laboratory.require_a_space()
    except NotApplicable as reason:
        if not laboratory.crashed:
            raise  # it refuses them all, and says why
        yield Trial.broken("", str(reason))
        return
    for specimen in laboratory.specimens("initial", "fitted", spaces=spaces):
        problem = _first_problem(specimen, sampling=specimen.spec in laboratory.small)
        if problem:
            yield Trial.broken(specimen.where, problem)
        else:
            yield Trial.exact(specimen.where, _QUANTITY, 0, tolerance=0, meaning="")
    for spec, why in laboratory.crashed.items():
        if why.startswith("fit raises"):
            yield Trial.broken(describe(spec), why)
        else:
            yield Note(f"{describe(spec)}: {why}; raise harness.Unsupported where a space cannot be done")


def _first_problem(specimen: Specimen, *, sampling: bool) -> str:
    for promise in (_scores, _latents, _conditionals, *([_samples] if sampling else [])):
        try:
            problem = promise(specimen)
        except NotApplicable:
            continue
        except Exception as error:  # somebody else's code: anything can happen
            return f"{promise.__name__.strip('_')}: raises {type(error).__name__}: {error}".splitlines()[0]
        if problem:
            return problem
    return ""


def _scores(specimen: Specimen) -> str:
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
        with torch.no_grad(), specimen.rng("contract", name):
            values = function(images)
        if not torch.equal(images, before):
            return f"{name} changes the images that it is given"
        if not isinstance(values, Tensor) or tuple(values.shape) != shape:
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            return f"{name} must return one value an image, {shape}, not {found}"
        if not values.is_floating_point():
            return f"{name} must return floating-point numbers, not {values.dtype}"
        if bool(values.isnan().any()) or bool(values.isposinf().any()):
            return f"{name} returns NaN or infinity for some of {_IMAGES} random images"
        if name == "log_prob" and float(values.max()) > specimen.tolerance():
            return f"log_prob returns {float(values.max()):.4g}, but no probability is above 1: it must be at most 0"
    return ""


def _latents(specimen: Specimen) -> str:
    model, images = specimen.model, specimen.images(_IMAGES, "contract")
    if isinstance(model, Inference):
        with torch.no_grad():
            codes = model.encode(images)
            if codes.ndim != 2 or len(codes) != _IMAGES:
                return f"encode must return ({_IMAGES}, D), not {tuple(codes.shape)}"
            decoded = model.decode(codes)
        if decoded.shape != images.shape or not decoded.is_floating_point():
            return f"decode must return {tuple(images.shape)} float, not {tuple(decoded.shape)} {decoded.dtype}"
    if isinstance(model, Invertible):
        with torch.no_grad(), specimen.rng("contract", "flow"):
            x, log_noise = model.dequantize(images)
            latents, log_det = model.transform(x)
            back, prior = model.inverse(latents), model.sample_prior(3)
        size = specimen.spec.num_dimensions
        if x.shape != images.shape or log_noise.shape != (_IMAGES,):
            return f"dequantize must return images and ({_IMAGES},), not {tuple(x.shape)} and {tuple(log_noise.shape)}"
        if latents.shape != (_IMAGES, size) or log_det.shape != (_IMAGES,):
            return (
                f"transform must return ({_IMAGES}, {size}) and ({_IMAGES},), "
                f"not {tuple(latents.shape)} and {tuple(log_det.shape)}"
            )
        if back.shape != x.shape or prior.shape != (3, size):
            return (
                f"inverse must return {tuple(x.shape)} and sample_prior (3, {size}), "
                f"not {tuple(back.shape)} and {tuple(prior.shape)}"
            )
    return ""


def _conditionals(specimen: Specimen) -> str:
    model = specimen.model
    if not isinstance(model, Autoregressive):
        return ""
    images, spec = specimen.images(_IMAGES, "contract"), specimen.spec
    if model.num_orderings < 1:
        return f"num_orderings must be at least 1, not {model.num_orderings}"
    with torch.no_grad():
        logits = model.conditional_logits(images)
    if tuple(logits.shape) != (_IMAGES, spec.levels, *spec.shape):
        return f"conditional_logits must return {(_IMAGES, spec.levels, *spec.shape)}, not {tuple(logits.shape)}"
    steps = model.generation_steps()
    if tuple(steps.shape) != spec.shape or steps.dtype != torch.int64:
        return f"generation_steps must return {spec.shape} int64, not {tuple(steps.shape)} {steps.dtype}"
    declared, size = model.dependence(), spec.num_dimensions
    if declared is not None and (tuple(declared.shape) != (size, size) or declared.dtype != torch.bool):
        return f"dependence must return ({size}, {size}) bool or None, not {tuple(declared.shape)} {declared.dtype}"
    return ""


def _samples(specimen: Specimen) -> str:
    for name, sampler in specimen.model.samplers().items():
        for count in (1, 3):
            with torch.no_grad(), specimen.rng("contract", "sample"):
                images = sampler(count)
            try:
                check_samples(images, count, specimen.model)
            except ValueError as error:
                return f"sampler {name!r}: {error}"
    return ""
