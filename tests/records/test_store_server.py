"""A store on a server: its faults as one line each, what passes and what does not, and passwords nowhere."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import threading
import time
import traceback

import psutil
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from harness.cli import app
from harness.records.database import SCHEMA_VERSION
from harness.records.store import Artifacts, Store, StoreError
from harness.support.environment import describe_environment

SECRET = "s3cret/@:? %pass"
CODED = "s3cret%2F%40%3A%3F%20%25pass"


@pytest.fixture
def store(postgres_url):
    opened = Store(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def url(postgres_server):
    """Returns a function that makes a URL of the server from its parts."""

    def make(database="postgres", user=postgres_server.user, password=CODED, port=postgres_server.port):
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"

    return make


def fault(url, work=lambda store: None):
    """Returns the error of opening a store, or of working with it, after a look that it shows no password."""
    with pytest.raises(StoreError) as caught:
        work(Store(url))
    error = caught.value
    assert "\n" not in str(error)
    text = "".join(traceback.format_exception(error))
    for form in (SECRET, CODED, "s3cret", "wrong-s3"):
        assert form not in text
    return error


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_server_that_does_not_answer_is_a_line_and_may_pass(url):
    error = fault(url(port=free_port()))
    assert re.search(r"^cannot open the store postgresql://lab:\*\*\*@127.0.0.1:\d+/postgres: .*refused", str(error))
    assert error.transient


def test_a_host_without_a_name_is_a_line():
    assert "wrong.invalid" in str(fault(f"postgresql://lab:{CODED}@wrong.invalid/runs"))


def test_a_wrong_password_is_a_line_that_does_not_pass(url):
    error = fault(url(password="wrong-s3cret"))
    assert 'password authentication failed for user "lab"' in str(error)
    assert not error.transient


def test_no_password_is_a_line_that_does_not_pass(postgres_server, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # where a password file may be
    error = fault(f"postgresql://lab@127.0.0.1:{postgres_server.port}/postgres")
    assert "no password supplied" in str(error)
    assert not error.transient


def test_a_database_that_does_not_exist_is_a_line_that_does_not_pass(url):
    error = fault(url("nowhere"))
    assert 'database "nowhere" does not exist' in str(error)
    assert not error.transient


def test_a_user_who_may_not_make_tables_is_told_so_in_a_line(postgres_server, postgres_url, url):
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute("CREATE USER guest PASSWORD 's3cret'")
    try:
        error = fault(url(database, user="guest", password="s3cret"))
    finally:
        postgres_server.execute("DROP USER guest")
    assert "permission denied for schema public" in str(error)
    assert not error.transient


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_the_scheme_takes_psycopg(postgres_url, scheme):
    store = Store(postgres_url.replace("postgresql", scheme, 1))
    assert store.transact(lambda connection: connection.dialect.driver) == "psycopg"
    store.close()


def test_a_password_in_the_query_is_used_and_shown_nowhere(postgres_server, postgres_url, caplog):
    database = postgres_url.rpartition("/")[2]
    caplog.set_level(logging.DEBUG)
    url = f"postgresql://lab@127.0.0.1:{postgres_server.port}/{database}?password={CODED}"
    store = Store(url)
    assert store.records() == []
    assert "s3cret" not in store.name + repr(vars(store)["_engine"]) + caplog.text
    store.close()
    error = fault(url.replace("s3cret", "wrong-s3cret"))
    assert "?password=***: " in str(error)
    assert "password authentication failed" in str(error)


def test_a_password_with_a_plain_at_sign_is_told_so_and_not_shown(url):
    error = fault("postgresql://lab:wrong-s3cret@more-s3cret@host/runs")
    assert str(error).endswith("the password holds '@': in a URL that is written %40")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://lab:{CODED}@host:port/runs",
        f"postgresql:/lab:{CODED}@host/runs",
        f"postgresql://lab:{CODED}@127.0.0.1/runs?colour={CODED}",
        f"postgresql://lab@127.0.0.1:1/runs?sslpassword={CODED}&sslmode={CODED}",
        f"nonsense://lab:{CODED}@host/runs",
        f"mysql://lab:{CODED}@host/runs",
        f"postgresql+psycopg2://lab:{CODED}@host/runs",
    ],
)
def test_a_url_that_is_wrong_shows_no_password(url):
    fault(url)


def test_a_driver_that_is_not_installed_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    error = fault(f"postgresql://lab:{CODED}@host/runs")
    assert "PostgreSQL needs the driver psycopg, which is not here: pip install 'genharness[postgresql]'" in str(error)


def test_a_connection_that_was_lost_is_made_anew(postgres_server, store, make_record):
    store.put(make_record("a"))
    _end_connections(postgres_server)
    store.put(make_record("b"))
    assert [record.run for record in store.records()] == ["a", "b"]


def test_work_whose_connection_is_lost_in_the_middle_is_done_once_more(postgres_server, store):
    tries = []

    def work(connection):
        tries.append(connection)
        connection.execute(sa.text("INSERT INTO suite_runs VALUES ('s', 'r')"))
        if len(tries) == 1:
            _end_connections(postgres_server)
        return connection.scalar(sa.text("SELECT count(*) FROM suite_runs"))

    assert store.transact(work) == 1
    assert len(tries) == 2
    assert store.references() == {"s": {"r"}}


def test_a_connection_that_is_lost_again_and_again_is_a_line_that_may_pass(postgres_server, store):
    def work(connection):
        _end_connections(postgres_server)
        connection.execute(sa.text("SELECT 1"))

    with pytest.raises(StoreError, match="terminating connection") as caught:
        store.transact(work)
    assert caught.value.transient
    assert "\n" not in str(caught.value)


def test_a_row_that_is_locked_for_too_long_is_a_line_that_may_pass(postgres_url, monkeypatch, make_record):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.3")
    store = Store(postgres_url)
    store.put(make_record("a"))
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "30")
    other = Store(postgres_url)

    def hold(connection):
        connection.execute(sa.text("DELETE FROM runs"))
        with pytest.raises(StoreError, match="canceling statement due to lock timeout") as caught:
            store.put(make_record("a"))
        assert caught.value.transient

    other.transact(hold)
    for opened in (store, other):
        opened.close()


def test_a_process_that_was_suspended_in_a_transaction_blocks_nobody_for_ever(postgres_url, monkeypatch, make_record):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.3")
    suspended = Store(postgres_url)
    suspended.put(make_record("a"))
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "30")
    store = Store(postgres_url)
    held, finish = threading.Event(), threading.Event()

    def hold(connection):
        connection.execute(sa.text("DELETE FROM runs"))
        held.set()
        finish.wait(30)

    def run():
        suspended.transact(hold)  # once more, from its beginning

    thread = threading.Thread(target=run)
    thread.start()
    assert held.wait(30)
    started = time.monotonic()
    store.put(make_record("a", status="failed"))
    assert time.monotonic() - started < 20
    assert store.get("a").status == "failed"
    finish.set()
    thread.join()
    for opened in (store, suspended):
        opened.close()


@pytest.fixture
def frozen(postgres_server):
    """Returns a function that stops the whole server, as a machine that swaps does: its connections stand."""
    everything = []

    def freeze():
        number = int((postgres_server._data / "postmaster.pid").read_text().split()[0])
        main = psutil.Process(number)
        everything.extend([main, *main.children(recursive=True)])
        for process in everything:
            process.suspend()

    yield freeze
    for process in everything:
        process.resume()


def test_a_server_that_is_frozen_is_a_line_after_the_timeout_and_not_asked_again_at_once(
    postgres_url, monkeypatch, make_record, frozen
):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "2")
    store = Store(postgres_url)
    started = time.monotonic()
    with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
        store.transact(lambda connection: frozen() or connection.execute(sa.text("SELECT 1")))
    assert caught.value.transient
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 20
    started = time.monotonic()
    with pytest.raises(StoreError, match="does not answer") as caught:
        store.put(make_record("a"))
    assert caught.value.transient
    assert time.monotonic() - started < 1
    store.close()


def test_a_connection_whose_server_is_silent_is_closed_after_the_timeout(postgres_url, monkeypatch):
    monkeypatch.setenv("HARNESS_STORE_TIMEOUT", "0.2")
    store = Store(postgres_url)
    with pytest.raises(StoreError, match=r"the server was silent for 1\.2 s \(HARNESS_STORE_TIMEOUT\)"):
        store.transact(lambda connection: connection.execute(sa.text("SELECT pg_sleep(30)")))
    monkeypatch.setattr(store, "_not_before", 0.0)
    assert store.records() == []
    store.close()


def test_a_store_of_version_1_on_a_server_is_migrated(postgres_url, make_record):
    engine = sa.create_engine(postgres_url.replace("postgresql", "postgresql+psycopg", 1))
    columns = (
        "run VARCHAR(255) NOT NULL, key VARCHAR(64) NOT NULL, identity VARCHAR(64) NOT NULL, model VARCHAR(255) "
        "NOT NULL, dataset TEXT NOT NULL, seed BIGINT NOT NULL, status VARCHAR(16) NOT NULL, record TEXT NOT NULL"
    )
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE meta (name VARCHAR(64) NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name))",
            f"CREATE TABLE runs ({columns}, PRIMARY KEY (run))",
            "CREATE INDEX ix_runs_key ON runs (key)",
            "CREATE INDEX ix_runs_identity ON runs (identity)",
            "CREATE TABLE suite_runs (suite VARCHAR(255), run VARCHAR(255), PRIMARY KEY (suite, run))",
            "INSERT INTO meta VALUES ('schema', '1')",
            "INSERT INTO suite_runs VALUES ('digits', 'a')",
        ):
            connection.execute(sa.text(statement))
        row = ("a", "k", "i", "made", "digits", 0, "failed", make_record("a", status="failed").model_dump_json())
        names = ("run", "key", "identity", "model", "dataset", "seed", "status", "record")
        query = f"INSERT INTO runs VALUES ({', '.join(f':{name}' for name in names)})"
        connection.execute(sa.text(query), dict(zip(names, row, strict=True)))
    engine.dispose()
    store = Store(postgres_url)
    assert store.get("a") == make_record("a", status="failed")
    assert store.references() == {"digits": {"a"}}
    store.put(make_record("b", status="out-of-memory"), {"b/nll": b"x"})
    version = store.transact(lambda connection: connection.scalar(sa.text("SELECT value FROM meta")))
    assert version == str(SCHEMA_VERSION)
    store.close()


def test_the_command_takes_a_store_by_option_or_variable_and_shows_no_password(
    tmp_path, postgres_url, make_record, monkeypatch, command_line
):
    store = Store(postgres_url)
    store.put(make_record("made-digits-s0-1"))
    store.close()
    wrong = postgres_url.replace("s3cret", "wrong-s3cret")
    folder = ["--artifacts", str(tmp_path)]
    done = CliRunner().invoke(app, [*folder, "--store", postgres_url, "status"])
    assert (done.exit_code, "made-digits-s0-1" in done.output) == (0, True)
    monkeypatch.setenv("HARNESS_STORE", postgres_url)
    done = CliRunner().invoke(app, [*folder, "show", "made-digits-s0-1"])
    assert done.exit_code == 0
    assert not (tmp_path / "store.sqlite").exists()
    for arguments in (["--store", wrong, "status"], ["show", "nothing"]):
        answer = command_line(*folder, *arguments)
        assert "s3cret" not in answer.out + answer.err
        assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--store", f"postgresql://lab:{CODED}@host/runs"],
        [f"--store=postgresql://lab:{CODED}@host/runs"],
        ["--store", "postgresql://lab:s3cret@more-s3cret/s3cret@host/runs"],
        ["--store", f"postgresql://lab@host/runs?application_name=x&password={CODED}&connect_timeout=5"],
        ["--store", "postgresql://lab:s3 cret s3cret@host/runs"],
        ["--store", "postgresql+psycopg://host/runs?user=lab&sslpassword=s3cret"],
    ],
)
def test_the_command_that_a_record_keeps_has_no_password(monkeypatch, arguments):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(sys, "argv", ["/bin/harness", *arguments, "run", "digits", "--set", "made.hidden=[5]"])
    command = describe_environment(torch.device("cpu"), 1)["command"]
    assert "cret" not in command
    assert command.startswith("harness --store")
    assert command.endswith("run digits --set made.hidden=[5]")
    assert "***" in command
    assert "host" in command


def test_the_arguments_of_child_processes_have_no_password(tmp_path):
    code = """
import psutil
from harness.builtin.executors import local
local._PRELOAD.clear()
local.LocalExecutor()
children = psutil.Process().children(recursive=True)
print(len(children) > 0, any("s3cret" in " ".join(child.cmdline()) for child in children))
"""
    command = [sys.executable, "-c", code, "--store", f"postgresql://lab:{CODED}@host/runs"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True False\n"


def test_what_the_settings_print_as_has_no_password(tmp_path):
    assert "s3cret" not in repr(Artifacts(tmp_path, f"postgresql://lab:{CODED}@host/runs"))


def test_a_folder_that_shares_a_store_makes_none_of_its_own(tmp_path, postgres_url):
    store = Artifacts(tmp_path, postgres_url).store
    assert store.keeps_arrays
    assert list(tmp_path.iterdir()) == []
    store.close()
    own = Artifacts(tmp_path, f"sqlite:///{tmp_path / 'store.sqlite'}").store
    assert not own.keeps_arrays
    own.close()


def _end_connections(server):
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'genharness'")
