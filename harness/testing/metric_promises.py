"""What a benchmark asks of a metric: it says what it counts, and measures the same model the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch

from harness.auditing.spaces import SMALL
from harness.discovery.hyperparameters import resolve
from harness.discovery.loading import load_metric
from harness.discovery.manager import plugin_manager
from harness.interface.entries import EntryError
from harness.interface.metric import Evaluation, Metric, Score
from harness.interface.model import Model
from harness.interface.spec import Budget, ImageSpec, ScoreKind
from harness.interface.training import Trainer
from harness.support.names import BOARD_NAME
from harness.support.randomness import isolated_rng
from harness.testing.conformance import Broken, Inapplicable
from harness.testing.model_promises import check_entry, class_of
from harness.testing.tiny import Coins, tiny_dataset

_KINDS: tuple[str, ...] = get_args(ScoreKind)
_STAGES = ("quality", "cost", "speed")
_SPACE = ImageSpec(1, 8, 8, 4, num_classes=3)

Promised = str | type[Model] | None


def _metric(name: str) -> Metric:
    try:
        return load_metric(plugin_manager(), name)
    except (ValueError, EntryError) as error:
        raise Broken(f"{error}. Is the plugin installed? 'harness plugins' tells") from error


def _evaluation(model: Promised, metric: Metric) -> Evaluation:
    cls = Coins if model is None else class_of(model)
    with isolated_rng(0, torch.device("cpu")):
        torch.manual_seed(0)
        data, made = None, None
        for spec in (_SPACE, *SMALL):
            try:
                made, data = cls(spec, **resolve(cls, {})), tiny_dataset(spec)
                break
            except ValueError:
                continue
        if made is None or data is None:
            raise Inapplicable(f"{cls.__name__} supports none of the sample spaces that were tried")
        if not isinstance(made, metric.requires):
            raise Inapplicable(f"{metric.name} needs a {metric.requires.__name__}: say model = ... that is one")
        trainer = Trainer(made, data, budget=Budget(5, "steps"))
        made.fit(data, trainer)
    return Evaluation(made, data, fit=trainer.summary())


def _score(evaluation: Evaluation, metric: Metric) -> Score:
    try:
        return metric.evaluate(evaluation)
    except Exception as error:  # somebody else's code: anything can happen
        raise Broken(f"{metric.name} raises {type(error).__name__}: {error}") from error


def registered(name: str, model: Promised) -> None:
    """Exactly one plugin registers it, and the entry resolves and has a summary."""
    check_entry("metric", name)
    made = _metric(name)
    if made.name != name:
        raise Broken(f"the metric calls itself {made.name!r}, the suite calls it {name!r}: set name when it is made")


def declared(name: str, model: Promised) -> None:
    """It says what it counts, and what a model needs."""
    metric = _metric(name)
    if not isinstance(getattr(metric, "unit", None), str):
        raise Broken(f"{name} declares no unit: say what its value counts, such as nats, or '' of a pure number")
    if not isinstance(metric.board, str) or not BOARD_NAME.fullmatch(metric.board):
        raise Broken(f"{name}.board is {metric.board!r}, not lower-case words joined by hyphens")
    if not isinstance(metric.header, str):
        raise Broken(f"{name}.header is {metric.header!r}, not a text")
    if not (isinstance(metric.requires, type) and issubclass(metric.requires, object)):
        raise Broken(f"{name}.requires is {metric.requires!r}, not a capability such as harness.ExactLikelihood")
    if metric.stage not in _STAGES:
        raise Broken(f"{name}.stage is {metric.stage!r}, not one of {', '.join(_STAGES)}")
    if not isinstance(metric.version, str) or not metric.version:
        raise Broken(f"{name}.version is {metric.version!r}, not a text")


def scores(name: str, model: Promised) -> None:
    """Its score is finite, of a known kind, with one value for each image or none, and a protocol in words."""
    metric = _metric(name)
    evaluation = _evaluation(model, metric)
    score = _score(evaluation, metric)
    if not isinstance(score, Score):
        raise Broken(f"{name} returned {type(score).__name__}, not a harness.Score")
    if not math.isfinite(score.value):
        raise Broken(f"{name} is {score.value}: raise an error that says why there is no figure")
    if score.kind not in _KINDS:
        raise Broken(f"{name} is of kind {score.kind!r}, not one of {', '.join(_KINDS)}")
    if score.standard_error is not None and not score.standard_error >= 0:
        raise Broken(f"{name} has the standard error {score.standard_error}")
    expected = (len(evaluation.split),)
    if score.per_image is not None and tuple(score.per_image.shape) != expected:
        raise Broken(f"{name} has per_image {tuple(score.per_image.shape)}, not one value an image, {expected}")
    if score.per_image is not None and score.per_image.dtype != torch.float64:
        raise Broken(f"{name} has per_image in {score.per_image.dtype}, not float64")
    for key, value in score.protocol.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise Broken(f"{name}: protocol[{key!r}] is {value!r}, not a text")


def deterministic(name: str, model: Promised) -> None:
    """Measured twice, whatever torch's generators stand at, it is the same."""
    metric = _metric(name)
    if metric.stage == "speed":
        raise Inapplicable("a speed is never the same twice")
    found = []
    for seed in (1, 2):
        evaluation = _evaluation(model, metric)
        with isolated_rng(seed, torch.device("cpu")):
            found.append(_score(evaluation, metric))
    if found[0].value != found[1].value:
        raise Broken(
            f"measured twice, {name} is {found[0].value!r} and {found[1].value!r}: draw by evaluation.samples and "
            "evaluation.per_image, or by a generator that is seeded from evaluation.seed"
        )


def harmless(name: str, model: Promised) -> None:
    """Measuring changes neither the model nor where torch's generators stand."""
    metric = _metric(name)
    evaluation = _evaluation(model, metric)
    before = {key: value.clone() for key, value in evaluation.model.state_dict().items()}
    with isolated_rng(0, torch.device("cpu")):
        state = torch.get_rng_state()
        _score(evaluation, metric)
        moved = not torch.equal(state, torch.get_rng_state())
    changed = [key for key, value in evaluation.model.state_dict().items() if not torch.equal(value, before[key])]
    if changed:
        raise Broken(f"measuring {name} changes the model: {', '.join(changed[:3])}")
    if moved and metric.stage == "quality":
        raise Broken(f"{name} draws from torch's global generator: other figures would depend on it")


PROMISES: Mapping[str, Callable[[str, Any], None]] = {
    "registered": registered,
    "declared": declared,
    "scores": scores,
    "deterministic": deterministic,
    "harmless": harmless,
}
