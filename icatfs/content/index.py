"""The record of what the cache folder holds, in SQLite beside the files, shared by all processes.

A record may be missing or wrong in one way only: by claiming too little. So the bytes of a file are
synced before its record is written; every data file has a name that is used once, so that a late
record of a file that is gone refers to nothing; and a record that cannot be right (torn, foreign,
of another version, of a file that is too short) counts as none.

**Room.** The database also keeps the books of the budget: what the records cost, kept by triggers
(``recorded``), and what each process may have on the disk beyond its records (its *lease*). The sum
of both is never less than what is on the disk. When a process records a file that bears its mark,
the cost moves from its lease to the record, and back when it removes such a record; a file that
somebody else removes, with its record, is room for everybody.

**Time.** What was used last is told by a clock that counts bytes used, not seconds: it orders
the uses of all processes whatever the wall clock does, and gives "later" a size. What is precious
counts as used later than it was by twice what the cache may hold.

The database is in WAL mode with ``synchronous=NORMAL``: the last records may be lost in a power
cut, which costs cached bytes and nothing else. One connection serves the event loop; another one
writes in worker threads, which take turns, and it alone syncs. All transactions are short, a few
milliseconds, for the event loops of all processes wait for them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from icatfs.content.house import FILE_COST
from icatfs.content.record import COLUMNS, Record, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from icatfs.values import ContentVersion

T = TypeVar("T")

_FORMAT = 3
_PATIENCE_S = 0.1
_PATIENCE_IN_THREADS_S = 20.0
_AT_ONCE = 100
_PAGES_OF_LOG = 250
"""Of 4 KiB: the log is copied into the database, and synced, when it has more; in a thread."""
_WRONG = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Something is missing in it; pages are damaged; it is no database. Not: no room, in use."""
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
CREATE TABLE IF NOT EXISTS lease (mark TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO books VALUES (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS came AFTER INSERT ON content BEGIN
    UPDATE books SET recorded = recorded + NEW.held + {FILE_COST}; END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE OF held ON content BEGIN
    UPDATE books SET recorded = recorded + NEW.held - OLD.held; END;
CREATE TRIGGER IF NOT EXISTS went AFTER DELETE ON content BEGIN
    UPDATE books SET recorded = recorded - OLD.held - {FILE_COST}; END;
PRAGMA user_version={_FORMAT};
"""
_HELD = "CAST(held AS INTEGER)"
"""A record may be torn."""
_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS.split(", ")[1:], "used"))
_WRITE = (
    f"INSERT INTO content ({COLUMNS}, used) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
    f" ON CONFLICT (name) DO UPDATE SET {_UPDATES}"
)


class Index:
    """The records of one cache folder, as one process sees and changes them."""

    def __init__(
        self, here: sqlite3.Connection, there: sqlite3.Connection, mark: str, max_bytes: int
    ) -> None:
        # given
        self._here = here
        self._there = there
        self._mark = mark
        self.max_bytes = max_bytes
        # constant: worker threads take turns
        self._turn = threading.Lock()

    @classmethod
    def open(cls, folder: Path, mark: str, max_bytes: int, *, alone: bool) -> Index:
        """That of a folder, made now if there is none. Blocks; sqlite3.Error, OSError.

        Who is alone looks whether the database is sound.
        """
        path = folder / "index.sqlite"
        with suppress(FileExistsError):  # to open and close one that is in use would end its locks
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path, flags, 0o600))
        there = _connection(str(path), _PATIENCE_IN_THREADS_S, check=alone)
        there.execute(f"PRAGMA wal_autocheckpoint={_PAGES_OF_LOG}")
        here = _connection(str(path), _PATIENCE_S)
        here.execute("PRAGMA wal_autocheckpoint=0")
        return cls(here, there, mark, max_bytes)

    @classmethod
    def in_memory(cls, mark: str) -> Index:
        """One that ends with the process, of a cache that holds nothing."""
        name = f"file:{mark}?mode=memory&cache=shared"
        there = _connection(name, _PATIENCE_IN_THREADS_S)
        return cls(_connection(name, _PATIENCE_S), there, mark, 0)

    def close(self) -> None:
        """Close both connections."""
        self._here.close()
        self._there.close()

    # From the event loop. Each raises sqlite3.Error.

    def find(self, version: ContentVersion) -> list[Record]:
        """The records of a version, the fullest first."""
        rows = self._here.execute(
            f"SELECT {COLUMNS} FROM content WHERE datafile = ? ORDER BY held DESC",
            (version.datafile,),
        )
        records = [Record.of_row(row) for row in rows.fetchall()]
        return [record for record in records if record is not None and record.version == version]

    def holds(self, version: ContentVersion) -> bool:
        """Whether there is a record of all bytes of a version."""
        row = self._here.execute(
            "SELECT 1 FROM content WHERE datafile = ? AND catalogued_size IS ? AND mtime_ns = ?"
            " AND checksum IS ? AND held = size LIMIT 1",
            (version.datafile, version.size, version.mtime_ns, version.checksum),
        ).fetchone()
        return row is not None

    @contextmanager
    def changing(self) -> Iterator[Books]:
        """One transaction; nobody else changes anything meanwhile."""
        with _transaction(self._here):
            yield Books(self._here, self._mark, self.max_bytes)

    def count(self) -> tuple[int, int]:
        """How many data files have a record, and how many bytes records and leases take."""
        (files,) = self._here.execute("SELECT count(*) FROM content").fetchone()
        return files, Books(self._here, self._mark, self.max_bytes).total()

    # From a worker thread.

    def write(
        self,
        records: Sequence[Record] = (),
        *,
        gone: Sequence[str] = (),
        used: Sequence[str] = (),
        lease: int = 0,
    ) -> None:
        """Record files of ours, forget others, note which were used; give back from the lease.

        The bytes of the files are on the disk. Blocks; sqlite3.Error: a part may be done.
        """
        self.each(Books.record, records)
        self.each(Books.remove, gone)
        self.each(Books.use, used)
        with self.changing_there() as books:
            books.lease(lease)

    def each(self, change: Callable[[Books, T], None], subjects: Sequence[T]) -> None:
        """In several transactions: nobody has to wait for long."""
        for start in range(0, len(subjects), _AT_ONCE):
            with self.changing_there() as books:
                for subject in subjects[start : start + _AT_ONCE]:
                    change(books, subject)

    @contextmanager
    def reading_there(self) -> Iterator[Books]:
        """A look, in a worker thread; others may change things meanwhile. Blocks; sqlite3.Error."""
        with self._turn:
            yield Books(self._there, self._mark, self.max_bytes)

    @contextmanager
    def changing_there(self) -> Iterator[Books]:
        """One transaction, in a worker thread. Blocks; sqlite3.Error."""
        with self._turn, _transaction(self._there):
            yield Books(self._there, self._mark, self.max_bytes)


class Books:
    """What can be done in one transaction."""

    def __init__(self, connection: sqlite3.Connection, mark: str, max_bytes: int) -> None:
        # given
        self._run = connection.execute
        self._mark = mark
        self._bonus = 2 * max_bytes

    def total(self) -> int:
        """What records and leases take together."""
        (total,) = self._run(
            "SELECT (SELECT recorded FROM books) + (SELECT ifnull(sum(bytes), 0) FROM lease)"
        ).fetchone()
        return int(total)

    def lease(self, change: int) -> None:
        """More, or less, may be on the disk beyond our records."""
        if change:
            self._run(
                "INSERT INTO lease VALUES (?1, ?2)"
                " ON CONFLICT (mark) DO UPDATE SET bytes = bytes + ?2",
                (self._mark, change),
            )

    def leases(self) -> dict[str, int]:
        """The lease of each process that has one."""
        return dict(self._run("SELECT mark, bytes FROM lease").fetchall())

    def end_lease(self, mark: str) -> None:
        """A process has nothing on the disk beyond its records."""
        self._run("DELETE FROM lease WHERE mark = ?", (mark,))

    def record(self, record: Record) -> None:
        """Add or replace the record of a file that bears our mark: its cost leaves the lease."""
        before = self.cost(record.name)
        self._run(_WRITE, (*record.row(), self._now(record.cost, precious=record.precious)))
        self.lease(before - record.cost)

    def rename(self, record: Record, name: str) -> None:
        """A data file has another name now."""
        new = Record(name, record.version, record.size, record.pieces, record.held, record.precious)
        self._run(
            "UPDATE content SET name = ?, proof = ? WHERE name = ?", (name, new.proof, record.name)
        )

    def remove(self, name: str) -> None:
        """Remove the record of a file that is gone; the cost of one of ours goes to the lease."""
        cost = self.cost(name)
        self.erase(name)
        if mark_of(name) == self._mark:
            self.lease(cost)

    def erase(self, name: str) -> None:
        """Remove the record of a file that is gone: what it cost is room for everybody."""
        self._run("DELETE FROM content WHERE name = ?", (name,))

    def use(self, name: str) -> None:
        """The file was used now."""
        row = self._run(f"SELECT {_HELD}, precious FROM content WHERE name = ?", (name,)).fetchone()
        if row is not None:
            used = self._now(row[0] + FILE_COST, precious=bool(row[1]))
            self._run("UPDATE content SET used = ? WHERE name = ?", (used, name))

    def cost(self, name: str) -> int:
        """What the record of a file counts; 0 without one."""
        row = self._run(f"SELECT {_HELD} FROM content WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0]) + FILE_COST

    def oldest(self) -> Iterator[tuple[str, int]]:
        """Names and costs, what was used least recently first; they may be removed meanwhile."""
        last: tuple[int, str] = (-(2**63), "")
        while rows := self._run(
            f"SELECT used, name, {_HELD} FROM content WHERE (used, name) > (?, ?)"
            " ORDER BY used, name LIMIT 100",
            last,
        ).fetchall():
            for _, name, held in rows:
                if isinstance(name, str):
                    yield name, held + FILE_COST
            last = rows[-1][:2]

    def names(self) -> dict[str, bool]:
        """Every name, and whether the file is complete."""
        return {
            name: bool(complete)
            for name, complete in self._run("SELECT name, held IS size FROM content")
        }

    def find(self, name: str) -> Record | None:
        """The record of a data file; None when there is none that can be trusted."""
        row = self._run(f"SELECT {COLUMNS} FROM content WHERE name = ?", (name,)).fetchone()
        return None if row is None else Record.of_row(row)

    def recount(self) -> None:
        """Do the books anew."""
        self._run(
            f"UPDATE books SET recorded = (SELECT ifnull(sum(held + {FILE_COST}), 0) FROM content)"
        )

    def _now(self, cost: int, *, precious: bool) -> int:
        """The time of a use that so many bytes make."""
        (clock,) = self._run(
            "UPDATE books SET clock = clock + ? RETURNING clock", (cost,)
        ).fetchone()
        return int(clock) + (self._bonus if precious else 0)


class WrongFormat(sqlite3.DatabaseError):
    """The database is not one of ours, or not sound."""


def is_useless(error: Exception) -> bool:
    """Whether this says that the database itself is wrong, and not what was to be done with it."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, WrongFormat) or (code is not None and code & 0xFF in _WRONG)


def discard(folder: Path) -> None:
    """Throw the index of a folder away. OSError."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"index.sqlite{suffix}").unlink(missing_ok=True)


def _connection(name: str, patience_s: float, *, check: bool = False) -> sqlite3.Connection:
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
        if found not in (0, _FORMAT):
            raise WrongFormat(f"format {found}")
        if not found:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
        if check and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise WrongFormat("damaged")
        connection.execute("SELECT count(*) FROM books").fetchone()
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:  # not swallowed: what was begun is undone
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
