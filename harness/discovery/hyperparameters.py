"""A model's hyperparameters: read off its constructor, checked by type, completed with defaults."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.support.names import did_you_mean


class HyperparameterError(ValueError):
    """A hyperparameter that the model does not have, or a value of the wrong type."""


def parameters_of(model: type) -> dict[str, inspect.Parameter]:
    """Returns a constructor's keyword-only parameters, if it is ``(self, spec, *, name: type = default, ...)``."""
    found = dict(inspect.signature(model).parameters)
    found.pop("spec", None)
    for name, parameter in found.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise HyperparameterError(f"{model.__name__}: constructor argument {name!r} must be keyword-only")
        if parameter.annotation is inspect.Parameter.empty or parameter.default is inspect.Parameter.empty:
            raise HyperparameterError(f"{model.__name__}: hyperparameter {name!r} needs an annotation and a default")
    return found


def resolve(model: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all hyperparameters of a model as its constructor takes them: ``given``, checked, over the defaults.

    Types are checked strictly ("5" is no integer, 1.5 is none either), except that a list stands for a tuple.
    """
    known = parameters_of(model)
    resolved = {name: parameter.default for name, parameter in known.items()}
    for name, value in given.items():
        if name not in known:
            raise HyperparameterError(f"{model.__name__} has no hyperparameter {name!r}{did_you_mean(name, known)}")
        try:
            wanted = TypeAdapter(_type_of(model, known[name]))
            resolved[name] = wanted.validate_json(json.dumps(value, allow_nan=False), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            kind = inspect.formatannotation(known[name].annotation).strip("'")
            raise HyperparameterError(
                f"{model.__name__}: hyperparameter {name} = {value!r} is not a {kind}: {reason}"
            ) from error
    return resolved


def _type_of(model: type, parameter: inspect.Parameter) -> Any:
    """Returns a parameter's type; other parameters' annotations may be names that only a type checker imports."""
    scope = getattr(inspect.getattr_static(model, "__init__"), "__globals__", {})
    one = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(one, globalns=scope)[parameter.name]
    except NameError as error:
        raise HyperparameterError(
            f"{model.__name__}: the annotation of hyperparameter {parameter.name!r} cannot be evaluated: {error}"
        ) from error


def as_json(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns hyperparameters as JSON holds them (tuples become lists)."""
    content: dict[str, Any] = json.loads(json.dumps(dict(hyperparameters)))
    return content
