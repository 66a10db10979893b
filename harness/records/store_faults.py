"""What can be wrong with a store, each in one line that says what would be right, and shows no password."""

from __future__ import annotations

import re
import sqlite3

import sqlalchemy as sa

from harness.support.names import without

# The server's own codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ONCE_MORE = {"40001", "40P01"}  # serialization failure, deadlock: the same statement succeeds
_TRANSIENT_CLASSES = ("08", "40", "53", "55", "57")
# libpq keeps no code of what fails before a connection stands: only the text tells what no waiting mends.
_NEEDS_SOMEBODY = re.compile(
    r"authentication failed|does not exist|no password supplied|pg_hba|permission denied|not permitted to log in"
    r"|invalid (?:connection|port|integer|sslmode)|does not support SSL|root certificate|certificate verify failed"
)
_LOCKED = " by another process for more than {:g} s (HARNESS_STORE_TIMEOUT)"
_SQLITE = (
    ("SQLITE_BUSY", _LOCKED, True),
    ("SQLITE_LOCKED", _LOCKED, True),
    ("SQLITE_FULL", ": make room where the store lies", True),
    ("SQLITE_READONLY", ": this user may not write to the file or its folder", False),
    ("SQLITE_CANTOPEN", ": is its folder there, and may this user write to it?", False),
    ("SQLITE_CORRUPT", ": the file is damaged; moved away, it is made anew from the runs' folders", False),
)


class StoreError(ValueError):
    """A store that cannot be opened, read or written.

    ``transient``: it is locked, full or out of reach, so that the same may succeed later; not damaged or refused.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def may_succeed_at_once(error: Exception) -> bool:
    """Tells whether a second try with a fresh connection is worth it: the first one broke, or lost a race."""
    return isinstance(error, sa.exc.DBAPIError) and (error.connection_invalidated or _code(error) in _ONCE_MORE)


def explain(error: Exception, *, timeout: float, secrets: list[str]) -> tuple[str, bool]:
    """Returns what is wrong in one line, and whether it may pass by itself."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    text = " ".join((str(original).strip().splitlines() or [type(original).__name__])[0].split())
    if isinstance(original, sqlite3.Error):
        text, transient = _explain_sqlite(original, text, timeout)
    elif isinstance(error, sa.exc.NoSuchModuleError):
        text, transient = f"{text}: a store is at sqlite:///FILE or postgresql://USER@HOST/DATABASE", False
    elif isinstance(error, ImportError):
        text, transient = _explain_missing_driver(error, text), False
    elif isinstance(error, sa.exc.DBAPIError):
        text, transient = _explain_server(error, text)
    elif isinstance(error, sa.exc.TimeoutError):
        text, transient = "no connection became free", True
    else:
        transient = False
    return without(text, secrets), transient


def _explain_sqlite(error: sqlite3.Error, text: str, timeout: float) -> tuple[str, bool]:
    name = getattr(error, "sqlite_errorname", "")
    for code, advice, transient in _SQLITE:
        if name.startswith(code):
            return text + advice.format(timeout), transient
    return text, name.startswith("SQLITE_IOERR")


def _explain_missing_driver(error: ImportError, text: str) -> str:
    if (error.name or "").partition(".")[0] == "psycopg" or "libpq" in text:
        return f"PostgreSQL needs the driver psycopg, which is not here: pip install 'genharness[postgresql]' ({text})"
    return f"the database's driver is not installed: {text}"


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
