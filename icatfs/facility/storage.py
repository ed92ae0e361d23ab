"""Main storage: the stored bytes of Datafiles, as files or by formula, with damage on request.

The row of a Datafile in ``_stored`` says where its bytes come from: ``pattern:<seed>`` (see
``patterns``) or ``file:<name>`` in the folder. What is on tape is the business of ``archive``: the
bytes stay here and are refused. Damage (cut short, lost) concerns the copy in main storage only and
ends when that copy is made anew.
"""

from __future__ import annotations

import os
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility import patterns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from icatfs.facility.database import Database

_DDL = """
CREATE TABLE IF NOT EXISTS _stored (
    datafile_id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    size INTEGER NOT NULL,
    kept INTEGER  -- bytes left of the copy in main storage: null all, -1 no copy at all
)
"""
_LOST = -1
_INSERT = "INSERT OR REPLACE INTO _stored (datafile_id, source, size) VALUES (?, ?, ?)"


class Missing(Exception):
    """Main storage has no bytes of this Datafile."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that were received completely: their source, and what IDS tells about them."""

    source: str
    size: int
    crc32: int


class Reader:
    """The stored bytes of one Datafile, open for reading. ``corrupt_at``: that byte is damaged."""

    def __init__(self, source: str, size: int, folder: Path, corrupt_at: int | None) -> None:
        kind, _, name = source.partition(":")
        # constant
        self.size = size
        self._corrupt_at = corrupt_at
        self._seed = int(name) if kind == "pattern" else None
        # mutable
        self._file = None if self._seed is not None else os.open(folder / name, os.O_RDONLY)

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; none at the end."""
        size = max(0, min(size, self.size - offset))
        if self._seed is not None:
            data = patterns.read(self._seed, offset, size)
        else:
            assert self._file is not None
            data = os.pread(self._file, size, offset)
        if self._corrupt_at is not None and offset <= self._corrupt_at < offset + len(data):
            at = self._corrupt_at - offset
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Incoming:
    """An upload under way: a file that belongs to no Datafile yet."""

    def __init__(self, folder: Path) -> None:
        # constant
        self._name = str(uuid.uuid4())
        self._path = folder / self._name
        # mutable: what was written so far
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._size = 0
        self._crc32 = 0
        self._open = True

    def write(self, data: bytes) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(data)
        self._crc32 = zlib.crc32(data, self._crc32)

    def finish(self) -> Upload:
        """The complete upload; the file is kept."""
        self._close()
        return Upload(f"file:{self._name}", self._size, self._crc32)

    def discard(self) -> None:
        """Remove the file."""
        self._close()
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._file)


class Storage:
    """The bytes of all Datafiles of a facility."""

    def __init__(self, db: Database, folder: Path) -> None:
        """``folder`` takes the files; it is made if it is not there."""
        # given
        self._db = db.connection
        self._transaction = db.transaction
        self._folder = folder
        # mutable: bytes that are read wrongly, by Datafile
        self._corrupt: dict[int, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._db.execute(_DDL)

    # For holdings.

    def keep(self, datafile: int, data: bytes) -> None:
        """Store these bytes as the content of a Datafile."""
        incoming = self.incoming()
        incoming.write(data)
        self.adopt(datafile, incoming.finish())

    def keep_patterns(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Content by formula for many Datafiles: (id, seed, size)."""
        stored = ((datafile, f"pattern:{seed}", size) for datafile, seed, size in rows)
        with self._transaction():
            self._db.executemany(_INSERT, stored)

    def pattern_crc32(self, seed: int, size: int) -> int:
        """The CRC-32 of such content."""
        return patterns.crc32(seed, size)

    # For the data service.

    def open(self, datafile: int) -> Reader:
        """The copy in main storage; raises Missing."""
        row = self._db.execute(
            "SELECT source, size, kept FROM _stored WHERE datafile_id = ?", (datafile,)
        ).fetchone()
        if row is None or row[2] == _LOST:
            raise Missing(f"no stored bytes of Datafile {datafile}")
        source, size, kept = row
        length = size if kept is None else min(size, kept)
        try:
            return Reader(source, length, self._folder, self._corrupt.get(datafile))
        except FileNotFoundError as error:
            raise Missing(f"the stored file of Datafile {datafile} is gone") from error

    def has(self, datafile: int) -> bool:
        """Whether main storage has a copy."""
        row = self._db.execute(
            "SELECT kept FROM _stored WHERE datafile_id = ?", (datafile,)
        ).fetchone()
        return row is not None and row[0] != _LOST

    def incoming(self) -> Incoming:
        """A file for an upload."""
        return Incoming(self._folder)

    def adopt(self, datafile: int, upload: Upload) -> None:
        """Make an upload the content of a Datafile."""
        self._db.execute(_INSERT, (datafile, upload.source, upload.size))

    def drop(self, upload: Upload) -> None:
        """Remove the bytes of an upload that belongs to no Datafile."""
        self._unlink(upload.source)

    def remove(self, datafiles: Iterable[int]) -> None:
        """Forget the bytes of these Datafiles."""
        for datafile in datafiles:
            row = self._db.execute(
                "DELETE FROM _stored WHERE datafile_id = ? RETURNING source", (datafile,)
            ).fetchone()
            if row is not None:
                self._unlink(row[0])

    def renew(self, datafiles: Iterable[int]) -> None:
        """The copies in main storage are new: no damage is left."""
        with self._transaction():
            self._db.executemany(
                "UPDATE _stored SET kept = NULL WHERE datafile_id = ? AND kept IS NOT NULL",
                ((datafile,) for datafile in datafiles),
            )

    # For tests.

    def content(self, datafile: int) -> bytes:
        """All true bytes, undamaged; raises Missing."""
        row = self._db.execute(
            "SELECT source, size FROM _stored WHERE datafile_id = ?", (datafile,)
        ).fetchone()
        if row is None:
            raise Missing(f"no stored bytes of Datafile {datafile}")
        reader = Reader(row[0], row[1], self._folder, None)
        try:
            return reader.read(0, reader.size)
        finally:
            reader.close()

    def truncate(self, datafile: int, length: int) -> None:
        """Cut the copy in main storage."""
        self._mark(datafile, length)

    def lose(self, datafile: int) -> None:
        """Remove the copy in main storage."""
        self._mark(datafile, _LOST)

    def corrupt(self, datafile: int, offset: int) -> None:
        """From now on one bit of that byte is read wrongly."""
        self._corrupt[datafile] = offset

    def heal(self) -> None:
        """Undo all damage."""
        self._corrupt.clear()
        self._db.execute("UPDATE _stored SET kept = NULL WHERE kept IS NOT NULL")

    def _mark(self, datafile: int, kept: int) -> None:
        self._db.execute("UPDATE _stored SET kept = ? WHERE datafile_id = ?", (kept, datafile))

    def _unlink(self, source: str) -> None:
        kind, _, name = source.partition(":")
        if kind == "file":
            (self._folder / name).unlink(missing_ok=True)
