"""The store: what goes in comes out, whoever else reads or writes; the same of SQLite and of a PostgreSQL server."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import sqlalchemy as sa
from pydantic import ValidationError
from safetensors.numpy import save

from harness.interface.spec import RunSpec
from harness.records.archive import ArchiveError, collect
from harness.records.database import SCHEMA_VERSION
from harness.records.record import Failure, FitRecord, RunRecord, identity_of, read_record
from harness.records.store import Artifacts, Store, StoreError, is_store_of
from harness.suites.suite import Suite


@pytest.fixture
def store(store_url):
    opened = Store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def full_record(make_record):
    """A record in which every field is filled, and no text is plain."""
    return make_record(
        scores={"nll": 1.5, "sampling-throughput@abc": 1e99, "tiny": 5e-324},
        split_protocol="sérialisé \N{SNOWMAN}\n\x00",
        num_images={"train": 5, "valid": 1, "test": 2},
        image_shape=(1, 8, 8, 17),
        fit=FitRecord(
            steps=3, epochs=0.1, seconds=1 / 3, checkpoint="best-on-valid", valid_score=-0.1, weights_sha256="w"
        ),
        failure=Failure(stage="fit", type="OSError", message="\N{GREEK SMALL LETTER ALPHA} failed", traceback="…"),
        reason="\N{GRINNING FACE}",
        configurations_tried=4,
        environment={"cores": 1, "cuda": None, "git_dirty": True, "list": [1, {"a": 0.1}]},
        created="2020-01-01T00:00:00+00:00",
    )


def test_a_record_comes_back_as_it_was(store, full_record):
    store.put(full_record)
    assert store.get(full_record.run) == full_record


def test_a_record_goes_through_json_and_back(full_record):
    assert RunRecord.model_validate_json(full_record.model_dump_json()) == full_record
    assert RunRecord.model_validate(full_record.model_dump(mode="json")) == full_record


def test_a_record_with_a_field_that_this_version_does_not_know_is_refused_by_the_field(full_record):
    content = {**full_record.model_dump(mode="json"), "mood": "good"}
    with pytest.raises(ValidationError, match="mood"):
        RunRecord.model_validate(content)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["value", "standard_error", "details"])
def test_a_figure_that_json_cannot_hold_is_refused_when_it_is_made(make_score, field, value):
    with pytest.raises(ValidationError, match="finite number"):
        make_score(**{field: {"x": value} if field == "details" else value})


def test_a_message_with_undecodable_bytes_is_stored_readably(store, make_record):
    store.put(make_record("a", failure=Failure(stage="fit", type="OSError", message="no file b\udcff")))
    assert store.get("a").failure.message == "no file b\\udcff"


def test_a_lone_surrogate_anywhere_in_a_record_is_stored_readably(store, make_record, make_score):
    odd = make_score(protocol={"file": "a\udcff"}, unit="\udc80", details={"b\udcff": 1.0})
    store.put(make_record("a", scores={}, split_protocol="\udcff", environment={"command": ["run", "\udcff.toml"]}))
    store.put(make_record("b").model_copy(update={"scores": {"nll": odd}}))
    assert (store.get("a").split_protocol, store.get("a").environment["command"][1]) == ("\\udcff", "\\udcff.toml")
    assert store.get("b").scores["nll"] == odd
    assert (odd.protocol, odd.unit, list(odd.details)) == ({"file": "a\\udcff"}, "\\udc80", ["b\\udcff"])


def test_what_is_too_long_for_a_record_keeps_its_beginning_and_its_end():
    failure = Failure(stage="fit", type="E", message="a" * 10**7 + "z", traceback="b" * 10**7 + "y", log="c" * 10**7)
    assert len(failure.model_dump_json()) < 50_000
    assert failure.message.startswith("aaa")
    assert failure.message.endswith("z")
    assert "9,998,001 characters left out" in failure.message
    assert failure.traceback.endswith("y")


def test_a_text_of_a_figure_is_cut_as_well(make_score):
    score = make_score(unit="u" * 10**7, protocol={"p": "q" * 10**7})
    assert len(score.model_dump_json()) < 100_000


def test_a_run_that_is_not_there_is_none(store):
    assert store.get("nothing") is None


def test_a_record_is_replaced_by_the_next_one_of_its_run(store, make_record):
    store.put(make_record("a", status="running", identity="old"))
    store.put(make_record("a", status="done", identity="new"))
    assert [item.status for item in store.records()] == ["done"]
    assert store.records(identities=["old"]) == []
    assert len(store.records(identities=["new"])) == 1


def test_records_come_by_run(store, make_record):
    for run in ("b", "a", "c"):
        store.put(make_record(run))
    assert [item.run for item in store.records()] == ["a", "b", "c"]


def test_deleting_removes_records_and_what_refers_to_them(store, make_record):
    for run in ("a", "b", "c"):
        store.put(make_record(run))
    store.refer("suite", ["a", "b"])
    store.delete(["a", "nothing"])
    assert [item.run for item in store.records()] == ["b", "c"]
    assert store.references() == {"suite": {"b"}}


def test_records_are_found_by_more_identities_than_one_query_takes(store, make_record):
    for index in (0, 499, 500, 501, 1200):
        store.put(make_record(f"run-{index:04d}", identity=f"identity-{index}"))
    store.put(make_record("other", identity="other"))
    wanted = [f"identity-{index}" for index in range(1201)]
    found = [item.run for item in store.records(identities=iter(wanted))]
    assert found == ["run-0000", "run-0499", "run-0500", "run-0501", "run-1200"]


def test_no_identities_find_nothing(store, make_record):
    store.put(make_record("a"))
    assert store.records(identities=[]) == []


def test_a_suite_refers_to_what_it_referred_to_before_as_well_unless_it_does_so_anew(store):
    store.refer("one", ["a", "b", "a"])
    store.refer("one", ["b", "c"])
    store.refer("two", ["a"])
    assert store.references() == {"one": {"a", "b", "c"}, "two": {"a"}}
    store.refer("one", ["d"], anew=True)
    assert store.references() == {"one": {"d"}, "two": {"a"}}


def test_two_specs_have_one_identity_unless_their_trainings_differ():
    spec = RunSpec(model="made", dataset="digits")
    same = spec.model_copy(update={"metrics": ("nll",), "device": "cuda"})
    assert identity_of(same) == identity_of(spec)
    for change in ({"seed": 1}, {"hyperparameters": {"a": 1}}, {"budget": "1 epochs"}, {"threads": 2}):
        assert identity_of(spec.model_copy(update=change)) != identity_of(spec)


def test_what_is_stored_is_there_after_the_store_is_opened_again(store, store_url, make_record):
    store.put(make_record("a"))
    store.close()
    again = Store(store_url)
    assert again.get("a") == make_record("a")
    again.close()


def test_scores_per_image_come_back_byte_by_byte_and_go_with_their_run(store, make_record):
    data = bytes(range(256)) * 500
    store.put(make_record("a"), {"a/nll": b"old"})
    store.put(make_record("a"), {"a/nll": data, "a/elbo": b""})
    store.put(make_record("b"), {"b/nll": b"b"})
    store.put(make_record("a"))  # a record alone leaves them
    assert (store.array("a/nll"), store.array("a/elbo"), store.array("c/nll")) == (data, b"", None)
    store.delete(["a"])
    assert (store.array("a/nll"), store.array("a/elbo"), store.array("b/nll")) == (None, None, b"b")


def test_the_store_of_a_folder_keeps_no_scores_per_image(tmp_path, make_record):
    store = Store.in_folder(tmp_path)
    store.put(make_record("a"), {"a/nll": b"data"})
    assert not store.keeps_arrays
    assert store.array("a/nll") is None
    store.close()


def test_the_scores_per_image_of_a_run_that_another_folder_did_come_from_the_store(tmp_path, make_record, make_score):
    digits = Suite.parse({"title": "T", "datasets": ["digits"], "models": [{"name": "made"}]}, name="digits", source="")
    record = make_record(
        "a",
        identity=identity_of(digits.rows()[0].configurations[0][0]),
        spec=digits.rows()[0].configurations[0][0],
    ).model_copy(update={"scores": {"nll": make_score(per_image="a/nll", num_images=2)}})
    here, there = (Artifacts(tmp_path / name, f"sqlite:///{tmp_path}/lab.sqlite") for name in ("here", "there"))
    scores, images = np.array([1.5, -2.0], np.float32), np.array([7, 5], np.int64)
    there.store.put(record, {"a/nll": save({"per_image": scores, "images": images})})
    archive = collect(digits, here, [record])
    assert [item.run for item in archive.records] == ["a"]
    assert [part.tolist() for part in archive.per_image["a/nll"]] == [[1.5, -2.0], [7, 5]]
    there.store.delete(["a"])
    with pytest.raises(ArchiveError, match="no scores of 'a/nll'"):
        archive.per_image["a/nll"]
    for folder in (here, there):
        folder.store.close()


def test_a_url_that_names_the_folders_own_file_is_the_folders_store(tmp_path):
    assert is_store_of(f"sqlite:///{tmp_path}/x/../store.sqlite", tmp_path)
    assert not is_store_of(f"sqlite:///{tmp_path}/lab.sqlite", tmp_path)
    assert not is_store_of("postgresql://host/store.sqlite", tmp_path)
    assert not is_store_of("nonsense", tmp_path)


def test_a_store_of_a_newer_schema_is_refused_with_what_to_do(store, store_url):
    _execute(store, f"UPDATE meta SET value = '{SCHEMA_VERSION + 1}' WHERE name = 'schema'")
    message = f"schema {SCHEMA_VERSION + 1}, this version knows {SCHEMA_VERSION}: update genharness$"
    with pytest.raises(StoreError, match=message) as caught:
        Store(store_url)
    assert not caught.value.transient


def test_a_database_of_another_program_is_refused(store, store_url):
    _execute(store, "UPDATE meta SET value = 'blue' WHERE name = 'schema'")
    with pytest.raises(StoreError, match="its schema is 'blue', which is no version"):
        Store(store_url)


def test_a_record_that_cannot_be_read_is_left_out_and_named_in_one_line(store, make_record):
    store.put(make_record("a"))
    store.put(make_record("b"))
    _execute(store, """UPDATE runs SET record = '{"run": 5}' WHERE run = 'a'""")
    assert [record.run for record in store.records()] == ["b"]
    assert store.get("a") is None
    assert "the record of a cannot be read: run has to be text" in store.unreadable["a"]
    with pytest.raises(StoreError, match=r"the record of a cannot be read: run has to be text") as caught:
        store.records(strict=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["artifacts", "a b%20?#"])
def test_a_store_that_may_not_be_written_is_read(tmp_path, make_record, monkeypatch, name):
    written = Store.in_folder(tmp_path / name)
    written.put(make_record("a"))
    written.close()
    before = sorted((tmp_path / name).iterdir())
    monkeypatch.setattr("os.access", lambda path, mode: False)
    store = Store.in_folder(tmp_path / name)
    assert [record.run for record in store.records()] == ["a"]
    assert sorted((tmp_path / name).iterdir()) == before
    with pytest.raises(StoreError, match="this user may not write to the file"):
        store.put(make_record("b"))
    store.close()


def test_a_method_that_fails_has_changed_nothing(store, make_record):
    store.put(make_record("a"))
    with pytest.raises(StoreError):
        store.put(make_record("a", status="failed"), {"a/nll": b"data", "b/nll": None})
    assert (store.get("a").status, store.array("a/nll")) == ("done", None)


def test_a_reader_sees_the_last_committed_state_while_another_writes(store, store_url, make_record):
    store.put(make_record("a"))
    other = Store(store_url)

    def write(connection):
        connection.execute(sa.text("DELETE FROM runs"))
        assert [item.run for item in store.records()] == ["a"]

    other.transact(write)
    assert store.records() == []
    other.close()


def test_threads_that_put_refer_and_read_at_once_lose_nothing(store, make_record):
    errors = []

    def work(number):
        try:
            for turn in range(5):
                store.put(make_record("shared", identity=f"{number}-{turn}"), {"shared/nll": bytes([number])})
                store.put(make_record(f"own-{number}"))
                store.refer("suite", ["shared", f"own-{number}"])
                assert store.get("shared") is not None
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    names = {"shared", *(f"own-{number}" for number in range(4))}
    assert {item.run for item in store.records()} == names
    assert store.references() == {"suite": names}


def test_processes_that_open_a_new_store_at_once_all_succeed(store_url):
    assert _in_two_processes("Store(sys.argv[1]).close()", store_url) == ["", ""]


def _in_two_processes(code, *arguments):
    """Runs code in two processes at once, and returns what each wrote on standard error."""
    script = (
        f"import sys\nfrom harness.records.store import Store\nprint('ready', flush=True)\nsys.stdin.readline()\n{code}"
    )
    command = [sys.executable, "-c", script, *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    return [child.communicate()[1] for child in children]


def _execute(store, statement):
    store.transact(lambda connection: connection.execute(sa.text(statement)))


def test_records_that_are_read_few_at_a_time_are_those_of_all_at_once_and_as_they_were_made(store, make_record):
    made = [make_record(f"run-{number:04}", scores={"nll": 1.0}) for number in range(600)]
    for record in made:
        store.put(record)
    assert list(store.each()) == store.records() == made
    assert store.run_names() == [record.run for record in made]
    assert store.get("run-0007").model_dump_json() == made[7].model_dump_json()


def test_a_run_is_found_by_its_name_without_reading_the_others(
    store, store_url, make_record, command_line, monkeypatch
):
    for name in ("a-1", "b-1", "b-2"):
        store.put(make_record(name))
    read = []
    monkeypatch.setattr("harness.records.store.read_record", lambda text: read.append(text) or read_record(text))
    arguments = ("--store", store_url, "show")
    assert command_line(*arguments, "a", "--json").json["run"] == "a-1"
    assert len(read) == 1
    assert "'b' is the beginning of 2 runs: b-1, b-2" in command_line(*arguments, "b").complaint
