"""Metric, Score and Evaluation: what is measured on a trained model, and what it takes for two figures to compare."""

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset, Split
from harness.interface.model import (
    ExactLikelihood,
    ImportanceWeighted,
    Model,
    StoredSamples,
    Unsupported,
    VariationalBound,
)
from harness.interface.spec import ImageSpec, ScoreKind
from harness.interface.training import FitSummary
from harness.support.randomness import derive_seed, isolated_rng

_progress = logging.getLogger("harness.progress")  # which nobody hears but who waits

SAMPLE_BATCH = 250
FEATURE_CACHE_BYTES = 2**28
MOST_ENTRIES = 1000  # of a protocol, or of details

# torch.bernoulli speaks of the range of p_in when it is given NaN
_SAYS_NON_FINITE = re.compile(r"\b(nan|inf)s?\b|\binfinit\w+|non-?finite|not finite|p_in >= 0", re.IGNORECASE)


class NonFiniteScore(ValueError):
    """A per-image score was NaN or infinite. It is never averaged away."""


class DegenerateSamples(ValueError):
    """A model's samples say nothing: they are all one image, or it cannot draw for NaN or infinity. Says which."""


@dataclass(frozen=True)
class Score:
    """One figure, in the metric's unit; ``kind`` is what it is of the quantity that the metric's name promises.

    The standard error is over test images (or repetitions, for speeds), None where it has no meaning; ``per_image`` is
    (N,) float64 in test-set order, of which ``value`` is the mean, for paired tests, or None. ``protocol`` is what
    makes two figures comparable, as text: K, number of samples, precision, device, ...; ``details`` are
    further figures of the same measurement.
    """

    value: float
    standard_error: float | None
    kind: ScoreKind
    per_image: Tensor | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)


class Metric(ABC):
    """A way to measure a model.

    Class attributes:
        name: as a suite writes it; a metric of a family, such as ``iwae-5000``, sets it when it is made.
        board: the board that its column stands on; ``""`` for none; the default engine makes one that nobody registers.
        header: how the column is headed; by default the name in words.
        unit: what ``Score.value`` counts.
        higher_is_better: which way is up.
        requires: the capability that a model must derive from; others are recorded as skipped.
        version: part of the cache key: change it whenever a figure would change.
        stage: ``quality`` and ``cost`` do not depend on the hardware; ``speed`` does, and is measured alone on the
            machine, for the first seed only.
        can_choose: whether the configurations of a grid may be compared by it.
        datasets: others that it reads, by their names: that they are there is known before anything is trained.
    """

    name: str
    board: str = "other"
    header: str = ""
    unit: str
    higher_is_better: bool = False
    requires: type = Model
    version: str = "1"
    stage: ClassVar[Literal["quality", "cost", "speed"]] = "quality"
    can_choose: ClassVar[bool] = True
    datasets: tuple[str, ...] = ()

    @abstractmethod
    def evaluate(self, evaluation: "Evaluation") -> Score:
        """Measures ``evaluation.model`` on ``evaluation.split``."""

    def objection(self, spec: ImageSpec, most_samples: int | None) -> str | None:
        """Returns why it cannot measure images of ``spec``, or just ``most_samples``, if that is known before."""
        return None


def why_not(metric: Metric, model: type[Model]) -> str | None:
    """Returns what a model lacks for a metric, and what measures that which it has; None where it lacks nothing."""
    is_stored = issubclass(model, StoredSamples)
    if issubclass(model, metric.requires) and not (is_stored and metric.stage != "quality"):
        return None
    known: dict[type, tuple[str, str]] = {  # the first that a model has counts
        ExactLikelihood: ("exact likelihood", "nll measures its exact likelihood"),
        ImportanceWeighted: ("importance weights", "negative-elbo and iwae-K measure its bound"),
        VariationalBound: ("bound", "negative-elbo measures its bound"),
        Model: ("", "fid and kid measure its samples"),
    }
    lacks, _ = known.get(metric.requires, (metric.requires.__name__, ""))
    has = next(has for kind, (_, has) in known.items() if issubclass(model, kind))
    return f"{'samples from a file have' if is_stored else f'{model.__name__} has'} no {lacks or metric.stage}: {has}"


@dataclass(frozen=True)
class Origin:
    """How a model was made: enough to make it again, untrained, for any sample space.

    ``construct`` raises ``Unsupported`` for a space that the model ``name`` cannot do. ``hyperparameters`` are all of
    them, as JSON holds them, ``changed`` those that differ from the defaults; ``code`` is the digest of its code.
    """

    name: str
    construct: Callable[[ImageSpec], Model]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    code: str = ""


class FeatureNetwork(ABC):
    """A fixed map from images to vectors of ``num_features`` D.

    ``name`` is as in a metric's name, resolved: ``lenet-digits``, never plain ``lenet``. ``digest`` names the map, for
    one digest gives the same features: the weights' SHA-256, ``none`` without weights.
    """

    name: str
    num_features: int
    digest: str

    @abstractmethod
    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8, on any device, to (N, D) float32 or float64; images go through in batches.

        Raises ``Unsupported`` where the network is for images of another shape than the spec's.
        """

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Maps (N, D) of its features to (N, K) float64 log-probabilities of K classes; Unsupported if it has none."""
        raise Unsupported(f"{self.name} has no classes")

    def protocol(self) -> dict[str, str]:
        """Returns what makes two figures with this network comparable."""
        features = f"{self.name}, {self.num_features} dimensions"
        return {"features": features, "network digest": self.digest[:16], "resize": "none"}


class Evaluation:
    """A trained model, ready to be measured: on its device, in evaluation mode, under seeds of its own.

    Metrics that share an evaluation share its samples, and the features of samples and reference.

    Args:
        model: the trained model.
        data: its dataset.
        split: which split is scored; then an attribute, the ``Split``, and ``split_name``.
        fit: what is known of the training.
        seed: the run's; every computation derives its own from it.
        batch_size: images at a time.
        feature_folder: where feature networks that were trained here are kept; None: the user's cache folder.
        load_dataset: loads another dataset by its name, for feature networks that learn from one.
        load_network: makes a feature network of a plugin by its name, for this evaluation; None: there are those of
            the core alone.
        data_folder: where pretrained feature networks are looked for; None: the default data folder.
        origin: how the model was made, where that is known.
        audit_folder: where audits are kept, so that runs of one model share one; None: they are not kept.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        *,
        split: Literal["test", "valid"] = "test",
        fit: FitSummary | None = None,
        seed: int = 0,
        batch_size: int = 250,
        feature_folder: Path | None = None,
        load_dataset: Callable[[str], Dataset] | None = None,
        load_network: "Callable[[str, Evaluation], FeatureNetwork] | None" = None,
        data_folder: DataFolder | None = None,
        origin: Origin | None = None,
        audit_folder: Path | None = None,
    ) -> None:
        self.model, self.data, self.fit, self.seed, self.batch_size = model.eval(), data, fit, seed, batch_size
        self.split_name = split
        self.split: Split = data.test if split == "test" else data.valid
        self.device = model.device
        self.feature_folder, self.load_dataset, self.data_folder = feature_folder, load_dataset, data_folder
        self.origin, self.audit_folder, self.load_network = origin, audit_folder, load_network
        self._samples: list[Tensor] = []
        self._features: dict[tuple[str, str], Tensor] = {}
        self._networks: dict[str, FeatureNetwork] = {}

    def samples(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8 on the CPU: the model's own draws, the same for every metric.

        They are drawn once, ``SAMPLE_BATCH`` at a time, each batch under a seed of its own: fewer samples are the
        first of more. A model that ``draws_jointly`` is called once for all of them. Samples that are all the same
        image, NaN or infinite are ``DegenerateSamples``, what else is no image of the spec a ValueError.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {num_samples}")
        while (have := sum(map(len, self._samples))) < num_samples:
            _progress.debug("%d of %d images are drawn", have, num_samples)
            if self.model.draws_jointly:
                self._samples = [self._draw(num_samples, 0)]
            else:
                self._samples.append(self._draw(SAMPLE_BATCH, have // SAMPLE_BATCH))
        samples = torch.cat(self._samples)[:num_samples]
        if num_samples > 1 and bool((samples == samples[0]).all()):
            raise DegenerateSamples(f"all {num_samples} samples are the same image")
        return samples

    def _draw(self, num_samples: int, batch: int) -> Tensor:
        name = type(self.model).__name__
        try:
            with torch.no_grad(), isolated_rng(derive_seed(self.seed, "samples", batch), self.device):
                images = self.model.sample(num_samples)
        except (ValueError, RuntimeError, ArithmeticError) as error:
            if _SAYS_NON_FINITE.search(str(error)):
                raise DegenerateSamples(f"{name}.sample cannot draw: {error}") from error
            raise
        return check_samples(images, num_samples, self.model)

    def features(self, network: FeatureNetwork, images: Tensor, key: str) -> Tensor:
        """Returns a network's (N, num_features) floating-point features of images, on the CPU, computed once for a key.

        At most ``FEATURE_CACHE_BYTES`` are kept, the latest; what is not kept is computed again. A feature that is NaN
        or infinite is a ``NonFiniteScore``, another shape a ValueError.

        Args:
            network: the feature network.
            images: (N, C, H, W) uint8 of the model's spec.
            key: names the images, such as ``samples 10000``; the same key must mean the same images.
        """
        where, expected = (network.digest, key), (len(images), network.num_features)
        if where in self._features:
            return self._features[where]
        found = network(images, self.data.spec)
        self.checked(found, expected, network.name)
        found = found.cpu()
        if not bool(torch.isfinite(found).all()):
            raise NonFiniteScore(f"{network.name}: the features of {key} are not all finite")
        self._features[where] = found
        while sum(kept.nbytes for kept in self._features.values()) > FEATURE_CACHE_BYTES:
            del self._features[next(iter(self._features))]
        return found

    def network(self, name: str, make: Callable[[], FeatureNetwork]) -> FeatureNetwork:
        """Returns the feature network called ``name``, made at its first use."""
        return self._networks[name] if name in self._networks else self._networks.setdefault(name, make())

    def per_image(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        purpose: str,
        batch_size: int | None = None,
        num_draws: int | None = None,
    ) -> Tensor:
        """Returns a function of the whole split, (num_draws, N) float64 on the CPU; one row unless data are random.

        Args:
            function: maps (B, C, H, W) uint8 on the model's device to (B,).
            purpose: names the stream of random numbers, so that no metric depends on another having run.
            batch_size: images at a time, where the function needs fewer than the evaluation's.
            num_draws: of random data, the first so many draws alone; all of the split's by default.

        A score that is NaN or infinite is a ``NonFiniteScore`` that names the image, another shape a ValueError.
        """

        def scored(batch: Tensor, done: float) -> Tensor:
            _progress.debug("%.0f %% of the images are scored", 100 * done)
            return self.checked(function(batch.to(self.device)), (len(batch),), purpose)

        rows = []
        with torch.no_grad(), isolated_rng(derive_seed(self.seed, self.split_name, purpose), self.device):
            for draw in range(min(num_draws or self.split.num_draws, self.split.num_draws)):
                batches = torch.split(self.split.draw(draw).images, batch_size or self.batch_size)
                row = torch.cat([scored(batch, number / len(batches)) for number, batch in enumerate(batches)])
                if len(bad := (~torch.isfinite(row)).nonzero().flatten()):
                    first = int(bad[0])
                    told = f"{len(bad)} of {len(row)} images score {row[first].item()}, the first is image {first}"
                    raise NonFiniteScore(f"{purpose}: {told}")
                rows.append(row)
        return torch.stack(rows)

    @staticmethod
    def checked(values: object, shape: tuple[int, ...], name: str) -> Tensor:
        """Returns what a plugin's function ``name`` gave, (N, ...) float64 on the CPU; else a ValueError says so."""
        found = type(values).__name__
        if isinstance(values, Tensor):
            found = f"{tuple(values.shape)} {str(values.dtype).removeprefix('torch.')}"
            if values.shape == shape and values.dtype in (torch.float32, torch.float64):
                return values.detach().cpu().double()
        raise ValueError(f"{name} must return {shape} float32 or float64, not {found}")


def check_score(score: object, name: str, num_images: int) -> Score:
    """Returns what a metric gave for so many images, as JSON holds it; ValueError: what is wrong with it."""
    if not isinstance(score, Score):
        raise ValueError(f"{name}.evaluate must return a harness.Score, not {type(score).__name__}")
    if score.kind not in get_args(ScoreKind):
        raise ValueError(f"{name}: kind {score.kind!r:.80} is none of {', '.join(get_args(ScoreKind))}")
    error = None if score.standard_error is None else _number(score.standard_error, f"{name}: standard_error")
    if error is not None and error < 0:
        raise ValueError(f"{name}: standard_error {error} is below zero")
    values = score.per_image
    if values is not None:
        values = Evaluation.checked(values, (num_images,), f"{name}: per_image")
        if not bool(torch.isfinite(values.float()).all()):  # float32 in archives
            raise NonFiniteScore(f"{name}: per_image is not finite in float32")
    for what, entries in (("protocol", score.protocol), ("details", score.details)):
        is_map = isinstance(entries, Mapping) and len(entries) <= MOST_ENTRIES
        if not is_map or not all(isinstance(key, str) for key in entries):
            raise ValueError(f"{name}: {what} must map at most {MOST_ENTRIES} texts, not {entries!r:.80}")
    if words := [key for key, text in score.protocol.items() if not isinstance(text, str)]:
        raise ValueError(f"{name}: protocol {words[0]!r:.80} must be a text, not {score.protocol[words[0]]!r:.80}")
    details = {key: _number(value, f"{name}: details {key!r:.80}") for key, value in score.details.items()}
    number = _number(score.value, name)
    return replace(score, value=number, standard_error=error, per_image=values, details=details)


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(f"{what} must be a number, not {value!r:.80}") from None
    if not abs(number) <= 1e100:
        raise NonFiniteScore(f"{what} is {number}, not a finite number up to 1e100")
    return number


def check_samples(images: object, num_samples: int, model: Model) -> Tensor:
    """Returns what ``model.sample(num_samples)`` gave, on the CPU; ValueError: what is wrong with it."""
    name, spec = type(model).__name__, model.spec
    if not isinstance(images, Tensor):
        raise ValueError(f"{name}.sample must return a tensor, not {type(images).__name__}")
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise DegenerateSamples(f"{name}.sample returned NaN or infinity")
    if images.dtype != torch.uint8 or images.shape != (num_samples, *spec.shape):
        found = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
        raise ValueError(f"{name}.sample must return {(num_samples, *spec.shape)} uint8, not {found}")
    if int(images.max()) >= spec.levels:
        raise ValueError(f"{name}.sample drew the value {int(images.max())}, the spec allows 0 to {spec.levels - 1}")
    return images.cpu()
