"""What can go wrong with the bytes of a facility, and how a read may fail for it.

Shared by the state machine of `tests/model` and by the soak test.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from support.disks import flip

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

DATA = "ids/getData"

DOCUMENTED = {
    errno.EIO,
    errno.EACCES,
    errno.EBUSY,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
}

PASSING: list[dict[str, Any]] = [
    {"kind": "latency", "seconds": 0.05},
    {"kind": "session"},
    {"kind": "reset"},
    {"kind": "reset", "after_bytes": 100_000},
    {"kind": "reset", "after_bytes": 3_000_000},
    {"kind": "stall", "seconds": 0.5},
    {"kind": "stall", "seconds": 0.5, "after_bytes": 700_000},
    {"kind": "truncate", "after_bytes": 0},
    {"kind": "truncate", "after_bytes": 1_000_000},
    {"kind": "truncate_hidden", "after_bytes": 2_000_000},
    {"kind": "corrupt", "after_bytes": 500_000},
    {"kind": "html", "status": 502},
    {"kind": "html", "status": 404},
    {"kind": "error", "status": 500},
    {"kind": "error", "status": 503, "code": "DataNotOnlineException", "message": "busy"},
]
"""Of some requests, and then no more."""

LASTING: list[dict[str, Any]] = [
    {"kind": "missing"},
    {"kind": "corrupt", "after_bytes": 1_234_567},
    {"kind": "wrong_size", "delta": 1},
    {"kind": "wrong_size", "delta": -1},
    {"kind": "truncate_stored", "after_bytes": 1_000_000},
]
"""Of a stored file, until it is mended. The last costs some silences of 20 s to find out."""

TAPE: list[dict[str, Any]] = [
    {"kind": "restore_slow", "seconds": 0.2},
    {"kind": "restore_fails"},
    {"kind": "restore_never"},
]
"""Of data that went to the archive."""

OF_NO_CONCERN: list[dict[str, Any]] = [{"kind": "read_only"}, {"kind": "disk_full"}]
"""To who reads."""


@contextmanager
def documented() -> Iterator[None]:
    """What is tried in this block works, or fails in a way that the README tells of."""
    try:
        yield
    except OSError as error:
        if error.errno not in DOCUMENTED:
            raise


def is_read(path: Path, content: bytes) -> bool:
    """Whether a file can be read; an error is not that, other bytes fail the test."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    assert data == content
    return True


def read_at(fd: int, size: int, offset: int) -> bytes:
    """All of it up to the end of the file, or an OSError.

    A read of the kernel's that fails half way gives what came before, and the error to who asks for
    the rest: as programs do.
    """
    pieces: list[bytes] = []
    while size and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def is_right(fd: int, data: bytes, content: bytes, offset: int, size: int) -> bool:
    """Whether what came is what there is, up to where the catalogue says that the file ends.

    A file whose size there is too small by one has nothing at its last byte. That its bytes are not
    what they should be can be told only to who reads some of them.
    """
    if data == content[offset : offset + size]:
        return True
    return not data and os.fstat(fd).st_size <= offset


def flip_a_bit(path: Path, dice: random.Random | None = None) -> None:
    """One bit of a file, in its middle or anywhere, is no more what it was."""
    size = path.stat().st_size
    place = size // 2 if dice is None else dice.randrange(max(size, 1))
    if size:
        with suppress(OSError):  # a hole, on a disk that is full
            flip(path, place)
