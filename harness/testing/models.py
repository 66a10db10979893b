"""The conformance suite of a model: every check of the audit, and what a benchmark asks of a plugin beyond it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from harness.testing.conformance import Conformance, Outcome, required

if TYPE_CHECKING:
    from harness.auditing.subject import Subject
    from harness.interface.model import Model
    from harness.interface.spec import ImageSpec
    from harness.records.verdict import AuditReport, CheckResult

_KEEP_TOGETHER = ("no", "loadscope", "loadfile")

_reports: dict[tuple[str, int, frozenset[str]], AuditReport] = {}


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

    __test__: ClassVar[bool] = False
    _module = "model_promises"
    model: ClassVar[str | type[Model]]
    hyperparameters: ClassVar[Mapping[str, Any]] = {}
    seed: ClassVar[int] = 0
    benchmark: ClassVar[ImageSpec | None] = None

    def test_conforms(self, promise: str) -> None:
        """The plugin keeps a promise that a benchmark relies on."""
        with _warnings_are_no_defects():
            super().test_conforms(promise)

    def test_audit(self, check: str, request: pytest.FixtureRequest) -> None:
        """The model passes a check of the audit."""
        result = self._report(_selected(request, type(self)) | {check}).result(check)
        self._settle(check, _in_words(result, self._command(result)))

    def _names(self) -> Mapping[str, Iterable[str]]:
        from harness.auditing.checks import CHECKS

        return {**super()._names(), "check": [check.name for check in CHECKS]}

    def _arguments(self) -> tuple[Any, ...]:
        from harness.testing.model_promises import Candidate

        model = required(type(self), "model", '"name"')
        return (Candidate(model, dict(self.hyperparameters), self.seed, self.benchmark),)

    def _report(self, checks: frozenset[str]) -> AuditReport:
        from harness.auditing.engine import audit

        subject = self._subject()
        what = json.dumps([repr(self.model), dict(self.hyperparameters), repr(self.benchmark)], default=repr)
        key = (what, self.seed, checks)
        if key not in _reports:
            with _warnings_are_no_defects():
                _reports[key] = audit(subject, seed=self.seed, only=sorted(checks))
        return _reports[key]

    def _subject(self) -> Subject:
        from harness.auditing.subject import Subject
        from harness.discovery.hyperparameters import resolve
        from harness.discovery.loading import with_samplers
        from harness.discovery.manager import plugin_manager
        from harness.testing.model_promises import class_of

        cls = class_of(self.model)

        def make(spec: ImageSpec) -> Model:
            return with_samplers(plugin_manager(), cls(spec, **resolve(cls, self.hyperparameters)))

        name = self.model if isinstance(self.model, str) else cls.__name__
        return Subject(name, make, dict(self.hyperparameters), self.benchmark)

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
    found = set()
    for item in request.session.items:
        call = getattr(item, "callspec", None)
        if getattr(item, "cls", None) is cls and call is not None and "check" in call.params:
            found.add(call.params["check"])
    return frozenset(found)


def _warnings_are_no_defects() -> warnings.catch_warnings[None]:
    """A warning that pytest was asked to raise would look like a model that crashes: it is shown instead."""
    return warnings.catch_warnings(action="default")


def _in_words(result: CheckResult, command: str) -> Outcome:
    if result.verdict == "not applicable":
        return Outcome("not applicable", f"{result.check}: {result.meaning}")
    if result.verdict == "pass":
        return Outcome("pass")
    lines = [f"{result.check}: {result.meaning}"]
    if result.where:
        lines.append(f"  where      {result.where}")
    if result.statistic is not None and result.threshold is not None:
        lines.append(f"  measured   {result.quantity}")
        lines.append(f"  statistic  {result.statistic:.4g}, threshold {result.threshold:.2g}")
    if len(result.failures) > 1:
        lines += [f"  also       {failure}" for failure in result.failures if not failure.startswith(result.where)]
    lines.append(f"  seed       {result.seed}")
    lines.append(f"  again      {command}")
    return Outcome("fail", "\n".join(lines))
