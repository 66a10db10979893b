"""Archives: what goes in comes out, nothing stale and no machine's paths go in, and a broken one says where."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.boards.leaderboard import Leaderboard
from harness.interface.spec import RunSpec
from harness.records.archive import (
    PER_IMAGE_FILE,
    RECORDS_FILE,
    Archive,
    ArchiveError,
    StaleRecords,
    collect,
    own_archive,
    read_archive,
    shorten_paths,
    without_paths,
    write_archive,
)
from harness.records.merging import merge
from harness.records.record import Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.records.store import Artifacts
from harness.report.files import render_boards
from harness.suites.suite import Suite
from harness.support.files import alone_in, write_atomically

SUITE = Suite.parse(
    {
        "title": "T", "datasets": ["d"], "seeds": [1, 0], "metrics": ["nll"],
        "models": [{"name": "zeta"}, {"name": "alpha", "grid": {"width": [2, 1]}}],
    },
    name="test", source="test",
)  # fmt: skip
BOARDS = Path(__file__).parents[2] / "leaderboards"
IMAGES = np.array([5, -3, 2**62], dtype=np.int64)


def specs() -> list[RunSpec]:
    return [spec for row in SUITE.rows() for configuration in row.configurations for spec in configuration]


def make_record(spec: RunSpec, key: str = "new", **changes: object) -> RunRecord:
    identity = identity_of(spec)
    values = {
        "run": f"{spec.model}-s{spec.seed}-{identity[:6]}-{key}", "key": f"{key}-{identity}", "identity": identity,
        "spec": spec, "hyperparameters": {}, "provider": "p", "code": "c", "dataset_digest": "d", "status": "done",
        "image_shape": (1, 2, 2, 2),
        "fit": FitRecord(steps=1, epochs=1.0, seconds=1.0, checkpoint="last", weights_sha256="w"),
    }  # fmt: skip
    return RunRecord.model_validate(values | changes)


class Lab:
    """An artifact folder with one record for each spec of the suite."""

    def __init__(self, folder: Path) -> None:
        self.artifacts = Artifacts(folder)
        self.keys = {identity_of(spec): f"new-{identity_of(spec)}" for spec in specs()}
        self.values: dict[str, np.ndarray] = {}
        for number, spec in enumerate(specs()):
            self.put(make_record(spec), np.random.default_rng(number).normal(80, 9, 3))

    def put(self, record: RunRecord, values: np.ndarray | None = None) -> None:
        if values is not None:
            reference = f"{record.run}/nll"
            self.values[reference] = values
            file = self.artifacts.folder(record.run).per_image_file("nll")
            file.parent.mkdir(parents=True)
            save_file({"per_image": values, "images": IMAGES}, file)
            record.scores["nll"] = ScoreRecord(
                metric="nll", key="k", value=float(values.mean()), kind="exact", unit="nats", num_images=3,
                per_image=reference,
            )  # fmt: skip
        self.artifacts.store.put(record)

    def export(self, folder: Path) -> list[Path]:
        return write_archive(collect(SUITE, self.artifacts, self.planned()), folder)

    def planned(self) -> list[RunRecord]:
        return [make_record(spec).model_copy(update={"key": self.keys[identity_of(spec)]}) for spec in specs()]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "artifacts")


@pytest.fixture
def exported(lab: Lab, tmp_path: Path) -> Path:
    lab.export(tmp_path / "test")
    return tmp_path / "test"


def test_records_come_back_as_they_were_and_scores_exactly_in_float32(lab: Lab, exported: Path) -> None:
    archive = read_archive(exported)
    stored = {record.run: record for record in lab.artifacts.store.records()}
    assert {record.run: record for record in archive.records} == stored
    assert set(archive.per_image) == set(lab.values)
    for reference, (scores, images) in archive.per_image.items():
        assert scores.dtype == np.float64
        assert np.array_equal(scores, lab.values[reference].astype(np.float32))
        assert np.array_equal(images, IMAGES)


def test_records_are_in_the_order_of_the_rows_then_configurations_then_seeds(exported: Path) -> None:
    found = [record.spec for record in read_archive(exported).records]
    assert found == specs()


def test_exporting_twice_gives_the_same_bytes(lab: Lab, exported: Path, tmp_path: Path) -> None:
    again = lab.export(tmp_path / "again")
    assert [file.read_bytes() for file in again] == [(exported / file.name).read_bytes() for file in again]


def test_identities_of_images_are_kept_once(exported: Path) -> None:
    with safe_open(exported / PER_IMAGE_FILE, framework="numpy") as file:
        names = list(file.keys())
    assert len([name for name in names if name.startswith("images/")]) == 1
    assert len(names) == len(specs()) + 1


def test_boards_from_the_archive_are_those_from_the_store(lab: Lab, exported: Path) -> None:
    archive, store = read_archive(exported), collect(SUITE, lab.artifacts, lab.planned())
    boards = [Leaderboard(source.records, SUITE, per_image=source.per_image) for source in (archive, store)]
    assert render_boards(boards[0]) == render_boards(boards[1])


def test_failed_and_skipped_runs_are_exported(lab: Lab, tmp_path: Path) -> None:
    for spec, status in zip(specs(), ("failed", "skipped", "interrupted"), strict=False):
        lab.artifacts.store.put(make_record(spec, status=status, fit=None))
    lab.export(tmp_path / "test")
    assert [record.status for record in read_archive(tmp_path / "test").records[:3]] == [
        "failed",
        "skipped",
        "interrupted",
    ]


def test_stale_records_are_refused_by_name_with_what_to_do(lab: Lab, tmp_path: Path) -> None:
    stale = specs()[1]
    lab.keys[identity_of(stale)] = "changed"
    with pytest.raises(StaleRecords, match=rf"{make_record(stale).run}; `harness run test --redo-stale`"):
        lab.export(tmp_path / "test")
    assert not (tmp_path / "test").exists()


def test_a_stale_record_beside_its_successor_is_left_out(lab: Lab, tmp_path: Path) -> None:
    lab.put(make_record(specs()[0], key="old"))
    lab.export(tmp_path / "test")
    assert all(record.key.startswith("new") for record in read_archive(tmp_path / "test").records)


def test_stale_scores_are_refused(lab: Lab, tmp_path: Path) -> None:
    reference = f"{make_record(specs()[0]).run}/nll"
    with pytest.raises(StaleRecords, match=reference):
        collect(SUITE, lab.artifacts, lab.planned(), stale_scores=[reference])


def test_a_lost_file_of_scores_stops_the_export(lab: Lab, tmp_path: Path) -> None:
    file = lab.artifacts.folder(make_record(specs()[0]).run).per_image_file("nll")
    file.unlink()
    with pytest.raises(ArchiveError, match=str(file)):
        lab.export(tmp_path / "test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'File "/home/u/venv/lib/python3.12/site-packages/torch/nn/x.py", line 3',
            'File "site-packages/torch/nn/x.py", line 3',
        ),
        ('File "/home/u/code/harness/harness/running/worker.py", line 3', 'File "harness/running/worker.py", line 3'),
        ('File "/home/u/code/plugins/nade/harness_nade/made.py"', 'File "plugins/nade/harness_nade/made.py"'),
        ('File "/home/u/harness_mine/made.py"', 'File "harness_mine/made.py"'),
        ('File "/usr/lib/python3.12/json/decoder.py"', 'File "decoder.py"'),
        ("cannot read '/home/John Doe/data/x.npz'", "cannot read 'x.npz'"),
        ("/home/u/data/x.npz: not found", "x.npz: not found"),
        (f"in {Path.home()}/runs/a", "in a"),
        ("see https://example.org/a/b, 3/4 of them", "see https://example.org/a/b, 3/4 of them"),
        ("file:///home/u/x", "x"),
        (r"File 'C:\Users\u\x.py'", "File 'x.py'"),
    ],
)
def test_paths_in_messages_lose_the_machines_part(text: str, expected: str) -> None:
    assert shorten_paths(text) == expected


def test_no_field_of_an_exported_record_holds_a_home_path() -> None:
    failure = Failure(
        stage="fit", type="E", message="at /home/u/a/b", traceback='File "/home/u/a/b.py", line 1', log="/home/u/a/b"
    )
    score = ScoreRecord(metric="nll", key="k", status="failed", failure=failure)
    command = "harness --artifacts=/home/u/artifacts run /home/u/leaderboards/mnist.toml --set made.hidden=[1]"
    record = make_record(
        specs()[0], failure=failure, reason="no /home/u/a/b", scores={"nll": score}, environment={"command": command}
    )
    clean = without_paths(record)
    assert "/home" not in clean.model_dump_json()
    assert clean.environment["command"] == "harness --artifacts=artifacts run mnist.toml --set made.hidden=[1]"


def corrupt(folder: Path, line: int, text: str) -> None:
    lines = (folder / RECORDS_FILE).read_text().splitlines()
    lines[line - 1] = text
    (folder / RECORDS_FILE).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "version None"),
        ('{"version": 99}', "version 99; this genharness reads version 1"),
        ('{"version": 1}', "not a record: run is missing"),
    ],
)
def test_a_broken_line_is_named(exported: Path, text: str, message: str) -> None:
    corrupt(exported, 2, text)
    with pytest.raises(ArchiveError, match=message) as caught:
        read_archive(exported)
    assert str(caught.value).startswith(f"{exported / RECORDS_FILE}:2: ")
    assert "\n" not in str(caught.value)


def test_a_missing_array_is_named(exported: Path) -> None:
    content = json.loads((exported / RECORDS_FILE).read_text().splitlines()[2])
    content["scores"]["nll"]["per_image"] = "gone/nll"
    corrupt(exported, 3, json.dumps(content))
    with pytest.raises(ArchiveError, match=rf"{RECORDS_FILE}:3: {PER_IMAGE_FILE} lacks 'gone/nll'"):
        read_archive(exported)


def test_a_run_that_stands_twice_is_named(exported: Path) -> None:
    corrupt(exported, 2, (exported / RECORDS_FILE).read_text().splitlines()[0])
    with pytest.raises(ArchiveError, match=rf"{RECORDS_FILE}:2: the run .* stands twice"):
        read_archive(exported)


@pytest.mark.parametrize("name", [RECORDS_FILE, PER_IMAGE_FILE])
def test_a_missing_file_is_named(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ArchiveError, match=name):
        read_archive(exported)


def test_a_truncated_file_of_scores_is_named(exported: Path) -> None:
    file = exported / PER_IMAGE_FILE
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ArchiveError, match=f"{PER_IMAGE_FILE}: cannot be read"):
        read_archive(exported)


def more(archive: Archive) -> Archive:
    """The same runs by another version of the metric: every score is greater by 100."""
    scores = {
        name: score.model_copy(update={"value": score.value + 100})
        for name, score in ((record.run, record.scores["nll"]) for record in archive.records)
    }
    records = [record.model_copy(update={"scores": {"nll": scores[record.run]}}) for record in archive.records]
    return Archive(tuple(records), {name: (pair[0] + 100, pair[1]) for name, pair in archive.per_image.items()})


@pytest.mark.parametrize("kill_at", range(1, 6))
def test_an_export_that_is_killed_leaves_the_old_archive_or_is_said_and_ended_by_the_next(
    lab: Lab, exported: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    old, calls = own_archive(exported), itertools.count(1)
    new = more(old)

    def write(path: Path, content: bytes) -> None:
        if next(calls) == kill_at:
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr("harness.records.archive.write_atomically", write)
    monkeypatch.setattr("shutil.rmtree", lambda *arguments, **options: None)  # nothing is tidied by who was killed
    monkeypatch.setattr(
        "tempfile.TemporaryDirectory",
        lambda ignore_cleanup_errors, **where: contextlib.nullcontext(tempfile.mkdtemp(**where)),
    )
    with contextlib.suppress(KeyboardInterrupt):
        write_archive(new, exported)
    monkeypatch.undo()
    if kill_at < 3:
        assert read_archive(exported).records == old.records
    else:
        with pytest.raises(ArchiveError, match="an export was stopped between its two files; 'harness export' ends it"):
            read_archive(exported)
    expected = old if kill_at < 3 else new
    assert own_archive(exported).records == expected.records
    assert read_archive(exported).records == expected.records
    assert {path.name for path in exported.iterdir()} == {RECORDS_FILE, PER_IMAGE_FILE}


def test_who_reads_while_an_export_writes_waits_for_it(exported: Path) -> None:
    unfinished = exported / ".archive"
    with alone_in(exported):
        unfinished.mkdir()
        reader = threading.Thread(target=lambda: found.append(read_archive(exported)))
        found: list[Archive] = []
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
        unfinished.rmdir()
    reader.join()
    assert found[0].records == read_archive(exported).records


@pytest.mark.parametrize("name", [RECORDS_FILE, PER_IMAGE_FILE])
def test_figures_beside_the_scores_of_another_export_are_an_error(exported: Path, tmp_path: Path, name: str) -> None:
    write_archive(more(read_archive(exported)), tmp_path / "newer")
    (tmp_path / "newer" / name).replace(exported / name)
    with pytest.raises(ArchiveError, match=r"records.jsonl:1: nll is .* the two files are not of one export"):
        read_archive(exported)


@pytest.mark.parametrize("folder", sorted(BOARDS.glob("*/records.jsonl")), ids=lambda file: file.parent.name)
def test_a_committed_archive_stays_byte_for_byte_where_a_part_of_it_is_exported_again(
    folder: Path, tmp_path: Path
) -> None:
    archive = read_archive(folder.parent)
    part = Archive(archive.records[:2], archive.per_image)
    suite = Suite.read(folder.parent.with_suffix(".toml"))
    write_archive(merge(suite, part, [archive], keep_unlisted=True).archive, tmp_path)
    for name in (RECORDS_FILE, PER_IMAGE_FILE):
        assert (tmp_path / name).read_bytes() == folder.with_name(name).read_bytes()
