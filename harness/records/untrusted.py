"""Reading an archive that somebody else wrote: all of it is checked before any of it is used. Nothing is unpickled.

``harness.records.archive.read_archive`` trusts a suite's own files; here a name that could leave its folder, a number
that is none, an array that nobody asked for, or a record that says it is another's, ends in an ``ArchiveError``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE, Archive, ArchiveError, read_archive
from harness.records.record import RunRecord, ScoreRecord, identity_of
from harness.records.selection import VALID_PREFIX
from harness.support.names import is_plain_name

MERGED_FROM = "merged_from"
MAX_RECORDS_BYTES = 2**30
MAX_PER_IMAGE_BYTES = 2**35
MAX_RECORD_BYTES = 2**24

_METRIC = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9A-Za-z]{1,64}")


@dataclass(frozen=True)
class UntrustedArchive:
    """Somebody else's records.

    Attributes:
        name: of its folder; ``archive`` where that is no plain name.
        digest: the SHA-256 of its ``records.jsonl``, in hexadecimal.
        archive: what is in it, checked.
    """

    name: str
    digest: str
    archive: Archive


def read_untrusted(path: Path) -> UntrustedArchive:
    """Reads and checks an archive, given its folder or its ``records.jsonl``.

    Raises:
        ArchiveError: it cannot be read, or holds what no export writes; the message names the file and the place.
    """
    folder = path.parent if path.name == RECORDS_FILE else path
    file = folder / RECORDS_FILE
    _check_size(file, MAX_RECORDS_BYTES)
    _check_size(folder / PER_IMAGE_FILE, MAX_PER_IMAGE_BYTES)
    content = file.read_bytes()
    longest = max(map(len, content.split(b"\n")))
    if longest > MAX_RECORD_BYTES:
        raise ArchiveError(f"{file}: a line has {longest:,} bytes; a record has at most {MAX_RECORD_BYTES:,}")
    images_of = _check_arrays(folder / PER_IMAGE_FILE)
    try:
        archive = read_archive(folder)
    except RecursionError as error:
        raise ArchiveError(f"{file}: not a record: nested too deeply") from error
    named: set[str] = set()
    for record in archive.records:
        _check_record(record, f"{file}: {record.run!r}")
        named |= {score.per_image for score in record.scores.values() if score.per_image is not None}
    unknown = sorted(images_of.keys() - named)
    if unknown:
        raise ArchiveError(f"{folder / PER_IMAGE_FILE}: {unknown[0]!r} belongs to no record")
    for record in archive.records:
        for name, score in record.scores.items():
            _check_scores(archive, score, f"{file}: {record.run!r}, {name!r}")
    name = folder.resolve().name
    return UntrustedArchive(name if is_plain_name(name) else "archive", hashlib.sha256(content).hexdigest(), archive)


def _check_size(file: Path, limit: int) -> None:
    if not file.is_file():
        raise ArchiveError(f"{file}: no such file; an archive is a folder with {RECORDS_FILE} and {PER_IMAGE_FILE}")
    size = file.stat().st_size
    if size > limit:
        raise ArchiveError(f"{file}: {size:,} bytes; no more than {limit:,} are read")


def _check_arrays(file: Path) -> dict[str, str]:
    """Checks names, types and shapes by the header, and the identities of the images; returns those of each array."""
    try:
        with safe_open(file, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
            description = json.loads(metadata["genharness"])
            images_of = description["images"]
            names = list(tensors.keys())
            _check_description(images_of, metadata, names, file)
            lengths: dict[str, int] = {}
            for name in names:
                part = tensors.get_slice(name)
                wanted = "I64" if name.startswith("images/") else "F32"
                shape = part.get_shape()
                if part.get_dtype() != wanted or len(shape) != 1 or shape[0] < 1:
                    raise ArchiveError(
                        f"{file}: {name!r} is {part.get_dtype()} of shape {shape}, not {wanted} of one dimension"
                    )
                lengths[name] = shape[0]
            for digest in sorted(set(images_of.values())):
                images: Any = tensors.get_tensor(f"images/{digest}")
                if hashlib.sha256(images.astype("<i8").tobytes()).hexdigest()[:16] != digest:
                    raise ArchiveError(f"{file}: 'images/{digest}' has another digest than its name says")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"{file}: cannot be read as scores per image: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    for name, digest in images_of.items():
        if lengths[name] != lengths[f"images/{digest}"]:
            raise ArchiveError(f"{file}: {name!r} has {lengths[name]} scores of {lengths[f'images/{digest}']} images")
    return dict(images_of)


def _check_description(images_of: Any, metadata: Mapping[str, str], names: list[str], file: Path) -> None:
    if metadata.keys() != {"genharness"}:
        raise ArchiveError(f"{file}: the header has entries that no export writes: {sorted(metadata)[:3]!r}")
    if not isinstance(images_of, dict) or not all(isinstance(value, str) for value in images_of.values()):
        raise ArchiveError(f"{file}: the header does not say which images each array is of")
    expected = {*images_of, *(f"images/{digest}" for digest in images_of.values())}
    for name in sorted(expected ^ set(names)):
        what = "is missing" if name in expected else "belongs to nothing"
        raise ArchiveError(f"{file}: the array {name!r} {what}")


def _check_record(record: RunRecord, where: str) -> None:
    if not is_plain_name(record.run):
        raise ArchiveError(f"{where}: a run's name has at most 200 letters, digits, '@', '.', '_', '-', and no path")
    if record.identity != identity_of(record.spec):
        raise ArchiveError(f"{where}: its identity is not that of its spec: it was made by another version, or edited")
    for name in ("key", "code", "dataset_digest"):
        if not _SHA256.fullmatch(getattr(record, name)):
            raise ArchiveError(f"{where}: {name} {getattr(record, name)[:80]!r} is no SHA-256 in hexadecimal")
    try:
        json.dumps(record.model_dump(), allow_nan=False)  # in JSON mode NaN would become null
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{where}: it holds a number that is not finite, or is nested too deeply") from error
    merged = record.environment.get(MERGED_FROM, {})
    if not _is_provenance(merged):
        raise ArchiveError(f"{where}: environment.{MERGED_FROM} is not what a merge writes")
    for name, score in record.scores.items():
        _check_score(record, name, score, f"{where}, {name!r}")


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


def _check_score(record: RunRecord, name: str, score: ScoreRecord, where: str) -> None:
    if not _METRIC.fullmatch(score.metric) or len(score.metric) > 100:
        raise ArchiveError(f"{where}: {score.metric[:80]!r} is no metric's name")
    if score.stage == "speed":
        if not _FINGERPRINT.fullmatch(score.fingerprint):
            raise ArchiveError(f"{where}: a speed without the fingerprint of its machine")
        expected = [f"{score.metric}@{score.fingerprint}"]
    else:
        expected = [score.metric, f"{VALID_PREFIX}{score.metric}"]
    if name not in expected:
        raise ArchiveError(f"{where}: a figure of {score.metric!r} belongs under the name {expected[0]!r}")
    if score.per_image is not None and score.per_image != f"{record.run}/{name}":
        raise ArchiveError(f"{where}: its scores per image are those of {score.per_image[:200]!r}")
    if score.status == "done" and score.value is None:
        raise ArchiveError(f"{where}: done, and without a value")


def _check_scores(archive: Archive, score: ScoreRecord, where: str) -> None:
    if score.per_image is None:
        return
    values, _ = archive.per_image[score.per_image]
    if score.num_images is not None and score.num_images != len(values):
        raise ArchiveError(f"{where}: {len(values)} scores per image, the record says {score.num_images}")
    if not np.isfinite(values).all() or not math.isfinite(float(values.sum())):
        raise ArchiveError(f"{where}: a score per image is not finite")
