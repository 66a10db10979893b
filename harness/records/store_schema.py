"""The store's tables, and how a store that an older version wrote becomes one of this version."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from harness.records.store_faults import StoreError

SCHEMA_VERSION = 2

_INSERTS: dict[str, Callable[[sa.Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_MIGRATION_LOCK = 0x67656E68  # "genh": any number that all versions share

_metadata = sa.MetaData()
meta = sa.Table(
    "meta", _metadata, sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("run", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("identity", sa.String(64), nullable=False, index=True),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
suite_runs = sa.Table(
    "suite_runs",
    _metadata,
    sa.Column("suite", sa.String(255), primary_key=True),
    sa.Column("run", sa.String(255), primary_key=True),
)
leases = sa.Table(
    "leases",
    _metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False, index=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("machine", sa.String(255), nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("started", sa.String(64), nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)
per_image = sa.Table(
    "per_image",
    _metadata,
    sa.Column("reference", sa.String(512), primary_key=True),
    sa.Column("run", sa.String(255), nullable=False, index=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


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
    """Returns the schema that a database has, None if it has none yet.

    Raises:
        StoreError: what it has is newer than this version, or no number: not a store of this harness.
    """
    if not sa.inspect(connection).has_table("meta"):
        return None
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
    if found is None:
        return None
    if not found.isdecimal():
        raise StoreError(f"its schema is {found!r}, which is no version: another program's database?")
    if int(found) > SCHEMA_VERSION:
        raise StoreError(f"the store has schema {found}, this version knows {SCHEMA_VERSION}: update genharness")
    return int(found)


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


def _from_1(connection: sa.Connection) -> None:
    """Leases, and scores per image; records and references stay as they are."""
    _metadata.create_all(connection, tables=[leases, per_image])


# From which version: what to do. A step that is released is never changed: if a later one changes a table that an
# earlier step makes from its definition above, that definition is copied into the earlier step first.
_STEPS: dict[int, Callable[[sa.Connection], None]] = {1: _from_1}
