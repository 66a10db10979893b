"""The store: what goes in comes out, for this version and no newer one, whoever else reads or writes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from harness.record import Failure, FitRecord, RunRecord, identity_of
from harness.spec import RunSpec
from harness.store import SCHEMA_VERSION, Store, StoreError


@pytest.fixture
def store(tmp_path):
    opened = Store.in_folder(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def full_record(make_record):
    """A record in which every field is filled, and no text is plain."""
    return make_record(
        scores={"nll": 1.5, "sampling-throughput@abc": 1e300, "tiny": 5e-324},
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


def test_a_suite_refers_to_what_it_referred_to_before_as_well_until_it_is_forgotten(store):
    store.refer("one", ["a", "b", "a"])
    store.refer("one", ["b", "c"])
    store.refer("two", ["a"])
    assert store.references() == {"one": {"a", "b", "c"}, "two": {"a"}}
    store.forget_suite("one")
    assert store.references() == {"two": {"a"}}


def test_two_specs_have_one_identity_unless_their_trainings_differ():
    spec = RunSpec(model="made", dataset="digits")
    same = spec.model_copy(update={"metrics": ("nll",), "device": "cuda"})
    assert identity_of(same) == identity_of(spec)
    for change in ({"seed": 1}, {"hyperparameters": {"a": 1}}, {"budget": "1 epochs"}, {"threads": 2}):
        assert identity_of(spec.model_copy(update=change)) != identity_of(spec)


def test_what_is_stored_is_there_after_the_store_is_opened_again(tmp_path, store, make_record):
    store.put(make_record("a"))
    store.close()
    again = Store.in_folder(tmp_path)
    assert again.get("a") == make_record("a")
    again.close()


def test_a_store_of_a_newer_schema_is_refused_with_what_to_do(tmp_path, store):
    store.close()
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA_VERSION + 1),))
    connection.close()
    message = f"schema {SCHEMA_VERSION + 1}, this version knows {SCHEMA_VERSION}: update genharness"
    with pytest.raises(StoreError, match=message):
        Store.in_folder(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"^cannot open the store \(malformed URL\): "),
        ("nonsense://host/name", r"^cannot open the store nonsense://host/name: "),
        ("sqlite:////nowhere/at/all/store.sqlite", "unable to open database file"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(url, message):
    with pytest.raises(StoreError, match=message) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named_and_the_password_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(StoreError, match="psycopg2") as caught:
        Store("postgresql+psycopg2://me:secret@host/runs")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "store.sqlite").write_text("this is a text file, and long enough to hold a header of a database" * 20)
    with pytest.raises(StoreError, match=r"^cannot open the store sqlite:.*file is not a database$") as caught:
        Store.in_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_database_writes_ahead_of_its_readers(tmp_path, store):
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_reader_sees_the_last_committed_state_while_another_writes(tmp_path, store, make_record):
    store.put(make_record("a"))
    writer = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM runs")
    started = time.monotonic()
    assert [item.run for item in store.records()] == ["a"]
    assert time.monotonic() - started < 5
    writer.execute("COMMIT")
    writer.close()
    assert store.records() == []


def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path):
    code = """
import sys
from harness.store import Store
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    Store(f"{sys.argv[1]}/{number}.sqlite").close()
"""
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == ["", ""]
