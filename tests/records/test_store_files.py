"""A store in an SQLite file: migrations that lose nothing, and each fault of a file as one line."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from harness.records.database import SCHEMA_VERSION
from harness.records.store import Store, StoreError
from harness.running.leases import Leases

# what version 1 wrote, to the letter
VERSION_1 = """
CREATE TABLE IF NOT EXISTS meta (
	name VARCHAR(64) NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (name)
);
CREATE TABLE IF NOT EXISTS runs (
	run VARCHAR(255) NOT NULL,
	"key" VARCHAR(64) NOT NULL,
	identity VARCHAR(64) NOT NULL,
	model VARCHAR(255) NOT NULL,
	dataset TEXT NOT NULL,
	seed BIGINT NOT NULL,
	status VARCHAR(16) NOT NULL,
	record TEXT NOT NULL,
	PRIMARY KEY (run)
);
CREATE INDEX IF NOT EXISTS ix_runs_identity ON runs (identity);
CREATE INDEX IF NOT EXISTS ix_runs_key ON runs ("key");
CREATE TABLE IF NOT EXISTS suite_runs (
	suite VARCHAR(255) NOT NULL,
	run VARCHAR(255) NOT NULL,
	PRIMARY KEY (suite, run)
);
INSERT INTO meta (name, value) VALUES ('schema', '1');
"""
OLD_STATUSES = ["pending", "running", "done", "interrupted", "failed", "skipped"]


def old_record(run, status):
    """A record as version 1 of the schema had it: failures had no status then."""
    failure = {"stage": "fit", "type": "RuntimeError", "message": "no", "traceback": "line"}
    return {
        "version": 1,
        "run": run,
        "key": f"key of {run}",
        "identity": "i",
        "spec": {"model": "made", "dataset": "digits", "hyperparameters": {"hidden": [5]}},
        "hyperparameters": {"hidden": [5]},
        "provider": "harness-made 0.1",
        "code": "c",
        "dataset_digest": "d",
        "status": status,
        "failure": failure if status == "failed" else None,
        "environment": {"cores": 2},
        "created": "2020-01-01T00:00:00+00:00",
    }


@pytest.fixture
def old_store(tmp_path):
    """A folder with a store that version 1 wrote: a record of each status, and what a suite refers to."""
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(VERSION_1)
    for status in OLD_STATUSES:
        record = json.dumps(old_record(f"run-{status}", status))
        row = (f"run-{status}", f"key of run-{status}", "i", "made", "digits", 0, status, record)
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("INSERT INTO suite_runs VALUES ('digits', ?)", (f"run-{status}",))
    connection.commit()
    connection.close()
    return tmp_path


def rows_of(file, table):
    connection = sqlite3.connect(file)
    found = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return sorted(found)


def test_a_store_of_version_1_is_migrated_and_loses_nothing(old_store):
    before = {table: rows_of(old_store / "store.sqlite", table) for table in ("runs", "suite_runs")}
    store = Store.in_folder(old_store)
    assert [record.status for record in store.records()] == sorted(OLD_STATUSES)
    failed = store.get("run-failed")
    assert (failed.failure.message, failed.failure.status, failed.environment) == ("no", "failed", {"cores": 2})
    assert store.references() == {"digits": {f"run-{status}" for status in OLD_STATUSES}}
    assert Leases(store).try_acquire("run-done")
    assert store.array("run-done/nll") is None
    store.close()
    assert {table: rows_of(old_store / "store.sqlite", table) for table in before} == before
    assert rows_of(old_store / "store.sqlite", "meta") == [("schema", str(SCHEMA_VERSION))]


def test_before_a_migration_the_file_is_copied_as_it_was(old_store):
    Store.in_folder(old_store).close()
    backup = old_store / "store.sqlite.v1-backup"
    assert rows_of(backup, "meta") == [("schema", "1")]
    assert rows_of(backup, "runs") == rows_of(old_store / "store.sqlite", "runs")
    assert "leases" not in [row[1] for row in rows_of(backup, "sqlite_master")]
    assert not list(old_store.glob("*.part*"))


def test_a_new_store_has_no_backup(tmp_path):
    Store.in_folder(tmp_path).close()
    assert list(tmp_path.glob("*backup*")) == []


def test_processes_that_migrate_one_store_at_once_all_succeed(old_store):
    script = """
import sys
from harness.records.store import Store
print("ready", flush=True)
sys.stdin.readline()
store = Store(sys.argv[1])
print(len(store.records()))
"""
    command = [sys.executable, "-c", script, f"sqlite:///{old_store / 'store.sqlite'}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate() for child in children] == [(f"{len(OLD_STATUSES)}\n", "")] * 3
    assert rows_of(old_store / "store.sqlite.v1-backup", "meta") == [("schema", "1")]


def test_a_migration_that_fails_leaves_version_1(old_store, monkeypatch):
    def fail(connection):
        connection.execute(sa.text("CREATE TABLE half (a TEXT)"))
        connection.execute(sa.text("nonsense"))

    monkeypatch.setattr("harness.records.database._STEPS", {1: fail})
    with pytest.raises(StoreError, match="syntax error"):
        Store.in_folder(old_store)
    assert rows_of(old_store / "store.sqlite", "meta") == [("schema", "1")]
    assert "half" not in [row[1] for row in rows_of(old_store / "store.sqlite", "sqlite_master")]


def test_a_store_that_cannot_be_backed_up_is_not_migrated(old_store):
    (old_store / "store.sqlite.v1-backup").mkdir()
    with pytest.raises(StoreError, match=r"no backup could be made before its migration: .*v1-backup"):
        Store.in_folder(old_store)
    assert rows_of(old_store / "store.sqlite", "meta") == [("schema", "1")]


def test_the_database_writes_ahead_of_its_readers(tmp_path):
    Store.in_folder(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "store.sqlite")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.3")
    opened = Store.in_folder(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def hold(tmp_path):
    """Locks the store for writing, as another process does."""
    connection = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


def assert_one_line(caught, *, transient):
    assert "\n" not in str(caught.value)
    assert caught.value.transient is transient


def test_a_store_that_another_process_keeps_locked_is_a_line_after_the_timeout_and_may_pass(store, hold, make_record):
    started = time.monotonic()
    message = r"database is locked by another process for more than 0.3 s \(HARNESS_STORE_TIMEOUT\)$"
    with pytest.raises(StoreError, match=message) as caught:
        store.put(make_record("a"))
    assert 0.2 < time.monotonic() - started < 10
    assert_one_line(caught, transient=True)
    hold.execute("ROLLBACK")
    store.put(make_record("a"))
    assert store.get("a") == make_record("a")


def test_a_store_that_is_locked_can_be_opened_and_read(store, hold, make_record):
    again = Store(store.name)
    assert again.records() == []
    again.close()


def test_a_writer_waits_for_a_lock_that_is_released_in_time(tmp_path, hold_later, make_record):
    store = Store.in_folder(tmp_path)  # 30 s
    hold_later(seconds=0.3)
    store.put(make_record("a"))
    assert store.get("a") == make_record("a")
    store.close()


@pytest.fixture
def hold_later(tmp_path):
    def hold(seconds):
        connection = sqlite3.connect(tmp_path / "store.sqlite", isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        timers.append(threading.Timer(seconds, lambda: (connection.execute("ROLLBACK"), connection.close())))
        timers[-1].start()

    timers = []
    yield hold
    for timer in timers:
        timer.join()


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_no_time_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", value)
    with pytest.raises(StoreError, match=f"HARNESS_STORE_TIMEOUT='{value}': how many seconds"):
        Store.in_folder(tmp_path)


def test_where_the_file_system_refuses_a_log_ahead_the_journal_that_there_is_does(tmp_path, make_record):
    # the way of locking that is made for file systems without shared memory stands in for one
    url = f"sqlite:///file:{tmp_path / 'store.sqlite'}?vfs=unix-dotfile&uri=true"
    for names in (["a"], ["a", "b"]):
        store = Store(url)
        store.put(make_record(names[-1]))
        mode, safety = (
            store.transact(lambda connection, name=name: connection.exec_driver_sql(f"PRAGMA {name}").scalar())
            for name in ("journal_mode", "synchronous")
        )
        assert (mode, safety) == ("delete", 2)  # 2: full, as a journal of this kind needs
        assert [record.run for record in store.records()] == names
        store.close()


def test_a_full_disk_is_a_line_that_does_not_pass_and_what_was_there_stays(store, make_record):
    store.put(make_record("a"))
    pages = store.transact(lambda connection: connection.scalar(sa.text("PRAGMA page_count")))
    store.transact(lambda connection: connection.execute(sa.text(f"PRAGMA max_page_count = {pages}")).close())
    with pytest.raises(StoreError, match="database or disk is full: make room where the store lies") as caught:
        store.put(make_record("b", hyperparameters={"hidden": [5] * 50_000}))
    assert_one_line(caught, transient=False)
    assert [record.run for record in store.records()] == ["a"]


def test_a_damaged_file_is_a_line_that_does_not_pass(tmp_path, make_record):
    store = Store.in_folder(tmp_path)
    for number in range(50):
        store.put(make_record(f"run-{number}", reason="x" * 1000))
    store.close()
    file = tmp_path / "store.sqlite"
    content = bytearray(file.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"malformed: the file is damaged; moved away, it is made anew") as caught:
        Store.in_folder(tmp_path).records()
    assert_one_line(caught, transient=False)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "store.sqlite").write_text("this is a text file, and long enough to hold a header of a database" * 20)
    with pytest.raises(StoreError, match=r"^cannot open the store sqlite:.*file is not a database$") as caught:
        Store.in_folder(tmp_path)
    assert_one_line(caught, transient=False)


def test_a_store_that_may_only_be_read_is_read_and_a_write_is_one_line(tmp_path, make_record):
    store = Store.in_folder(tmp_path)
    store.put(make_record("a"))
    readonly = Store(f"sqlite:///file:{tmp_path / 'store.sqlite'}?mode=ro&uri=true")
    assert [record.run for record in readonly.records()] == ["a"]
    with pytest.raises(StoreError, match="readonly database: this user may not write to the file or its") as caught:
        readonly.put(make_record("b"))
    assert_one_line(caught, transient=False)
    readonly.close()
    store.close()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, kind):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if kind == "file" else tmp_path / "file" / "sub"
    with pytest.raises(StoreError, match=f"^cannot open the store in {re.escape(str(folder))}: ") as caught:
        Store.in_folder(folder)
    assert_one_line(caught, transient=False)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", r"^cannot open the store \(malformed URL\): "),
        ("nonsense://host/name", r"^cannot open the store nonsense://host/name: .*a store is at sqlite:///FILE or"),
        ("sqlite:////nowhere/at/all/store.sqlite", "unable to open database file: is its folder there"),
        ("sqlite:///x.sqlite?colour=blue", "colour"),
        ("postgresql://host:port/runs", "port"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(url, message):
    with pytest.raises(StoreError, match=message) as caught:
        Store(url)
    assert_one_line(caught, transient=False)
