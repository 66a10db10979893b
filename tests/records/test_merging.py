"""Boards from several machines: what is joined, what is refused, and what a hostile archive cannot do."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from harness.boards.leaderboard import Leaderboard
from harness.cli import app
from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE, Archive, ArchiveError, read_archive, write_archive
from harness.records.merging import MergeConflicts, merge
from harness.records.record import Curve, Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.records.untrusted import read_untrusted
from harness.report.files import render_board, render_boards
from harness.suites.suite import Suite
from harness.support.names import digest_of

SUITE_TEXT = """
title = "T"
datasets = ["digits"]
seeds = [0, 1]
metrics = ["nll", "parameters-training", "fit-seconds", "sampling-latency"]
[[models]]
name = "made"
[[models]]
name = "nade"
"""
MODELS = ("made", "nade")
IMAGES = np.array([5, 3, 3, 8], dtype=np.int64)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE_TEXT)
    return Suite.read(path)


def spec_of(suite, model, seed):
    return next(s for row in suite.rows() for c in row.configurations for s in c if (s.model, s.seed) == (model, seed))


def values_of(model, seed):
    return np.random.default_rng([len(model), ord(model[0]), seed]).normal(80, 3, 4).astype(np.float32).astype(float)


class Machine:
    """Makes the records that one kind of machine would export."""

    def __init__(self, suite, fingerprint, *, hour=10, speed=1.0, noise=0.0, weights="w", code="c", latency_of=MODELS):
        self.suite, self.fingerprint, self.hour, self.speed = suite, fingerprint, hour, speed
        self.noise, self.weights, self.code, self.latency_of = noise, weights, code, latency_of

    def record(self, model="made", seed=0, **changes):
        spec, hardware = spec_of(self.suite, model, seed), f"CPU {self.fingerprint}"
        key = digest_of([model, seed, self.code])
        run = f"{model}-digits-s{seed}-{key[:10]}"
        values = values_of(model, seed) * (1 + self.noise)
        here = {"fingerprint": self.fingerprint, "hardware": hardware}
        scores = {
            "nll": ScoreRecord(
                metric="nll", key="k1", value=float(values.mean()), unit="nats", kind="exact", num_images=4,
                per_image=f"{run}/nll", **here,
            ),
            "parameters-training": ScoreRecord(
                metric="parameters-training", key="k2", value=7.0, stage="cost", unit="parameters", kind="exact", **here
            ),
            "fit-seconds": ScoreRecord(
                metric="fit-seconds", key="k3", value=self.speed, stage="cost", unit="s", kind="estimate", **here
            ),
        }  # fmt: skip
        if seed == 0 and model in self.latency_of:
            scores[f"sampling-latency@{self.fingerprint}"] = ScoreRecord(
                metric="sampling-latency",
                key=f"k4{self.fingerprint}",
                value=self.speed,
                stage="speed",
                unit="s",
                **here,
            )
        content = {
            "run": run, "key": key, "identity": identity_of(spec), "spec": spec, "hyperparameters": {}, "provider": "p",
            "code": digest_of(self.code), "dataset_digest": digest_of("d"), "status": "done",
            "image_shape": (1, 2, 2, 2), "num_images": {"test": 4}, "scores": scores,
            "fit": FitRecord(
                steps=1, epochs=1.0, seconds=self.speed, checkpoint="last", weights_sha256=digest_of(self.weights)
            ),
            "environment": {"cpu": hardware, "command": f"harness run {self.fingerprint}.toml"},
            "created": f"2026-01-01T{self.hour:02}:00:00+00:00",
        }  # fmt: skip
        return RunRecord(**{**content, **changes})

    def archive(self, runs=None, **changes):
        records = [self.record(*run, **changes) for run in runs or itertools.product(MODELS, (0, 1))]
        arrays = {
            score.per_image: (values_of(record.spec.model, record.spec.seed) * (1 + self.noise), IMAGES)
            for record in records
            for score in record.scores.values()
            if score.per_image is not None
        }
        return Archive(tuple(records), arrays)

    def foreign(self, runs=None, *, name=None, **changes):
        archive = self.archive(runs, **changes)
        digest = digest_of([record.model_dump(mode="json") for record in archive.records])
        return replace(archive, name=name or f"lab-{self.fingerprint}", digest=digest)


EMPTY = Archive((), {})


def contents(archive, folder):
    """The bytes that an archive is written as."""
    return [file.read_bytes() for file in write_archive(archive, folder)]


def by_run(archive):
    return {(record.spec.model, record.spec.seed): record for record in archive.records}


def test_runs_of_two_machines_make_one_archive_in_the_order_of_the_suite(suite):
    ours = Machine(suite, "a1").archive([("nade", 1), ("made", 0)])
    merged = merge(suite, ours, [Machine(suite, "a1").foreign([("nade", 0), ("made", 1)])])
    assert list(by_run(merged.archive)) == [("made", 0), ("made", 1), ("nade", 0), ("nade", 1)]
    assert (len(merged.added), merged.joined, merged.identical) == (2, (), 0)
    for record in merged.archive.records:
        scores, images = merged.archive.per_image[record.scores["nll"].per_image]
        assert np.array_equal(scores, values_of(record.spec.model, record.spec.seed))
        assert np.array_equal(images, IMAGES)


def test_each_record_says_which_archive_it_came_from_and_keeps_its_machine(suite):
    other = Machine(suite, "b2").foreign([("made", 1)])
    merged = by_run(merge(suite, Machine(suite, "a1").archive([("made", 0)]), [other]).archive)
    assert "merged_from" not in merged["made", 0].environment
    environment = merged["made", 1].environment
    assert environment["cpu"] == "CPU b2"
    what = ["fit-seconds", "nll", "parameters-training", "training"]
    assert environment["merged_from"] == {other.digest: {"name": "lab-b2", "what": what}}


def test_speeds_of_one_run_on_two_machines_are_joined_and_all_else_stays(suite):
    ours, other = Machine(suite, "a1").archive(), Machine(suite, "b2", speed=9.0, weights="w").foreign()
    merged = merge(suite, ours, [other])
    before, after = by_run(ours)["made", 0], by_run(merged.archive)["made", 0]
    theirs = by_run(other)["made", 0].scores["sampling-latency@b2"]
    assert after.scores == {**before.scores, "sampling-latency@b2": theirs}
    assert after.fit == before.fit
    assert after.environment["merged_from"][other.digest]["what"] == ["sampling-latency@b2"]
    assert (len(merged.joined), merged.identical) == (2, 2)


def test_of_two_equal_trainings_the_one_with_a_curve_is_kept(suite):
    ours, other = Machine(suite, "a1").archive(), Machine(suite, "b2", speed=9.0).foreign()
    curve = Curve(step=(1,), epoch=(1,), seconds=(9,), loss=(2,), valid=(None,))
    records = [it.model_copy(update={"fit": it.fit.model_copy(update={"curve": curve})}) for it in other.records]
    after = by_run(merge(suite, ours, [replace(other, records=tuple(records))]).archive)["made", 0]
    assert (after.fit.curve, after.fit.seconds, after.scores["fit-seconds"].value) == (curve, 9.0, 9.0)


def test_both_machines_stand_on_the_throughput_board(suite):
    merged = merge(suite, Machine(suite, "a1").archive(), [Machine(suite, "b2").foreign()]).archive
    table = Leaderboard(merged.records, suite, per_image=merged.per_image).table("throughput", "digits")
    assert sorted(table["fingerprint"]) == ["a1", "a1", "b2", "b2"]


def test_identical_records_are_skipped_and_nothing_is_to_be_written(suite):
    ours = Machine(suite, "a1").archive()
    merged = merge(suite, ours, [Machine(suite, "a1", hour=12).foreign()])
    assert (merged.identical, merged.added, merged.joined, merged.changed) == (4, (), (), False)
    assert merged.archive.records == ours.records


def test_figures_that_agree_within_rounding_stay_as_they_are(suite):
    ours = Machine(suite, "a1").archive()
    merged = merge(suite, ours, [Machine(suite, "b2", noise=1e-8, weights="other").foreign()])
    for run, record in by_run(ours).items():
        assert by_run(merged.archive)[run].scores["nll"] == record.scores["nll"]


def conflicts_of(suite, ours, *others):
    with pytest.raises(MergeConflicts) as refused:
        merge(suite, ours, others)
    return refused.value.conflicts


def test_figures_that_differ_are_named_with_both_values_and_machines(suite):
    ours, other = Machine(suite, "a1").archive(), Machine(suite, "b2", noise=1e-4).foreign()
    conflicts = conflicts_of(suite, ours, other)
    assert len(conflicts) == 4
    values = [by_run(archive)["made", 0].scores["nll"].value for archive in (ours, other)]
    assert f"ours is {values[0]!r} nats on CPU a1, theirs {values[1]!r} nats on CPU b2" in conflicts[0]


def test_other_code_is_a_conflict_that_names_what_differs(suite):
    [conflict] = conflicts_of(
        suite, Machine(suite, "a1").archive([("made", 0)]), Machine(suite, "a1", code="new").foreign([("made", 0)])
    )
    assert "the same run of other code or data (different: code)" in conflict


def test_all_conflicts_are_listed_not_the_first_alone(suite):
    others = [Machine(suite, "b2", code="new").foreign(), Machine(suite, "c3", noise=1e-3).foreign()]
    assert len(conflicts_of(suite, Machine(suite, "a1").archive(), *others)) == 8


def test_scores_per_image_that_differ_under_one_mean_are_a_conflict(suite):
    ours, other = Machine(suite, "a1").archive([("made", 0)]), Machine(suite, "b2").foreign([("made", 0)])
    [reference] = other.per_image
    scores, images = other.per_image[reference]
    swapped = replace(other, per_image={reference: (scores[::-1], images)})
    [conflict] = conflicts_of(suite, ours, swapped)
    assert "nll differs for 4 of 4 images" in conflict


def test_other_test_images_are_a_conflict(suite):
    ours, other = Machine(suite, "a1").archive([("made", 0)]), Machine(suite, "b2").foreign([("made", 0)])
    [reference] = other.per_image
    moved = {reference: (other.per_image[reference][0], IMAGES[::-1].copy())}
    [conflict] = conflicts_of(suite, ours, replace(other, per_image=moved))
    assert "of different test images, or of another order" in conflict


def test_figures_of_different_weights_are_not_put_into_one_record(suite):
    bare = Machine(suite, "a1").record("made", 0)
    ours = Archive((bare.model_copy(update={"scores": {}}),), {})
    [conflict] = conflicts_of(suite, ours, Machine(suite, "b2", weights="other").foreign([("made", 0)]))
    assert "nll is known of theirs alone, and the two trainings ended in different weights" in conflict


def test_a_run_that_was_interrupted_here_and_is_done_there_is_done(suite):
    record = Machine(suite, "a1").record("made", 0)
    ours = Archive((record.model_copy(update={"scores": {}, "fit": None, "status": "interrupted"}),), {})
    other = Machine(suite, "b2").foreign([("made", 0)])
    [merged] = merge(suite, ours, [other]).archive.records
    assert merged.status == "done"
    assert merged.scores == other.records[0].scores


def test_a_training_that_fails_here_and_ends_there_is_a_conflict(suite):
    failure = Failure(stage="fit", type="Diverged", message="loss is nan", status="diverged")
    record = Machine(suite, "a1").record("made", 0)
    failed = record.model_copy(update={"scores": {}, "fit": None, "status": "diverged", "failure": failure})
    [conflict] = conflicts_of(suite, Archive((failed,), {}), Machine(suite, "b2").foreign([("made", 0)]))
    assert "ours is diverged (loss is nan), theirs trained" in conflict


@pytest.mark.parametrize(("prefer", "code"), [("ours", "c"), ("theirs", "new"), ("newest", "new")])
def test_a_preference_decides_conflicts_and_says_which(suite, prefer, code):
    ours, other = Machine(suite, "a1").archive(), Machine(suite, "b2", code="new", hour=11).foreign()
    merged = merge(suite, ours, [other], prefer=prefer)
    assert {record.code for record in merged.archive.records} == {digest_of(code)}
    assert len(merged.resolved) == 4


def test_runs_that_the_suite_does_not_list_are_left_out_by_name(suite, tmp_path):
    wider = tmp_path / "wider.toml"
    wider.write_text(SUITE_TEXT.replace("[0, 1]", "[0, 1, 2]"))
    other = Machine(Suite.read(wider), "b2").foreign([("made", 0), ("made", 2)])
    merged = merge(suite, EMPTY, [other])
    assert [record.spec.seed for record in merged.archive.records] == [0]
    assert merged.left_out == (other.records[1].run,)


def random_machines(suite, seed):
    """Some machines with random parts of the suite, which agree within rounding where they meet."""
    generator = np.random.default_rng(seed)
    machines = []
    for number in range(3):
        chosen = [run for run in itertools.product(MODELS, (0, 1)) if generator.random() < 0.7] or [("made", 0)]
        machine = Machine(
            suite, f"f{generator.integers(2)}", hour=int(generator.integers(3)), speed=float(generator.integers(1, 4)),
            noise=float(generator.choice([0, 1e-8])), latency_of=[name for name in MODELS if generator.random() < 0.6],
        )  # fmt: skip
        machines.append(machine.foreign(chosen, name=f"lab{number}"))
    return machines


@pytest.mark.parametrize("seed", range(12))
def test_merging_is_idempotent_and_does_not_depend_on_the_order(suite, tmp_path, seed):
    own, *others = random_machines(suite, seed)
    ours = own if seed % 3 else EMPTY
    expected = contents(merge(suite, ours, others).archive, tmp_path / "expected")
    for number, order in enumerate(itertools.permutations(others)):
        together = merge(suite, ours, order).archive
        one_by_one = ours
        for other in order:
            one_by_one = merge(suite, one_by_one, [other]).archive
        again = merge(suite, together, [*order, *order])
        assert not again.changed
        for archive in (together, one_by_one, again.archive):
            assert contents(archive, tmp_path / f"{number}") == expected


def test_three_archives_in_any_order_give_the_same_board(suite, tmp_path):
    others = random_machines(suite, 99)
    boards = []
    for order in itertools.permutations(others):
        archive = merge(suite, EMPTY, order).archive
        boards.append(render_boards(Leaderboard(archive.records, suite, per_image=archive.per_image)))
    assert all(board == boards[0] for board in boards)


def exported(archive, folder):
    write_archive(archive, folder)
    return folder


def test_an_honest_archive_is_read_with_its_name_and_digest(suite, tmp_path):
    import hashlib

    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    for path in (folder, folder / RECORDS_FILE):
        found = read_untrusted(path)
        assert found.name == "lab"
        assert found.digest == hashlib.sha256((folder / RECORDS_FILE).read_bytes()).hexdigest()
        assert found.records == read_archive(folder).records


def test_committed_archives_pass_the_checks():
    for name in ("digits", "mnist-static"):
        folder = Path(__file__).parents[2] / "leaderboards" / name
        assert len(read_untrusted(folder).records) > 0


def change(folder, edit):
    """Edits the first record of an archive as JSON."""
    first, *rest = (folder / RECORDS_FILE).read_text().splitlines()
    content = json.loads(first)
    edit(content)
    (folder / RECORDS_FILE).write_text("\n".join([json.dumps(content), *rest]) + "\n")


def set_path(*path, value):
    def edit(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return edit


def rename_score(content):
    content["scores"]["../../nll"] = content["scores"].pop("nll")


HOSTILE_RUNS = [
    "../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "x" * 300,
    "é",
    "CON",
    "nul.txt",
    ".hidden",
    "-rf",
    "",
    "a\n",
]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        *[(set_path("run", value=run), "a run's name has at most") for run in HOSTILE_RUNS],
        (set_path("extra", value=1), "Extra inputs are not permitted"),
        (set_path("identity", value="0" * 64), "its identity is not that of its spec"),
        (set_path("spec", "seed", value=1), "its identity is not that of its spec"),
        (set_path("key", value="../x"), "is no SHA-256"),
        (set_path("version", value=99), "a record of version 99"),
        (set_path("scores", "nll", "per_image", value="../../etc/passwd"), "lacks '../../etc/passwd'"),
        (set_path("scores", "nll", "per_image", value="other/nll"), "lacks 'other/nll'"),
        (set_path("scores", "nll", "metric", value="../nll"), "is no metric's name"),
        (set_path("scores", "nll", "metric", value="fid"), "belongs under the name 'fid'"),
        (set_path("scores", "nll", "value", value=float("nan")), "has to be finite"),
        (set_path("scores", "nll", "value", value=None), "done, and without a value"),
        (set_path("scores", "nll", "num_images", value=10**6), "the record says"),
        (set_path("fit", "seconds", value=float("inf")), "has to be finite"),
        (set_path("environment", "x", value=float("nan")), "not finite"),
        (set_path("environment", "merged_from", value={"../x": {}}), "merged_from is not what a merge writes"),
        (set_path("environment", "merged_from", value=["x"]), "merged_from is not what a merge writes"),
        (set_path("spec", "seed", value=10**400), "spec.seed has to be"),
        (rename_score, "belongs under the name 'nll'"),
        (set_path("image_shape", value=[0, 0, 0, 0]), "image_shape.0 has to be at least 1, not 0"),
        (set_path("image_shape", value=[1, 8, 8, 1]), "image_shape.3 has to be at least 2, not 1"),
        (set_path("image_shape", value=[10**400, 8, 8, 2]), "image_shape.0"),
        (set_path("fit", "steps", value=10**400), "fit.steps"),
        (set_path("fit", "steps", value=-1), "fit.steps"),
        (set_path("configurations_tried", value=2**63), "configurations_tried"),
        (set_path("scores", "nll", "value", value=1e308), "scores.nll.value has to be at most 1e+100"),
    ],
)
def test_a_hostile_record_is_an_archive_error(suite, tmp_path, edit, says):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    change(folder, edit)
    with pytest.raises(ArchiveError) as refused:
        read_untrusted(folder)
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("value", [0.5, -1.0, 1e99, 5e-324])
@pytest.mark.parametrize("name", ["nll", "parameters-training", "fit-seconds"])
def test_a_figure_that_is_no_plausible_one_still_gives_boards(suite, tmp_path, name, value):
    records = Machine(suite, "a1").archive().records  # scores per image would give the lie to the figure
    for record in records:
        record.scores["nll"] = record.scores["nll"].model_copy(update={"per_image": None})
    folder = exported(Archive(records, {}), tmp_path / "lab")
    change(folder, set_path("scores", name, "value", value=value))
    archive = read_untrusted(folder)
    assert render_boards(Leaderboard(archive.records, suite, per_image=archive.per_image))


STEERING = "\x1bc\x9b31m \x00 \u202egnp.exe \x07 \udcff"


@pytest.mark.parametrize(
    "path",
    [
        ("split_protocol",),
        ("fit", "checkpoint"),
        ("scores", "nll", "protocol"),
        ("scores", "fit-seconds", "unit"),
        ("scores", "fit-seconds", "header"),
        ("scores", "sampling-latency@a1", "hardware"),
        ("failure",),
    ],
)
def test_nothing_in_a_foreign_record_steers_a_terminal_from_a_board(suite, tmp_path, path):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    value = {"p": STEERING} if path[-1] == "protocol" else STEERING
    if path == ("failure",):
        change(folder, set_path("status", value="failed"))
        value = {"stage": "fit", "type": "E", "message": STEERING}
    change(folder, set_path(*path, value=value))
    archive = read_untrusted(folder)
    boards = Leaderboard(archive.records, suite, per_image=archive.per_image)
    latex = [render_board(boards, name, "latex") for name in boards.boards]
    text = "".join([file.decode() for file in render_boards(boards).values()] + latex)
    assert not [character for character in text if not (character.isprintable() or character == "\n")]
    exported(archive, tmp_path / "again")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (b'{"version": ' + b"9" * 10_000 + b"}\n", "not JSON"),
        (b"\xff\xfe\n", "cannot be read"),
        (b"x" * (2**24 + 1), "a line has 16,777,217 bytes"),
        (b"cos\nsystem\n(S'true'\ntR.", "not JSON"),
    ],
    ids=["nested", "huge number", "no text", "huge line", "a pickle"],
)
def test_lines_that_are_no_records_are_an_archive_error(suite, tmp_path, content, says):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    (folder / RECORDS_FILE).write_bytes(content)
    with pytest.raises(ArchiveError, match=says):
        read_untrusted(folder)


def rewrite(folder, edit, metadata=None):
    """Edits the arrays of an archive."""
    from safetensors import safe_open

    file = folder / PER_IMAGE_FILE
    with safe_open(file, framework="numpy") as opened:
        kept = dict(opened.metadata())
    arrays = load_file(file)
    edit(arrays)
    save_file(arrays, file, metadata={**kept, **(metadata or {})})


def first_scores(arrays):
    return next(name for name in sorted(arrays) if not name.startswith("images/"))


def put(value):
    def edit(arrays):
        arrays[first_scores(arrays)] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "metadata", "says"),
    [
        (put(np.zeros(4, np.float64)), None, "is F64 of shape"),
        (put(np.zeros(4, np.int8)), None, "is I8 of shape"),
        (put(np.zeros((2, 2), np.float32)), None, "not F32 of one dimension"),
        (put(np.zeros(0, np.float32)), None, "not F32 of one dimension"),
        (put(np.zeros(3, np.float32)), None, r"\(3,\) scores for \(4,\) images"),
        (put(np.array([1, np.nan, 1, 1], np.float32)), None, "is not finite"),
        (put(np.array([1, np.inf, 1, 1], np.float32)), None, "is not finite"),
        (
            lambda arrays: arrays.update({"extra": np.zeros(4, np.float32)}),
            None,
            "the array 'extra' belongs to nothing",
        ),
        (lambda arrays: arrays.pop(first_scores(arrays)), None, "is missing"),
        (lambda arrays: arrays.update({n: IMAGES + 1 for n in arrays if n[:7] == "images/"}), None, "another digest"),
        (lambda arrays: None, {"genharness": "[]"}, "cannot be read as scores per image"),
        (lambda arrays: None, {"genharness": '{"images": ["x"]}'}, "does not say which images"),
        (lambda arrays: None, {"genharness": '{"images": {"x": 3}}'}, "does not say which images"),
        (lambda arrays: None, {"other": "x"}, "entries that no export writes"),
    ],
)
def test_hostile_arrays_are_an_archive_error(suite, tmp_path, edit, metadata, says):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    rewrite(folder, edit, metadata)
    with pytest.raises(ArchiveError, match=says):
        read_untrusted(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x80\x04K\x01.", (2**60).to_bytes(8, "little") + b"{}"])
def test_a_file_that_holds_no_arrays_is_an_archive_error(suite, tmp_path, content):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    (folder / PER_IMAGE_FILE).write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot be read as scores per image"):
        read_untrusted(folder)


def test_what_is_too_large_is_not_read(suite, tmp_path):
    folder = exported(Machine(suite, "a1").archive(), tmp_path / "lab")
    with (folder / RECORDS_FILE).open("r+b") as file:
        file.truncate(2**30 + 1)  # sparse: it takes no disk
    with pytest.raises(ArchiveError, match="1,073,741,825 bytes; no more than"):
        read_untrusted(folder)


def test_what_is_no_archive_is_an_archive_error(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(ArchiveError, match="no such file"):
            read_untrusted(path)


@pytest.fixture
def lab(suite, tmp_path, monkeypatch):
    """The suite with an archive of its own, and another's beside it."""
    exported(Machine(suite, "a1").archive([("made", 0)]), tmp_path / "tiny")
    exported(Machine(suite, "b2").archive(), tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def snapshot(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def harness(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_merges_and_says_what_it_did(lab):
    answer = harness("merge", "tiny.toml", "other")
    assert answer.exit_code == 0, answer
    assert "3 added, 1 joined, 0 identical; 'harness leaderboard tiny.toml' makes the boards" in answer.output
    assert len(read_archive(lab / "tiny").records) == 4
    before = snapshot(lab)
    assert "0 added, 0 joined, 4 identical: nothing to write" in harness("merge", "tiny.toml", "other").output
    assert snapshot(lab) == before


def test_a_suite_without_an_archive_takes_the_others(lab):
    shutil.rmtree(lab / "tiny")
    assert harness("merge", "tiny.toml", "other").exit_code == 0
    assert len(read_archive(lab / "tiny").records) == 4


def test_a_dry_run_and_a_conflict_write_nothing(lab, suite):
    exported(Machine(suite, "b2", noise=1e-3).archive(), lab / "wrong")
    before = snapshot(lab)
    assert "a dry run writes nothing" in harness("merge", "tiny.toml", "other", "--dry-run").output
    answer = harness("merge", "tiny.toml", "other", "wrong")
    assert answer.exit_code == 1
    assert answer.output.count("conflict: ") == 4
    assert snapshot(lab) == before


def test_a_write_that_fails_leaves_the_old_archive(lab, suite, monkeypatch):
    merged = merge(suite, read_archive(lab / "tiny"), [read_untrusted(lab / "other")])

    def fail(path, content):
        if path.name == PER_IMAGE_FILE:
            raise OSError("disk full")
        path.write_bytes(content)

    before = snapshot(lab)
    monkeypatch.setattr("harness.records.archive.write_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        write_archive(merged.archive, lab / "tiny")
    assert snapshot(lab) == before
