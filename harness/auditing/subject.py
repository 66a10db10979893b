"""What is audited: a model, how it is made, and a specimen of it, on one sample space with weights in one state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from harness.auditing.spaces import all_images, describe
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
from harness.support.randomness import derive_seed, generator, isolated_rng

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

    A check leaves the model as it was. ``seed`` is for its random numbers; ``kept`` is what several checks need and is
    computed once.
    """

    model: Model
    spec: ImageSpec
    state: State
    seed: int
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

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

    def tolerance(self, *, scale: float = 1.0) -> float:
        """Returns what rounding may do to a sum of about ``scale``: 1e-9 of it in float64, 2e-4 in float32.

        After a short fit, which is in float32, 1e-6: a table that was normalised in it is not nearer to one.
        """
        if self.dtype != torch.float64:
            return 2e-4 * max(1.0, scale)
        return (1e-6 if self.state == "fitted" else 1e-9) * max(1.0, scale)

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

    @cached_property
    def log_probs(self) -> Tensor:
        """(M,) float64: the model's log-probability of every image of the space."""
        log_prob = self.model_as(ExactLikelihood).log_prob
        with torch.no_grad():
            return torch.cat([log_prob(part) for part in torch.split(self.everything, 4096)]).double()


def dtype_of(model: Model) -> torch.dtype:
    """Returns in which type a model computes: that of its first parameter."""
    return next((value.dtype for value in model.parameters() if value.is_floating_point()), model.dtype)


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
