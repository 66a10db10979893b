"""What hangs in the museum: right models, and wrong ones with the check that must catch each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from harness import Model

M = TypeVar("M", bound=type[Model])


@dataclass(frozen=True)
class Mutant:
    """A right model with one defect.

    Attributes:
        name: of the class, in small letters.
        model: the class; its docstring says what is wrong, and where such a thing has been seen.
        mechanism: by what it goes wrong.
        check: the one that must catch it.
    """

    name: str
    model: type[Model]
    mechanism: str
    check: str

    @property
    def parent(self) -> type[Model]:
        """The right model that it differs from."""
        right = {model for _, model in RIGHT}
        return next(model for model in self.model.__mro__ if model in right)


RIGHT: list[tuple[str, type[Model]]] = []
MUTANTS: list[Mutant] = []


def right(model: M) -> M:
    """Registers a right model."""
    RIGHT.append((_name(model), model))
    return model


def wrong(mechanism: str, *, check: str) -> Callable[[M], M]:
    """Registers a mutant: by what it goes wrong, and which check must catch it."""

    def register(model: M) -> M:
        MUTANTS.append(Mutant(_name(model), model, mechanism, check))
        return model

    return register


def _name(model: type) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", model.__name__).lower()
