"""What a plugin registers: a name, where its code is, which is imported when it is used, and one line that says what.

So listing what is installed imports no model code and no torch.
"""

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from harness.interface.spec import ARGUMENTS
from harness.support.guard import describe_error, guarded, survive

STORED = "samples:"  # what a model's name begins with that says where images are that somebody else made

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

# a network's own name may hold hyphens; the shortest is taken, and a number of samples is no part of it, nor all of it
_NETWORK = r"(?!to-|n[1-9]\d*(?:$|-to-))[a-z0-9]+(?:-[a-z0-9]+)*?"
_FEATURES = rf"(?:-(?P<network>{_NETWORK}))?(?:-n(?P<num_samples>[1-9]\d*))?"


class EntryError(ValueError):
    """An entry that cannot be used: a malformed name or target, or a target that does not exist."""


@dataclass(frozen=True)
class Entry:
    """One registered thing: ``target`` is ``"package.module:Attribute"``, or the object itself.

    ``name`` is what a suite calls it: lower-case words and digits joined by single hyphens; ``summary`` is one line for
    ``harness list``, ``paper`` says authors and year, or an arXiv id. For a family of names such as ``iwae-5000``,
    ``pattern`` is a regular expression that a whole name must match, whose named groups are passed to the target as
    keyword arguments (strings), and ``usage`` says how a name is written: ``iwae-K``.
    """

    name: str
    target: str | Callable[..., Any]
    summary: str = ""
    paper: str | None = None
    pattern: str | None = None
    usage: str | None = None

    kind: ClassVar[str] = "entry"

    def __init_subclass__(cls) -> None:
        cls.kind = cls.__name__.removesuffix("Entry").lower()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            what = "lower-case letters and digits joined by single hyphens"
            raise EntryError(f"{self.kind} name {self.name!r} is not made of {what}")
        if isinstance(self.target, str) and not _TARGET.fullmatch(self.target):
            raise self._error(f"target {self.target!r} is not of the form 'package.module:Attribute'")
        if not isinstance(self.target, str) and not callable(self.target):
            raise self._error(f"target {self.target!r} is neither 'package.module:Attribute' nor callable")
        for field in ("summary", "paper", "pattern", "usage"):
            if not isinstance(value := getattr(self, field), str | None):
                raise self._error(f"{field} {value!r} is not a string")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise self._error(f"pattern {self.pattern!r}: {error}") from error

    def _error(self, what: str) -> EntryError:
        return EntryError(f"{self.kind} {self.name!r}: {what}")

    @property
    def display_name(self) -> str:
        """The name as a user writes it: ``usage`` where the entry stands for a family of names."""
        return self.usage or self.full_name

    @property
    def module(self) -> str:
        """The name of the module that defines the target."""
        return self.target.partition(":")[0] if isinstance(self.target, str) else str(self.target.__module__)

    @property
    def attribute(self) -> str:
        """The name of the target inside its module."""
        named = getattr(self.target, "__qualname__", repr(self.target))
        return self.target.partition(":")[2] if isinstance(self.target, str) else str(named)

    @property
    def full_name(self) -> str:
        """The name that no other entry of the kind may have."""
        return self.name

    def match(self, name: str) -> dict[str, str] | None:
        """Returns the keyword arguments that ``name`` stands for, or None if it is not a name of this entry."""
        if self.pattern is None:
            return {} if name == self.full_name else None
        found = re.fullmatch(self.pattern, name)
        return None if found is None else {key: value for key, value in found.groupdict().items() if value is not None}

    def load(self) -> Any:
        """Imports and returns the target; EntryError: its module cannot be imported, or has no such attribute."""
        if not isinstance(self.target, str):
            return self.target
        try:
            with guarded(self.module):
                if self.module not in sys.modules and not self.module.startswith("harness."):
                    survive(partial(importlib.import_module, self.module))
                module = importlib.import_module(self.module)
        except Exception as error:
            raise self._error(f"cannot import {self.module!r}: {describe_error(error)}") from error
        if not hasattr(module, self.attribute):
            raise self._error(f"module {self.module!r} has no attribute {self.attribute!r}")
        return getattr(module, self.attribute)


class DatasetEntry(Entry):
    """A dataset. The target is called as ``target(folder, **groups)`` with a ``harness.DataFolder``.

    A pattern such as ``images:(?P<path>.+)`` is for data that are known by their content, wherever they are; what a
    suite calls them, by `` as NAME`` at the end, is no part of what the pattern is given.
    """

    def match(self, name: str) -> dict[str, str] | None:
        """Returns the keyword arguments that ``name`` stands for, or None if it is not a name of this entry."""
        return super().match(re.sub(rf"^([a-z0-9-]+:.+?) as [^/\\]+?{ARGUMENTS}$", r"\1\2", name))


class ModelEntry(Entry):
    """A model. The target is a subclass of ``harness.Model``."""


class MetricEntry(Entry):
    """A metric. The target is called as ``target(**groups)`` and gives a ``harness.Metric``.

    What its pattern calls ``network`` is the name of a registered feature network, or the whole is no name of it.
    """

    @classmethod
    def of_features(
        cls, name: str, target: str | Callable[..., Any], summary: str = "", paper: str | None = None
    ) -> "MetricEntry":
        """Returns the entry of a ``harness.SampleMetric``, a family of names: ``name[-NETWORK][-nSAMPLES]``."""
        return cls(name, target, summary, paper, f"{name}{_FEATURES}", f"{name}[-NETWORK][-nSAMPLES]")


class NetworkEntry(Entry):
    """A feature network, as metrics name it: ``fid-NETWORK``. The target is called as ``target(evaluation, **groups)``
    with a ``harness.Evaluation`` and gives a ``harness.FeatureNetwork``.
    """


@dataclass(frozen=True)
class SamplerEntry(Entry):
    """A way to draw from a model, one's own or another's, by its entry's name. The target is a ``harness.Sampler``.

    One that draws from another distribution than the model scores says so by its name, ``approximate-...``. It is never
    a default, and no part of the model that is audited.
    """

    model: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, str) or not _NAME.fullmatch(self.model):
            raise self._error(f"model {self.model!r} is not the name of a model")
        if self.pattern is not None:
            raise self._error("a sampler has no pattern")

    @property
    def is_approximate(self) -> bool:
        """Whether it draws from another distribution than the model scores."""
        return self.name.startswith("approximate-")

    @property
    def full_name(self) -> str:
        """The model's name and the sampler's."""
        return f"{self.model}/{self.name}"


class BoardEntry(Entry):
    """A board. The target is a subclass of ``harness.Board``; the name is the one that ``Metric.board`` gives."""


class ExecutorEntry(Entry):
    """An executor. The target is a subclass of ``harness.interface.executor.Executor``."""


@dataclass(frozen=True)
class FigureEntry(Entry):
    """A figure: a chart or an image, made of models or of records. The target is called dataset by dataset.

    - Without ``requires``, as ``target(leaderboard, dataset)``, with a ``harness.Leaderboard`` and a dataset's name.
    - With it, as ``target(shown)``, with a ``harness.ShownModel`` for every row whose model is a ``requires``.
    - Where ``data`` is set, also as ``target(data)``, with the ``harness.Dataset`` itself.

    It returns an Altair chart or a Pillow image, or None where there is nothing to draw.

    Attributes:
        requires: a class of models, or its public name such as ``"Inference"``, which spares the import of torch; of
            a plugin's own class, its place such as ``"harness_portraits.models:Painter"``.
        data: whether there is a picture of the dataset's own images, to compare with.
    """

    requires: str | type | None = None
    data: bool = False
