"""From the names in a suite to what they name: datasets, metrics, model classes, and a model before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.discovery.code_digest import code_digest
from harness.discovery.code_entry import CodeEntry
from harness.discovery.hyperparameters import as_json, resolve
from harness.discovery.manager import PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.metric import Metric, Origin
from harness.interface.model import Model
from harness.interface.spec import RunSpec
from harness.support.randomness import derive_seed


def load_dataset(plugins: PluginManager, name: str, folder: DataFolder) -> Dataset:
    """Loads a dataset by its name as a suite writes it.

    Raises:
        ValueError, OSError: an unknown name, files that are missing or wrong, or whatever else its code raises.
    """
    entry, arguments = plugins.find("dataset", name)
    load = entry.load()
    try:
        data = load(folder, **arguments)
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"dataset {name!r}: {entry.target} failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, Dataset):
        raise ValueError(f"dataset {name!r}: {entry.target} returned {type(data).__name__}, not a harness.Dataset")
    return data


def load_metric(plugins: PluginManager, name: str) -> Metric:
    """Makes a metric by its name as a suite writes it."""
    entry, arguments = plugins.find("metric", name)
    metric = entry.load()(**arguments)
    if not isinstance(metric, Metric):
        raise ValueError(f"metric {name!r}: {entry.target} gave {type(metric).__name__}, not a harness.Metric")
    return metric


def load_model_class(plugins: PluginManager, name: str) -> type[Model]:
    """Imports a model's class."""
    found = plugins.load("model", name)
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"model {name!r}: {found!r} is not a subclass of harness.Model")
    return found


def model_code(plugins: PluginManager, name: str, *, drawing: bool = False) -> str:
    """Returns the digest of a model's code, with ``drawing`` that of its samplers included."""
    entry, _ = plugins.find("model", name)
    packages = plugins.packages()
    if isinstance(entry, CodeEntry):
        entry.load()  # from then on its module and its neighbours are found by their names
        packages |= entry.packages
    return code_digest(entry.module, packages, drawing=drawing)


def build_model(plugins: PluginManager, spec: RunSpec, data: Dataset, device: torch.device) -> Model:
    """Constructs a run's model as it is before training, on its device, under the run's seed."""
    model_class = load_model_class(plugins, spec.model)
    torch.manual_seed(derive_seed(spec.seed, "initialisation"))
    model = model_class(data.spec, **resolve(model_class, spec.hyperparameters))
    if spec.precision == "float64":
        model = model.double()
    return model.to(device)


def origin_of(plugins: PluginManager, name: str, hyperparameters: Mapping[str, Any], code: str) -> Origin:
    """Returns how a registered model is made.

    Args:
        plugins: what is installed.
        name: the model's registered name.
        hyperparameters: what differs from its defaults.
        code: the digest of its code.

    Raises:
        ValueError: an unknown name, or a wrong hyperparameter.
    """
    return origin_of_class(load_model_class(plugins, name), name, hyperparameters, code)


def origin_of_class(model_class: type[Model], name: str, hyperparameters: Mapping[str, Any], code: str = "") -> Origin:
    """Returns how a model's class is made into a model; see ``origin_of``.

    Raises:
        HyperparameterError: a wrong hyperparameter.
    """
    defaults, chosen = (as_json(resolve(model_class, given)) for given in ({}, hyperparameters))
    return Origin(
        name,
        lambda spec: model_class(spec, **resolve(model_class, hyperparameters)),
        chosen,
        {key: value for key, value in chosen.items() if value != defaults[key]},
        code,
    )
