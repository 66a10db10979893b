"""What is audited: a model, how it is made, and a specimen of it, on one sample space with weights in one state.

Sample spaces are small enough to enumerate, where the model takes such; on them a known distribution is to be learned.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from harness.interface.dataset import Dataset, Split
from harness.interface.model import (
    Autoregressive,
    ClassConditional,
    ExactLikelihood,
    ImportanceWeighted,
    Inference,
    Invertible,
    LatentVariable,
    Model,
    VariationalBound,
)
from harness.interface.sampling import BoundSampler
from harness.interface.spec import ImageSpec
from harness.support.observers import CoarsestPrecision, uses_digits
from harness.support.randomness import derive_seed, generator, isolated_rng

SECONDS = 60.0  # of an audit, by default
OPERATIONS = 1e11 / 60  # that a check may spend in a second of them: of a product, others count by what they take
M = TypeVar("M", bound=Model)
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

_CAPABILITIES = (Autoregressive, ExactLikelihood, Invertible, LatentVariable, ImportanceWeighted, VariationalBound)


@dataclass(frozen=True)
class Subject:
    """A model to audit: ``make`` constructs it for a sample space, or raises ``Unsupported``.

    ``name`` and ``hyperparameters``, what ``make`` sets, are for the report; ``full`` is the sample space of a
    benchmark, None the first common one that the model supports.
    """

    name: str
    make: Callable[[ImageSpec], Model]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    full: ImageSpec | None = None


@dataclass(frozen=True)
class Specimen:
    """A model on one space with weights in one state, in evaluation mode, in float64 where the model allows it.

    A check leaves the model as it was. ``seed`` is for its random numbers; ``kept`` is what several checks need and is
    computed once. ``budget`` is what a check may spend, in operations: some of it says how much is drawn.
    """

    model: Model
    spec: ImageSpec
    state: State
    seed: int
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    budget: float = SECONDS * OPERATIONS

    def model_as(self, capability: Callable[..., M]) -> M:
        """Returns the model, which has a capability; to mypy an abstract class is no ``type[M]``, but a callable."""
        assert isinstance(self.model, capability)  # type: ignore[arg-type]
        return self.model  # type: ignore[return-value]

    @property
    def where(self) -> str:
        """The space and the state, in words."""
        return f"{describe(self.spec)}, {STATES[self.state]}"

    @property
    def samplers(self) -> Iterator[tuple[str, str, BoundSampler]]:
        """The place, the name and the function of each of the model's samplers."""
        return ((f"{self.where}, sampler {name!r}", name, draw) for name, draw in self.model.samplers().items())

    @property
    def dtype(self) -> torch.dtype:
        """In which the model computes."""
        return dtype_of(self.model)

    @cached_property
    def precision(self) -> torch.dtype:
        """The type of fewest digits that scoring goes through: logits that are cast, an ``erf`` in float32."""
        if self.dtype == torch.float64:
            seen = CoarsestPrecision()
            with torch.no_grad(), self.rng("precision"), suppress(Exception), seen:
                probe(self.model, self.images(2, "precision"), sampling=False)
            return torch.float64 if seen.dtype == torch.float64 else torch.float32
        return self.dtype

    @cached_property
    def _has_rounded_constants(self) -> bool:
        """Whether a buffer in float64 was computed in float32: it has the digits of that, and no more."""
        buffers = [value for value in self.model.buffers() if value.dtype == torch.float64 and value.numel()]
        return any(uses_digits(value, 16) and not uses_digits(value, 23) for value in buffers)

    @cached_property
    def condition(self) -> float:
        """What rounding may do to a score, relatively: ten times what a change of the last digits of all weights does.

        Large weights make a network amplify rounding without bounds. It is 0 where a score is not a function of the
        weights and torch's seed alone.
        """
        weights = [value for value in self.model.parameters() if value.is_floating_point()]
        count = 32 if self.spec.num_dimensions <= 64 else 2  # it is the rarest that are far from their digits
        kept, images = [value.detach().clone() for value in weights], self.images(count, "condition")

        def score(step: float, draw: int = 0) -> Tensor:
            random = generator(self.seed, "condition", draw)
            for value, old in zip(weights, kept, strict=True):
                up = torch.randint(2, old.shape, generator=random, dtype=torch.float64)
                value.copy_(old.double() * (1 + step * (2 * up - 1)))
            with self.rng("condition"):
                if isinstance(self.model, ExactLikelihood):
                    return self.model.log_prob(images).double()
                return self.model_as(VariationalBound).elbo(images).double()

        step = 8 * torch.finfo(self.precision).eps
        with torch.no_grad(), suppress(Exception):  # what a check would meet as well
            try:
                scores, *moved, again = score(0), score(step, 1), score(step, 2), score(0)
                changes = [largest(apart(each, scores) / scores.abs().clamp_min(1)) for each in moved]
                return 10 * max(changes) if torch.equal(scores, again) else 0.0
            finally:
                for value, old in zip(weights, kept, strict=True):
                    value.copy_(old)
        return 0.0

    def tolerance(self, *, scale: float | Tensor = 1.0) -> float:
        """Returns what rounding may do to sums of about ``scale`` at most: 1e-9 of it in float64, 2e-4 in float32.

        As constructed or fitted, which is in float32, 1e-6: a table that was normalised in it is not nearer to one.
        Constants that were computed in float32 make it 1e-5, and what goes through float32 has the tolerance of that;
        half precision is granted no more. Where the weights amplify rounding beyond that, it is their ``condition``.
        """
        scale = largest(scale) if isinstance(scale, Tensor) else scale
        least = 1e-5 if self._has_rounded_constants else 1e-6 if self.state in ("initial", "fitted") else 1e-9
        least = least if self.precision == torch.float64 else 2e-4
        return max(least, self.condition) * max(1.0, scale)

    def rng(self, *purpose: str | int) -> AbstractContextManager[None]:
        """Returns a context in which torch's global generator is seeded for one purpose, and afterwards as before."""
        return isolated_rng(derive_seed(self.seed, *purpose), torch.device("cpu"))

    def images(self, count: int, *purpose: str | int) -> Tensor:
        """Draws (count, C, H, W) uint8 uniformly from the space."""
        random = generator(self.seed, "images", *purpose)
        return torch.randint(self.spec.levels, (count, *self.spec.shape), generator=random, dtype=torch.uint8)

    @cached_property
    def everything(self) -> Tensor:
        """Every image of the space, (M, C, H, W) uint8."""
        return all_images(self.spec)

    def counts(self, images: Tensor) -> Tensor:
        """Returns (M,) int64: how often each image of the space is among some."""
        return torch.bincount(index_of(images, self.spec), minlength=len(self.everything))

    @cached_property
    def log_probs(self) -> Tensor:
        """(M,) float64: the model's log-probability of every image of the space."""
        log_prob = self.model_as(ExactLikelihood).log_prob
        with torch.no_grad():
            return torch.cat([log_prob(part) for part in torch.split(self.everything, 4096)]).double()


def largest(values: Tensor) -> float:
    """Returns the largest finite absolute value of any number of them, or 0."""
    return float(torch.where(values.isfinite(), values.abs(), 0.0).max())


def apart(found: Tensor, expected: Tensor) -> Tensor:
    """Returns found - expected, elementwise, float64: 0 where both are the same infinity, as of what is impossible."""
    return torch.where(found == expected, 0.0, found.double() - expected.double())


def dtype_of(model: Model) -> torch.dtype:
    """Returns in which type a model computes: that of its first parameter."""
    return next((value.dtype for value in model.parameters() if value.is_floating_point()), model.dtype)


def cast(model: M, dtype: torch.dtype) -> M:
    """Casts a model in place to float64 or float32: ``to`` would discard the imaginary parts of complex weights."""
    return model.double() if dtype == torch.float64 else model.float()


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


def needs_fit(model: Model) -> bool:
    """Whether the model keeps its data: a buffer that is registered empty takes the checkpoint's shape."""
    return any(value.numel() == 0 for value in model.state_dict().values())


def capability_of(model: Model) -> str:
    """Returns the most specific capability that a model promises, by name."""
    return next((capability.__name__ for capability in _CAPABILITIES if isinstance(model, capability)), "Model")


# --- sample spaces, and what is to be learned on them ---

LARGEST = 2**16  # images of the largest space that is enumerated
SMALL: tuple[ImageSpec, ...] = (
    ImageSpec(1, 3, 3, 2, num_classes=3),  # 512 images
    ImageSpec(3, 2, 2, 2, num_classes=3),  # 4,096: the order of channels
    ImageSpec(1, 2, 2, 4, num_classes=3),  # 256: more than two levels
    ImageSpec(1, 2, 3, 3, num_classes=3),  # 729: height is not width
)
LARGER: tuple[ImageSpec, ...] = (ImageSpec(1, 4, 4, 2, num_classes=3),)  # for models that take none of the small ones
# Wider than a few kernels: a blind spot does not show on 3x3
WIDE = tuple(ImageSpec(*size, num_classes=3) for size in ((1, 16, 16, 2), (3, 8, 8, 4), (1, 8, 8, 2)))
# More levels than fit in half a byte, and few entries: the first that the model takes is enumerated
MANY_LEVELS = tuple(ImageSpec(*size, num_classes=3) for size in ((1, 1, 2, 256), (1, 2, 1, 256), (1, 2, 2, 16)))
_SIZES = ((1, 28, 28, 2), (1, 28, 28, 256), (3, 32, 32, 256), (1, 8, 8, 17))
# Sizes of benchmarks: the first that the model takes, unless one is asked for
FULL = tuple(ImageSpec(*size, num_classes=10) for size in _SIZES)
_COUPLING, _FIELD = 0.35, 0.8
_TRAIN, _VALID, _TEST = 1000, 200, 4000


def num_images(spec: ImageSpec) -> int:
    """Returns the number of images of a sample space."""
    return int(spec.levels**spec.num_dimensions)


def all_images(spec: ImageSpec) -> Tensor:
    """Returns every image of a space, (levels^D, C, H, W) uint8, in the order of numbers written in base ``levels``."""
    if (count := num_images(spec)) > LARGEST:
        raise ValueError(f"{describe(spec)} has {count} images; at most {LARGEST} are enumerated")
    return (torch.arange(count)[:, None] // _powers(spec) % spec.levels).to(torch.uint8).view(-1, *spec.shape)


def index_of(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps images (N, C, H, W) to their numbers (N,) int64: in the order of ``all_images``."""
    return (images.flatten(1).long().cpu() * _powers(spec)).sum(1)


def _powers(spec: ImageSpec) -> Tensor:
    powers: Tensor = spec.levels ** torch.arange(spec.num_dimensions - 1, -1, -1)
    return powers


def describe(spec: ImageSpec) -> str:
    """Returns a space in words, such as ``3x3, 2 levels``."""
    channels = "" if spec.channels == 1 else f", {spec.channels} channels"
    return f"{spec.height}x{spec.width}{channels}, {spec.levels} levels"


@dataclass(frozen=True)
class KnownDistribution:
    """p(x, y) on a space that can be enumerated, with uniform classes: what models are fitted to and held against.

    An Ising-like field, p(x | y) = exp(sum_i h_i(y) v_i + J sum_(i, n) v_i v_n) / Z(y), with v = 2 x / (levels - 1) - 1
    and neighbours n to the right, below, and in the pixel's next channel. ``seed`` is that of the fields h.
    """

    spec: ImageSpec
    seed: int = 0

    @cached_property
    def class_log_probs(self) -> Tensor:
        """(classes, M) float64: log p(x | y) of every image in the order of ``all_images``; one row without classes."""
        spec = self.spec
        values = 2 * all_images(spec).double() / (spec.levels - 1) - 1  # (M, C, H, W)
        pairs = (values[..., :, 1:] * values[..., :, :-1]).flatten(1).sum(1)
        pairs = pairs + (values[..., 1:, :] * values[..., :-1, :]).flatten(1).sum(1)
        pairs = pairs + (values[:, 1:] * values[:, :-1]).flatten(1).sum(1)
        shape, random = (spec.num_classes or 1, spec.num_dimensions), generator(self.seed, "field")
        field = _FIELD * torch.randn(shape, dtype=torch.float64, generator=random)
        energy = field @ values.flatten(1).T + _COUPLING * pairs  # (classes, M)
        return energy.log_softmax(1)

    @cached_property
    def log_probs(self) -> Tensor:
        """(M,) float64: log p(x), the classes marginalised."""
        return self.class_log_probs.logsumexp(0) - math.log(len(self.class_log_probs))

    @property
    def entropy(self) -> float:
        """Of p(x), in nats an image."""
        return float(-(self.log_probs.exp() * self.log_probs).sum())

    def draw(self, num_images: int, *purpose: str | int) -> Split:
        """Returns independent draws, with labels where the space has classes."""
        random = generator(self.seed, "draw", *purpose)
        labels = torch.randint(len(self.class_log_probs), (num_images,), generator=random)
        uniform = torch.rand(num_images, 1, dtype=torch.float64, generator=random)
        steps = self.class_log_probs.exp().cumsum(1)
        index = torch.searchsorted(steps[labels].contiguous(), uniform).squeeze(1).clamp_max(steps.shape[1] - 1)
        return Split(all_images(self.spec)[index], labels if self.spec.num_classes else None)

    def dataset(self) -> Dataset:
        """Returns the splits that a short fit sees."""
        train, valid = self.draw(_TRAIN, "train"), self.draw(_VALID, "valid")
        return Dataset(f"known, {describe(self.spec)}", self.spec, train, valid, self.draw(_TEST, "test"))
