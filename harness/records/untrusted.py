"""Reading an archive that somebody else wrote: all of it is checked before any of it is used. Nothing is unpickled.

``harness.records.archive.read_archive`` checks the form of records and arrays; here a name that could leave its folder,
a number that is none, an array that nobody asked for, or a record that says it is another's, is an ``ArchiveError``.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE, Archive, ArchiveError, read_archive
from harness.records.record import VALID_PREFIX, RunRecord, ScoreRecord, identity_of
from harness.support.names import is_plain_name

MERGED_FROM = "merged_from"
MAX_RECORDS_BYTES = 2**30
MAX_PER_IMAGE_BYTES = 2**35
MAX_RECORD_BYTES = 2**24

_METRIC = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9A-Za-z]{1,64}")


def read_untrusted(path: Path) -> Archive:
    """Reads and checks an archive, given its folder or its ``records.jsonl``; raises ``ArchiveError``."""
    folder = path.parent if path.name == RECORDS_FILE else path
    file = folder / RECORDS_FILE
    for part, limit in ((file, MAX_RECORDS_BYTES), (folder / PER_IMAGE_FILE, MAX_PER_IMAGE_BYTES)):
        if not part.is_file():
            raise ArchiveError(f"{part}: no such file; an archive is a folder with {RECORDS_FILE} and {PER_IMAGE_FILE}")
        if (size := part.stat().st_size) > limit:
            raise ArchiveError(f"{part}: {size:,} bytes; no more than {limit:,} are read")
    content = file.read_bytes()
    longest = max(map(len, content.split(b"\n")))
    if longest > MAX_RECORD_BYTES:
        raise ArchiveError(f"{file}: a line has {longest:,} bytes; a record has at most {MAX_RECORD_BYTES:,}")
    try:
        archive = read_archive(folder)
    except RecursionError as error:
        raise ArchiveError(f"{file}: not a record: nested too deeply") from error
    for record in archive.records:
        for place, problem in _problems(record, archive):
            raise ArchiveError(f"{file}: {record.run!r}{place}: {problem}")
    scores = [score for record in archive.records for score in record.scores.values()]
    if unknown := sorted(archive.per_image.keys() - {score.per_image for score in scores}):
        raise ArchiveError(f"{folder / PER_IMAGE_FILE}: {unknown[0]!r} belongs to no record")
    name = folder.resolve().name
    name = name if is_plain_name(name) else "archive"
    return replace(archive, name=name, digest=hashlib.sha256(content).hexdigest())


def _problems(record: RunRecord, archive: Archive) -> Iterator[tuple[str, str]]:
    """Yields what no export writes: where in the record, and what it is. What follows one is not safe to look at."""
    if not is_plain_name(record.run):
        yield "", "a run's name has at most 200 letters, digits, '@', '.', '_', '-', and no path"
    if record.identity != identity_of(record.spec):
        yield "", "its identity is not that of its spec: it was made by another version, or edited"
    for name in ("key", "code", "dataset_digest"):
        if not _SHA256.fullmatch(getattr(record, name)):
            yield "", f"{name} {getattr(record, name)[:80]!r} is no SHA-256 in hexadecimal"
    try:
        json.dumps(record.model_dump(), allow_nan=False)  # in JSON mode NaN would become null
    except (ValueError, RecursionError):
        yield "", "it holds a number that is not finite, or is nested too deeply"
    if not _is_provenance(record.environment.get(MERGED_FROM, {})):
        yield "", f"environment.{MERGED_FROM} is not what a merge writes"
    for name, score in record.scores.items():
        yield from ((f", {name!r}", problem) for problem in _problems_of_score(f"{record.run}/{name}", score, archive))


def _problems_of_score(reference: str, score: ScoreRecord, archive: Archive) -> Iterator[str]:
    if not _METRIC.fullmatch(score.metric) or len(score.metric) > 100:
        yield f"{score.metric[:80]!r} is no metric's name"
    names = [score.metric, f"{VALID_PREFIX}{score.metric}"]
    if score.stage == "speed":
        if not _FINGERPRINT.fullmatch(score.fingerprint):
            yield "a speed without the fingerprint of its machine"
        names = [f"{score.metric}@{score.fingerprint}"]
    if reference.partition("/")[2] not in names:
        yield f"a figure of {score.metric!r} belongs under the name {names[0]!r}"
    if score.status == "done" and score.value is None:
        yield "done, and without a value"
    if score.per_image is None:
        return
    if score.per_image != reference:
        yield f"its scores per image are those of {score.per_image[:200]!r}"
    values, _ = archive.per_image[score.per_image]
    if score.num_images is not None and score.num_images != len(values):
        yield f"{len(values)} scores per image, the record says {score.num_images}"


def _is_provenance(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _SHA256.fullmatch(digest)
        and isinstance(entry, dict)
        and entry.keys() == {"name", "what"}
        and isinstance(entry["name"], str)
        and is_plain_name(entry["name"])
        and isinstance(entry["what"], list)
        and all(isinstance(item, str) for item in entry["what"])
        for digest, entry in value.items()
    )
