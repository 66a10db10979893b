"""Where records live: SQLite (WAL) by default, PostgreSQL and what else SQLAlchemy speaks by URL.

Every method either does all that it says or nothing, and raises one error, ``StoreError``, in one line.
"""

import math
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import ValidationError

from harness.records import database
from harness.records.database import StoreError, insert, per_image, runs, suite_runs
from harness.records.record import RunRecord, read_record
from harness.records.run_folder import RunFolder
from harness.support.limits import seconds_of_variable
from harness.support.names import digest_of, is_plain_name, redact, secrets_of, what_is_wrong, without

__all__ = ["Artifacts", "Store", "StoreError"]

_T = TypeVar("_T")
_PAUSE_SECONDS = 5.0
_RECORDS = sa.select(runs.c.run, runs.c.record)


class Store:
    """The records of an artifact folder, or of a lab; messages call it by ``name``, the URL without passwords.

    Where ``keeps_arrays``, it has scores per image as well, for readers that do not have the runs' folders.
    """

    def __init__(self, url: str | sa.URL, *, keeps_arrays: bool = True) -> None:
        self.keeps_arrays = keeps_arrays
        self.unreadable = dict[str, str]()  # records that were left out, by run, and why: another version's, or damaged
        text = url if isinstance(url, str) else f"{url.drivername}:///{url.database}"
        self._secrets, self._not_before = secrets_of(text), 0.0
        meaning = "how many seconds to wait for a locked store"
        try:
            self.timeout_seconds = seconds_of_variable("HARNESS_STORE_TIMEOUT", 30, meaning, most=1e6)
        except ValueError as error:
            raise StoreError(str(error)) from None
        self.name = without("(malformed URL)" if _parsed(url) is None else redact(text), self._secrets)
        try:
            self._engine = self._create_engine(url)
            if self._attempt(database.version_of, write=False) != database.SCHEMA_VERSION:
                self._attempt(database.migrate)  # else nothing is locked: any number can open it while one writes
        except (sa.exc.SQLAlchemyError, sa.exc.SAWarning, ImportError, TypeError, ValueError) as error:
            if "_engine" in vars(self):
                self.close()
            raise self._fault(f"cannot open the store {self.name}", error) from None

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Opens (and creates) ``store.sqlite`` in an artifact folder, whose runs hold their scores per image."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "it is a file: name a folder" if isinstance(error, FileExistsError) else error.strerror or error
            raise StoreError(f"cannot open the store in {folder}: {why}") from None
        file = str(store_file(folder))  # as it is: in the text of a URL, what is a percent sign would be an escape
        url = sa.URL.create("sqlite", database=file)
        if store_file(folder).is_file() and not all(os.access(path, os.W_OK) for path in (file, folder)):
            # SQLite cannot make its index of a log there; a log that a killed process left needs the one beside it
            options = {"uri": "true", "mode": "ro"} | ({} if Path(f"{file}-wal").exists() else {"immutable": "1"})
            url = url.set(database=f"file:{quote(file)}", query=options)
        return cls(url, keeps_arrays=False)

    def put(self, record: RunRecord, arrays: Mapping[str, bytes] | None = None) -> None:
        """Inserts a record, or replaces the one of the same run; a store that keeps no ``arrays`` ignores them.

        They are scores per image, as safetensors files, by the names that the record gives them.
        """
        row = {
            **record.model_dump(include={"run", "key", "identity", "status"}),
            **record.spec.model_dump(include={"model", "dataset", "seed"}),
            "record": record.model_dump_json(),
        }
        kept = sorted((arrays or {}).items()) if self.keeps_arrays else []

        def write(connection: sa.Connection) -> None:
            insert(connection, runs, row, replace=True)
            for reference, data in kept:
                insert(connection, per_image, {"reference": reference, "run": record.run, "data": data}, replace=True)

        self.transact(write)

    def stamp(self) -> str:
        """Returns what is another as soon as a record is."""
        return digest_of([[row.run, row.record] for row in sorted(self._read(_RECORDS))])

    def run_names(self) -> list[str]:
        """Returns the names of all runs, in order; no record is read."""
        return sorted(row.run for row in self._read(sa.select(runs.c.run)))

    def each(self) -> Iterator[RunRecord]:
        """Yields all records as ``records`` gives them, few at a time: they need not all be in memory."""
        names = self.run_names()
        for start in range(0, len(names), 500):
            yield from self._records(_RECORDS.where(runs.c.run.in_(names[start : start + 500])))

    def get(self, run: str) -> RunRecord | None:
        """Returns the record of a run, or None, also where it is ``unreadable``."""
        found = self._records(_RECORDS.where(runs.c.run == run))
        return found[0] if found else None

    def array(self, reference: str) -> bytes | None:
        """Returns scores per image as ``put`` took them, or None."""
        found = self._read(sa.select(per_image.c.data).where(per_image.c.reference == reference))
        return found[0].data if found else None

    def records(
        self, *, identities: Iterable[str] | None = None, models: Iterable[str] = (), strict: bool = False
    ) -> list[RunRecord]:
        """Returns all records, or those of some identities or models, by run; an ``unreadable`` one is left out.

        ``strict``: it is a ``StoreError``, for a table that would lack it without a word.
        """
        column, wanted = (runs.c.model, models) if identities is None else (runs.c.identity, identities)
        wanted = sorted(set(wanted))
        if identities is None and not wanted:
            return self._records(_RECORDS, strict=strict)
        parts = [wanted[start : start + 500] for start in range(0, len(wanted), 500)]  # no database takes any number
        return self._records(*(_RECORDS.where(column.in_(part)) for part in parts), strict=strict)

    def _read(self, *queries: sa.Select[Any]) -> list[Any]:
        return self.transact(lambda connection: [row for it in queries for row in connection.execute(it)], write=False)

    def _records(self, *queries: sa.Select[Any], strict: bool = False) -> list[RunRecord]:
        records = []
        for run, text in sorted(self._read(*queries)):  # every server has its own idea of the alphabet
            try:
                records.append(read_record(text))
            except ValidationError as error:
                problem = f"the record of {run} cannot be read: {what_is_wrong(error.errors()[0])}"
                self.unreadable[run] = f"the store {self.name}: {problem}"
                if strict:
                    raise StoreError(self.unreadable[run]) from None
        return records

    def delete(
        self, names: Iterable[str], *, unless_referred: str | None = None, and_then: Callable[[], None] = lambda: None
    ) -> bool:
        """Removes records, their scores per image, and what refers to them; tells whether it did.

        It does not if a suite refers to the run ``unless_referred``, which none can come to do before ``and_then``.
        """
        tables = (runs, suite_runs, per_image)
        deletions = [table.delete().where(table.c.run == run) for run in sorted(set(names)) for table in tables]
        referring = sa.select(suite_runs.c.suite).where(suite_runs.c.run == unless_referred)

        def write(connection: sa.Connection) -> bool:
            if unless_referred is not None and connection.dialect.name == "postgresql":  # SQLite has locked all
                connection.exec_driver_sql("LOCK TABLE suite_runs IN SHARE ROW EXCLUSIVE MODE")
            if unless_referred is not None and connection.execute(referring).first() is not None:
                return False
            for deletion in deletions:
                connection.execute(deletion)
            and_then()
            return True

        return self.transact(write)

    def refer(self, suite: str, names: Iterable[str], *, anew: bool = False) -> None:
        """Notes that a suite, by its reference, refers to some runs: to these alone, or besides those before."""
        rows = [{"suite": suite, "run": run} for run in sorted(set(names))]

        def write(connection: sa.Connection) -> None:
            if anew:
                connection.execute(suite_runs.delete().where(suite_runs.c.suite == suite))
            for row in rows:
                insert(connection, suite_runs, row)

        self.transact(write)

    def references(self) -> dict[str, set[str]]:
        """Returns the runs that each suite refers to."""
        found: dict[str, set[str]] = {}
        for suite, run in self._read(sa.select(suite_runs.c.suite, suite_runs.c.run)):
            found.setdefault(suite, set()).add(run)
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def transact(self, work: Callable[[sa.Connection], _T], *, write: bool = True) -> _T:
        """Does some work in one transaction; if the connection breaks, once more, so twice has to be the same as once.

        A server that was silent for the whole time-out is not asked again for some seconds: who ends a command does not
        wait anew for each thing that it would store.
        """
        began = time.monotonic()
        if began < self._not_before:
            raise StoreError(f"the store {self.name} does not answer", transient=True)
        try:
            return self._attempt(work, write=write)
        except sa.exc.SQLAlchemyError as error:
            if database.is_away(error) and time.monotonic() - began > self.timeout_seconds:
                self._not_before = time.monotonic() + min(_PAUSE_SECONDS, self.timeout_seconds)
            # not "from error": its text, which a traceback would show, may have the password
            raise self._fault(f"the store {self.name}", error) from None

    def _attempt(self, work: Callable[[sa.Connection], _T], *, write: bool = True, again: bool = True) -> _T:
        try:
            with self._engine.connect() as connection, connection.begin():
                if connection.dialect.name == "sqlite":
                    # What reads first and writes then fails at once, without waiting, if another wrote in between.
                    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            if not (again and database.may_succeed_at_once(error)):
                raise
        return self._attempt(work, write=write, again=False)

    def _fault(self, where: str, error: Exception) -> StoreError:
        text, transient = database.explain(error, timeout=self.timeout_seconds, secrets=self._secrets)
        return StoreError(f"{where}: {text}", transient=transient)

    def _create_engine(self, given: str | sa.URL) -> sa.Engine:
        url = sa.make_url(given)
        if "@" in (url.host or ""):
            raise StoreError("the password holds '@': in a URL that is written %40")
        options: dict[str, Any] = {"hide_parameters": True}
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "postgresql+psycopg":
            options |= {"pool_pre_ping": True, "connect_args": self._server_options(url)}
            url = url.difference_update_query(["password", "sslpassword"])
        with warnings.catch_warnings():
            warnings.simplefilter("error", sa.exc.SAWarning)  # such as of an option that would be ignored
            engine = sa.create_engine(url, **options)
        if engine.dialect.name == "sqlite":
            reading = url.query.get("mode") == "ro"
            sa.event.listen(engine, "connect", _prepare_reading if reading else self._prepare_sqlite)
        elif url.drivername == "postgresql+psycopg":
            sa.event.listen(engine, "connect", self._prepare_server)
        return engine

    def _server_options(self, url: sa.URL) -> dict[str, Any]:
        seconds = max(2, math.ceil(self.timeout_seconds))
        # a server that is gone without a word is noticed within the timeout, too
        defaults = {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000, "application_name": "genharness"}
        options: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
        # the engine's URL is logged and printed by others: passwords in its query are handed on beside it
        return options | {name: url.query[name] for name in ("password", "sslpassword") if name in url.query}

    def _prepare_server(self, connection: Any, _: Any) -> None:
        milliseconds = max(1, round(self.timeout_seconds * 1000))
        connection.autocommit = True
        with connection.cursor() as cursor:
            # nobody waits for ever for a process that was suspended in the middle of a transaction
            cursor.execute(f"SET lock_timeout = {milliseconds}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
        connection.autocommit = False
        # nobody else sees that a server is frozen: its machine still answers; its own time-outs come first
        connection.wait = partial(database.wait_patiently, connection, self.timeout_seconds + 1)

    def _prepare_sqlite(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin as _attempt says, for tables and migrations too
        connection.execute(f"PRAGMA busy_timeout={max(1, round(self.timeout_seconds * 1000))}")
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            try:
                [journal] = connection.execute("PRAGMA journal_mode=WAL").fetchone()
                break  # whatever it is: file systems without shared memory keep the journal that they had
            except sqlite3.OperationalError as error:
                # two processes that open a new file at once: SQLite does not wait here by itself
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute(f"PRAGMA synchronous={'NORMAL' if journal == 'wal' else 'FULL'}")


@dataclass(frozen=True)
class Artifacts:
    """The folder ``root``, and the database that holds its records, perhaps those of others too; else one in it."""

    root: Path
    store_url: str | None = field(default=None, repr=False)  # it may have a password

    def folder(self, run: str) -> RunFolder:
        """Returns a run's folder; ``ValueError`` for what is no plain name: a record may come from anywhere."""
        if not is_plain_name(run):
            raise ValueError(f"{run!r:.120} is no run's name: letters, digits, '@', '.', '_' and '-', and no path")
        return RunFolder(self.root / "runs" / run)

    def reference_of(self, suite: Path) -> str:
        """Returns how the store knows a suite: by where its file lies, since two of one name are not one suite.

        That is relative to the folder, so that both can be moved together; in a shared store, with the machine's name.
        """
        file, root = suite.resolve(), self.root.resolve()
        text = f"{socket.gethostname()}:{file}" if self.store.keeps_arrays else os.path.relpath(file, root)
        text = text.encode(errors="backslashreplace").decode()
        return text if len(text) <= 255 else f"{text[:100]}...{digest_of(text)[:16]}...{text[-100:]}"

    def is_gone(self, reference: str) -> bool:
        """Tells whether a suite's file is surely gone: the folder that it lay in is on this machine, without it."""
        host, _, text = reference.partition(":") if self.store.keeps_arrays else (socket.gethostname(), "", reference)
        if host != socket.gethostname() or not text.endswith(".toml") or "..." in text or "\\" in text:
            return False  # another machine's, an older version's, or one that was shortened
        file = self.root.resolve() / text
        return file.parent.is_dir() and not file.exists()

    @cached_property
    def store(self) -> Store:
        """The records; ``StoreError`` where the database cannot be opened."""
        if self.store_url is None or is_store_of(self.store_url, self.root):
            return Store.in_folder(self.root)
        return Store(self.store_url)


def _prepare_reading(connection: Any, _: Any) -> None:
    connection.isolation_level = None


def store_file(folder: Path) -> Path:
    """Returns where the store of an artifact folder lies if no URL is given."""
    return (folder / "store.sqlite").resolve()


def is_store_of(url: str, folder: Path) -> bool:
    """Tells whether a database URL names the file that an artifact folder has anyway."""
    parsed = _parsed(url)
    if parsed is None or parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.query:
        return False
    return Path(parsed.database).resolve() == store_file(folder)


def _parsed(url: str | sa.URL) -> sa.URL | None:
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return None
