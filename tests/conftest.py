"""Fixtures for the tests of the core: third-party distributions, made of real files; and a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from harness import cli
from harness.auditing.subject import OPERATIONS
from harness.discovery import distributions
from harness.discovery import manager as plugins
from harness.interface.spec import ImageSpec, RunSpec
from harness.records.record import RunRecord, ScoreRecord


def _forget_caches():
    importlib.invalidate_caches()
    plugins.plugin_manager.cache_clear()
    distributions.modules_of.cache_clear()


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def complaint(self):
        """The one line that a user's mistake gives."""
        assert self.code == 2, self
        assert self.out == ""
        [line] = self.err.splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture(scope="session")
def command_line():
    """Returns a function that runs ``harness ARGUMENTS`` in this process; anything but an exit fails the test."""

    def run(*arguments):
        out, err, before = io.StringIO(), io.StringIO(), sys.argv
        sys.argv = ["harness", *map(str, arguments)]
        code = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        finally:
            sys.argv = before
        assert "Traceback" not in err.getvalue()
        return Answer(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def install_plugin(tmp_path, monkeypatch):
    """Returns a function that installs a distribution, for this process and for its children.

    ``install(distribution, files, entry_points={name: value})`` writes the files (texts by path, dedented), and a
    ``.dist-info`` beside them, into one folder that is on ``sys.path`` and ``PYTHONPATH``; it returns that folder.
    ``entry_points`` may be the text of the file instead.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    monkeypatch.delenv(plugins.BLOCK_VARIABLE, raising=False)
    before = set(sys.modules)

    def install(distribution, files, *, entry_points=(), version="0.1", requires=("genharness",)):
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(textwrap.dedent(text), encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {item}" for item in requires), ""]))
        if not isinstance(entry_points, str):
            entry_points = "[harness]\n" + "".join(f"{name} = {value}\n" for name, value in dict(entry_points).items())
        (info / "entry_points.txt").write_text(entry_points)
        _forget_caches()
        return site

    yield install
    _forget_caches()
    for name in set(sys.modules) - before:
        # the fake plugins' modules alone: what they made the core import stays
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def make_score():
    """Returns a function that makes a score that is done."""

    def make(metric="nll", value=1.5, **changes):
        return ScoreRecord(**{"metric": metric, "key": "k", "value": value, "unit": "nats", "kind": "exact", **changes})

    return make


@pytest.fixture
def make_record(make_score):
    """Returns a function that makes a record that is done, with scores given by name and value."""

    def make(run="made-digits-s0-0000000000", *, scores=None, **changes):
        content = {
            "run": run,
            "key": f"key of {run}",
            "identity": "i",
            "spec": RunSpec(model="made", dataset="digits", hyperparameters={"hidden": [5]}),
            "hyperparameters": {"hidden": [5], "learning_rate": 1e-3},
            "provider": "harness-made 0.1",
            "code": "c",
            "dataset_digest": "d",
            "status": "done",
            "scores": {name: make_score(name, value) for name, value in (scores or {}).items()},
        }
        return RunRecord(**{**content, **changes})

    return make


QUICK_SPACES = (
    ImageSpec(1, 3, 3, 2, num_classes=3),
    ImageSpec(3, 2, 1, 2, num_classes=3),
    ImageSpec(1, 2, 2, 4, num_classes=3),
    ImageSpec(1, 2, 3, 3, num_classes=3),
)


@pytest.fixture
def quick_audits(request, monkeypatch):
    """Audits have a tenth of samples and budget, colours on 64 images, not 4,096; of a thorough test they are whole.

    What a right model passes does not depend on either: only how small a defect is seen does.
    """
    if request.node.get_closest_marker("thorough") is None:
        for module, name in (
            ("estimates", "MOST_SAMPLES"),
            ("estimates", "FEWEST_SAMPLES"),
            ("checks.labels", "_SAMPLES"),
        ):
            monkeypatch.setattr(importlib.import_module(f"harness.auditing.{module}"), name, 2000)
        monkeypatch.setattr("harness.auditing.engine.OPERATIONS", OPERATIONS / 10)
        monkeypatch.setattr("harness.auditing.laboratory.SMALL", QUICK_SPACES)


class PostgresServer:
    """A server of our own, on loopback, that asks for a password; gone with this process, however that ends."""

    user, password = "lab", "s3cret/@:? %pass"

    def __init__(self, programs):
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._as = {"cwd": "/"}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            names = {entry.pw_name: entry for entry in pwd.getpwall()}
            account = names.get("postgres") or names["nobody"]
            self._as |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self._numbers = itertools.count()
        try:
            self._initialise()
            self._start()
        except BaseException:
            self.stop()
            raise

    def _initialise(self):
        secret = self._folder / "secret"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._data = self._folder / "data"
        options = ["-D", self._data, "-U", self.user, "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        command = [self._programs / "initdb", *options, "--locale=C", "--encoding=UTF8"]
        done = subprocess.run(command, capture_output=True, text=True, **self._as)
        assert done.returncode == 0, done.stderr
        secret.unlink()

    def _start(self):
        for _ in range(3):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            settings = {
                "port": self.port,
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": self._folder,
                "dynamic_shared_memory_type": "mmap",
                "shared_buffers": "16MB",
                "fsync": "off",
            }
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            # the shell ends the server when its standard input is closed: also if this process is killed
            script = 'folder=$1; shift; "$@" & server=$!; read -r _; kill -INT $server; wait $server; rm -rf "$folder"'
            command = ["sh", "-c", script, "sh", self._folder, self._programs / "postgres", "-D", self._data, *options]
            self._log = (self._folder / "log").open("w+")
            self._shell = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True, **self._as
            )
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                text = (self._folder / "log").read_text()
                if "ready to accept connections" in text:
                    return
                if "could not bind" in text:
                    break  # somebody else was given the port in the meantime
                assert "FATAL" not in text, text
                time.sleep(0.05)
            self._shell.kill()  # it would remove the folder
            self._end()
        raise AssertionError(text)

    def _end(self):
        self._shell.stdin.close()
        self._shell.wait(30)
        self._log.close()

    def url(self, database):
        return f"postgresql://{self.user}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement):
        """Runs a statement as the administrator, outside of any transaction, and returns its rows."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else None

    @contextlib.contextmanager
    def database(self):
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def stop(self):
        if hasattr(self, "_shell") and self._shell.returncode is None:
            self._end()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server():
    """A private server; skips where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    programs = [place for place in places if (place / "initdb").exists() and (place / "postgres").exists()]
    if not programs:
        pytest.skip("PostgreSQL's server programs are not installed")
    server = PostgresServer(programs[0])
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of an empty database, with a password that needs percent signs."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """The URL of a new store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lab.sqlite'}"
    return request.getfixturevalue("postgres_url")
