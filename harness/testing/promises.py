"""What a benchmark asks of a plugin beyond the audit: of its models, its datasets, its metrics.

A promise is a function of the conformance suite that names what is tested. It returns where the promise is kept, and
raises ``Broken`` or ``Inapplicable`` where it is not.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from harness.auditing.subject import FULL, LARGER, SMALL, WIDE, describe
from harness.discovery import loading
from harness.discovery.manager import plugin_manager
from harness.discovery.targets import loaded_target
from harness.interface.data_folder import DataFolder, DataUnavailable
from harness.interface.dataset import Dataset
from harness.interface.metric import Evaluation, Metric, Score, check_samples
from harness.interface.model import Model, Unsupported
from harness.interface.spec import Budget, ImageSpec, ScoreKind
from harness.interface.training import Interrupted, Trainer
from harness.support.guard import undisturbed
from harness.support.randomness import derive_seed, isolated_rng, seed_everything
from harness.testing.conformance import (
    Broken,
    Conformance,
    DatasetConformance,
    Inapplicable,
    MetricConformance,
    ModelConformance,
)
from harness.testing.tiny import Coins, tiny_dataset

Make = Callable[[ImageSpec], Model]

_STEPS, _STOP = 7, 3
_METRICS = ("nll", "bits-per-dim", "negative-elbo", "bits-per-dim-bound", "iwae-5")
_SAMPLES = 5
_CPU = torch.device("cpu")
_KINDS: tuple[str, ...] = get_args(ScoreKind)
_METRICS_SPACE = ImageSpec(1, 8, 8, 4, num_classes=3)
_SPLITS = ("train", "valid", "test")


def registered(case: Conformance) -> None:
    """Exactly one plugin registers it, and the entry resolves and has a summary."""
    manager, name = plugin_manager(), getattr(case, case._noun)
    if not isinstance(name, str):
        if not any(loaded_target(entry) is name for entry in manager.entries("model")):
            raise Inapplicable("given as a class, which no installed plugin registers")
        return
    with _saying("{}. Is the plugin installed? 'harness plugins' tells"):
        entry, _ = manager.find(case._noun, name)
        entry.load()
    provider = manager.provider_of(case._noun, entry)
    for problem in provider.problems:
        raise Broken(f"plugin {provider.name!r}: {problem.message}")
    entry_words = f"{type(entry).__name__}({entry.name!r})"
    _require(entry.summary.strip(), f"{entry_words} has no summary: one line for 'harness list'")
    if isinstance(case, MetricConformance):
        with _saying():
            own = loading.load_metric(manager, name).name
        _require(own == name, f"the metric calls itself {own!r}, the suite calls it {name!r}: set name when it is made")


def _require(kept: object, otherwise: str) -> None:
    if not kept:
        raise Broken(otherwise)


@contextmanager
def _saying(words: str = "{}") -> Iterator[None]:
    """What the harness refuses is a promise broken, in its own words."""
    try:
        yield
    except ValueError as error:
        raise Broken(words.format(error)) from error


@contextmanager
def _calling(what: str, spec: ImageSpec | None = None) -> Iterator[None]:
    """What the code of a plugin raises is a promise broken; what it says to be ``Unsupported`` does not apply."""
    try:
        yield
    except Unsupported as reason:
        raise Inapplicable(f"{what}: {reason}") from reason
    except Exception as error:  # somebody else's code: anything can happen
        where = "" if spec is None else f" ({describe(spec)})"
        raise Broken(f"{what} raises {type(error).__name__}: {error}{where}") from error


# --- a model is made, trained, stopped, resumed, scored ---


def documented(case: ModelConformance) -> None:
    """Its class has a docstring of its own."""
    cls = _class_of(case.model)
    words = f"{cls.__name__} has no docstring: say what it is, its formula and where it was published"
    _require((vars(cls).get("__doc__") or "").strip(), words)


def hyperparameters(case: ModelConformance) -> None:
    """They are keyword-only, annotated, and have defaults that a suite could have written."""
    cls = _class_of(case.model)
    with _saying():
        defaults = {name: parameter.default for name, parameter in loading.parameters_of(cls).items()}
        loading.resolve(cls, case.hyperparameters)
    for name, value in defaults.items():
        words = f"{cls.__name__}: the default {name} = {value!r}"
        try:
            back = loading.resolve(cls, loading.as_json({name: value}))[name]
        except (TypeError, ValueError) as error:
            raise Broken(f"{words} cannot stand in a suite: {error}") from error
        same = loading.as_json({name: back}) == loading.as_json({name: value})
        _require(same, f"{words} comes back from a suite as {back!r}")


def constructs(case: ModelConformance) -> None:
    """It can be made for reasonable sample spaces, and says ``Unsupported`` of the others."""
    make, made, reasons = maker(case.model, case.hyperparameters), False, list[str]()
    for spec in _spaces(case):
        if made and spec in FULL and spec != case.benchmark:
            break  # nothing is learned from models of gigabytes
        try:
            with isolated_rng(case.seed, _CPU):
                model = make(spec)
        except Unsupported as reason:
            _require(str(reason).strip(), f"{describe(spec)}: Unsupported without a reason")
            reasons.append(f"{describe(spec)}: {reason}")
            continue
        except Exception as error:  # somebody else's code: anything can happen
            raise Broken(
                f"{describe(spec)}: the constructor raises {type(error).__name__}: {error}. "
                "Raise harness.Unsupported(reason) for a space that cannot be done"
            ) from error
        _require(model.spec == spec, f"{type(model).__name__}.spec is {model.spec}: call super().__init__(spec)")
        made = True
    _require(made, "no sample space that was tried is supported: " + "; ".join(reasons))


def resumes(case: ModelConformance) -> None:
    """Trained for a few steps, stopped, and resumed in a new process's place, it has the very same weights."""
    make = maker(case.model, case.hyperparameters)
    data = _first_dataset(make, _spaces(case), seed=case.seed)
    with tempfile.TemporaryDirectory(prefix="harness-") as name:
        folder = Path(name)
        whole, _ = _fit(make, data, _STEPS, seed=case.seed)
        _, trainer = _fit(make, data, _STEPS, seed=case.seed, folder=folder, stop_at=_STOP)
        resumed, _ = _fit(make, data, _STEPS, seed=case.seed, folder=folder)
    stopped = trainer.step == _STOP
    how = f"stopped after {_STOP} of {_STEPS} steps and resumed" if stopped else "done twice with one seed"
    for name, value in whole.state_dict().items():
        _require(not bool(value.isnan().any()), f"after {_STEPS} steps of training, {name} holds NaN")
        other = resumed.state_dict().get(name)
        same = other is not None and value.dtype == other.dtype and torch.equal(value, other)
        track = "optimizers, schedules and averages must be named to trainer.track(...)"
        rest = "everything learned must be in state_dict, and randomness must come from torch's generators"
        _require(same, f"a training that is {how} ends with another {name}: {track}, {rest}")


def scored(case: ModelConformance) -> None:
    """After a short training every likelihood and bound that it promises, and its samples, are as they should be."""
    make = maker(case.model, case.hyperparameters)
    data = _first_dataset(make, _spaces(case), seed=case.seed)
    model, _ = _fit(make, data, _STEPS, seed=case.seed)
    evaluation = Evaluation(model, data, seed=case.seed)
    for name in _METRICS:
        metric = loading.load_metric(plugin_manager(), name)
        if isinstance(model, metric.requires):
            with suppress(Inapplicable), _calling(name, data.spec):
                metric.evaluate(evaluation)
    with _calling(f"sample({_SAMPLES})", data.spec), torch.no_grad(), isolated_rng(case.seed, _CPU):
        check_samples(model.sample(_SAMPLES), _SAMPLES, model)


def _class_of(model: str | type[Model]) -> type[Model]:
    with _saying():
        return loading.load_model_class(plugin_manager(), model) if isinstance(model, str) else model


def maker(model: str | type[Model], given: Mapping[str, Any]) -> Make:
    """Returns what constructs a model, given its class or registered name; ``Broken`` if there is none such."""
    cls = _class_of(model)
    return lambda spec: loading.with_samplers(plugin_manager(), cls(spec, **loading.resolve(cls, given)))


def _spaces(case: ModelConformance) -> tuple[ImageSpec, ...]:
    own = () if case.benchmark is None else (case.benchmark,)
    return (*SMALL, *LARGER, *own, *WIDE, *FULL)


def _first_dataset(make: Make, spaces: Iterable[ImageSpec], *, seed: int) -> Dataset:
    """Returns a tiny dataset on the first sample space that a model takes."""
    reasons = []
    for spec in spaces:
        try:
            with isolated_rng(seed, _CPU):
                make(spec)
        except Exception as reason:  # somebody else's code: anything can happen
            reasons.append(f"{describe(spec)}: {reason}")
            continue
        return tiny_dataset(spec, seed=seed)
    raise Inapplicable("no sample space that was tried is supported; " + "; ".join(reasons[:3]))


def _fit(
    make: Make, data: Dataset, steps: int, *, seed: int, folder: Path | None = None, stop_at: int | None = None
) -> tuple[Model, Trainer]:
    """Returns a model after a few steps of training, stopped before ``stop_at`` if that is given, and its trainer."""
    with isolated_rng(derive_seed(seed, "initialisation"), _CPU):
        model = make(data.spec)
        torch.manual_seed(derive_seed(seed, "training"))
        trainer = Trainer(
            model, data, budget=Budget(steps, "steps"), seed=seed, folder=folder,
            should_stop=lambda: trainer.step == stop_at,
        )  # fmt: skip
        try:
            with _calling("fit", data.spec), suppress(Interrupted):
                model.fit(data, trainer)
        finally:
            if trainer._writer is not None:
                trainer._writer.close()  # its thread would write into a folder that is gone
    return model.eval(), trainer


# --- a metric says what it counts, and measures the same model the same every time ---


def scores(case: MetricConformance) -> None:
    """Its score is finite, of a known kind, with one value for each image or none, and a protocol in words."""
    name, (metric, evaluation) = case.metric, _evaluation(case)
    score = _score(evaluation, metric)
    _require(isinstance(score, Score), f"{name} returned {type(score).__name__}, not a harness.Score")
    _require(math.isfinite(score.value), f"{name} is {score.value}: raise an error that says why there is no figure")
    _require(score.kind in _KINDS, f"{name} is of kind {score.kind!r}, not one of {', '.join(_KINDS)}")
    error, values, expected = score.standard_error, score.per_image, (len(evaluation.split),)
    _require(error is None or error >= 0, f"{name} has the standard error {error}")
    if values is not None:
        found = tuple(values.shape)
        _require(found == expected, f"{name} has per_image {found}, not one value an image, {expected}")
        _require(values.dtype == torch.float64, f"{name} has per_image in {values.dtype}, not float64")
    for key, value in score.protocol.items():
        _require(isinstance(key, str) and isinstance(value, str), f"{name}: protocol[{key!r}] is {value!r}, not a text")


def deterministic(case: MetricConformance) -> None:
    """Measured twice, whatever torch's generators stand at, it is the same."""
    found = []
    for seed in (1, 2):
        metric, evaluation = _evaluation(case)
        if metric.stage == "speed":
            raise Inapplicable("a speed is never the same twice")
        with isolated_rng(seed, _CPU):
            found.append(_score(evaluation, metric).value)
    seeded = "evaluation.samples and evaluation.per_image, or by a generator that is seeded from evaluation.seed"
    words = f"measured twice, {case.metric} is {found[0]!r} and {found[1]!r}: draw by {seeded}"
    _require(found[0] == found[1], words)


def harmless(case: MetricConformance) -> None:
    """Measuring changes neither the model nor where torch's generators stand."""
    metric, evaluation = _evaluation(case)
    before = {key: value.clone() for key, value in evaluation.model.state_dict().items()}
    with isolated_rng(0, _CPU):
        state = torch.get_rng_state()
        _score(evaluation, metric)
        moved = not torch.equal(state, torch.get_rng_state())
    changed = [key for key, value in evaluation.model.state_dict().items() if not torch.equal(value, before[key])]
    _require(not changed, f"measuring {case.metric} changes the model: {', '.join(changed[:3])}")
    words = f"{case.metric} draws from torch's global generator: other figures would depend on it"
    _require(not moved or metric.stage != "quality", words)


def _evaluation(case: MetricConformance) -> tuple[Metric, Evaluation]:
    try:
        metric = loading.load_metric(plugin_manager(), case.metric)
    except ValueError as error:
        raise Inapplicable(f"{error}: see the test 'registered'") from error
    make = maker(case.model or Coins, {})
    data = _first_dataset(make, (_METRICS_SPACE, *SMALL), seed=0)
    model, trainer = _fit(make, data, 5, seed=0)
    if not isinstance(model, metric.requires):
        raise Inapplicable(f"{metric.name} needs a {metric.requires.__name__}: say model = ... that is one")
    return metric, Evaluation(model, data, fit=trainer.summary())


def _score(evaluation: Evaluation, metric: Metric) -> Score:
    try:
        return metric.evaluate(evaluation)
    except Exception as error:  # somebody else's code: anything can happen
        raise Broken(f"{metric.name} raises {type(error).__name__}: {error}") from error


# --- a dataset is the same every time, within its space, and its splits share nothing ---


def loads(case: DatasetConformance) -> None:
    """It loads, and says where its splits come from."""
    words = f"dataset {case.dataset!r} has no split_protocol: say in a sentence where its splits come from"
    _require(_load(case.dataset, case.folder).split_protocol.strip(), words)


def stable(case: DatasetConformance) -> None:
    """Loaded twice, it is the same: its digest is part of the key of every run."""
    data = _load(case.dataset, case.folder)
    with undisturbed(case.dataset):
        seed_everything(1)  # global random numbers stand as they stood before the first loading
        again = _load.__wrapped__(case.dataset, case.folder)
    if data.digest() != again.digest():
        different = [part for part in _SPLITS if getattr(data, part).digest() != getattr(again, part).digest()]
        raise Broken(f"loaded twice, {' and '.join(different) or 'the spec'} differ: seed what is random")


def in_range(case: DatasetConformance) -> None:
    """Every draw of every split holds values below ``levels``, and labels below ``num_classes``."""
    data = _load(case.dataset, case.folder)
    levels, classes = data.spec.levels, data.spec.num_classes
    for part in _SPLITS:
        split = getattr(data, part)
        for draw in range(split.num_draws):
            images = split.draw(draw).images
            top, again = int(images.max()), split.draw(draw).images
            _require(top < levels, f"{part} holds the value {top}, the spec allows 0 to {levels - 1}")
            same = torch.equal(images, again)
            _require(same, f"draw {draw} of {part} is another one every time: seed it by its index")
        found, says = split.labels, f"the spec says num_classes={classes}"
        _require((found is None) == (classes is None), f"{part} has {'no ' * (found is None)}labels, {says}")
        if found is not None:
            low, high = int(found.min()), int(found.max())
            _require(low >= 0 and high < (classes or 0), f"{part} has labels from {low} to {high}, {says}")


def varied(case: DatasetConformance) -> None:
    """Its images use more than one level and are not all the same."""
    images = _load(case.dataset, case.folder).train.draw(0).images
    _require(not bool((images == images[0]).all()), f"all {len(images)} training images are the same")


def disjoint(case: DatasetConformance) -> None:
    """No image of a split lies in another one."""
    data = _load(case.dataset, case.folder)
    digests = {part: getattr(data, part).image_digests() for part in _SPLITS}
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = np.isin(digests[second], digests[first])
        if shared.any():
            found = f"{int(shared.sum())} of {len(shared)} images of {second} are in {first} as well"
            which = f"the first is image {int(shared.argmax())} of {second}"
            raise Broken(f"{found}, {which}: a model may have learned them by heart")


@lru_cache(maxsize=2)
def _load(name: str, folder: Path | None) -> Dataset:
    try:
        return loading.load_dataset(plugin_manager(), name, DataFolder.resolve(folder))
    except DataUnavailable as reason:
        raise Inapplicable(str(reason)) from reason
    except (ValueError, OSError) as error:
        raise Broken(str(error)) from error


def _named(*promises: Callable[[Any], None]) -> dict[str, Callable[[Any], None]]:
    return {promise.__name__.replace("_", "-"): promise for promise in promises}


PROMISES: Mapping[str, Mapping[str, Callable[[Any], None]]] = {
    "model": {**_named(registered, documented, hyperparameters, constructs, resumes), "scores": scored},
    "metric": _named(registered, scores, deterministic, harmless),
    "dataset": _named(registered, loads, stable, in_range, varied, disjoint),
}
"""Of each noun, by the names of its tests."""
