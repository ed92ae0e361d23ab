"""The SQLite file behind the index: its tables, how it is opened, and what may be wrong with it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icatfs.content.house import FILE_COST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "index.sqlite"
FORMAT = 4
_WRONG = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_READONLY,
)
"""Something is missing in it; pages are damaged; it is no database; its header says that only later
versions of SQLite may write to it. Not: no room, in use."""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS content (
    name TEXT UNIQUE NOT NULL,
    datafile INTEGER NOT NULL,
    catalogued_size INTEGER,
    mtime_ns INTEGER NOT NULL,
    checksum TEXT,
    size INTEGER,
    pieces BLOB NOT NULL,
    held INTEGER NOT NULL,
    precious INTEGER NOT NULL,
    proof INTEGER NOT NULL,
    used INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS content_of ON content (datafile);
CREATE INDEX IF NOT EXISTS content_used ON content (used, name, held);
CREATE TABLE IF NOT EXISTS books (one INTEGER PRIMARY KEY, recorded INTEGER, clock INTEGER);
CREATE TABLE IF NOT EXISTS home
    (one INTEGER PRIMARY KEY, server TEXT NOT NULL, user TEXT NOT NULL, max_bytes INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS lease (mark TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO books VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON content BEGIN
    UPDATE books SET recorded = recorded + NEW.held + {FILE_COST}; END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE OF held ON content BEGIN
    UPDATE books SET recorded = recorded + NEW.held - OLD.held; END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON content BEGIN
    UPDATE books SET recorded = recorded - OLD.held - {FILE_COST}; END;
PRAGMA user_version={FORMAT};
"""


class OtherFormat(sqlite3.DatabaseError):
    """The database is that of another version of icatfs."""


class Unsound(sqlite3.DatabaseError):
    """The database is damaged."""


def is_useless(error: Exception) -> bool:
    """Whether this says that the database itself is wrong, and not what was to be done with it."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # not SQLite's: `sqlite3` says so of text that is no UTF-8
        return isinstance(error, OtherFormat | Unsound | sqlite3.OperationalError)
    return code & 0xFF in _WRONG


def discard(folder: Path) -> None:
    """Throw the index of a folder away. OSError."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{NAME}{suffix}").unlink(missing_ok=True)


def connect(name: str, patience_s: float, *, check: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name,
        timeout=patience_s,
        check_same_thread=False,
        isolation_level=None,
        uri=name.startswith("file:"),
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, FORMAT):
            raise OtherFormat(f"format {found}")
        if not found:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
        if check and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise Unsound("damaged")
        connection.execute("SELECT count(*) FROM books").fetchone()
    except UnicodeDecodeError as error:  # what SQLite says of a damaged schema quotes it
        connection.close()
        raise Unsound("damaged") from error
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:  # not swallowed: what was begun is undone
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
