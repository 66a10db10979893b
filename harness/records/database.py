"""The database under a store: its tables, how an older one becomes one of this version, and what can be wrong with it.

A fault is one line that says what would be right, and shows no password.
"""

import contextlib
import re
import selectors
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from harness.support.names import without

SCHEMA_VERSION = 2

_T = TypeVar("_T")

_INSERTS: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MIGRATION_LOCK = 0x67656E68  # "genh": any number that all versions share

_metadata = sa.MetaData()


def _table(name: str, num_keys: int, indexed: Sequence[str] = (), /, **columns: Any) -> sa.Table:
    """The first columns are its primary key; a number is the length of a text."""
    made = [
        sa.Column(column, sa.String(kind) if isinstance(kind, int) else kind, primary_key=number < num_keys,
                  nullable=False, index=column in indexed or None)
        for number, (column, kind) in enumerate(columns.items())
    ]  # fmt: skip
    return sa.Table(name, _metadata, *made)


meta = _table("meta", 1, name=64, value=sa.Text)
runs = _table(
    "runs", 1, ("key", "identity"), run=255, key=64, identity=64, model=255, dataset=sa.Text, seed=sa.BigInteger,
    status=16, record=sa.Text,
)  # fmt: skip
suite_runs = _table("suite_runs", 2, suite=255, run=255)
leases = _table(
    "leases", 1, ("owner",), name=255, owner=64, host=255, machine=255, pid=sa.BigInteger, started=64,
    beat=sa.BigInteger,
)  # fmt: skip
per_image = _table("per_image", 1, ("run",), reference=512, run=255, data=sa.LargeBinary)


def insert(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any], *, replace: bool = False) -> None:
    """Inserts a row, also if another process does at this moment; one of the same primary key stays, or is replaced."""
    if make := _INSERTS.get(connection.dialect.name):
        new = make(table).values(**row)
        update = {"index_elements": list(table.primary_key), "set_": dict(row)}
        connection.execute(new.on_conflict_do_update(**update) if replace else new.on_conflict_do_nothing())
        return
    same = [column == row[column.name] for column in table.primary_key]
    if replace:
        connection.execute(table.delete().where(*same))
    elif connection.execute(sa.select(sa.literal(1)).select_from(table).where(*same)).first() is not None:
        return
    connection.execute(table.insert().values(**row))


def version_of(connection: sa.Connection) -> int | None:
    """Returns the schema that a database has, None if it has none yet; one that is not known is a ``StoreError``."""
    if not sa.inspect(connection).has_table("meta"):
        return None
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
    if found is not None and not found.isdecimal():
        raise StoreError(f"its schema is {found!r}, which is no version: another program's database?")
    if found is not None and int(found) > SCHEMA_VERSION:
        raise StoreError(f"the store has schema {found}, this version knows {SCHEMA_VERSION}: update genharness")
    return None if found is None else int(found)


def migrate(connection: sa.Connection) -> None:
    """Makes the tables, or brings them to this version, step by step, in the caller's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    found = version_of(connection)  # again, now that nobody else can migrate
    if found is None:
        _metadata.create_all(connection)
        connection.execute(meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
    elif found < SCHEMA_VERSION:
        if connection.dialect.name == "sqlite":
            _back_up(connection, found)
        for version in range(found, SCHEMA_VERSION):
            _STEPS[version](connection)
        connection.execute(meta.update().where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))


def _back_up(connection: sa.Connection, version: int) -> None:
    """Copies an SQLite file, which this process has locked for writing, beside it, whole or not at all."""
    file = connection.exec_driver_sql("PRAGMA database_list").one()[2]
    if not file:
        return
    target = Path(f"{file}.v{version}-backup")
    part = target.with_name(f"{target.name}.part")  # one process alone can be here; another may have been killed
    part.unlink(missing_ok=True)
    try:
        # a second connection: what this one has locked can be read there, and has no half of a migration in it
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
        part.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"no backup could be made before its migration: {target}: {error}") from None
    finally:
        part.unlink(missing_ok=True)


# From which version: what to do. A step that is released is never changed: if a later one changes a table that an
# earlier step makes from its definition above, that definition is copied into the earlier step first.
_STEPS: dict[int, Callable[[sa.Connection], None]] = {
    1: lambda connection: _metadata.create_all(connection, tables=[leases, per_image])
}


# The server's own codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ONCE_MORE = {"40001", "40P01"}  # serialization failure, deadlock: the same statement succeeds
_TRANSIENT_CLASSES = ("08", "40", "53", "55", "57")
# libpq keeps no code of what fails before a connection stands: only the text tells what no waiting mends.
_NEEDS_SOMEBODY = re.compile(
    r"authentication failed|does not exist|no password supplied|pg_hba|permission denied|not permitted to log in"
    r"|invalid (?:connection|port|integer|sslmode)|does not support SSL|root certificate|certificate verify failed"
)
# By the beginning of its code: what follows the error's text, and whether it may pass by itself.
_SQLITE: tuple[tuple[str | tuple[str, ...], str, bool], ...] = (
    (("SQLITE_BUSY", "SQLITE_LOCKED"), " by another process for more than {:g} s (HARNESS_STORE_TIMEOUT)", True),
    ("SQLITE_FULL", ": make room where the store lies", False),
    ("SQLITE_READONLY", ": this user may not write to the file or its folder", False),
    ("SQLITE_CANTOPEN", ": is its folder there, and may this user write to it?", False),
    ("SQLITE_CORRUPT", ": the file is damaged; moved away, it is made anew from the runs' folders", False),
    ("SQLITE_IOERR", ": the disk that the store lies on does not take or give it", False),
)


class StoreError(ValueError):
    """A store that cannot be opened, read or written; ``transient``, if it is locked or away, and may yet."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def wait_patiently(connection: Any, seconds: float, steps: Generator[Any, Any, _T], *_: Any, **__: Any) -> _T:
    """Takes the place of psycopg's ``Connection.wait``: closes a connection whose server is silent for too long."""
    import psycopg

    try:
        wanted = next(steps)
        while True:
            with selectors.DefaultSelector() as selector:
                selector.register(connection.fileno(), int(wanted))
                ready = selector.select(seconds)
            if not ready:
                connection.pgconn.finish()
                raise psycopg.OperationalError(f"the server was silent for {seconds:g} s (HARNESS_STORE_TIMEOUT)")
            wanted = steps.send(ready[0][1])
    except StopIteration as end:
        result: _T = end.value
        return result


def is_away(error: Exception) -> bool:
    """Tells whether a fault is that a server said nothing, not what it said."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else None
    return isinstance(error, sa.exc.DBAPIError) and _code(error) is None and not isinstance(original, sqlite3.Error)


def may_succeed_at_once(error: Exception) -> bool:
    """Tells whether a second try with a fresh connection is worth it: the first one broke, or lost a race."""
    return isinstance(error, sa.exc.DBAPIError) and (error.connection_invalidated or _code(error) in _ONCE_MORE)


def explain(error: Exception, *, timeout: float, secrets: list[str]) -> tuple[str, bool]:
    """Returns what is wrong in one line, and whether it may pass by itself."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    text = " ".join((str(original).strip().splitlines() or [type(original).__name__])[0].split())
    transient = False
    if isinstance(original, sqlite3.Error):
        name = getattr(original, "sqlite_errorname", "")
        advices = ((advice, passes) for code, advice, passes in _SQLITE if name.startswith(code))
        advice, transient = next(advices, ("", False))
        text += advice.format(timeout)
    elif isinstance(error, sa.exc.NoSuchModuleError | sa.exc.ArgumentError):
        text += ": a store is at sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    elif isinstance(error, ImportError) and ((error.name or "").partition(".")[0] == "psycopg" or "libpq" in text):
        needed = "the driver psycopg, which is not here: pip install 'genharness[postgresql]'"
        text = f"PostgreSQL needs {needed} ({text})"
    elif isinstance(error, ImportError):
        text = f"the database's driver is not installed: {text}"
    elif isinstance(error, sa.exc.DBAPIError):
        text, transient = _explain_server(error, text)
    elif isinstance(error, sa.exc.TimeoutError):
        text, transient = "no connection became free", True
    return without(text, secrets), transient


def _explain_server(error: sa.exc.DBAPIError, text: str) -> tuple[str, bool]:
    code = _code(error)
    if code is not None:
        return text, error.connection_invalidated or code.startswith(_TRANSIENT_CLASSES)
    whole = str(error.orig)
    if found := re.search(r"FATAL: .*", whole):  # the line that matters follows one for each address that was tried
        text = " ".join(f"{text} {found[0]}".split()) if found[0] not in text else text
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return text, not _NEEDS_SOMEBODY.search(whole)
    return text, error.connection_invalidated


def _code(error: sa.exc.DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
