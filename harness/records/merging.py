"""Boards from several machines: the records of one suite, brought together, each piece with where it came from.

A run is a training and its figures; those are the pieces. Two archives that hold the same run (the same key: code,
data, hyperparameters, seed) have to agree on its quality figures; speeds belong to their machine and are joined. What
one's own archive holds stays as it is, and of pieces that others hold alike, which one is kept does not depend on the
order in which they come: so merging is idempotent, and its result the same in any order.

Where a piece came from is kept in the record's environment, ``merged_from``: by the SHA-256 of the other's
``records.jsonl``, its name and the pieces. What it does not name is one's own.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.records.archive import Archive, LoadedArrays, PerImage, identities_of
from harness.records.record import UNFINISHED, Curve, RunRecord, ScoreRecord, status_of_scores
from harness.records.untrusted import MERGED_FROM
from harness.suites.suite import Suite

Preference = Literal["ours", "theirs", "newest"]

# Two machines sum in different orders: float32 figures agree to this share of their size.
VALUE_TOLERANCE = 1e-6
IMAGE_TOLERANCE = 1e-5

_UNFINISHED = UNFINISHED | {"killed", "timed-out", "out-of-memory"}
_TRAINING = "training"


class MergeConflicts(ValueError):
    """Records that cannot both be right; ``conflicts`` has a line for each."""

    def __init__(self, conflicts: Sequence[str]) -> None:
        super().__init__(f"{len(conflicts)} conflicts, the first: {conflicts[0]}")
        self.conflicts = tuple(conflicts)


@dataclass(frozen=True)
class Merged:
    """All records in the order of the suite, and what was done; runs by name.

    Runs that were there and have more now are ``joined``; ``identical`` counts records of others that were there
    already; the suite does not list those ``left_out``, whether they are kept or not; of the conflicts ``resolved`` a
    preference decided.
    """

    archive: Archive
    added: tuple[str, ...]
    joined: tuple[str, ...]
    left_out: tuple[str, ...]
    resolved: tuple[str, ...]
    identical: int
    changed: bool


Origins = frozenset[tuple[str, str]]
"""The archives that hold a piece alike: the SHA-256 of their ``records.jsonl``, and their names. None: one's own."""


class _Figure(NamedTuple):
    score: ScoreRecord
    arrays: Mapping[str, PerImage]  # of the archive that it is from
    origins: Origins


class _Run(NamedTuple):
    training: RunRecord  # whose own scores do not count
    origins: Origins
    figures: Mapping[str, _Figure]


def merge(
    suite: Suite,
    ours: Archive,
    others: Sequence[Archive],
    *,
    prefer: Preference | None = None,
    keep_unlisted: bool = False,
) -> Merged:
    """Merges others' records into one's own archive, which may be empty; raises ``MergeConflicts``.

    Unless ``prefer`` decides them run by run: for what is there already (for the earlier of two others), for what
    comes, or for what was written last. An archive without a digest is one's own as well: its pieces came from nowhere
    else, and a run of its name is the same run, however its hyperparameters are written.
    """
    order = {identity: number for number, identity in enumerate(identities_of(suite))}
    runs = {record.identity: _pieces(record, ours.per_image) for record in ours.records}
    own = {record.run: record.identity for record in ours.records}
    before = frozenset(runs)
    joined, left_out, conflicts, identical = set[str](), set[str](), list[str](), 0
    for other in others:
        for record in other.records:
            identity = record.identity if other.digest else own.get(record.run, record.identity)
            if identity not in order:
                left_out.add(record.run)
                if not keep_unlisted:
                    continue
            origin = [(other.digest, other.name)] if other.digest else []
            theirs = _pieces(record, other.per_image, *origin)
            found = runs.setdefault(identity, theirs)
            if found is theirs:
                continue
            runs[identity], problems = _join(found, theirs)
            if problems:
                conflicts += [f"{record.run} in {other.name!r}: {problem}" for problem in problems]
                runs[identity] = _prefer(found, theirs, prefer)
            if _content(runs[identity]) == _content(found):
                identical += 1
            elif identity in before:
                joined.add(runs[identity].training.run)
    names = Counter(run.training.run for run in runs.values())
    twins = [f"{name}: two different runs have this name" for name, number in names.items() if number > 1]
    conflicts += twins
    if twins or (conflicts and prefer is None):
        raise MergeConflicts(twins if prefer else conflicts)
    kept = sorted(runs, key=lambda identity: (order.get(identity, len(order)), runs[identity].training.run))
    records = tuple(_record(runs[identity]) for identity in kept)
    figures = [figure for run in runs.values() for figure in run.figures.values()]
    arrays = {figure.score.per_image: figure.arrays for figure in figures if figure.score.per_image is not None}
    archive = Archive(records, LoadedArrays(arrays, lambda name: arrays[name][name]))
    added = {runs[identity].training.run for identity in runs.keys() - before}
    changed = {record.identity: record for record in records} != {record.identity: record for record in ours.records}
    new, more, unlisted = (tuple(sorted(names)) for names in (added, joined, left_out))
    return Merged(archive, new, more, unlisted, tuple(conflicts), identical, changed)


def _pieces(record: RunRecord, arrays: Mapping[str, PerImage], *origin: tuple[str, str]) -> _Run:
    environment, came_from = dict(record.environment), dict[str, set[tuple[str, str]]]()
    for digest, entry in environment.pop(MERGED_FROM, {}).items():
        for piece in entry["what"]:
            came_from.setdefault(piece, set()).add((digest, entry["name"]))
    origins = {piece: frozenset(came_from.get(piece, origin)) for piece in (_TRAINING, *record.scores)}
    figures = {name: _Figure(score, arrays, origins[name]) for name, score in record.scores.items()}
    return _Run(record.model_copy(update={"environment": environment}), origins[_TRAINING], figures)


def _record(run: _Run) -> RunRecord:
    merged_from: dict[str, dict[str, Any]] = {}
    pieces = {_TRAINING: run.origins, **{name: figure.origins for name, figure in run.figures.items()}}
    for piece, origins in sorted(pieces.items()):
        for digest, name in sorted(origins):
            merged_from.setdefault(digest, {"name": name, "what": []})["what"].append(piece)
    environment = {**run.training.environment, **({MERGED_FROM: merged_from} if merged_from else {})}
    scores = {name: figure.score for name, figure in run.figures.items()}
    trained = _outcome(run.training) == "trained"
    status = status_of_scores(scores.values()) if trained else run.training.status
    return run.training.model_copy(update={"scores": scores, "environment": environment, "status": status})


def _content(run: _Run) -> Any:
    """What a run says, whoever says it."""
    return _training_content(run.training), {name: figure.score for name, figure in run.figures.items()}


def _training_content(training: RunRecord) -> str:
    """The training, whenever and by whatever command its record was written."""
    content = training.model_dump(mode="json", include={"key", "fit", "failure", "environment"})
    content["environment"].pop("command", None)
    return json.dumps([_outcome(training), *content.values()], sort_keys=True)


def _outcome(training: RunRecord) -> str:
    return "trained" if training.fit is not None and training.failure is None else training.status


def _join(ours: _Run, theirs: _Run) -> tuple[_Run, list[str]]:
    """Returns the two as one, and why they cannot be."""
    a, b = ours.training, theirs.training
    if problem := _problem_of_trainings(a, b):
        return ours, [problem]
    if _training_content(a) == _training_content(b):
        source = max(ours, theirs, key=lambda run: (not run.origins, run.training.created, run.training.run))
        origins = _together(ours.origins, theirs.origins)
    else:
        source = min(ours, theirs, key=lambda run: (_outcome(run.training) in _UNFINISHED, _curve(run) is None,
                                                    bool(run.origins), _training_content(run.training)))  # fmt: skip
        origins = source.origins
    other_weights = a.fit is not None and b.fit is not None and a.fit.weights_sha256 != b.fit.weights_sha256
    figures, problems = dict[str, _Figure](), list[str]()
    for name in sorted(ours.figures.keys() | theirs.figures.keys()):
        sides = [run.figures[name] for run in (ours, theirs) if name in run.figures]
        kept = min(sides, key=_precedence)
        if all(side.score == kept.score for side in sides):
            kept = kept._replace(origins=_together(*(side.origins for side in sides)))
        problem = _problem_of_figures(*sides) if len(sides) == 2 else None
        if len(sides) == 1 and other_weights and kept.score.stage == "quality" and kept.score.status == "done":
            who = "ours" if name in ours.figures else "theirs"
            problem = f" is known of {who} alone, and the two trainings ended in different weights"
        if problem is not None:
            problems.append(f"{name}{problem}")
        else:  # a duration belongs to its training
            figures[name] = source.figures.get(name, kept) if _is_duration(kept.score) else kept
    return _Run(source.training, origins, figures), problems


def _curve(run: _Run) -> Curve | None:
    return None if run.training.fit is None else run.training.fit.curve


def _together(*origins: Origins) -> Origins:
    return frozenset().union(*origins) if all(origins) else frozenset()


def _problem_of_trainings(a: RunRecord, b: RunRecord) -> str | None:
    if a.key != b.key:
        names = ("code", "dataset_digest", "hyperparameters", "provider")
        differing = ", ".join(name for name in names if getattr(a, name) != getattr(b, name)) or "budget or checkpoint"
        sides = f"ours is {a.run!r} of {a.created or 'unknown date'}, theirs of {b.created or 'unknown date'}"
        return f"the same run of other code or data (different: {differing}): {sides}"
    differ = _outcome(a) != _outcome(b) and not {_outcome(a), _outcome(b)} & _UNFINISHED
    return f"ours is {_said(a)}, theirs {_said(b)}" if differ else None


def _said(training: RunRecord) -> str:
    reason = training.reason or (training.failure.message if training.failure is not None else "")
    return f"{_outcome(training)} ({' '.join(reason.split())[:120]})" if reason else _outcome(training)


def _is_duration(score: ScoreRecord) -> bool:
    return score.stage == "cost" and score.unit == "s"


def is_news(record: RunRecord, known: RunRecord | None) -> bool:
    """Tells whether an ended run has figures that what is known of it lacks, or has otherwise."""
    if record.is_unfinished or known is None:
        return not record.is_unfinished
    done = [(score, known.scores.get(name)) for name, score in record.scores.items() if score.value is not None]
    return any(old is None or (score.stage == "quality" and not _is_close(score, old)) for score, old in done)


def _is_close(a: ScoreRecord, b: ScoreRecord) -> bool:
    if a.value is None or b.value is None:
        return False
    return math.isclose(a.value, b.value, rel_tol=VALUE_TOLERANCE, abs_tol=VALUE_TOLERANCE)


def _precedence(figure: _Figure) -> tuple[bool, bool, bool, float, str]:
    """What is done first, then what has ended, then one's own.

    Of other machines' speeds the better one, for what disturbs a measurement makes it worse.
    """
    score = figure.score
    value = score.value if score.stage == "speed" and score.value is not None else 0.0
    content = json.dumps(score.model_dump(mode="json"), sort_keys=True)
    better = -value if score.higher_is_better else value
    return score.status != "done", score.status in _UNFINISHED, bool(figure.origins), better, content


def _problem_of_figures(a: _Figure, b: _Figure) -> str | None:
    ours, theirs = a.score, b.score
    done = [score for score in (ours, theirs) if score.status == "done"]
    if len(done) < 2:
        differ = done and done[0].stage != "speed" and not {ours.status, theirs.status} & _UNFINISHED
        return f" is {ours.status} for us, {theirs.status} for them" if differ else None
    if ours.stage != theirs.stage:
        return f" is a {ours.stage} figure of ours, a {theirs.stage} figure of theirs"
    if ours.stage == "speed":
        return None
    if ours.key != theirs.key:
        return f" was measured by different versions of the metric: {_both(ours, theirs)}"
    if _is_duration(ours):
        return None
    for what in ("kind", "unit", "num_images"):
        if getattr(ours, what) != getattr(theirs, what):
            return f": {what} is {getattr(ours, what)!r} for us, {getattr(theirs, what)!r} for them"
    if not _is_close(ours, theirs):
        return f" differs: {_both(ours, theirs)}"
    if ours.per_image is None or theirs.per_image is None:
        return None
    (scores_a, images_a), (scores_b, images_b) = a.arrays[ours.per_image], b.arrays[theirs.per_image]
    if not np.array_equal(images_a, images_b):
        return ": the two are of different test images, or of another order"
    differing = ~np.isclose(scores_a, scores_b, rtol=IMAGE_TOLERANCE, atol=IMAGE_TOLERANCE)
    if not differing.any():
        return None
    first = int(differing.argmax())
    sides = f"image {first} is {scores_a[first]:.7g} for us, {scores_b[first]:.7g} for them"
    return f" differs for {differing.sum():,} of {len(differing):,} images: {sides}"


def _both(ours: ScoreRecord, theirs: ScoreRecord) -> str:
    a, b = (f"{s.value!r} {s.unit}".rstrip() + f" on {s.hardware or 'unknown hardware'}" for s in (ours, theirs))
    return f"ours is {a}, theirs {b}"


def _prefer(ours: _Run, theirs: _Run, prefer: Preference | None) -> _Run:
    """Takes one run whole; of the same code, the other's speeds come along, and its figures of the same weights."""
    later = prefer == "theirs" or (prefer == "newest" and theirs.training.created > ours.training.created)
    chosen, other = (theirs, ours) if later else (ours, theirs)
    if chosen.training.key != other.training.key:
        return chosen
    a, b = chosen.training.fit, other.training.fit
    same = a is not None and b is not None and a.weights_sha256 == b.weights_sha256
    more = {name: figure for name, figure in other.figures.items() if same or figure.score.stage == "speed"}
    return chosen._replace(figures={**more, **chosen.figures})
