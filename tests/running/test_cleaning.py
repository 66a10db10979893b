"""What ``harness clean`` may remove: what lies in this folder, what no suite refers to, and what nobody works on."""

from __future__ import annotations

import threading

import pytest
from safetensors.numpy import save_file

from harness.interface.spec import RunSpec
from harness.records.record import FitRecord, RunRecord, identity_of
from harness.records.run_folder import RunFolder
from harness.records.store import Artifacts
from harness.running.leases import Leases, remove_runs
from harness.support.names import digest_of

RUN = "made-digits-s0-0123456789"


def record(run=RUN, seconds=1.0):
    spec = RunSpec(model="made", dataset="digits")
    return RunRecord(
        run=run, key=digest_of(run), identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p", code="c",
        dataset_digest="d", status="done", environment={"seconds": seconds},
    )  # fmt: skip


def train(artifacts, run=RUN, seconds=1.0):
    """Puts a run into a folder and its store, as a worker and a coordinator do."""
    folder = artifacts.folder(run)
    folder.begin(record(run))
    save_file({}, folder.weights)
    fit = FitRecord(steps=1, epochs=1.0, seconds=seconds, checkpoint="last", weights_sha256="w")
    folder.write_fit(fit, {})
    artifacts.store.put(folder.collect())


@pytest.fixture
def folders(tmp_path, store_url):
    """Two users' folders that share a store."""
    both = [Artifacts(tmp_path / name, store_url) for name in ("A", "B")]
    yield both
    for artifacts in both:
        artifacts.store.close()


def clean(command_line, artifacts, *arguments):
    answer = command_line(
        "--artifacts", artifacts.root, "--store", artifacts.store_url, "clean", "--remove", *arguments
    )
    assert answer.code == 0, answer
    return answer


def test_what_lies_in_another_folder_of_a_shared_store_stays(folders, command_line):
    mine, theirs = folders
    train(theirs, "made-digits-s1-0123456789")
    theirs.store.refer(theirs.reference_of(theirs.root / "digits.toml"), ["made-digits-s2-0123456789"])
    theirs.store.put(record("made-digits-s2-0123456789"))
    train(mine)
    assert clean(command_line, mine, "--json").json["removed"] == [RUN]
    left = [found.run for found in mine.store.records()]
    assert left == ["made-digits-s1-0123456789", "made-digits-s2-0123456789"]


def test_what_a_suite_of_another_folder_refers_to_stays(folders, command_line):
    mine, theirs = folders
    train(mine)
    theirs.store.refer(theirs.reference_of(theirs.root / "digits.toml"), [RUN])
    assert clean(command_line, mine, "--json").json["unreferenced"] == []
    assert mine.folder(RUN).fit() is not None


def test_a_run_under_a_live_lease_stays(folders, command_line):
    mine, theirs = folders
    train(mine)
    leases = Leases(theirs.store)
    assert leases.try_acquire(RUN)
    # a holder of this process would be asked for by its process number, which lives
    answer = clean(command_line, mine)
    assert "1 are in use and stay" in answer.out
    assert mine.store.get(RUN) is not None
    assert mine.folder(RUN).fit() is not None
    leases.release_all()
    assert "removed 1 runs" in clean(command_line, mine).out


def test_the_record_of_another_folders_training_of_the_same_run_stays(folders, command_line):
    mine, theirs = folders
    train(mine, seconds=1.0)
    train(theirs, seconds=2.0)
    assert clean(command_line, mine, "--json").json["removed"] == [RUN]
    assert mine.store.get(RUN) == theirs.folder(RUN).collect().model_copy(
        update={"created": mine.store.get(RUN).created}
    )


def test_what_a_suite_came_to_refer_to_in_the_meantime_stays(folders):
    mine, theirs = folders
    train(mine)
    theirs.store.refer("suite", [RUN])
    assert remove_runs(mine, [RUN]) == []
    assert mine.folder(RUN).fit() is not None


def test_a_store_in_a_folder_that_others_name_by_url_keeps_their_records(tmp_path, command_line):
    mine = Artifacts(tmp_path / "A")
    theirs = Artifacts(tmp_path / "B", f"sqlite:///{tmp_path / 'A' / 'store.sqlite'}")
    train(mine)
    train(theirs, "made-digits-s1-0123456789")
    assert command_line("--artifacts", mine.root, "clean", "--remove", "--json").json["removed"] == [RUN]
    assert [found.run for found in theirs.store.records()] == ["made-digits-s1-0123456789"]


def test_clean_lists_every_run_before_it_removes(tmp_path, command_line):
    artifacts = Artifacts(tmp_path)
    train(artifacts)
    for arguments in ([], ["--remove"]):
        answer = command_line("--artifacts", tmp_path, "clean", *arguments)
        assert f"no suite refers to {RUN} (0.0 MB)" in answer.out
    assert not artifacts.folder(RUN).path.exists()


def test_suites_of_one_name_in_two_folders_are_two(tmp_path):
    artifacts = Artifacts(tmp_path / "artifacts")
    names = {artifacts.reference_of(tmp_path / folder / "digits.toml") for folder in ("a", "b")}
    assert len(names) == 2
    assert len({artifacts.reference_of(tmp_path / f"digits.{ending}") for ending in ("toml", "txt")}) == 2


def test_a_suite_is_one_however_its_path_is_written(tmp_path, monkeypatch):
    artifacts = Artifacts(tmp_path / "artifacts")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    ways = ["a/digits.toml", "a/../a/digits.toml", "link/digits.toml", tmp_path / "a" / "digits.toml"]
    assert len({artifacts.reference_of(type(tmp_path)(way)) for way in ways}) == 1


def test_a_suite_that_is_moved_together_with_its_folder_stays_the_same(tmp_path):
    names = {
        Artifacts(tmp_path / place / ".harness").reference_of(tmp_path / place / "a.toml") for place in ("x", "yy")
    }
    assert names == {"../a.toml"}


def test_a_shared_store_tells_the_machines_suites_apart(folders, monkeypatch):
    mine, _ = folders
    here = mine.reference_of(mine.root / "digits.toml")
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert mine.reference_of(mine.root / "digits.toml") != here


def test_a_suite_in_a_very_deep_folder_has_a_reference_that_every_database_takes(folders):
    mine, _ = folders
    deep = [mine.reference_of(mine.root / ("x" * 200) / ("y" * 200) / name) for name in ("a.toml", "b.toml")]
    assert len(set(deep)) == 2
    for reference in deep:
        mine.store.refer(reference, [RUN])
    assert set(mine.store.references()) == set(deep)


@pytest.mark.parametrize("name", ["a%20b", "a?b=c", "a#b", "feature%2Fx", "100%", "a b", "a:b@c", "file:x"])
def test_every_folder_has_a_store_of_its_own_whatever_its_name(name, tmp_path):
    for folder in ("a b", name):
        artifacts = Artifacts(tmp_path / folder)
        artifacts.store.put(record(f"made-digits-s{len(folder)}-0123456789"))
        artifacts.store.close()
    assert (tmp_path / name / "store.sqlite").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"a b", name})


def test_a_run_whose_lease_is_lost_while_others_are_removed_stays(folders, monkeypatch):
    mine, _ = folders
    other = "made-digits-s1-0123456789"
    for run in (RUN, other):
        train(mine, run)
    told = iter([{other}, set()])
    monkeypatch.setattr(Leases, "beat", lambda self: next(told))
    assert remove_runs(mine, [RUN, other]) == [RUN]
    assert mine.folder(other).fit() is not None


def test_a_run_that_a_suite_comes_to_refer_to_while_it_is_being_removed_stays(folders, monkeypatch):
    mine, theirs = folders
    train(mine)
    told = RunFolder.is_told_by

    def refer_then_tell(self, record):  # the last thing that is done before the removal
        theirs.store.refer("suite", [RUN])
        return told(self, record)

    monkeypatch.setattr(RunFolder, "is_told_by", refer_then_tell)
    assert remove_runs(mine, [RUN]) == []
    assert (mine.folder(RUN).fit(), mine.store.get(RUN)) != (None, None)


def test_nobody_refers_to_a_run_between_the_last_look_and_its_removal(folders, monkeypatch):
    mine, theirs = folders
    train(mine)
    order, remove = [], RunFolder.remove

    def refer():
        theirs.store.refer("suite", [RUN])
        order.append("referred")

    def remove_slowly(self):
        thread.start()
        thread.join(0.5)
        remove(self)
        order.append("removed")

    thread = threading.Thread(target=refer)
    monkeypatch.setattr(RunFolder, "remove", remove_slowly)
    assert remove_runs(mine, [RUN]) == [RUN]
    thread.join()
    assert order == ["removed", "referred"]


def test_a_suite_whose_file_is_gone_is_listed_and_forgotten_and_its_runs_go_only_with_the_next_clean(folders):
    mine, _ = folders
    suite = mine.root / "digits.toml"
    mine.root.mkdir(exist_ok=True)
    suite.touch()
    train(mine)
    mine.store.refer(reference := mine.reference_of(suite), [RUN])
    assert not mine.is_gone(reference)
    suite.unlink()
    elsewhere = f"another-host:{suite}", f"{mine.root}/not-mounted/digits.toml", "digits"
    assert [mine.is_gone(text) for text in (reference, *elsewhere)] == [True, False, False, False]


def test_clean_forgets_a_suite_whose_file_is_gone_and_removes_its_runs_the_next_time(folders, command_line):
    mine, _ = folders
    train(mine)
    mine.store.refer(reference := mine.reference_of(mine.root / "digits.toml"), [RUN])
    assert f"the file of {reference} is gone: --remove forgets the suite" in clean(command_line, mine).out
    assert (mine.store.references(), mine.folder(RUN).fit() is not None) == ({}, True)
    assert clean(command_line, mine, "--json").json["removed"] == [RUN]
