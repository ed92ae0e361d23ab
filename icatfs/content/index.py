"""The record of what the cache folder holds, in SQLite beside the files, shared by all processes.

A record may be missing or wrong in one way only: by claiming too little. So the bytes of a file are
synced before its record is written; every data file has a name that is used once, so that a late
record of a file that is gone refers to nothing; and a record that cannot be right (torn, foreign,
of another version, of a file that is too short) counts as none.

**Room.** The database also keeps the books of the budget: what the records cost, kept by triggers
(``recorded``), and what each process may have on the disk beyond its records (its *lease*). The sum
of both is never less than what is on the disk. When a process records a file that bears its mark,
the cost moves from its lease to the record, and back when it removes such a record; a file that
somebody else removes, with its record, is room for everybody (`icatfs.content.recorder`).

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

from icatfs.content.books import Books
from icatfs.content.database import NAME, connect, transaction
from icatfs.content.record import COLUMNS, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from icatfs.values import ContentVersion

T = TypeVar("T")

_PATIENCE_S = 0.1
_PATIENCE_IN_THREADS_S = 20.0
_AT_ONCE = 100
_PAGES_OF_LOG = 250
"""Of 4 KiB: the log is copied into the database, and synced, when it has more; in a thread."""


def parts(subjects: Sequence[T]) -> Iterator[Sequence[T]]:
    """What one transaction is for: nobody has to wait for long."""
    for start in range(0, len(subjects), _AT_ONCE):
        yield subjects[start : start + _AT_ONCE]


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
        path = folder / NAME
        with suppress(FileExistsError):  # to open and close one that is in use would end its locks
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(path, flags, 0o600))
        there = connect(str(path), _PATIENCE_IN_THREADS_S, check=alone)
        there.execute(f"PRAGMA wal_autocheckpoint={_PAGES_OF_LOG}")
        here = connect(str(path), _PATIENCE_S)
        here.execute("PRAGMA wal_autocheckpoint=0")
        return cls(here, there, mark, max_bytes)

    @classmethod
    def in_memory(cls, mark: str) -> Index:
        """One that ends with the process, of a cache that holds nothing."""
        name = f"file:{mark}?mode=memory&cache=shared"
        there = connect(name, _PATIENCE_IN_THREADS_S)
        return cls(connect(name, _PATIENCE_S), there, mark, 0)

    def close(self) -> None:
        """Close both connections."""
        self._here.close()
        self._there.close()

    def shrink(self) -> None:
        """Let the disk have what records took that are gone; best by who is alone. Blocks."""
        with suppress(sqlite3.Error):
            self._there.execute("VACUUM")

    # From the event loop. Each raises sqlite3.Error.

    def find(self, version: ContentVersion) -> list[Record]:
        """The records of a version, the fullest first."""
        rows = self._here.execute(
            f"SELECT {COLUMNS} FROM content WHERE datafile = ? ORDER BY held DESC",
            (version.datafile,),
        )
        records = [Record.of_row(row) for row in rows.fetchall()]
        return [record for record in records if record is not None and record.version == version]

    def whole(self, version: ContentVersion) -> list[str]:
        """The names of the files that have all bytes of a version."""
        rows = self._here.execute(
            "SELECT name FROM content WHERE datafile = ? AND catalogued_size IS ? AND mtime_ns = ?"
            " AND checksum IS ? AND held = size",
            (version.datafile, version.size, version.mtime_ns, version.checksum),
        )
        return [name for (name,) in rows.fetchall()]

    @contextmanager
    def changing(self) -> Iterator[Books]:
        """One transaction; nobody else changes anything meanwhile."""
        with transaction(self._here):
            yield Books(self._here, self._mark, self.max_bytes)

    def count(self) -> tuple[int, int]:
        """How many data files have a record, and how many bytes records and leases take."""
        (files,) = self._here.execute("SELECT count(*) FROM content").fetchone()
        return files, Books(self._here, self._mark, self.max_bytes).total()

    def counted(self, names: Iterable[str]) -> int:
        """How much the records of these files count; nothing where there is none any more."""
        books = Books(self._here, self._mark, self.max_bytes)
        return sum(map(books.cost, names))

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

    def each(self, change: Callable[[Books, T], object], subjects: Sequence[T]) -> None:
        """In several transactions."""
        for part in parts(subjects):
            with self.changing_there() as books:
                for subject in part:
                    change(books, subject)

    @contextmanager
    def reading_there(self) -> Iterator[Books]:
        """A look, in a worker thread; others may change things meanwhile. Blocks; sqlite3.Error."""
        with self._turn:
            yield Books(self._there, self._mark, self.max_bytes)

    @contextmanager
    def changing_there(self) -> Iterator[Books]:
        """One transaction, in a worker thread. Blocks; sqlite3.Error."""
        with self._turn, transaction(self._there):
            yield Books(self._there, self._mark, self.max_bytes)
