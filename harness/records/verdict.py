"""What an audit says: a verdict for each check, with what it rests on. Values that go to JSON and back; no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["pass", "fail", "not applicable"]
Standing = Literal["passed", "failed", "not enumerated", "no likelihood"]

AUDIT_VERSION = "2"
"""Part of every key: it changes whenever a verdict could."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")


class CheckResult(_Value):
    """The verdict of one check; ``not applicable`` where the model does not promise it, or it cannot be checked here.

    ``statistic`` and ``threshold`` are those of the trial nearest to the threshold, or of the worst one: a p-value
    fails below its threshold, which allows for all ``num_trials``, a deviation above. ``quantity`` says in words what
    the statistic is, ``where`` on which sample space, in which state of the weights and by which sampler, and
    ``smallest_defect`` what this trial could have seen. ``seed`` reproduces it, with the same name of the check.

    ``meaning`` says what is wrong and what is likely the cause, or why it is not applicable. ``failures`` are the
    trials that failed, in words, at most five; ``notes`` what a reader should know though it is no failure, such as a
    declared blind spot.
    """

    check: str
    verdict: Verdict
    where: str = ""
    quantity: str = ""
    statistic: float | None = None
    threshold: float | None = None
    smallest_defect: str = ""
    num_trials: int = 0
    seed: int = 0
    meaning: str = ""
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class AuditReport(_Value):
    """All verdicts on one model, named with the ``hyperparameters`` that differ from the defaults.

    ``capability`` is what it promises: the most specific of the harness's capabilities, by class name. Its ``standing``
    is ``failed`` where any check failed; ``not enumerated`` where no sample space that can be enumerated is supported
    by the model, so that its normalisation and sampling are not checked; ``no likelihood`` for implicit models.
    ``spaces`` are the sample spaces that were used, in words.
    """

    model: str
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    capability: str = ""
    standing: Standing
    spaces: tuple[str, ...] = ()
    checks: tuple[CheckResult, ...]
    seed: int = 0
    version: str = AUDIT_VERSION
    seconds: float = 0.0

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.checks if result.verdict == "fail")

    @property
    def symbol(self) -> str:
        """What a board shows: ``✓``, ``✗``, or why neither."""
        return {"passed": "✓", "failed": "✗"}.get(self.standing, self.standing)

    def result(self, check: str) -> CheckResult:
        """Returns a check's verdict.

        Raises:
            KeyError: it was not made.
        """
        for result in self.checks:
            if result.check == check:
                return result
        raise KeyError(f"{check!r} was not checked; the audit has {', '.join(item.check for item in self.checks)}")
