"""The audit: every check on one model, with an error rate that is fixed for all of them together."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from harness.auditing.checks.bounds import bounds, importance_samples
from harness.auditing.checks.conditionals import conditionals, full_size
from harness.auditing.checks.conduct import checkpoint, contract, reproducible, unchanged
from harness.auditing.checks.dependence import dependence
from harness.auditing.checks.flows import inverse, log_determinant
from harness.auditing.checks.labels import labels
from harness.auditing.checks.latents import joint, posterior
from harness.auditing.checks.neighbours import neighbours
from harness.auditing.checks.normalisation import known_entropy, normalisation
from harness.auditing.checks.priors import prior
from harness.auditing.checks.sampling import sampling
from harness.auditing.checks.size import every_entry, float32
from harness.auditing.laboratory import CPU, Laboratory
from harness.auditing.subject import OPERATIONS, SECONDS, Subject, capability_of
from harness.auditing.trial import NOT_DECIDED, NOT_FINITE, Evidence, NotApplicable, Trial
from harness.interface.model import ExactLikelihood, Unsupported, VariationalBound
from harness.records.verdict import AuditReport, CheckResult, Standing
from harness.support.names import did_you_mean
from harness.support.randomness import derive_seed, isolated_rng

_progress = logging.getLogger("harness.progress")  # which nobody hears but who waits

ERROR_RATE = 1e-3  # with what probability a right model fails any check at all
_MOST_FAILURES = 5

Check = Callable[[Laboratory], Iterator[Evidence]]  # or it raises ``NotApplicable``: the model does not promise this
_IN_ORDER: tuple[Check, ...] = (  # in which they are made and shown
    contract, normalisation, conditionals, sampling, full_size, every_entry, float32, dependence, bounds,
    importance_samples, joint, posterior, log_determinant, inverse, prior, unchanged, neighbours, reproducible,
    checkpoint, labels, known_entropy,
)  # fmt: skip
CHECKS: Mapping[str, Check] = {check.__name__.replace("_", "-"): check for check in _IN_ORDER}


def explain(name: str) -> dict[str, str]:
    """Returns what a check ``claims``, how it ``tests`` that, ``fails a right model``, and what it ``cannot see``."""
    if name not in CHECKS:
        raise ValueError(f"there is no check {name!r}{did_you_mean(name, CHECKS)}")
    text = Path(__file__).with_name("checks.md").read_text(encoding="utf-8")
    items = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0].split("- **")[1:]
    return {part.lower(): " ".join(words.split()) for part, words in (item.split(":**", 1) for item in items)}


def audit(
    subject: Subject, *, seed: int = 0, only: Sequence[str] | None = None,
    on_check: Callable[[CheckResult], None] = lambda result: None, budget: float = SECONDS,
) -> AuditReport:  # fmt: skip
    """Checks a model's likelihood, its samplers and its good conduct, on spaces that can be enumerated and wider ones.

    The same seed gives the same report, whatever else is checked; but an exception that several checks meet is told
    by the first of them. A model that is right fails with probability ``ERROR_RATE`` at most, all checks together.
    ``only`` names the checks that are made of the ``subject``, else a ValueError; None makes all. ``on_check`` is told
    every verdict. ``budget``, in seconds, says how much of an expensive model is looked at. It is counted, not timed:
    a second is 1.7e9 operations for each check, so that a report is the same on every machine.
    """
    if not budget > 0:
        raise ValueError(f"the budget of an audit must be more than 0 seconds, not {budget:g}")
    for name in only or ():
        explain(name)  # which refuses what is no check
    started = time.monotonic()
    laboratory, results, told = (
        Laboratory(subject, seed=seed, budget=budget * OPERATIONS),
        list[CheckResult](),
        dict[str, str](),
    )
    chosen = {name: check for name, check in CHECKS.items() if only is None or name in only}
    for number, (name, check) in enumerate(chosen.items(), start=1):
        _progress.info("%s, check %d of %d", name, number, len(chosen))
        results.append(_run(name, check, laboratory, ERROR_RATE / len(CHECKS), told))
        on_check(results[-1])
    try:
        model = laboratory.any_specimen.model
    except NotApplicable:
        model = None
    standing: Standing = "passed" if laboratory.small else "not enumerated"
    if any(result.verdict == "fail" for result in results):
        standing = "failed"
    elif model is not None and not isinstance(model, ExactLikelihood | VariationalBound):
        standing = "no likelihood"
    return AuditReport(
        model=subject.name, hyperparameters=dict(subject.hyperparameters),
        capability="" if model is None else capability_of(model), standing=standing,
        spaces=laboratory.used, checks=tuple(results), seed=seed, seconds=round(time.monotonic() - started, 3),
    )  # fmt: skip


def _run(name: str, check: Check, laboratory: Laboratory, error_rate: float, told: dict[str, str]) -> CheckResult:
    started, trials, notes, reason = time.monotonic(), list[Trial](), dict[str, None](), "nothing to check"
    laboratory.begin_check()
    with isolated_rng(derive_seed(laboratory.seed, "check", name), CPU):
        try:
            for evidence in check(laboratory):
                if isinstance(evidence, str):
                    notes[evidence] = None
                elif "random weights" in evidence.where and evidence.meaning.endswith(NOT_FINITE):
                    notes[f"{evidence.where}: {NOT_DECIDED}: {evidence.meaning}"] = None
                else:
                    trials.append(evidence)
        except (NotApplicable, Unsupported) as error:
            reason = str(error) or reason
        except Exception as error:  # somebody else's code: anything can happen
            trials.append(Trial.broken("", f"raises {type(error).__name__}: {error}".splitlines()[0], error))
    notes |= laboratory.notes
    seconds = round(time.monotonic() - started, 3)
    result = partial(CheckResult, check=name, seed=laboratory.seed, notes=tuple(notes), seconds=seconds)
    if not trials:
        return result(verdict="not applicable", meaning=reason)
    share = error_rate / max(1, sum(trial.is_random for trial in trials))
    failed = sorted((it for it in trials if it.fails(share)), key=lambda trial: trial.severity(share), reverse=True)
    if failed and all(trial.cause in told for trial in failed):
        there = ", ".join(sorted({told[trial.cause] for trial in failed}))
        return result(verdict="not applicable", meaning=f"{NOT_DECIDED}: see {there}")
    told.update({trial.cause: name for trial in failed if trial.cause and trial.cause not in told})
    worst = failed[0] if failed else max(trials, key=lambda trial: trial.severity(share))
    threshold = None if worst.statistic is None else worst.threshold(share)
    return result(
        verdict="fail" if failed else "pass", where=worst.where, quantity=worst.quantity, statistic=worst.statistic,
        threshold=threshold, smallest_defect="" if threshold is None else worst.smallest_defect(threshold),
        num_trials=len(trials), meaning=worst.meaning if failed else "",
        failures=tuple(_in_words(trial, share) for trial in failed[:_MOST_FAILURES]),
    )  # fmt: skip


def _in_words(trial: Trial, share: float) -> str:
    where = f"{trial.where}: " if trial.where else ""
    if trial.statistic is None:
        return f"{where}{trial.meaning}"
    kind, relation = ("p = ", "below") if trial.tolerance is None else ("", "above")
    return f"{where}{trial.quantity}: {kind}{trial.statistic:.3g}, {relation} {trial.threshold(share):.1g}"
