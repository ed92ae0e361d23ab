"""What the index says of one data file."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from icatfs.content.chunks import Checksums
from icatfs.content.house import FILE_COST
from icatfs.values import ContentVersion, DatafileId

_NAME = re.compile(r"-?\d+-([0-9a-f]{16})-\d+")

COLUMNS = "name, datafile, catalogued_size, mtime_ns, checksum, size, pieces, held, precious, proof"


def mark_of(name: str) -> str | None:
    """The mark of the process that may write to a data file; None if no process named it."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


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
    precious: bool = False
    """Whether it was costly to get: it is kept longer."""
    recorded: int = 0
    """What the index counts for it now, as far as we know; the rest is in our lease."""

    @property
    def complete(self) -> bool:
        """Whether it has every byte; it is then never written to again."""
        return self.held == self.size

    @property
    def cost(self) -> int:
        """What it takes of the disk."""
        return self.held + FILE_COST

    @property
    def end(self) -> int:
        """How long the data file is at least."""
        if self.pieces is None or self.complete:
            return self.held
        return self.checksums().extents().end

    @property
    def proof(self) -> int:
        """A checksum of the record itself."""
        text = repr((self.name, self.version, self.size, self.pieces, self.held))
        return zlib.crc32(text.encode())

    def row(self) -> tuple[object, ...]:
        """The values of `COLUMNS`."""
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
            self.precious,
            self.proof,
        )

    @classmethod
    def of_row(cls, row: tuple[object, ...]) -> Record | None:
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
                int(precious),
                int(proof),
            ):
                version = ContentVersion(DatafileId(datafile), catalogued, mtime_ns, checksum)
                cost = held + FILE_COST
                record = cls(name, version, size, pieces, held, bool(precious), cost)
                return record if record.proof == proof and record.is_sound() else None
        return None

    def is_sound(self) -> bool:
        """Whether it agrees with itself and names a file of the folder."""
        try:
            extents = self.checksums().extents()
        except ValueError:
            return False
        limit = self.version.size if self.version.size is not None else self.size
        return (
            mark_of(self.name) is not None
            and extents.total == self.held
            and (limit is None or extents.end <= limit)
        )

    def checksums(self) -> Checksums:
        """What is there; ValueError."""
        return Checksums.unpack(self.pieces or b"")
