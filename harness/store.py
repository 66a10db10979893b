"""Where records live: SQLite (WAL) by default, any database that SQLAlchemy speaks by URL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.record import RunRecord

SCHEMA_VERSION = 1

_metadata = sa.MetaData()
_meta = sa.Table(
    "meta", _metadata, sa.Column("name", sa.String(64), primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
_runs = sa.Table(
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
_suite_runs = sa.Table(
    "suite_runs",
    _metadata,
    sa.Column("suite", sa.String(255), primary_key=True),
    sa.Column("run", sa.String(255), primary_key=True),
)


class StoreError(ValueError):
    """A store that cannot be opened, or that another version of the harness wrote."""


class Store:
    """The records of an artifact folder, or of a lab.

    Args:
        url: an SQLAlchemy database URL.

    Raises:
        StoreError: the database cannot be opened, or has a newer schema than this version knows.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = sa.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _set_pragmas)
            self._create_tables()
            self._check_version()
        except (sa.exc.SQLAlchemyError, ImportError) as error:  # ImportError: the database's driver is not installed
            raise StoreError(f"cannot open the store {_safe(url)}: {_first_line(error)}") from error

    @classmethod
    def in_folder(cls, folder: Path) -> Store:
        """Opens (and creates) ``store.sqlite`` in an artifact folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{(folder / 'store.sqlite').resolve()}")

    def _create_tables(self) -> None:
        # create_all looks first and creates then: two processes that open a new store at once would collide
        with self._engine.begin() as connection:
            for table in _metadata.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))

    def _check_version(self) -> None:
        found = self._schema()
        if found is None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(_meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
            except sa.exc.IntegrityError:
                found = self._schema()  # another process was faster
        if found is not None and int(found) > SCHEMA_VERSION:
            raise StoreError(f"the store has schema {found}, this version knows {SCHEMA_VERSION}: update genharness")

    def _schema(self) -> str | None:
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(_meta.c.value).where(_meta.c.name == "schema"))

    def put(self, record: RunRecord) -> None:
        """Inserts a record, or replaces the one of the same run."""
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
        with self._engine.begin() as connection:
            connection.execute(_runs.delete().where(_runs.c.run == record.run))
            connection.execute(_runs.insert().values(**values))

    def get(self, run: str) -> RunRecord | None:
        """Returns the record of a run, or None."""
        with self._engine.connect() as connection:
            text = connection.scalar(sa.select(_runs.c.record).where(_runs.c.run == run))
        return None if text is None else RunRecord.model_validate_json(text)

    def records(self, *, identities: Iterable[str] | None = None) -> list[RunRecord]:
        """Returns all records, or those of some identities, by run."""
        query = sa.select(_runs.c.record).order_by(_runs.c.run)
        with self._engine.connect() as connection:
            if identities is None:
                texts: Sequence[str] = connection.scalars(query).all()
            else:
                wanted = sorted(set(identities))
                texts = []
                for start in range(0, len(wanted), 500):
                    part = query.where(_runs.c.identity.in_(wanted[start : start + 500]))
                    texts = [*texts, *connection.scalars(part).all()]
        return sorted((RunRecord.model_validate_json(text) for text in texts), key=lambda record: record.run)

    def delete(self, runs: Iterable[str]) -> None:
        """Removes records."""
        with self._engine.begin() as connection:
            for run in runs:
                connection.execute(_runs.delete().where(_runs.c.run == run))
                connection.execute(_suite_runs.delete().where(_suite_runs.c.run == run))

    def refer(self, suite: str, runs: Iterable[str]) -> None:
        """Notes that a suite refers to some runs, besides those that it referred to before."""
        with self._engine.begin() as connection:
            present = set(connection.scalars(sa.select(_suite_runs.c.run).where(_suite_runs.c.suite == suite)))
            new = [{"suite": suite, "run": run} for run in dict.fromkeys(runs) if run not in present]
            if new:
                connection.execute(_suite_runs.insert(), new)

    def forget_suite(self, suite: str) -> None:
        """Drops all that a suite refers to, before its current plan is noted."""
        with self._engine.begin() as connection:
            connection.execute(_suite_runs.delete().where(_suite_runs.c.suite == suite))

    def references(self) -> dict[str, set[str]]:
        """Returns the runs that each suite refers to."""
        found: dict[str, set[str]] = {}
        with self._engine.connect() as connection:
            for suite, run in connection.execute(sa.select(_suite_runs.c.suite, _suite_runs.c.run)):
                found.setdefault(suite, set()).add(run)
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()


def _set_pragmas(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _safe(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(malformed URL)"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
