"""Contents of files: bytes, what the catalogue says of them, and how a store gets them."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from icatfs.content.store import CacheFile, ContentStore


@dataclass(frozen=True)
class Row:
    """What a listing of the catalogue says of a datafile."""

    id: DatafileId
    name: str
    size: int | None


def content_of(size: int, seed: int = 0) -> bytes:
    """Bytes that look like nothing else."""
    return random.Random(seed).randbytes(size)


def version_of(
    data: bytes, datafile: int = 5, *, size: int | None = -1, checksum: str | None = ""
) -> ContentVersion:
    """The catalogue's word for some bytes: the truth, where it is not said otherwise."""
    if size == -1:
        size = len(data)
    if checksum == "":
        checksum = f"{zlib.crc32(data):x}"
    return ContentVersion(DatafileId(datafile), size, 1_700_000_000_000_000_000, checksum)


def same(one: bytes, other: bytes) -> bool:
    """Whether they are equal; pytest would take minutes to show the difference."""
    return one == other


def fill(store: ContentStore, version: ContentVersion, data: bytes) -> None:
    """Cache the whole content."""
    file = store.open(version)
    write(file, data)
    file.close()


def write(file: CacheFile, data: bytes, start: int = 0, piece: int = 65536) -> None:
    """Bring the data from ``start`` on."""
    for offset in range(start, len(data), piece):
        file.pwrite(offset, data[offset : offset + piece])
    settle(file)


def settle(file: CacheFile) -> None:
    """Have it shown if that waits only for a comparison with the catalogue: it is right."""
    if file.unproved:
        assert file.crc == file.version.crc32
        file.settle()


def whole(file: CacheFile, size: int) -> bytes:
    """All of the file, which must be there."""
    settle(file)
    assert file.missing(0, size) is None
    return file.pread(0, size)
