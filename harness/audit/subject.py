"""The model under audit: how it is made, and specimens of it, each on one sample space with weights in one state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from harness.audit.known import KnownDistribution
from harness.audit.spaces import FULL, LARGER, LARGEST, SMALL, WIDE, all_images, describe, num_images
from harness.audit.trial import NotApplicable
from harness.checkpoint import put_weights
from harness.dataset import Dataset, Split
from harness.model import (
    Autoregressive,
    ClassConditional,
    ExactLikelihood,
    ImportanceWeighted,
    Inference,
    Invertible,
    LatentVariable,
    Model,
    Unsupported,
    VariationalBound,
)
from harness.observers import TouchedStorages
from harness.randomness import derive_seed, generator, isolated_rng
from harness.spec import Budget, ImageSpec
from harness.training import Trainer

State = Literal["initial", "random", "strong", "positive", "gentle", "shrunk", "lopsided", "fitted"]

STATES: Mapping[State, str] = {
    "initial": "initial weights",
    "random": "random weights",
    "strong": "large random weights",
    "positive": "positive random weights",
    "gentle": "small random weights",
    "shrunk": "shrunk random weights",
    "lopsided": "random weights, shrunk where samples depend on them",
    "fitted": "after a short fit",
}

FIT_STEPS = 100
SHRINKS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.02)
"""Factors of the weights in the variants of the states ``shrunk`` and ``lopsided``."""
_FITTED_SPACES = 2  # of the small ones: the first two that the model takes
_RANDOM_IMAGES = 256  # to fit to, where a space cannot be enumerated
_SHRINK = 0.3  # of small random weights: samples are then not far from independent pixels
_CHEAP_TO_SAMPLE = 16  # dimensions of a space whose samples cost little, whatever the model
_CPU = torch.device("cpu")
_CAPABILITIES: tuple[type[Model], ...] = (
    Autoregressive, ExactLikelihood, Invertible, LatentVariable, ImportanceWeighted, VariationalBound,
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """A model to audit.

    Attributes:
        name: what it is called.
        make: constructs it for a sample space; raises ``Unsupported`` for one that it cannot do.
        hyperparameters: what ``make`` sets, for the report.
        full: the sample space of a benchmark; None takes the first common one that the model supports.
    """

    name: str
    make: Callable[[ImageSpec], Model]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    full: ImageSpec | None = None


@dataclass(frozen=True)
class Specimen:
    """A model on one space with weights in one state, in evaluation mode, in float64 where the model allows it.

    Attributes:
        model: the model; a check leaves it as it was.
        spec: its sample space.
        state: of its weights.
        seed: for random numbers of a check on this specimen.
        kept: what several checks need and is computed once.
    """

    model: Model
    spec: ImageSpec
    state: State
    seed: int
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def where(self) -> str:
        """The space and the state, in words."""
        return f"{describe(self.spec)}, {STATES[self.state]}"

    @property
    def dtype(self) -> torch.dtype:
        """In which the model computes."""
        return _dtype(self.model)

    def tolerance(self, *, scale: float = 1.0) -> float:
        """Returns what rounding may do to a sum of about ``scale``: 1e-9 of it in float64, 2e-4 in float32.

        After a short fit, which is in float32, 1e-6: a table that was normalised in it is not nearer to one.
        """
        if self.dtype != torch.float64:
            return 2e-4 * max(1.0, scale)
        return (1e-6 if self.state == "fitted" else 1e-9) * max(1.0, scale)

    def rng(self, *purpose: str | int) -> Any:
        """Returns a context in which torch's global generator is seeded for one purpose, and afterwards as before."""
        return isolated_rng(derive_seed(self.seed, *purpose), _CPU)

    def images(self, count: int, *purpose: str | int) -> Tensor:
        """Draws (count, C, H, W) uint8 uniformly from the space."""
        random = generator(self.seed, "images", *purpose)
        return torch.randint(self.spec.levels, (count, *self.spec.shape), generator=random, dtype=torch.uint8)

    @cached_property
    def everything(self) -> Tensor:
        """Every image of the space, (M, C, H, W) uint8."""
        return all_images(self.spec)

    @cached_property
    def log_probs(self) -> Tensor:
        """(M,) float64: the model's log-probability of every image of the space."""
        assert isinstance(self.model, ExactLikelihood)
        return in_batches(self.model.log_prob, self.everything).double()


class Laboratory:
    """Makes specimens of a subject, each once; what it makes depends on the seed alone.

    Args:
        subject: the model.
        seed: of everything random in the audit.
    """

    def __init__(self, subject: Subject, *, seed: int = 0) -> None:
        self.subject, self.seed = subject, seed
        self.refused: dict[ImageSpec, str] = {}
        self.crashed: dict[ImageSpec, str] = {}
        self._bases: dict[ImageSpec, Model | str] = {}
        self._made: dict[tuple[ImageSpec, State, int], Specimen | str] = {}

    # --- spaces ---

    @cached_property
    def small(self) -> tuple[ImageSpec, ...]:
        """The spaces that can be enumerated and that the model takes."""
        found = tuple(spec for spec in SMALL if self.takes(spec))
        return found or tuple(spec for spec in LARGER if self.takes(spec))

    @cached_property
    def wide(self) -> tuple[ImageSpec, ...]:
        """One wide space with a channel and one with three, as far as the model takes any."""
        found = [spec for spec in WIDE if self.takes(spec)]
        grey, colour = ([spec for spec in found if (spec.channels > 1) == many] for many in (False, True))
        return tuple(grey[:1] + colour[:1])

    @cached_property
    def full(self) -> ImageSpec | None:
        """The size of a benchmark, if the model takes any."""
        wanted = FULL if self.subject.full is None else (self.subject.full,)
        return next((spec for spec in wanted if self.takes(spec)), None)

    def some(self, count: int) -> tuple[ImageSpec, ...]:
        """Returns the first small spaces, at most ``count``; where there are none, one that is larger."""
        return self.small[:count] or self.wide[:1] or tuple(filter(None, [self.full]))

    def takes(self, spec: ImageSpec) -> bool:
        """Whether the model can be made for a space and does what it promises there without raising."""
        return isinstance(self._base(spec), Model)

    @property
    def any_specimen(self) -> Specimen:
        """A specimen on the first space that the model takes.

        Raises:
            NotApplicable: there is none.
        """
        for spec in self.small or self.wide or filter(None, [self.full]):
            base = self._base(spec)
            return self.specimen(spec, "fitted" if isinstance(base, Model) and _needs_fit(base) else "initial")
        reasons = [f"{describe(spec)}: {why}" for spec, why in {**self.crashed, **self.refused}.items()]
        raise NotApplicable("the model takes no sample space that was tried; " + "; ".join(reasons[:3]))

    @property
    def used(self) -> tuple[str, ...]:
        """The spaces that a specimen was made on, in words."""
        return tuple(
            dict.fromkeys(describe(spec) for (spec, *_), made in self._made.items() if not isinstance(made, str))
        )

    @property
    def device(self) -> torch.device:
        """Where specimens live: on the CPU, which has float64."""
        return _CPU

    # --- specimens ---

    def specimens(
        self, *states: State, spaces: Sequence[ImageSpec] | None = None, variant: int = 0
    ) -> Iterator[Specimen]:
        """Yields specimens on the enumerated spaces (or ``spaces``) in each of the states that can be had there."""
        for spec in self.small if spaces is None else spaces:
            for state in states:
                try:
                    yield self.specimen(spec, state, variant=variant)
                except NotApplicable:
                    continue

    def specimen(self, spec: ImageSpec, state: State, *, variant: int = 0) -> Specimen:
        """Returns the model on a space in a state; variants of random weights are independent of one another.

        Raises:
            NotApplicable: the model cannot be had so; says why.
        """
        key = (spec, state, variant)
        if key not in self._made:
            try:
                with isolated_rng(derive_seed(self.seed, "specimen", describe(spec), state), _CPU):
                    self._made[key] = self._make(spec, state, variant)
            except NotApplicable as reason:
                self._made[key] = str(reason)
        made = self._made[key]
        if isinstance(made, str):
            raise NotApplicable(made)
        return made

    def single(self, specimen: Specimen) -> Specimen:
        """Returns the same in float32: for what draws much and needs few digits."""
        if specimen.dtype == torch.float32:
            return specimen
        if "single" not in specimen.kept:
            base = self._base(specimen.spec)
            assert isinstance(base, Model)
            model = self._copy(base)
            put_weights(specimen.model.state_dict(), model, source="the audit")
            specimen.kept["single"] = replace(specimen, model=model.float().eval(), kept={})
        found: Specimen = specimen.kept["single"]
        return found

    def known(self, spec: ImageSpec) -> KnownDistribution:
        """Returns the distribution that a short fit on a space sees."""
        return KnownDistribution(spec, derive_seed(self.seed, "known", describe(spec)))

    def _make(self, spec: ImageSpec, state: State, variant: int) -> Specimen:
        base = self._base(spec)
        if isinstance(base, str):
            raise NotApplicable(base)
        if state != "fitted" and _needs_fit(base):
            raise NotApplicable("the model keeps its data, and has none before it is fitted")
        if state == "fitted" and not _needs_fit(base) and spec not in self.small[:_FITTED_SPACES]:
            raise NotApplicable("a short fit on this space would show nothing that others do not")
        model = base if state == "initial" else self._copy(base)
        if state == "fitted":
            self._fit(model, spec)
        elif state != "initial":
            if not any(value.requires_grad for value in model.parameters()):
                raise NotApplicable("the model has no weights that are trained by gradients")
            if state == "gentle" and isinstance(model, ImportanceWeighted):
                self._gentle(model, spec)
            elif state == "gentle":
                randomise(model, gain=1.0, seed=derive_seed(self.seed, "gentle"), shrink=_SHRINK)
            elif state == "shrunk":
                randomise(model, gain=1.0, seed=derive_seed(self.seed, "shrunk"), shrink=SHRINKS[variant])
            elif state == "lopsided":
                self._lopsided(model, SHRINKS[variant])
            else:
                seed = derive_seed(self.seed, "strong" if state == "strong" else "random", variant)
                randomise(model, gain=3.0 if state == "strong" else 1.0, seed=seed, positive=state == "positive")
        return Specimen(model.eval(), spec, state, derive_seed(self.seed, "specimen", describe(spec), state, variant))

    def _base(self, spec: ImageSpec) -> Model | str:
        """Returns the model as it is made for a space, or why it cannot be had."""
        if spec not in self._bases:
            with isolated_rng(derive_seed(self.seed, "build", describe(spec)), _CPU):
                self._bases[spec] = self._build(spec)
        return self._bases[spec]

    def _build(self, spec: ImageSpec) -> Model | str:
        for dtype in (torch.float64, torch.float32):
            try:
                torch.manual_seed(derive_seed(self.seed, "build", describe(spec)))
                model = self.subject.make(spec).to(_CPU, dtype).eval()
                if not _needs_fit(model):
                    with torch.no_grad():
                        probe(model, two_images(spec), sampling=spec.num_dimensions <= _CHEAP_TO_SAMPLE)
            except Unsupported as reason:
                self.refused[spec] = str(reason)
                return str(reason)
            except Exception as error:  # somebody else's code: anything can happen
                self.crashed[spec] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            self.crashed.pop(spec, None)
            return model
        return self.crashed[spec]

    def _copy(self, base: Model) -> Model:
        """Returns a new model with another's weights: deepcopy fails on some models."""
        torch.manual_seed(derive_seed(self.seed, "build", describe(base.spec)))
        model = self.subject.make(base.spec).to(_CPU, _dtype(base))
        put_weights(base.state_dict(), model, source="the audit")
        return model.eval()

    def _lopsided(self, model: Model, shrink: float) -> None:
        """Random weights, those small that samples depend on: an encoder far from its prior, and a simple decoder."""
        watch = TouchedStorages()
        with torch.no_grad(), watch:
            model.sample(2)
        sampling = {name for name, value in model.named_parameters() if value in watch}
        if all(name in sampling for name, value in model.named_parameters() if value.requires_grad):
            raise NotApplicable("scoring has no weights of its own")
        randomise(model, gain=1.0, seed=derive_seed(self.seed, "shrunk"))  # so that samples are those of ``shrunk``
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in sampling and value.requires_grad:
                    value.mul_(shrink)

    def _fit(self, model: Model, spec: ImageSpec) -> None:
        data, dtype = self._data(spec), _dtype(model)
        model.float()  # a short fit needs no more, and convolutions in float64 are slow
        trainer = Trainer(model, data, budget=Budget(FIT_STEPS, "steps"), seed=self.seed)
        try:
            with torch.enable_grad():
                model.fit(data, trainer)
        except Unsupported as reason:
            raise NotApplicable(str(reason)) from reason
        except Exception as error:
            message = f"fit raises {type(error).__name__}: {error}".splitlines()[0]
            self.crashed.setdefault(spec, message)
            raise NotApplicable(message) from error
        model.to(dtype)

    def _data(self, spec: ImageSpec) -> Dataset:
        if num_images(spec) <= LARGEST:
            return self.known(spec).dataset()
        random = generator(self.seed, "data", describe(spec))
        shape = (_RANDOM_IMAGES, *spec.shape)
        images = torch.randint(spec.levels, shape, generator=random, dtype=torch.uint8)
        labels = torch.randint(spec.num_classes, (_RANDOM_IMAGES,), generator=random) if spec.num_classes else None
        split = Split(images, labels)
        return Dataset(f"random, {describe(spec)}", spec, split, split, split)

    def _gentle(self, model: ImportanceWeighted, spec: ImageSpec) -> None:
        """Random weights, shrunk until importance weights vary little: only then do their averages mean anything."""
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        random = generator(self.seed, "gentle images")
        images = torch.randint(spec.levels, (64, *spec.shape), generator=random, dtype=torch.uint8)
        for shrink in (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05):
            with torch.no_grad():
                for name, value in model.named_parameters():
                    value.copy_(start[name])
            randomise(model, gain=1.0, seed=derive_seed(self.seed, "gentle"), shrink=shrink)
            with torch.no_grad():
                weights = model.log_importance_weights(images, 200).double()
            log_ess = 2 * weights.logsumexp(0) - (2 * weights).logsumexp(0) - math.log(len(weights))
            if bool((log_ess.exp() > 0.3).all()):
                return
        raise NotApplicable("importance weights vary too much, however small the weights are")


def _dtype(model: Model) -> torch.dtype:
    found = [value.dtype for value in model.parameters() if value.is_floating_point()]
    return found[0] if found else model.dtype


def two_images(spec: ImageSpec) -> Tensor:
    """Returns (2, C, H, W) uint8: a black image, and one whose every other entry is white."""
    images = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    images[1].flatten()[::2] = spec.levels - 1
    return images


def probe(model: Model, images: Tensor, *, sampling: bool) -> None:
    """Calls everything that a model promises once, on images (N, C, H, W) uint8; raises what it raises."""
    spec = model.spec
    if isinstance(model, ExactLikelihood):
        model.log_prob(images)
    if isinstance(model, VariationalBound):
        model.elbo(images)
    if isinstance(model, ImportanceWeighted):
        model.log_importance_weights(images, 2)
    if isinstance(model, Autoregressive):
        model.conditional_logits(images)
    if isinstance(model, Inference):
        model.encode(images)
    if isinstance(model, ClassConditional) and spec.num_classes:
        model.condition_on(torch.zeros(len(images), dtype=torch.int64))
    if sampling:
        model.sample(2)


def _needs_fit(model: Model) -> bool:
    """Whether the model keeps its data: a buffer that is registered empty takes the checkpoint's shape."""
    return any(value.numel() == 0 for value in model.state_dict().values())


@torch.no_grad()
def randomise(model: Model, *, gain: float, seed: int, shrink: float = 1.0, positive: bool = False) -> None:
    """Adds noise to all weights that are trained by gradients, so that no mask, bias or branch hides behind a zero.

    Weights of one row or less, such as biases, get noise of standard deviation 0.3 gain; others gain / sqrt(fan-in), so
    that signals keep their size. ``shrink`` then scales all of them. ``positive`` weights replace the model's own
    instead, small enough for the same: no unit is dead then, and no two paths cancel.
    """
    random = generator(seed, "randomise")
    for value in model.parameters():
        if value.requires_grad and value.is_floating_point():
            fan_in = value[0].numel() if value.ndim > 1 else 0
            deviation = gain / math.sqrt(fan_in) if fan_in else 0.3 * gain
            noise = torch.randn(value.shape, dtype=torch.float64, generator=random)
            if positive:
                value.copy_((noise.abs() / max(fan_in, 3)).to(value))
            else:
                value.add_((deviation * noise).to(value)).mul_(shrink)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], images: Tensor, *, batch_size: int = 4096) -> Tensor:
    """Applies a function of images (N, ...) to a value each, (N,), and returns all the values."""
    return torch.cat([function(part) for part in torch.split(images, batch_size)])


def capability_of(model: Model) -> str:
    """Returns the most specific capability that a model promises, by name."""
    for capability in _CAPABILITIES:
        if isinstance(model, capability):
            return capability.__name__
    return "Model"
