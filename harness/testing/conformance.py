"""The conformance suites: one test for each promise, and failures that are expected for a written reason."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from harness.support.names import did_you_mean

if TYPE_CHECKING:
    from harness.interface.model import Model
    from harness.interface.spec import ImageSpec
    from harness.records.verdict import AuditReport, CheckResult

_KEEP_TOGETHER = ("no", "loadscope", "loadfile")

_reports: dict[tuple[str, int, frozenset[str]], AuditReport] = {}


class Broken(Exception):
    """A promise is not kept; the message says which and how."""


class Inapplicable(Exception):
    """A promise that is not made; the message says why."""


class Conformance:
    """A class of tests, one for each promise. Subclass one of the suites, not this.

    Class attributes:
        expected_failures: names of tests that fail by the nature of what is tested, each with the reason, in words. One
            that passes all the same, or does not apply, is a failure.
    """

    __test__: ClassVar[bool] = False
    _noun: ClassVar[Literal["model", "dataset", "metric"]]  # the attribute that names what is tested
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__test__" not in vars(cls):
            cls.__test__ = cls.__module__ != __name__  # only the suites themselves are no tests

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Makes one test of every promise; pytest calls this when it collects the class."""
        cls = type(self).__name__
        if getattr(self, self._noun, None) is None:
            raise pytest.Collector.CollectError(f'{cls} does not say what it tests: set {self._noun} = "name"')
        names = self._names()
        known = [name for group in names.values() for name in group]
        for name, reason in self.expected_failures.items():
            wrong = ""
            if name not in known:
                wrong = f"there is no test {name!r}{did_you_mean(name, known)}"
            elif not isinstance(reason, str) or not reason.strip():
                wrong = f"{name!r} needs a reason, in words, not {reason!r}"
            if wrong:
                raise pytest.Collector.CollectError(f"{cls}.expected_failures: {wrong}")
        for argument, group in names.items():
            if argument in metafunc.fixturenames:
                metafunc.parametrize(argument, group)

    def test_conforms(self, promise: str) -> None:
        """What is tested keeps a promise that a benchmark relies on."""
        from harness.testing.promises import PROMISES  # which imports torch

        self._settle(promise, partial(PROMISES[self._noun][promise], self))

    def _names(self) -> dict[str, list[str]]:
        """Returns the names of the promises, by the name of the argument of the test that takes them."""
        from harness.testing.promises import PROMISES

        return {"promise": list(PROMISES[self._noun])}

    def _settle(self, name: str, promise: Callable[[], None]) -> None:
        """Calls what raises ``Broken`` or ``Inapplicable``, and makes a test's outcome of it."""
        __tracebackhide__ = True
        reason, found = self.expected_failures.get(name), None
        try:
            promise()
        except (Broken, Inapplicable) as error:
            found = error
        if isinstance(found, Broken):
            if reason is None:
                pytest.fail(str(found), pytrace=False)
            pytest.xfail(reason)
        if reason is not None:
            does = "passes" if found is None else f"does not apply: {found}"
            words = f"{name} was expected to fail ({reason}), but {does}. Take it out of expected_failures"
            pytest.fail(words, pytrace=False)
        if found is not None:
            pytest.skip(str(found))


class DatasetConformance(Conformance):
    """Tests a dataset: subclass it, and say which.

    Class attributes:
        dataset: its name, as a suite writes it.
        folder: where its files lie; None takes ``HARNESS_DATA`` or the user's cache folder. Without its files, and
            without a network to get them by, all is skipped.
        expected_failures: names of tests that fail by its nature, each with the reason; such as ``disjoint`` for
            draws from a distribution on few images.
    """

    _noun = "dataset"
    dataset: ClassVar[str]
    folder: ClassVar[Path | None] = None


class MetricConformance(Conformance):
    """Tests a metric: subclass it, and say which.

    Class attributes:
        metric: its name, as a suite writes it, such as ``iwae-5``.
        model: a model that it can measure, by name or class; None takes a small one that is made for this, which has
            conditionals, importance weights, an encoder and a decoder.
        expected_failures: names of tests that fail by its nature, each with the reason.
    """

    _noun = "metric"
    metric: ClassVar[str]
    model: ClassVar[str | type[Model] | None] = None


class ModelConformance(Conformance):
    """Tests a model: subclass it, and say which.

    One test is made of every check of the audit (``test_audit[normalisation]``, ...), and one of everything that a
    benchmark asks of a plugin (``test_conforms[resumes]``, ...). A model is audited once, in the checks that were
    selected; under xdist, ``--dist loadfile`` or ``loadscope`` keeps that so.

    Class attributes:
        model: its registered name, or its class.
        hyperparameters: those that differ from the defaults: small ones make quick tests.
        seed: of everything random.
        benchmark: the sample space that counts as full size; None takes the first common one that the model supports.
        expected_failures: names of tests that fail by the model's nature, each with the reason.
    """

    _noun = "model"
    model: ClassVar[str | type[Model]]
    hyperparameters: ClassVar[Mapping[str, Any]] = {}
    seed: ClassVar[int] = 0
    benchmark: ClassVar[ImageSpec | None] = None

    def test_audit(self, check: str, request: pytest.FixtureRequest) -> None:
        """The model passes a check of the audit."""
        self._settle(check, partial(self._audit, check, _selected(request, type(self))))

    def _names(self) -> dict[str, list[str]]:
        from harness.auditing.engine import CHECKS

        return {**super()._names(), "check": list(CHECKS)}

    def _settle(self, name: str, promise: Callable[[], None]) -> None:
        __tracebackhide__ = True
        # a warning that pytest was asked to raise would look like a model that crashes: it is shown instead
        with warnings.catch_warnings(action="default"):
            super()._settle(name, promise)

    def _audit(self, check: str, selected: frozenset[str]) -> None:
        from harness.auditing.engine import audit
        from harness.auditing.subject import Subject
        from harness.testing.promises import maker

        checks = selected | {check}
        what = json.dumps([repr(self.model), dict(self.hyperparameters), repr(self.benchmark)], default=repr)
        key = (what, self.seed, checks)
        if key not in _reports:
            name = self.model if isinstance(self.model, str) else self.model.__name__
            make = maker(self.model, self.hyperparameters)
            subject = Subject(name, make, dict(self.hyperparameters), self.benchmark)
            _reports[key] = audit(subject, seed=self.seed, only=sorted(checks))
        result = _reports[key].result(check)
        if result.verdict == "not applicable":
            raise Inapplicable(f"{result.check}: {result.meaning}")
        if result.verdict == "fail":
            raise Broken(_in_words(result, self._command(result)))

    def _command(self, result: CheckResult) -> str:
        name = self.model if isinstance(self.model, str) else f"{self.model.__module__}:{self.model.__qualname__}"
        words = [f"harness audit {name} --checks {result.check} --seed {result.seed}"]
        words += [f"--set '{key}={json.dumps(value)}'" for key, value in self.hyperparameters.items()]
        if self.benchmark is not None:
            size = (self.benchmark.height, self.benchmark.width, self.benchmark.channels, self.benchmark.levels)
            words.append(f"--size {'x'.join(map(str, size))}")
        return " ".join(words)


def _selected(request: pytest.FixtureRequest, cls: type) -> frozenset[str]:
    """Returns the checks of this class that this process is to run, so that they are made in one go."""
    worker = getattr(request.config, "workerinput", None)
    if worker is not None and worker.get("harness_dist") not in _KEEP_TOGETHER:
        return frozenset()  # other workers do the others
    calls = [getattr(item, "callspec", None) for item in request.session.items if getattr(item, "cls", None) is cls]
    return frozenset(call.params["check"] for call in calls if call is not None and "check" in call.params)


def _in_words(result: CheckResult, command: str) -> str:
    lines = [f"{result.check}: {result.meaning}"]
    if result.where:
        lines.append(f"  where      {result.where}")
    if result.statistic is not None and result.threshold is not None:
        lines.append(f"  measured   {result.quantity}")
        lines.append(f"  statistic  {result.statistic:.4g}, threshold {result.threshold:.2g}")
    if len(result.failures) > 1:
        lines += [f"  also       {failure}" for failure in result.failures if not failure.startswith(result.where)]
    return "\n".join([*lines, f"  seed       {result.seed}", f"  again      {command}"])
