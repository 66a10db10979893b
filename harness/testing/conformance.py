"""What the conformance suites have in common: a test a promise, and failures that are expected for a written reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest


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
    """A class of tests, one a promise. Subclass one of the suites, not this.

    Class attributes:
        expected_failures: names of tests that fail by the nature of what is tested, each with the reason, in words. One
            that passes all the same, or does not apply, is a failure.
    """

    __test__: ClassVar[bool] = False
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

    def _names(self) -> Mapping[str, Iterable[str]]:
        """Returns the names of the promises, by the name of the argument of the test that takes them."""
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
    from harness.support.names import did_you_mean

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
