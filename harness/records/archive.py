"""A suite's results as two files that a board is rebuilt from: ``records.jsonl`` and ``per-image.safetensors``.

One record is one line of JSON. Scores per image are float32, which is finer than any figure that is printed, under the
name that the record gives them; the int64 identities of the images are kept once for all arrays that share them, under
``images/DIGEST``. Neither file says when or where it was written: the same results give the same bytes.
"""

from __future__ import annotations

import gc
import hashlib
import json
import re
import shutil
import tempfile
from collections import UserDict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_bytes
from safetensors.numpy import load_file, save

from harness.interface.spec import RunSpec
from harness.records.record import RECORD_VERSION, Failure, RunRecord, identity_of, read_record
from harness.support.files import alone_in, write_atomically
from harness.support.names import in_texts, what_is_wrong

if TYPE_CHECKING:
    from harness.records.store import Artifacts
    from harness.suites.suite import Suite

RECORDS_FILE = "records.jsonl"
PER_IMAGE_FILE = "per-image.safetensors"

PerImage = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]

# Holds both files, whole, while they are put into their places; what an export that was killed then leaves.
_UNFINISHED = ".archive"
MEAN_TOLERANCE = 1e-5  # of a figure, to the mean of its scores per image, in shares of their size

_METADATA = "genharness"
_QUOTED_PATH = re.compile(r"""(["'])((?:/|[A-Za-z]:\\)[^"'\n]*)\1""")
_BARE_PATH = re.compile(
    r"""(?<![\w/.~:-])(?:file://)?(?:~?/(?:[^\s/"'<>|:,;()\[\]]+/)+|[A-Za-z]:\\)[^\s"'<>|:,;()\[\]]*"""
)


class StaleRecords(ValueError):
    """Results of code or data that have changed since; they do not go into a committed table."""


class ArchiveError(ValueError):
    """An archive that cannot be read; the message names the file, and the line."""


@dataclass(frozen=True)
class Archive:
    """Records, in the order of the suite's rows, then seeds; and scores per image, which are loaded when asked for.

    By a score's ``per_image`` name: (N,) float64 scores, of float32 precision, and (N,) int64 images. One of somebody
    else has a name, and a digest: the SHA-256 of its ``records.jsonl``, in hexadecimal.
    """

    records: tuple[RunRecord, ...]
    per_image: Mapping[str, PerImage]
    name: str = ""
    digest: str = ""


class LoadedArrays(UserDict[str, Any]):
    """Arrays that are loaded when they are asked for."""

    def __init__(self, names: Iterable[str], load: Callable[[str], PerImage]) -> None:
        super().__init__(dict.fromkeys(names))
        self._load = load

    def __getitem__(self, name: str) -> PerImage:
        if name not in self.data:
            raise KeyError(name)
        return self._load(name)


class ReadableArrays(LoadedArrays):
    """The same, but what cannot be loaded is not there."""

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and bool(self[name])
        except (KeyError, ValueError):
            return False


def identities_of(suite: Suite) -> list[str]:
    """Returns the identities of a suite's runs, each once, in its order."""
    specs = [spec for row in suite.rows() for configuration in row.configurations for spec in configuration]
    return list(dict.fromkeys(map(identity_of, specs)))


def collect(
    suite: Suite, artifacts: Artifacts, planned: Iterable[RunRecord], *, stale_scores: Collection[str] = ()
) -> Archive:
    """Returns the results of a suite, of all configurations of its grids, whatever their status is.

    ``planned`` are its runs as they are described today; ``stale_scores`` the ``run/score`` names of figures that an
    older version of a metric computed. Data that are known by their content are called what the suite calls them.
    Where the only record of a run has another key than today's, or a score is stale, that is ``StaleRecords``; scores
    per image that are lost are an ``ArchiveError`` when asked for.
    """
    asked = {record.identity: record for record in planned}
    stored = artifacts.store.records(identities=asked, strict=True)
    current = {record.identity: record for record in stored if record.key == asked[record.identity].key}
    records = [_called(current[identity], asked[identity].spec) for identity in asked if identity in current]
    stale = [record.run for record in stored if record.identity not in current]
    kept = {f"{record.run}/{name}" for record in records for name in record.scores}
    stale += sorted(kept & set(stale_scores))
    if stale:
        again = f"`harness run {suite.name or 'SUITE'} --redo-stale` does them again"
        raise StaleRecords(f"code, data or metrics have changed since: {', '.join(stale)}; {again}")
    arrays = LoadedArrays(sorted(_references(records)), lambda name: _of_run(artifacts, name))
    return Archive(tuple(map(without_paths, records)), arrays)


def _called(record: RunRecord, asked: RunSpec) -> RunRecord:
    """Returns a record under the names that a suite has for the same data and samples."""
    spec = record.spec.model_copy(update={"dataset": asked.dataset, "model": asked.model})
    return record.model_copy(update={"spec": spec, "identity": identity_of(spec)})


def collect_all(artifacts: Artifacts, records: Iterable[RunRecord] | None = None) -> Archive:
    """Returns all that an artifact folder's store has, old and new, or these; lost scores per image are left out."""
    records = tuple(artifacts.store.records() if records is None else records)
    return Archive(records, ReadableArrays(_references(records), lambda name: _of_run(artifacts, name)))


def _references(records: Iterable[RunRecord]) -> list[str]:
    scores = [score for record in records for score in record.scores.values()]
    return [score.per_image for score in scores if score.per_image is not None]


def _of_run(artifacts: Artifacts, reference: str) -> PerImage:
    """Scores per image from their run's own folder, else from a store that keeps them."""
    run, _, name = reference.partition("/")
    file = artifacts.folder(run).per_image_file(name)
    try:
        elsewhere = None if file.exists() else artifacts.store.array(reference)
        arrays = load_file(file) if elsewhere is None else load_bytes(elsewhere)
        return _pair(arrays["per_image"], arrays["images"], reference)
    except (OSError, SafetensorError, KeyError) as error:
        raise ArchiveError(f"{file}: no scores of {reference!r}: {_one_line(error)}") from error


def is_mean(value: float, scores: npt.NDArray[np.float64]) -> bool:
    """Tells whether a figure is the mean of its scores per image, as far as float32 knows."""
    return bool(abs(scores.mean() - value) <= MEAN_TOLERANCE * np.abs(scores).mean())


def own_archive(folder: Path) -> Archive:
    """Returns the archive that is to be added to, empty if there is none; ends what a killed writer had begun."""
    unfinished = folder / _UNFINISHED
    files = [unfinished / PER_IMAGE_FILE, unfinished / RECORDS_FILE]
    for file in files if all(file.exists() for file in files) else ():
        write_atomically(folder / file.name, file.read_bytes())
    for left in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    return read_archive(folder) if (folder / RECORDS_FILE).exists() else Archive((), {})


def write_archive(archive: Archive, folder: Path) -> list[Path]:
    """Writes the two files, both or none, and returns them.

    A crash between them leaves what no reader takes, and what ``own_archive`` ends.
    """
    how: dict[str, Any] = {"sort_keys": True, "ensure_ascii": False, "allow_nan": False}
    lines = [json.dumps(record.model_dump(mode="json"), **how) + "\n" for record in archive.records]
    arrays: dict[str, npt.NDArray[Any]] = {}
    images_of: dict[str, str] = {}
    for reference in sorted(archive.per_image):
        scores, images = archive.per_image[reference]
        digest = _digest_of_images(images)
        arrays[reference], images_of[reference] = scores.astype(np.float32), digest
        arrays.setdefault(f"images/{digest}", images)
    # One key: the order of several in the header is not fixed.
    metadata = {_METADATA: json.dumps({"version": RECORD_VERSION, "images": images_of}, sort_keys=True)}
    files = {
        RECORDS_FILE: "".join(lines).encode(),
        PER_IMAGE_FILE: save({name: arrays[name] for name in sorted(arrays)}, metadata=metadata),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{_UNFINISHED}-", ignore_cleanup_errors=True) as temporary:
        for name, content in files.items():
            write_atomically(Path(temporary, name), content)
        Path(temporary).rename(folder / _UNFINISHED)
    for name, content in files.items():
        write_atomically(folder / name, content)
    shutil.rmtree(folder / _UNFINISHED)
    return [folder / name for name in files]


def read_archive(folder: Path) -> Archive:
    """Reads what ``write_archive`` wrote, or raises ``ArchiveError``: of a file, a line, or scores that are missing."""
    if (folder / _UNFINISHED).exists():
        with alone_in(folder):  # an export that is at work is waited for
            pass
    if (folder / _UNFINISHED).exists():
        raise ArchiveError(f"{folder}: an export was stopped between its two files; 'harness export' ends it")
    file, per_image = folder / RECORDS_FILE, _open_per_image(folder / PER_IMAGE_FILE)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ArchiveError(f"{file}: cannot be read: {_one_line(error)}") from error
    records: dict[str, RunRecord] = {}
    with ExitStack() as stack:
        if gc.isenabled():  # records have no cycles, and to look for them takes twice the time
            gc.disable()
            stack.callback(gc.enable)
        for number, line in enumerate(BytesIO(content), start=1):
            if not line.strip():
                continue
            record = _parse(line, where := f"{file}:{number}")
            if record.run in records:
                raise ArchiveError(f"{where}: the run {record.run!r} stands twice")
            for name, score in record.scores.items():
                if score.per_image is not None and score.per_image not in per_image:
                    raise ArchiveError(f"{where}: {PER_IMAGE_FILE} lacks {score.per_image!r}, the scores of {name!r}")
                scores = None if score.per_image is None else per_image[score.per_image][0]
                if score.value is not None and scores is not None and not is_mean(score.value, scores):
                    problem = f"{name} is {score.value!r}, its scores in {PER_IMAGE_FILE} have the mean"
                    advice = "the two files are not of one export: restore both"
                    raise ArchiveError(f"{where}: {problem} {float(scores.mean())!r}; {advice}")
            records[record.run] = record
    return Archive(tuple(records.values()), per_image)


def _parse(line: bytes, where: str) -> RunRecord:
    with suppress(ValidationError):  # what follows is slower, says what is wrong, and takes lone surrogates
        record = read_record(line)
        if record.version == RECORD_VERSION:
            return record
    try:
        content = json.loads(line.decode("utf-8"))
        version = content.get("version") if isinstance(content, dict) else None
        if version == RECORD_VERSION:
            return RunRecord.model_validate(content)
        problem = f"a record of version {version!r}; this genharness reads version {RECORD_VERSION}"
    except UnicodeDecodeError as error:
        problem = f"cannot be read: {_one_line(error)}"
    except ValidationError as error:
        problem = f"not a record: {what_is_wrong(error.errors()[0])}"
    except ValueError as error:
        problem = f"not JSON: {error}"
    raise ArchiveError(f"{where}: {problem}")


def _open_per_image(file: Path) -> Mapping[str, PerImage]:
    """Checks the header now, and arrays when they are loaded."""
    try:
        tensors: Any = safe_open(file, framework="numpy")
        metadata = tensors.metadata() or {}
        images_of: dict[str, str] = json.loads(metadata[_METADATA])["images"]
        names = set(tensors.keys())
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"its header lacks {error}" if isinstance(error, KeyError) else _one_line(error)
        raise ArchiveError(f"{file}: cannot be read as scores per image: {why}") from error
    if metadata.keys() != {_METADATA}:
        raise ArchiveError(f"{file}: the header has entries that no export writes: {sorted(metadata)[:3]!r}")
    if not isinstance(images_of, dict) or not all(isinstance(digest, str) for digest in images_of.values()):
        raise ArchiveError(f"{file}: the header does not say which images each array is of")
    expected = {*images_of, *(f"images/{digest}" for digest in images_of.values())}
    for name in sorted(expected ^ names):
        what = "is missing" if name in expected else "belongs to nothing"
        raise ArchiveError(f"{file}: the array {name!r} {what}")
    images: dict[str, npt.NDArray[np.int64]] = {}

    def array(name: str, dtype: str) -> npt.NDArray[Any]:
        part = tensors.get_slice(name)
        found, shape = part.get_dtype(), part.get_shape()
        if found != dtype or len(shape) != 1 or shape[0] < 1:
            raise ArchiveError(f"{file}: {name!r} is {found} of shape {shape}, not {dtype} of one dimension")
        loaded: npt.NDArray[Any] = tensors.get_tensor(name)
        return loaded

    def load(reference: str) -> PerImage:
        digest = images_of[reference]
        if digest not in images:
            images[digest] = array(f"images/{digest}", "I64")
            if _digest_of_images(images[digest]) != digest:
                raise ArchiveError(f"{file}: 'images/{digest}' has another digest than its name says")
        return _pair(array(reference, "F32"), images[digest], f"{file}: {reference!r}")

    return LoadedArrays(sorted(images_of), load)


def _digest_of_images(images: npt.NDArray[np.int64]) -> str:
    return hashlib.sha256(images.astype("<i8").tobytes()).hexdigest()[:16]


def _pair(scores: npt.NDArray[Any], images: npt.NDArray[Any], where: str) -> PerImage:
    """Rounds scores to float32 wherever they come from: a board is the same from a store and from an archive."""
    if scores.ndim != 1 or scores.shape != images.shape or images.dtype != np.int64:
        raise ArchiveError(f"{where}: {scores.shape} scores for {images.shape} images of type {images.dtype}")
    if not np.isfinite(rounded := scores.astype(np.float32).astype(np.float64)).all():
        raise ArchiveError(f"{where}: a score per image is not finite")
    return rounded, images


def without_paths(record: RunRecord) -> RunRecord:
    """Returns a record in which no text tells where on which machine it was made.

    Of a path, what is left begins at ``site-packages``, ``plugins`` or ``harness*``, or is the file's name alone.
    """
    environment = dict(record.environment)
    if isinstance(environment.get("command"), str):
        words = environment["command"].split()
        environment["command"] = " ".join(re.sub(r"[^\s=]*[/\\](?=[^/\\])", "", word.rstrip("/\\")) for word in words)

    def shortened(failure: Failure | None) -> Failure | None:
        return None if failure is None else Failure(**in_texts(vars(failure), shorten_paths))

    scores = {
        name: score.model_copy(update={"failure": shortened(score.failure)}) for name, score in record.scores.items()
    }
    reason = record.reason and shorten_paths(record.reason)
    changed = {"environment": environment, "failure": shortened(record.failure), "reason": reason, "scores": scores}
    return record.model_copy(update=changed)


def shorten_paths(text: str) -> str:
    """Returns a text with the machine's part of every absolute path cut off."""
    text = text.replace(str(Path.home()) + "/", "~/")
    text = _QUOTED_PATH.sub(lambda found: f"{found[1]}{_short(found[2])}{found[1]}", text)
    return _BARE_PATH.sub(lambda found: _short(found[0]), text)


def _short(path: str) -> str:
    parts = [part for part in re.split(r"[/\\]", path) if part]
    for root in ("site-packages", "plugins", "harness.*"):
        if roots := [index for index, part in enumerate(parts[:-1]) if re.fullmatch(root, part)]:
            return "/".join(parts[roots[-1] :])
    return parts[-1] if parts else path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
