"""The record of what the cache holds, in SQLite beside the files.

A record may be missing or wrong in one way only: by claiming too little. So the bytes of a file are
synced before its record is written; every data file has a name that is used once, so that a late
record of a file that is gone refers to nothing; and a record that cannot be right (torn, foreign,
of another version, of a file that is too short) counts as none.

The database is in WAL mode with ``synchronous=NORMAL``: the last records may be lost in a power
cut, which costs cached bytes and nothing else. One connection reads, on the event loop; another one
writes, in a worker thread, one call at a time.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from icatfs.content.chunks import Checksums, Piece, cut
from icatfs.content.disk import sync_file_system
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FORMAT = 2
_FILES_SYNCED_ONE_BY_ONE = 16
_SCHEMA = """
CREATE TABLE IF NOT EXISTS content (
    name TEXT PRIMARY KEY,
    datafile INTEGER NOT NULL,
    catalogued_size INTEGER,
    mtime_ns INTEGER NOT NULL,
    checksum TEXT,
    size INTEGER,
    pieces BLOB NOT NULL,
    held INTEGER NOT NULL,
    used_at REAL NOT NULL,
    proof INTEGER NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "name, datafile, catalogued_size, mtime_ns, checksum, size, pieces, held, used_at, proof"


@dataclass(frozen=True, slots=True)
class Record:
    """What one data file holds. ``size`` is that of the whole content, None while not known."""

    name: str
    version: ContentVersion
    size: int | None
    pieces: bytes | None
    """What is there, with its CRC-32s, as `icatfs.content.chunks.Checksums` packs it.

    None for a whole file that came from elsewhere: it is read when it is recorded.
    """
    held: int
    """How many bytes that is."""
    used_at: float
    """Wall clock; orders eviction across restarts."""

    @property
    def proof(self) -> int:
        """A checksum of the record itself."""
        text = repr((self.name, self.version, self.size, self.pieces, self.held))
        return zlib.crc32(text.encode())

    def row(self) -> tuple[object, ...]:
        """The values of the table's columns."""
        version = self.version
        return (
            self.name,
            version.datafile,
            version.size,
            version.mtime_ns,
            version.checksum,
            self.size,
            self.pieces,
            self.held,
            self.used_at,
            self.proof,
        )


def _record(row: tuple[object, ...]) -> Record | None:
    """The record in a row; None if it is not as we wrote it."""
    match row:
        case (
            str(name),
            int(datafile),
            (int() | None) as catalogued,
            int(mtime_ns),
            (str() | None) as checksum,
            (int() | None) as size,
            bytes(pieces),
            int(held),
            float(used_at),
            int(proof),
        ):
            version = ContentVersion(DatafileId(datafile), catalogued, mtime_ns, checksum)
            record = Record(name, version, size, pieces, held, used_at)
            return record if record.proof == proof and is_sound(record) else None
    return None


def is_sound(record: Record) -> bool:
    """Whether the record agrees with itself and names a file of this folder."""
    if "/" in record.name or record.name.startswith("."):
        return False
    try:
        extents = Checksums.unpack(record.pieces or b"").extents()
    except ValueError:
        return False
    limit = record.version.size if record.version.size is not None else record.size
    return extents.total == record.held and (limit is None or extents.end <= limit)


class Index:
    """The records of one cache folder; the data files are in its sub-folder ``data``."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates; a database that is none, or of another format, is replaced."""
        # given
        self.data = folder / "data"
        # constant
        self._path = folder / "index.sqlite"
        try:
            self._writer = self._open()
        except sqlite3.DatabaseError:
            self._discard()
            self._writer = self._open()
        self._reader = sqlite3.connect(self._path, check_same_thread=False)

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise sqlite3.DatabaseError(f"format {found}")
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA user_version={_FORMAT}")
            connection.execute("SELECT count(*) FROM content").fetchone()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()

    def all(self) -> Iterator[Record]:
        """Every sound record, the least recently used first."""
        for row in self._reader.execute(f"SELECT {_COLUMNS} FROM content ORDER BY used_at"):
            record = _record(row)
            if record is not None:
                yield record

    def find(self, name: str) -> Record | None:
        """The record of a data file; None when there is none that can be trusted."""
        try:
            row = self._reader.execute(
                f"SELECT {_COLUMNS} FROM content WHERE name = ?", (name,)
            ).fetchone()
        except sqlite3.Error:
            return None
        return _record(row) if row is not None else None

    def write(self, records: Sequence[Record], gone: Sequence[str]) -> None:
        """Make the bytes of these records safe, then the records; forget those of ``gone``.

        Blocks. OSError or sqlite3.Error: nothing has changed.
        """
        present = self._sync(records)
        with self._writer as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.executemany(
                f"INSERT OR REPLACE INTO content ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)",
                [record.row() for record in present],
            )
            writer.executemany("DELETE FROM content WHERE name = ?", [(name,) for name in gone])

    def _sync(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records whose files are still there, all of their bytes on the disk."""
        if len(records) > _FILES_SYNCED_ONE_BY_ONE:
            sync_file_system(str(self.data))
            return [read for record in records if (read := self._read(record)) is not None]
        return [synced for record in records if (synced := self._synced(record)) is not None]

    def _synced(self, record: Record) -> Record | None:
        with self._opened(record) as fd:
            if fd is not None:
                os.fdatasync(fd)
        return self._read(record)

    def _read(self, record: Record) -> Record | None:
        """The record with its pieces; None if the file has gone, or is not what it should be."""
        with self._opened(record) as fd:
            if fd is None or record.pieces is not None:
                return record if fd is not None else None
            checksums = checksums_of(fd, record.held)
        if record.version.crc32 not in (None, checksums.whole(record.held)):
            return None
        return replace(record, pieces=checksums.pack(checksums.chunks()))

    @contextmanager
    def _opened(self, record: Record) -> Iterator[int | None]:
        try:
            fd = os.open(self.data / record.name, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)


def checksums_of(fd: int, size: int) -> Checksums:
    """What the first ``size`` bytes of a file are; fewer where it is shorter. Blocks; OSError."""
    checksums = Checksums()
    for start, stop in cut(0, size):
        data = os.pread(fd, stop - start, start)
        if len(data) < stop - start:
            break
        checksums.add(Piece(start, stop, zlib.crc32(data)))
    return checksums
