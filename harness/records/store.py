"""Where records live: SQLite (WAL) by default, PostgreSQL and what else SQLAlchemy speaks by URL.

Every method either does all that it says or nothing, and raises one error, ``StoreError``, in one line.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import postgresql, sqlite

from harness.records.record import RunRecord, first_problem
from harness.records.store_faults import StoreError, explain, may_succeed_at_once
from harness.records.store_schema import SCHEMA_VERSION, migrate, per_image, runs, suite_runs, version_of
from harness.support.limits import seconds_of_variable
from harness.support.names import redact, secrets_of, without

__all__ = ["SCHEMA_VERSION", "Store", "StoreError"]

_T = TypeVar("_T")
_INSERTS: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MIGRATION_LOCK = 0x67656E68  # "genh": any number that all versions share


class Store:
    """The records of an artifact folder, or of a lab.

    Args:
        url: a database URL: ``sqlite:///FILE``, ``postgresql://USER:PASSWORD@HOST/DATABASE``.
        keeps_arrays: whether scores per image are kept as well, for readers that do not have the runs' folders.

    Attributes:
        name: the URL, without passwords, for messages.
        keeps_arrays: as given.

    Raises:
        StoreError: the database cannot be opened, or has a newer schema than this version knows.
    """

    def __init__(self, url: str, *, keeps_arrays: bool = True) -> None:
        self.keeps_arrays = keeps_arrays
        self._secrets = secrets_of(url)
        try:
            self._timeout = seconds_of_variable(
                "HARNESS_STORE_TIMEOUT", 30, "how many seconds to wait for a locked store", most=1e6
            )
        except ValueError as error:
            raise StoreError(str(error)) from None
        self.name = without(_name_of(url), self._secrets)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", sa.exc.SAWarning)  # such as of an option that would be ignored
                self._engine = self._create_engine(url)
        except (sa.exc.SQLAlchemyError, sa.exc.SAWarning, ImportError, TypeError, ValueError) as error:
            raise self._opening_fault(error) from None
        try:
            self._open()
        except (sa.exc.SQLAlchemyError, ImportError, TypeError, ValueError) as error:
            self.close()
            raise self._opening_fault(error) from None

    @classmethod
    def in_folder(cls, folder: Path) -> Store:
        """Opens (and creates) ``store.sqlite`` in an artifact folder, whose runs hold their scores per image."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot open the store in {folder}: {error.strerror or error}") from None
        return cls(f"sqlite:///{store_file(folder)}", keeps_arrays=False)

    def put(self, record: RunRecord, arrays: Mapping[str, bytes] | None = None) -> None:
        """Inserts a record, or replaces the one of the same run.

        Args:
            record: the record.
            arrays: scores per image, as safetensors files, by the names that the record gives them; ignored by a store
                that does not keep them.
        """
        values = {
            "run": record.run,
            "key": record.key,
            "identity": record.identity,
            "model": record.spec.model,
            "dataset": record.spec.dataset,
            "seed": record.spec.seed,
            "status": record.status,
            "record": record.model_dump_json(),
        }
        kept = sorted((arrays or {}).items()) if self.keeps_arrays else []

        def write(connection: sa.Connection) -> None:
            self._upsert(connection, runs, values)
            for reference, data in kept:
                self._upsert(connection, per_image, {"reference": reference, "run": record.run, "data": data})

        self.transact(write)

    def get(self, run: str) -> RunRecord | None:
        """Returns the record of a run, or None."""
        query = sa.select(runs.c.record).where(runs.c.run == run)
        text = self.transact(lambda connection: connection.scalar(query), write=False)
        return None if text is None else self._parse(run, text)

    def array(self, reference: str) -> bytes | None:
        """Returns scores per image as ``put`` took them, or None."""
        query = sa.select(per_image.c.data).where(per_image.c.reference == reference)
        return self.transact(lambda connection: connection.scalar(query), write=False)

    def records(self, *, identities: Iterable[str] | None = None) -> list[RunRecord]:
        """Returns all records, or those of some identities, by run."""
        query = sa.select(runs.c.run, runs.c.record)
        wanted = None if identities is None else sorted(set(identities))

        def read(connection: sa.Connection) -> list[tuple[str, str]]:
            queries = [query]
            if wanted is not None:
                parts = [wanted[start : start + 500] for start in range(0, len(wanted), 500)]
                queries = [query.where(runs.c.identity.in_(part)) for part in parts]
            return [(run, text) for part in queries for run, text in connection.execute(part)]

        # not ordered by the database: every server has its own idea of the alphabet
        return [self._parse(run, text) for run, text in sorted(self.transact(read, write=False))]

    def delete(self, names: Iterable[str]) -> None:
        """Removes records, their scores per image, and what refers to them."""
        wanted = sorted(set(names))

        def write(connection: sa.Connection) -> None:
            for run in wanted:
                for table in (runs, suite_runs, per_image):
                    connection.execute(table.delete().where(table.c.run == run))

        self.transact(write)

    def refer(self, suite: str, names: Iterable[str]) -> None:
        """Notes that a suite refers to some runs, besides those that it referred to before."""
        rows = [{"suite": suite, "run": run} for run in sorted(set(names))]

        def write(connection: sa.Connection) -> None:
            for row in rows:
                self.insert_new(connection, suite_runs, row)

        self.transact(write)

    def forget_suite(self, suite: str) -> None:
        """Drops all that a suite refers to, before its current plan is noted."""
        self.transact(lambda connection: connection.execute(suite_runs.delete().where(suite_runs.c.suite == suite)))

    def references(self) -> dict[str, set[str]]:
        """Returns the runs that each suite refers to."""
        query = sa.select(suite_runs.c.suite, suite_runs.c.run)
        found: dict[str, set[str]] = {}
        for suite, run in self.transact(lambda connection: connection.execute(query).all(), write=False):
            found.setdefault(suite, set()).add(run)
        return found

    @property
    def timeout_seconds(self) -> float:
        """For how long one call waits for a database that is locked or does not answer."""
        return self._timeout

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def transact(self, work: Callable[[sa.Connection], _T], *, write: bool = True) -> _T:
        """Does some work in one transaction; if the connection breaks, once more on a fresh one.

        Args:
            work: what to do, such that doing it twice is doing it once: a commit whose answer is lost is done again.
            write: whether it changes anything.

        Raises:
            StoreError: it could not be done.
        """
        for is_last in (False, True):
            try:
                with self._engine.connect() as connection:
                    connection = connection.execution_options(harness_write=write)
                    with connection.begin():
                        return work(connection)
            except sa.exc.SQLAlchemyError as error:
                if may_succeed_at_once(error) and not is_last:
                    continue
                text, transient = explain(error, timeout=self._timeout, secrets=self._secrets)
                # not "from error": its text, which a traceback would show, may have the password
                raise StoreError(f"the store {self.name}: {text}", transient=transient) from None
        raise AssertionError("unreachable")

    def insert_new(self, connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
        """Inserts a row unless its primary key is there, also if another process inserts it at this moment."""
        if insert := _INSERTS.get(self._engine.dialect.name):
            connection.execute(insert(table).values(**values).on_conflict_do_nothing())
            return
        key = [column == values[column.name] for column in table.primary_key]
        if connection.execute(sa.select(sa.literal(1)).select_from(table).where(*key)).first() is None:
            connection.execute(table.insert().values(**values))

    def _upsert(self, connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
        key = list(table.primary_key)
        if insert := _INSERTS.get(self._engine.dialect.name):
            statement = insert(table).values(**values)
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=dict(values)))
        else:
            connection.execute(table.delete().where(*[column == values[column.name] for column in key]))
            connection.execute(table.insert().values(**values))

    def _parse(self, run: str, text: str) -> RunRecord:
        try:
            return RunRecord.model_validate_json(text)
        except ValidationError as error:
            raise StoreError(
                f"the store {self.name}: the record of {run} cannot be read: {first_problem(error)}"
            ) from None

    def _opening_fault(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            text, transient = str(error).removeprefix(f"the store {self.name}: "), error.transient
        else:
            text, transient = explain(error, timeout=self._timeout, secrets=self._secrets)
        return StoreError(f"cannot open the store {self.name}: {text}", transient=transient)

    def _create_engine(self, text: str) -> sa.Engine:
        url = sa.make_url(text)
        if "@" in (url.host or ""):
            raise StoreError("the password holds '@': in a URL that is written %40")
        options: dict[str, Any] = {"hide_parameters": True}
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "postgresql+psycopg":
            options |= {"pool_pre_ping": True, "connect_args": self._server_options(url)}
            url = url.difference_update_query(["password", "sslpassword"])
        engine = sa.create_engine(url, **options)
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", self._prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        elif url.drivername == "postgresql+psycopg":
            sa.event.listen(engine, "connect", self._prepare_server)
        return engine

    def _server_options(self, url: sa.URL) -> dict[str, Any]:
        seconds = max(2, math.ceil(self._timeout))
        # a server that is gone without a word is noticed within the timeout, too
        defaults = {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000, "application_name": "genharness"}
        options: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
        # the engine's URL is logged and printed by others: passwords in its query are handed on beside it
        return options | {name: url.query[name] for name in ("password", "sslpassword") if name in url.query}

    def _prepare_server(self, connection: Any, _: Any) -> None:
        milliseconds = max(1, round(self._timeout * 1000))
        connection.autocommit = True
        with connection.cursor() as cursor:
            # nobody waits for ever for a process that was suspended in the middle of a transaction
            cursor.execute(f"SET lock_timeout = {milliseconds}")
            cursor.execute(f"SET idle_in_transaction_session_timeout = {milliseconds}")
        connection.autocommit = False

    def _prepare_sqlite(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin as _begin_sqlite says, for tables and migrations too
        connection.execute(f"PRAGMA busy_timeout={max(1, round(self._timeout * 1000))}")
        deadline = time.monotonic() + self._timeout
        while connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # two processes that open a new file at once: SQLite does not wait here by itself
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous=NORMAL")

    def _open(self) -> None:
        found = self.transact(version_of, write=False)
        _refuse_newer(found)
        if found != SCHEMA_VERSION:  # else nothing is locked: any number can open it while one writes
            self.transact(self._migrate)

    def _migrate(self, connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        found = version_of(connection)  # again, now that nobody else can migrate
        _refuse_newer(found)
        if found == SCHEMA_VERSION:
            return
        if found is not None and connection.dialect.name == "sqlite":
            _back_up(connection, found)
        migrate(connection, found)


def store_file(folder: Path) -> Path:
    """Returns where the store of an artifact folder lies if no URL is given."""
    return (folder / "store.sqlite").resolve()


def _name_of(url: str) -> str:
    try:
        sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return "(malformed URL)"
    return redact(url)


def _refuse_newer(found: int | None) -> None:
    if found is not None and found > SCHEMA_VERSION:
        raise StoreError(f"the store has schema {found}, this version knows {SCHEMA_VERSION}: update genharness")


def is_store_of(url: str, folder: Path) -> bool:
    """Tells whether a database URL names the file that an artifact folder has anyway."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return False
    is_file = parsed.get_backend_name() == "sqlite" and bool(parsed.database) and not parsed.query
    return is_file and Path(str(parsed.database)).resolve() == store_file(folder)


def _back_up(connection: sa.Connection, version: int) -> None:
    """Copies an SQLite file, which this process has locked for writing, beside it, whole or not at all."""
    file = connection.exec_driver_sql("PRAGMA database_list").one()[2]
    if not file:
        return
    target = Path(f"{file}.v{version}-backup")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        # a second connection: what this one has locked can be read there, and has no half of a migration in it
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"no backup could be made before its migration: {target}: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes then fails at once, without waiting, if another one wrote in between.
    is_write = connection.get_execution_options().get("harness_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
