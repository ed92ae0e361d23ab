"""One data file of the cache. No fault of the disk is raised.

A file that is not complete is its process's alone: an exclusive lock says so, and its name has the
mark of the process. A complete one is never written to, nor freed in part: everybody reads it, with
a shared lock, which keeps it from being removed while it is of use. The locks are on the
descriptors: they end with the last process that has them, worker processes included.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from icatfs.content import disk
from icatfs.hosts import locked

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.extents import Extents

log = logging.getLogger(__name__)

_numbers = count(1)


class DataFile:
    """An open data file. ``number`` is that of no other that this process ever opens."""

    __slots__ = ("fd", "folder", "is_own", "name", "number")

    def __init__(self, folder: Path, name: str, fd: int, *, is_own: bool) -> None:
        # given
        self.folder = folder
        self.fd = fd
        self.is_own = is_own
        """Whether its room is in our books: it bears our mark."""
        # constant
        self.number = next(_numbers)
        # mutable
        self.name = name

    @classmethod
    def create(cls, folder: Path, name: str) -> DataFile | None:
        """A new file; None where the disk refuses."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(folder / name, flags, 0o600)
        except OSError as error:
            log.debug("the cache's disk refuses: %s", error)
            return None
        fcntl.flock(fd, fcntl.LOCK_EX)
        return cls(folder, name, fd, is_own=True)

    @classmethod
    def open(cls, folder: Path, name: str, *, is_own: bool, complete: bool) -> DataFile | None:
        """A file that is there, locked as it must be; None where it is not, or not ours to have.

        OSError where this process can have no more files open.
        """
        flags = (os.O_RDONLY if complete else os.O_RDWR) | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(f"{folder}/{name}", flags)  # half the price of joining a Path
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            return None
        if locked(fd, fcntl.LOCK_SH if complete else fcntl.LOCK_EX) and os.fstat(fd).st_nlink:
            return cls(folder, name, fd, is_own=is_own)
        os.close(fd)
        return None

    def share(self) -> None:
        """It is complete: others may read it."""
        locked(self.fd, fcntl.LOCK_SH)

    def write(self, offset: int, data: memoryview) -> bool:
        """Whether all of the data are in the file now."""
        try:
            return os.pwrite(self.fd, data, offset) == len(data)
        except OSError as error:
            log.debug("the cache's disk refuses: %s", error)
            return False

    def rename(self, name: str) -> bool:
        """Whether it has this name now."""
        try:
            os.rename(self.folder / self.name, self.folder / name)
        except OSError as error:
            log.debug("a file of the cache cannot be renamed: %s", error)
            return False
        self.name = name
        return True

    def punch(self, start: int, stop: int) -> bool:
        """Give a range back to the disk; False where that cannot be done."""
        return disk.punch(self.fd, start, stop)

    def keep_only(self, extents: Extents) -> None:
        """Give everything back to the disk but these ranges, as far as the disk can."""
        with suppress(OSError):
            os.ftruncate(self.fd, extents.end)
        for start, stop in extents.gaps(0, extents.end):
            disk.punch(self.fd, start, stop)

    def close(self) -> None:
        """Give the descriptor up."""
        with suppress(OSError):
            os.close(self.fd)
