"""From the names in a suite to what they name: datasets, metrics, models before training, their hyperparameters."""

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from torch import Tensor

from harness.discovery.code_digest import code_digest
from harness.discovery.manager import PluginManager
from harness.discovery.targets import CodeEntry, SamplesEntry, loaded_target, neighbours
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.entries import Entry, SamplerEntry
from harness.interface.metric import Evaluation, FeatureNetwork, Metric, Origin
from harness.interface.model import Model
from harness.interface.sampling import Sampler
from harness.interface.spec import RunSpec, known_as, place_of
from harness.support.guard import describe_error, guarded
from harness.support.names import BOARD_NAME, did_you_mean, digest_of, type_in_words, what_is_wrong
from harness.support.randomness import derive_seed

M = TypeVar("M", bound=Model)


def load_dataset(plugins: PluginManager, name: str, folder: DataFolder) -> Dataset:
    """Loads a dataset by its name as a suite writes it; whatever goes wrong is a ValueError or an OSError."""
    entry, arguments = plugins.find("dataset", name)
    data = _made_by(entry, lambda load: load(folder, **arguments))
    if not isinstance(data, Dataset):
        where = f"{entry.module}:{entry.attribute}"
        raise ValueError(f"dataset {name!r}: {where} returned {type(data).__name__}, not a harness.Dataset")
    return data if place_of(name) is None else dataclasses.replace(data, name=known_as(name))


def _made_by(entry: Entry, make: Callable[[Any], Any]) -> Any:
    """Returns what an entry's target gives; whatever goes wrong is a ValueError or an OSError."""
    target = entry.load()
    try:
        with guarded(f"{entry.kind} {entry.name!r}"):
            return make(target)
    except (ValueError, OSError):
        raise
    except Exception as error:
        where = f"{entry.kind} {entry.name!r}: {entry.module}:{entry.attribute}"
        raise ValueError(f"{where} failed: {describe_error(error)}") from error


def load_metric(plugins: PluginManager, name: str) -> Metric:
    """Makes a metric by its name as a suite writes it."""
    entry, arguments = plugins.find("metric", name)
    metric = _made_by(entry, lambda make: make(**arguments))
    if not isinstance(metric, Metric):
        raise ValueError(f"metric {name!r}: {entry.target} gave {type(metric).__name__}, not a harness.Metric")
    kinds = {"unit": str, "header": str, "version": str, "higher_is_better": bool, "requires": type}
    for what, kind in kinds.items():
        if not isinstance(found := getattr(metric, what, None), kind):
            meant = {"unit": ": say what its value counts, such as nats, or '' of a pure number"}.get(what, "")
            raise ValueError(f"metric {name!r}: {what} {found!r:.80} is no {kind.__name__}{meant}")
    if metric.stage not in ("quality", "cost", "speed"):
        raise ValueError(f"metric {name!r}: stage {metric.stage!r:.80} is not quality, cost or speed")
    if not isinstance(metric.board, str) or not BOARD_NAME.fullmatch(metric.board):
        raise ValueError(f"metric {name!r}: board {metric.board!r} is not made of lower-case words joined by hyphens")
    return metric


def load_network(plugins: PluginManager, name: str, evaluation: Evaluation) -> FeatureNetwork:
    """Makes a feature network by its name in a metric's; whatever goes wrong is a ValueError or an OSError."""
    entry, arguments = plugins.find("network", name)
    network = _made_by(entry, lambda make: make(evaluation, **arguments))
    if not isinstance(network, FeatureNetwork):
        found = type(network).__name__
        raise ValueError(f"network {name!r}: {entry.target} gave {found}, not a harness.FeatureNetwork")
    return network


def load_model_class(plugins: PluginManager, name: str) -> type[Model]:
    """Imports a model's class."""
    found = plugins.load("model", name)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"model {name!r}: {found!r} is not a subclass of harness.Model")
    return found


def model_code(plugins: PluginManager, name: str) -> str:
    """Returns the digest of the code that a model's training depends on; of samples from a file, that of the images."""
    entry, _ = plugins.find("model", name)
    if isinstance(entry, SamplesEntry):
        return str(entry.load().stored()[2])
    if isinstance(entry, CodeEntry):
        entry.load()  # from then on its module and its neighbours are found by their names
    return code_digest(entry.module, plugins.packages() | neighbours(entry.module))


def drawing_code(plugins: PluginManager, name: str) -> str:
    """Returns the digest of a registered model's code with that of the samplers that its own plugin brings."""
    code, (own, _) = model_code(plugins, name), plugins.samplers(name)
    codes = sorted(code_digest(module, plugins.packages()) for module in {entry.module for entry in own})
    return digest_of([code, own[0].name, *codes]) if own else code


def sampler_codes(plugins: PluginManager, name: str) -> dict[str, str]:
    """Returns the digest of the code of every sampler registered for a model, by name."""
    own, others = plugins.samplers(name)
    return {entry.name: code_digest(entry.module, plugins.packages()) for entry in (*own, *others)}


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
        kind = type_of(model, known[name])
        try:
            resolved[name] = TypeAdapter(kind).validate_json(json.dumps(value, allow_nan=False), strict=True)
        except (TypeError, ValueError, PydanticUserError) as error:  # the last: no value in a file is of such a type
            where = f"{model.__name__}: hyperparameter {name}"
            first = dict(error.errors()[0]) if isinstance(error, ValidationError) else {}
            if first.get("ctx"):  # of the right type, and out of bounds
                raise HyperparameterError(f"{where} {what_is_wrong({**first, 'loc': ()})}") from error
            raise HyperparameterError(f"{where} has to be {type_in_words(kind)}, not {value!r:.60}") from error
    return resolved


def type_of(model: type, parameter: inspect.Parameter) -> Any:
    """Returns a parameter's type; other parameters' annotations may be names that only a type checker imports."""
    scope = getattr(inspect.getattr_static(model, "__init__"), "__globals__", {})
    one = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(one, globalns=scope)[parameter.name]
    except Exception as error:  # a name that only a type checker imports, or no expression at all
        raise HyperparameterError(
            f"{model.__name__}: the annotation of hyperparameter {parameter.name!r} cannot be evaluated: {error}"
        ) from error


def as_json(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns hyperparameters as JSON holds them (tuples become lists)."""
    try:
        content: dict[str, Any] = json.loads(json.dumps(dict(hyperparameters), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise HyperparameterError(f"hyperparameters {hyperparameters!r:.200} are no JSON values: {error}") from error
    return content


def with_samplers(plugins: PluginManager, model: M, *, everyones: bool = False) -> M:
    """Gives a model the samplers registered for its class; they are imported when they are used.

    With ``everyones``, those of other plugins too, which the model has no part in: its audit leaves them out.
    """
    own, others = dict[str, Sampler](), dict[str, Sampler]()
    for entry in plugins.entries("model"):
        if loaded_target(entry) is type(model):
            for group, found in zip((own, others), plugins.samplers(entry.name), strict=True):
                group.update({sampler.name: _when_used(sampler) for sampler in found})
    return model.add_samplers(own, others if everyones else {})


def _when_used(entry: SamplerEntry) -> Sampler:
    def draw(model: Model, num_samples: int, /, **options: Any) -> Tensor:
        images: Tensor = entry.load()(model, num_samples, **options)
        return images

    return draw


def build_model(
    plugins: PluginManager, spec: RunSpec, data: Dataset, device: torch.device, *, everyones_samplers: bool = False
) -> Model:
    """Constructs a run's model as it is before training, on its device, under the run's seed."""
    model_class = load_model_class(plugins, spec.model)
    torch.manual_seed(derive_seed(spec.seed, "initialisation"))
    model = model_class(data.spec, **resolve(model_class, spec.hyperparameters))
    with_samplers(plugins, model, everyones=everyones_samplers)
    return (model.double() if spec.precision == "float64" else model).to(device)


def origin_of(
    plugins: PluginManager, model_class: type[Model], name: str, hyperparameters: Mapping[str, Any], code: str = ""
) -> Origin:
    """Returns how a model's class is made into a model; ``hyperparameters`` are what differs from its defaults."""
    defaults, chosen = (as_json(resolve(model_class, given)) for given in ({}, hyperparameters))
    return Origin(
        name,
        lambda spec: with_samplers(plugins, model_class(spec, **resolve(model_class, hyperparameters))),
        chosen,
        {key: value for key, value in chosen.items() if value != defaults[key]},
        code,
    )
