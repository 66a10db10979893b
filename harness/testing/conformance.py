"""The conformance suites: one test for each promise, and failures that are expected for a written reason."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from harness.support.names import did_you_mean

if TYPE_CHECKING:
    from harness.interface.model import Model


@dataclass(frozen=True)
class Outcome:
    """What came of one test: its verdict, and why, in the words that its reader sees."""

    verdict: Literal["pass", "fail", "not applicable"]
    text: str = ""


PASS = Outcome("pass")


class Broken(Exception):
    """A promise is not kept; the message says which and how."""


class Inapplicable(Exception):
    """A promise that is not made; the message says why."""


def outcome_of(promise: Callable[[], None]) -> Outcome:
    """Calls a function that returns where a promise is kept, and raises ``Broken`` or ``Inapplicable``."""
    try:
        promise()
    except Broken as error:
        return Outcome("fail", str(error))
    except Inapplicable as reason:
        return Outcome("not applicable", str(reason))
    return PASS


class Conformance:
    """A class of tests, one for each promise. Subclass one of the suites, not this.

    Class attributes:
        expected_failures: names of tests that fail by the nature of what is tested, each with the reason, in words. One
            that passes all the same, or does not apply, is a failure.
    """

    __test__: ClassVar[bool] = False
    _module: ClassVar[str]  # in it are ``PROMISES``: functions of what ``_arguments`` returns, by name
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__test__" not in vars(cls):
            cls.__test__ = True  # only the suites themselves are no tests

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Makes one test of every promise; pytest calls this when it collects the class."""
        names = self._names()
        _check_reasons(type(self), [name for group in names.values() for name in group])
        for argument, group in names.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, list(group))

    def test_conforms(self, promise: str) -> None:
        """What is tested keeps a promise that a benchmark relies on."""
        self._settle(promise, outcome_of(partial(self._promises()[promise], *self._arguments())))

    def _names(self) -> Mapping[str, Iterable[str]]:
        """Returns the names of the promises, by the name of the argument of the test that takes them."""
        self._arguments()
        return {"promise": list(self._promises())}

    def _promises(self) -> Mapping[str, Callable[..., None]]:
        found: Mapping[str, Callable[..., None]] = importlib.import_module(f"harness.testing.{self._module}").PROMISES
        return found

    def _arguments(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _settle(self, name: str, outcome: Outcome) -> None:
        __tracebackhide__ = True
        reason = self.expected_failures.get(name)
        if outcome.verdict == "fail":
            if reason is not None:
                pytest.xfail(reason)
            pytest.fail(outcome.text, pytrace=False)
        if reason is not None:
            does = "passes" if outcome.verdict == "pass" else f"does not apply: {outcome.text}"
            pytest.fail(
                f"{name} was expected to fail ({reason}), but {does}. Take it out of expected_failures", pytrace=False
            )
        if outcome.verdict == "not applicable":
            pytest.skip(outcome.text)


class DatasetConformance(Conformance):
    """Tests a dataset: subclass it, and say which.

    Class attributes:
        dataset: its name, as a suite writes it.
        folder: where its files lie; None takes ``HARNESS_DATA`` or the user's cache folder. Without its files, and
            without a network to get them by, all is skipped.
        expected_failures: names of tests that fail by its nature, each with the reason; such as ``disjoint`` for
            draws from a distribution on few images.
    """

    __test__: ClassVar[bool] = False
    _module = "dataset_promises"
    dataset: ClassVar[str]
    folder: ClassVar[Path | None] = None

    def _arguments(self) -> tuple[Any, ...]:
        return required(type(self), "dataset", '"name"'), self.folder


class MetricConformance(Conformance):
    """Tests a metric: subclass it, and say which.

    Class attributes:
        metric: its name, as a suite writes it, such as ``iwae-5``.
        model: a model that it can measure, by name or class; None takes a small one that is made for this, which has
            conditionals, importance weights, an encoder and a decoder.
        expected_failures: names of tests that fail by its nature, each with the reason.
    """

    __test__: ClassVar[bool] = False
    _module = "metric_promises"
    metric: ClassVar[str]
    model: ClassVar[str | type[Model] | None] = None

    def _arguments(self) -> tuple[Any, ...]:
        return required(type(self), "metric", '"name"'), self.model


def required(cls: type, attribute: str, example: str) -> Any:
    """Returns a class attribute that a subclass has to set.

    Raises:
        CollectError: it does not.
    """
    value = getattr(cls, attribute, None)
    if value is None:
        raise pytest.Collector.CollectError(f"{cls.__name__} does not say what it tests: set {attribute} = {example}")
    return value


def _check_reasons(cls: type[Conformance], known: Iterable[str]) -> None:
    names = list(known)
    for name, reason in cls.expected_failures.items():
        if name not in names:
            raise pytest.Collector.CollectError(
                f"{cls.__name__}.expected_failures: there is no test {name!r}{did_you_mean(name, names)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise pytest.Collector.CollectError(
                f"{cls.__name__}.expected_failures: {name!r} needs a reason, in words, not {reason!r}"
            )
