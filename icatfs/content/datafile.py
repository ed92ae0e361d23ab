"""One data file of the cache: created, written, freed in part. No fault of the disk is raised."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from icatfs.content import disk

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

_numbers = count(1)


class DataFile:
    """An open data file. ``number`` is that of no other that this process ever opens."""

    __slots__ = ("fd", "folder", "name", "number")

    def __init__(self, folder: Path, name: str, fd: int) -> None:
        # given
        self.folder = folder
        self.fd = fd
        # constant
        self.number = next(_numbers)
        # mutable
        self.name = name

    @classmethod
    def create(cls, folder: Path, name: str) -> DataFile | None:
        """A new file; None where the disk refuses."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return cls(folder, name, os.open(folder / name, flags, 0o600))
        except OSError as error:
            log.debug("the cache's disk refuses: %s", error)
            return None

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

    def close(self) -> None:
        """Give the descriptor up."""
        with suppress(OSError):
            os.close(self.fd)
