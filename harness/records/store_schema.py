"""The store's tables, and how a store that an older version wrote becomes one of this version."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

SCHEMA_VERSION = 2

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


def version_of(connection: sa.Connection) -> int | None:
    """Returns the schema that a database has, None if it has none yet.

    Raises:
        ValueError: what it has is no number: not a store of this harness.
    """
    if not sa.inspect(connection).has_table("meta"):
        return None
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
    if found is not None and not found.isdecimal():
        raise ValueError(f"its schema is {found!r}, which is no version: another program's database?")
    return None if found is None else int(found)


def migrate(connection: sa.Connection, found: int | None) -> None:
    """Brings a database to this version, step by step, in the caller's transaction; None: there is nothing yet."""
    if found is None:
        _create(connection, *_metadata.sorted_tables)
        connection.execute(meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
        return
    for version in range(found, SCHEMA_VERSION):
        _STEPS[version](connection)
    connection.execute(meta.update().where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))


def _from_1(connection: sa.Connection) -> None:
    """Leases, and scores per image; records and references stay as they are."""
    _create(connection, leases, per_image)


# From which version: what to do. A step that is released is never changed: if a later one changes a table that an
# earlier step makes from its definition above, that definition is copied into the earlier step first.
_STEPS: dict[int, Callable[[sa.Connection], None]] = {1: _from_1}


def _create(connection: sa.Connection, *tables: sa.Table) -> None:
    for table in tables:
        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
