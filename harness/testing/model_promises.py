"""What a benchmark asks of a model's plugin beyond the audit: it is found, made, trained, stopped, resumed, scored."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.auditing.spaces import FULL, LARGER, SMALL, WIDE, describe
from harness.discovery.hyperparameters import HyperparameterError, as_json, parameters_of, resolve
from harness.discovery.loading import load_metric, load_model_class, with_samplers
from harness.discovery.manager import Kind, plugin_manager
from harness.interface.dataset import Dataset
from harness.interface.entries import EntryError
from harness.interface.metric import Evaluation, check_samples
from harness.interface.model import Model, Unsupported
from harness.interface.spec import Budget, ImageSpec
from harness.interface.training import Interrupted, Trainer
from harness.support.randomness import derive_seed, isolated_rng
from harness.testing.conformance import Broken, Inapplicable
from harness.testing.tiny import tiny_dataset

_STEPS, _STOP = 7, 3
_METRICS = ("nll", "bits-per-dim", "negative-elbo", "bits-per-dim-bound", "iwae-5")
_SAMPLES = 5
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Candidate:
    """The model under test, by name or class, with the hyperparameters that differ from its defaults."""

    model: str | type[Model]
    hyperparameters: Mapping[str, Any]
    seed: int
    benchmark: ImageSpec | None = None

    @property
    def model_class(self) -> type[Model]:
        """The class.

        Raises:
            Broken: it cannot be had.
        """
        try:
            return class_of(self.model)
        except ValueError as error:
            raise Broken(str(error)) from error

    def make(self, spec: ImageSpec) -> Model:
        """Constructs it under the seed; raises ``Unsupported``, or whatever its code raises."""
        cls = self.model_class
        torch.manual_seed(derive_seed(self.seed, "initialisation"))
        return with_samplers(plugin_manager(), cls(spec, **resolve(cls, self.hyperparameters)))

    def data(self) -> Dataset:
        """Returns a tiny dataset on the first sample space that the model takes."""
        own = () if self.benchmark is None else (self.benchmark,)
        reasons = []
        for spec in (*SMALL, *LARGER, *own, *WIDE, *FULL):
            try:
                self.make(spec)
            except Exception as reason:  # somebody else's code: anything can happen
                reasons.append(f"{describe(spec)}: {reason}")
                continue
            return tiny_dataset(spec, seed=self.seed)
        raise Inapplicable("no sample space that was tried is supported; " + "; ".join(reasons[:3]))

    def fit(self, data: Dataset, folder: Path | None = None, *, stop_at: int | None = None) -> tuple[Model, bool]:
        """Trains it for a few steps, and returns it with whether it was stopped before the end."""
        with isolated_rng(derive_seed(self.seed, "fit"), _CPU):
            model = self.make(data.spec)
            torch.manual_seed(derive_seed(self.seed, "training"))
            trainer = Trainer(
                model, data, budget=Budget(_STEPS, "steps"), seed=self.seed, folder=folder,
                should_stop=lambda: trainer.step == stop_at,
            )  # fmt: skip
            try:
                model.fit(data, trainer)
            except Interrupted:
                return model, True
            except Unsupported as reason:
                raise Inapplicable(f"fit: {reason}") from reason
            except Exception as error:  # somebody else's code: anything can happen
                text = f"fit raises {type(error).__name__}: {error}"
                raise Broken(f"{text} ({describe(data.spec)})") from error
            finally:
                if trainer._writer is not None:
                    trainer._writer.close()  # its thread would write into a folder that is gone
        return model.eval(), False


def class_of(model: str | type[Model]) -> type[Model]:
    """Returns a model's class, given it or its registered name.

    Raises:
        ValueError: no model of this name, or not one alone, or it cannot be imported.
    """
    return load_model_class(plugin_manager(), model) if isinstance(model, str) else model


def check_entry(kind: Kind, name: str) -> None:
    """Raises ``Broken`` unless exactly one plugin registers a name, and its entry resolves and has a summary."""
    manager = plugin_manager()
    try:
        entry, _ = manager.find(kind, name)
        entry.load()
    except (ValueError, EntryError) as error:
        raise Broken(f"{error}. Is the plugin installed? 'harness plugins' tells") from error
    provider = manager.provider_of(kind, entry)
    if provider.problems:
        raise Broken(f"plugin {provider.name!r}: {provider.problems[0].message}")
    if not entry.summary.strip():
        raise Broken(f"{type(entry).__name__}({entry.name!r}) has no summary: one line for 'harness list'")


def registered(candidate: Candidate) -> None:
    """Exactly one plugin registers it, and the entry resolves."""
    manager = plugin_manager()
    if not isinstance(candidate.model, str):
        names = [entry.name for entry in manager.entries("model") if _loads(entry.load) is candidate.model]
        if not names:
            raise Inapplicable("given as a class, which no installed plugin registers")
        return
    check_entry("model", candidate.model)


def documented(candidate: Candidate) -> None:
    """Its class has a docstring of its own."""
    cls = candidate.model_class
    own = cls.__dict__.get("__doc__")
    if not own or not inspect.cleandoc(own).strip():
        raise Broken(f"{cls.__name__} has no docstring: say what it is, its formula and where it was published")


def hyperparameters(candidate: Candidate) -> None:
    """They are keyword-only, annotated, and have defaults that a suite could have written."""
    cls = candidate.model_class
    try:
        defaults = {name: parameter.default for name, parameter in parameters_of(cls).items()}
        resolve(cls, candidate.hyperparameters)
    except HyperparameterError as error:
        raise Broken(str(error)) from error
    for name, value in defaults.items():
        try:
            back = resolve(cls, as_json({name: value}))[name]
        except (HyperparameterError, TypeError, ValueError) as error:
            raise Broken(f"{cls.__name__}: the default {name} = {value!r} cannot stand in a suite: {error}") from error
        if as_json({name: back}) != as_json({name: value}):
            raise Broken(f"{cls.__name__}: the default {name} = {value!r} comes back from a suite as {back!r}")


def constructs(candidate: Candidate) -> None:
    """It can be made for reasonable sample spaces, and says ``Unsupported`` of the others."""
    own = () if candidate.benchmark is None else (candidate.benchmark,)
    made: list[ImageSpec] = []
    reasons: list[str] = []
    for spec in (*SMALL, *LARGER, *WIDE, *own, *FULL):
        if spec in FULL and spec not in own and made:
            break  # nothing is learned from models of gigabytes
        try:
            with isolated_rng(candidate.seed, _CPU):
                model = candidate.make(spec)
        except Unsupported as reason:
            if not str(reason).strip():
                raise Broken(f"{describe(spec)}: Unsupported without a reason") from reason
            reasons.append(f"{describe(spec)}: {reason}")
            continue
        except Broken:
            raise
        except Exception as error:  # somebody else's code: anything can happen
            raise Broken(
                f"{describe(spec)}: the constructor raises {type(error).__name__}: {error}. "
                "Raise harness.Unsupported(reason) for a space that cannot be done"
            ) from error
        if model.spec != spec:
            raise Broken(f"{type(model).__name__}.spec is {model.spec}: call super().__init__(spec)")
        made.append(spec)
    if not made:
        raise Broken("no sample space that was tried is supported: " + "; ".join(reasons))


def resumes(candidate: Candidate) -> None:
    """Trained for a few steps, stopped, and resumed in a new process's place, it has the very same weights."""
    data = candidate.data()
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        whole, _ = candidate.fit(data)
        _, stopped = candidate.fit(data, Path(folder), stop_at=_STOP)
        resumed, _ = candidate.fit(data, Path(folder))
    for name, value in whole.state_dict().items():
        if value.is_floating_point() and bool(value.isnan().any()):
            raise Broken(f"after {_STEPS} steps of training, {name} holds NaN")
        other = resumed.state_dict().get(name)
        if other is None or value.dtype != other.dtype or not torch.equal(value, other):
            how = f"stopped after {_STOP} of {_STEPS} steps and resumed" if stopped else "done twice with one seed"
            raise Broken(
                f"a training that is {how} ends with another {name}: optimizers, schedules and averages must be named "
                "to trainer.track(...), everything learned must be in state_dict, and randomness must come from "
                "torch's generators"
            )


def scores(candidate: Candidate) -> None:
    """After a short training every likelihood and bound that it promises, and its samples, are as they should be."""
    data = candidate.data()
    model, _ = candidate.fit(data)
    evaluation = Evaluation(model, data, seed=candidate.seed)
    for name in _METRICS:
        metric = load_metric(plugin_manager(), name)
        if not isinstance(model, metric.requires):
            continue
        try:
            metric.evaluate(evaluation)
        except Unsupported:
            continue
        except Exception as error:  # somebody else's code: anything can happen
            raise Broken(f"{name} raises {type(error).__name__}: {error} ({describe(data.spec)})") from error
    try:
        with torch.no_grad(), isolated_rng(candidate.seed, _CPU):
            check_samples(model.sample(_SAMPLES), _SAMPLES, model)
    except Unsupported as reason:
        raise Inapplicable(f"sample: {reason}") from reason
    except Exception as error:  # somebody else's code: anything can happen
        raise Broken(f"sample({_SAMPLES}): {type(error).__name__}: {error} ({describe(data.spec)})") from error


def _loads(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except EntryError:
        return None


PROMISES: Mapping[str, Callable[[Candidate], None]] = {
    "registered": registered,
    "documented": documented,
    "hyperparameters": hyperparameters,
    "constructs": constructs,
    "resumes": resumes,
    "scores": scores,
}
