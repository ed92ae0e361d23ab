"""Contents of files: bytes, and what the catalogue says of them."""

from __future__ import annotations

import random
import zlib

from icatfs.values import ContentVersion, DatafileId


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
