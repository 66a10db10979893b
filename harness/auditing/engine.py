"""The audit: every check on one model, with an error rate that is fixed for all of them together."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harness.auditing.laboratory import CPU, Laboratory
from harness.auditing.subject import Subject, capability_of
from harness.auditing.trial import Evidence, NotApplicable, Note, Trial
from harness.interface.model import ExactLikelihood, Model, Unsupported, VariationalBound
from harness.records.verdict import AuditReport, CheckResult, Standing
from harness.support.names import did_you_mean
from harness.support.randomness import derive_seed, isolated_rng

_progress = logging.getLogger("harness.progress")  # which nobody hears but who waits

ERROR_RATE = 1e-3  # with what probability a right model fails any check at all
_MOST_FAILURES = 5


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    promise: str  # what a right model does
    run: Callable[[Laboratory], Iterator[Evidence]]  # or it raises ``NotApplicable``: the model does not promise this


def audit(
    subject: Subject,
    *,
    seed: int = 0,
    only: Sequence[str] | None = None,
    on_check: Callable[[CheckResult], None] = lambda result: None,
) -> AuditReport:
    """Checks a model's likelihood, its samplers and its good conduct, on spaces that can be enumerated and wider ones.

    The same seed gives the same report, whatever else is checked. A model that is right fails with probability
    ``ERROR_RATE`` at most, all checks together. ``only`` names the checks that are made of the ``subject``, else a
    ValueError; None makes all. ``on_check`` is told every verdict.
    """
    from harness.auditing.checks import CHECKS

    known = [check.name for check in CHECKS]
    for name in only or ():
        if name not in known:
            raise ValueError(f"there is no check {name!r}{did_you_mean(name, known)}")
    started = time.monotonic()
    laboratory, results = Laboratory(subject, seed=seed), []
    chosen = [check for check in CHECKS if only is None or check.name in only]
    for number, check in enumerate(chosen, start=1):
        _progress.info("%s, check %d of %d", check.name, number, len(chosen))
        results.append(_run(check, laboratory, ERROR_RATE / len(CHECKS)))
        on_check(results[-1])
    try:
        model = laboratory.any_specimen.model
    except NotApplicable:
        model = None
    return AuditReport(
        model=subject.name,
        hyperparameters=dict(subject.hyperparameters),
        capability="" if model is None else capability_of(model),
        standing=_standing(laboratory, model, results),
        spaces=laboratory.used,
        checks=tuple(results),
        seed=seed,
        seconds=round(time.monotonic() - started, 3),
    )


def _run(check: Check, laboratory: Laboratory, error_rate: float) -> CheckResult:
    started, trials, notes, reason = time.monotonic(), list[Trial](), dict[str, None](), "nothing to check"
    with isolated_rng(derive_seed(laboratory.seed, "check", check.name), CPU):
        try:
            for evidence in check.run(laboratory):
                if isinstance(evidence, Note):
                    notes[evidence.text] = None
                else:
                    trials.append(evidence)
        except (NotApplicable, Unsupported) as error:
            reason = str(error) or reason
        except Exception as error:  # somebody else's code: anything can happen
            trials.append(Trial.broken("", f"raises {type(error).__name__}: {error}".splitlines()[0]))
    seconds = round(time.monotonic() - started, 3)
    result = partial(CheckResult, check=check.name, seed=laboratory.seed, notes=tuple(notes), seconds=seconds)
    if not trials:
        return result(verdict="not applicable", meaning=reason)
    share = error_rate / max(1, sum(trial.is_random for trial in trials))
    failed = [trial for trial in trials if trial.fails(share)]
    worst = max(trials, key=lambda trial: trial.severity(share))
    threshold = None if worst.statistic is None else worst.threshold(share)
    return result(
        verdict="fail" if failed else "pass",
        where=worst.where,
        quantity=worst.quantity,
        statistic=worst.statistic,
        threshold=threshold,
        smallest_defect="" if threshold is None else worst.smallest_defect(threshold),
        num_trials=len(trials),
        meaning=worst.meaning if failed else "",
        failures=tuple(_in_words(trial, share) for trial in failed[:_MOST_FAILURES]),
    )


def _in_words(trial: Trial, share: float) -> str:
    where = f"{trial.where}: " if trial.where else ""
    if trial.statistic is None:
        return f"{where}{trial.meaning}"
    kind, relation = ("p = ", "below") if trial.tolerance is None else ("", "above")
    return f"{where}{trial.quantity}: {kind}{trial.statistic:.3g}, {relation} {trial.threshold(share):.1g}"


def _standing(laboratory: Laboratory, model: Model | None, results: Sequence[CheckResult]) -> Standing:
    if any(result.verdict == "fail" for result in results):
        return "failed"
    if model is not None and not isinstance(model, ExactLikelihood | VariationalBound):
        return "no likelihood"
    return "passed" if laboratory.small else "not enumerated"
