"""Boards from several machines: the records of one suite, brought together, each piece with where it came from.

A run is a training and its figures; those are the pieces. Two archives that hold the same run (the same key: code,
data, hyperparameters, seed) have to agree on its quality figures; speeds belong to their machine and are joined. What
one's own archive holds stays as it is, and of pieces that others hold alike, which one is kept does not depend on the
order in which they come: so merging is idempotent, and its result the same in any order.

Where a piece came from is kept in the record's environment, ``merged_from``: by the SHA-256 of the other's
``records.jsonl``, its name and the pieces. What it does not name is one's own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from harness.records.archive import Archive, LoadedArrays, PerImage
from harness.records.record import UNFINISHED, RunRecord, ScoreRecord, identity_of, status_of_scores
from harness.records.untrusted import MERGED_FROM, UntrustedArchive
from harness.suites.suite import Suite

Preference = Literal["ours", "theirs", "newest"]
Origin = tuple[str, str]  # the SHA-256 of the archive's records.jsonl, its name

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
    """What a merge gives, and what it did; runs by name.

    Attributes:
        archive: all records, in the order of the suite.
        added: runs that were not there.
        joined: runs that were there, and now have more, such as the speeds of another machine.
        identical: how many of the others' records were there already.
        left_out: runs that the suite does not list.
        resolved: conflicts that a preference decided.
        changed: whether anything is to be written.
    """

    archive: Archive
    added: tuple[str, ...]
    joined: tuple[str, ...]
    identical: int
    left_out: tuple[str, ...]
    resolved: tuple[str, ...]
    changed: bool


@dataclass(frozen=True)
class _Score:
    """A figure, the archive that its scores per image are in, and its origins; None among them: one's own."""

    score: ScoreRecord
    per_image: Mapping[str, PerImage] = field(compare=False)
    origins: frozenset[Origin | None] = field(compare=False)


@dataclass(frozen=True)
class _Run:
    """A run in pieces: the training, which is a record without figures, and the figures."""

    training: RunRecord
    origins: frozenset[Origin | None]
    scores: Mapping[str, _Score]


class _Conflict(Exception):
    pass


def merge(
    suite: Suite, ours: Archive, others: Sequence[UntrustedArchive], *, prefer: Preference | None = None
) -> Merged:
    """Merges others' records into one's own.

    Args:
        suite: says which runs belong together, and their order.
        ours: the suite's archive, which may be empty.
        others: those of other machines, checked by ``harness.records.untrusted.read_untrusted``.
        prefer: decides conflicts run by run: for what is there already (for the earlier of two others), for what comes,
            or for what was written last.

    Raises:
        MergeConflicts: one run in two versions, or two figures for it, and no preference.
    """
    identities = [identity_of(spec) for row in suite.rows() for specs in row.configurations for spec in specs]
    order = {identity: number for number, identity in enumerate(dict.fromkeys(identities))}
    runs = {record.identity: _pieces(record, ours.per_image, None) for record in ours.records}
    before = {identity: run.training.run for identity, run in runs.items()}
    joined, left_out, conflicts, identical = set[str](), set[str](), list[str](), 0
    for other in others:
        for record in other.archive.records:
            if record.identity not in order:
                left_out.add(record.run)
                continue
            theirs = _pieces(record, other.archive.per_image, (other.digest, other.name))
            found = runs.get(record.identity)
            if found is None:
                runs[record.identity] = theirs
                continue
            result, problems = _join(found, theirs)
            conflicts += [f"{record.run} in {other.name!r}: {problem}" for problem in problems]
            if problems:
                result = _prefer(found, theirs, prefer or "ours")
            same = _content(result) == _content(found)
            identical += same
            if not same and record.identity in before:
                joined.add(result.training.run)
            runs[record.identity] = result
    conflicts += _name_conflicts(runs.values())
    if conflicts and prefer is None:
        raise MergeConflicts(conflicts)
    kept = sorted(runs, key=lambda identity: (order.get(identity, len(order)), runs[identity].training.run))
    records = tuple(_record(runs[identity]) for identity in kept)
    if len({record.run for record in records}) < len(records):
        raise MergeConflicts(_name_conflicts(runs.values()))
    arrays = {
        score.score.per_image: score.per_image
        for run in runs.values()
        for score in run.scores.values()
        if score.score.per_image is not None
    }
    return Merged(
        Archive(records, LoadedArrays(list(arrays), lambda name: arrays[name][name])),
        tuple(sorted(runs[identity].training.run for identity in runs.keys() - before.keys())),
        tuple(sorted(joined)),
        identical,
        tuple(sorted(left_out)),
        tuple(conflicts),
        {record.identity: record for record in records} != {record.identity: record for record in ours.records},
    )


def _pieces(record: RunRecord, per_image: Mapping[str, PerImage], origin: Origin | None) -> _Run:
    came_from: dict[str, set[Origin | None]] = {}
    environment = dict(record.environment)
    for digest, entry in environment.pop(MERGED_FROM, {}).items():
        for piece in entry["what"]:
            came_from.setdefault(piece, set()).add((digest, entry["name"]))

    def origins(piece: str) -> frozenset[Origin | None]:
        return frozenset(came_from.get(piece, {origin}))

    scores = {name: _Score(score, per_image, origins(name)) for name, score in record.scores.items()}
    training = record.model_copy(update={"scores": {}, "environment": environment})
    return _Run(training, origins(_TRAINING), scores)


def _record(run: _Run) -> RunRecord:
    pieces = {_TRAINING: run.origins, **{name: piece.origins for name, piece in run.scores.items()}}
    merged_from: dict[str, dict[str, Any]] = {}
    for piece, origins in sorted(pieces.items()):
        for origin in sorted(origin for origin in origins if origin is not None and None not in origins):
            merged_from.setdefault(origin[0], {"name": origin[1], "what": []})["what"].append(piece)
    environment = dict(run.training.environment)
    if merged_from:
        environment[MERGED_FROM] = merged_from
    scores = {name: piece.score for name, piece in run.scores.items()}
    trained = run.training.fit is not None and run.training.failure is None
    status = status_of_scores(scores.values()) if trained else run.training.status
    return run.training.model_copy(update={"scores": scores, "environment": environment, "status": status})


def _content(run: _Run) -> Any:
    """What a run says, whoever says it."""
    return _training_content(run.training), {name: _canonical(piece.score) for name, piece in run.scores.items()}


def _training_content(training: RunRecord) -> str:
    """The training, whenever and by whatever command its record was written."""
    fit = None if training.fit is None else training.fit.model_dump(mode="json")
    failure = None if training.failure is None else training.failure.model_dump(mode="json")
    environment = {name: value for name, value in training.environment.items() if name != "command"}
    return json.dumps([training.key, _outcome(training), fit, failure, environment], sort_keys=True, default=str)


def _canonical(score: ScoreRecord) -> str:
    return json.dumps(score.model_dump(mode="json"), sort_keys=True)


def _outcome(training: RunRecord) -> str:
    if training.fit is not None and training.failure is None:
        return "trained"
    return training.status


def _join(ours: _Run, theirs: _Run) -> tuple[_Run, list[str]]:
    """Returns the two as one, and why they cannot be."""
    if ours.training.key != theirs.training.key:
        return ours, [_other_version(ours.training, theirs.training)]
    problems: list[str] = []
    try:
        training, origins = _join_training(ours, theirs)
    except _Conflict as conflict:
        return ours, [str(conflict)]
    fits = (ours.training.fit, theirs.training.fit)
    same_weights = fits[0] is None or fits[1] is None or fits[0].weights_sha256 == fits[1].weights_sha256
    scores: dict[str, _Score] = {}
    for name in sorted(ours.scores.keys() | theirs.scores.keys()):
        a, b = ours.scores.get(name), theirs.scores.get(name)
        try:
            if a is not None and b is not None:
                scores[name] = _join_scores(name, a, b)
            else:
                known, who = (a, "ours") if a is not None else (b, "theirs")
                assert known is not None
                if not same_weights and known.score.stage == "quality" and known.score.status == "done":
                    raise _Conflict(f"{name} is known of {who} alone, and the two trainings ended in different weights")
                scores[name] = known
        except _Conflict as conflict:
            problems.append(str(conflict))
    # A duration belongs to its training.
    source = ours if training is ours.training else theirs
    for name in [name for name, piece in scores.items() if _is_duration(piece.score)]:
        scores[name] = source.scores.get(name, scores[name])
    return _Run(training, origins, scores), problems


def _other_version(ours: RunRecord, theirs: RunRecord) -> str:
    names = ("code", "dataset_digest", "hyperparameters", "provider")
    differing = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    return (
        f"the same run of other code or data (different: {', '.join(differing) or 'budget or checkpoint'}): "
        f"ours is {ours.run!r} of {ours.created or 'unknown date'}, theirs of {theirs.created or 'unknown date'}"
    )


def _join_training(ours: _Run, theirs: _Run) -> tuple[RunRecord, frozenset[Origin | None]]:
    a, b = ours.training, theirs.training
    if _training_content(a) == _training_content(b):
        kept = max((a, b), key=lambda record: (None in ours.origins and record is a, record.created, record.run))
        return (a if kept is a else b), _together(ours.origins, theirs.origins)
    outcomes = (_outcome(a), _outcome(b))
    unfinished = [outcome in _UNFINISHED for outcome in outcomes]
    if unfinished[0] != unfinished[1]:
        return (b, theirs.origins) if unfinished[0] else (a, ours.origins)
    if outcomes[0] != outcomes[1] and not unfinished[0]:
        raise _Conflict(f"ours is {_said(a)}, theirs {_said(b)}")
    first = min(
        ((ours, 0), (theirs, 1)),
        key=lambda item: (None not in item[0].origins, _training_content(item[0].training), item[1]),
    )[0]
    return first.training, first.origins


def _said(training: RunRecord) -> str:
    reason = training.reason or (training.failure.message if training.failure is not None else "")
    return f"{_outcome(training)} ({' '.join(reason.split())[:120]})" if reason else _outcome(training)


def _is_duration(score: ScoreRecord) -> bool:
    return score.stage == "cost" and score.unit == "s"


def _join_scores(name: str, a: _Score, b: _Score) -> _Score:
    if a.score.status == b.score.status == "done":
        if a.score.stage != b.score.stage:
            raise _Conflict(f"{name} is a {a.score.stage} figure of ours, a {b.score.stage} figure of theirs")
        if a.score.key != b.score.key and a.score.stage != "speed":
            raise _Conflict(f"{name} was measured by different versions of the metric: {_both(a.score, b.score)}")
        if a.score.stage != "speed" and not _is_duration(a.score):
            _check_agreement(name, a, b)
    elif (a.score.status == "done" or b.score.status == "done") and a.score.status != b.score.status:
        done, other = (a, b) if a.score.status == "done" else (b, a)
        if other.score.status in _UNFINISHED or done.score.stage == "speed":
            return done
        raise _Conflict(f"{name} is {a.score.status} for us, {b.score.status} for them")
    elif (a.score.status in _UNFINISHED) != (b.score.status in _UNFINISHED):
        return b if a.score.status in _UNFINISHED else a
    if _canonical(a.score) == _canonical(b.score):
        return replace(a if None in a.origins else b, origins=_together(a.origins, b.origins))
    return min((a, b), key=_precedence)


def _together(a: frozenset[Origin | None], b: frozenset[Origin | None]) -> frozenset[Origin | None]:
    return frozenset({None}) if None in a | b else a | b


def _precedence(piece: _Score) -> tuple[bool, float, str]:
    """One's own first; of other machines' speeds the better one, for what disturbs a measurement makes it worse."""
    value = piece.score.value
    speed = piece.score.stage == "speed" and value is not None
    badness = 0.0 if not speed or value is None else -value if piece.score.higher_is_better else value
    return None not in piece.origins, badness, _canonical(piece.score)


def _check_agreement(name: str, a: _Score, b: _Score) -> None:
    ours, theirs = a.score, b.score
    for what in ("kind", "unit", "num_images"):
        if getattr(ours, what) != getattr(theirs, what):
            raise _Conflict(f"{name}: {what} is {getattr(ours, what)!r} for us, {getattr(theirs, what)!r} for them")
    assert ours.value is not None
    assert theirs.value is not None
    if not math.isclose(ours.value, theirs.value, rel_tol=VALUE_TOLERANCE, abs_tol=VALUE_TOLERANCE):
        raise _Conflict(f"{name} differs: {_both(ours, theirs)}")
    if ours.per_image is None or theirs.per_image is None:
        return
    (scores_a, images_a), (scores_b, images_b) = a.per_image[ours.per_image], b.per_image[theirs.per_image]
    if not np.array_equal(images_a, images_b):
        raise _Conflict(f"{name}: the two are of different test images, or of another order")
    differing = ~np.isclose(scores_a, scores_b, rtol=IMAGE_TOLERANCE, atol=IMAGE_TOLERANCE)
    if differing.any():
        first = int(differing.argmax())
        raise _Conflict(
            f"{name} differs for {int(differing.sum()):,} of {len(differing):,} images: image {first} is "
            f"{scores_a[first]:.7g} for us, {scores_b[first]:.7g} for them"
        )


def _both(ours: ScoreRecord, theirs: ScoreRecord) -> str:
    a, b = (f"{s.value!r} {s.unit}".rstrip() + f" on {s.hardware or 'unknown hardware'}" for s in (ours, theirs))
    return f"ours is {a}, theirs {b}"


def _prefer(ours: _Run, theirs: _Run, prefer: Preference) -> _Run:
    """Takes one run whole; the other's speeds come along where it is the same code."""
    later = prefer == "theirs" or (prefer == "newest" and theirs.training.created > ours.training.created)
    chosen, other = (theirs, ours) if later else (ours, theirs)
    if chosen.training.key != other.training.key:
        return chosen
    speeds = {name: piece for name, piece in other.scores.items() if piece.score.stage == "speed"}
    return _Run(chosen.training, chosen.origins, {**speeds, **chosen.scores})


def _name_conflicts(runs: Iterable[_Run]) -> list[str]:
    by_name: dict[str, set[str]] = {}
    for run in runs:
        by_name.setdefault(run.training.run, set()).add(run.training.identity)
    return [f"{name}: two different runs have this name" for name, found in by_name.items() if len(found) > 1]
