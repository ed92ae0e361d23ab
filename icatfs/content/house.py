"""What a cached file needs from the store, and the right to write into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from icatfs.content.cached import Cached
    from icatfs.content.datafile import DataFile
    from icatfs.values import ContentVersion

FILE_COST = 4096
"""What a data file takes beside its bytes: the rest of its last block."""


class House(Protocol):
    """What a cached file needs from the store."""

    folder: Path
    withdrawals: Counter[ContentVersion]
    """How often bytes that had been read were dropped as wrong; of the few that ever were."""

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        ...

    def disk_refused(self, count: int) -> bool:
        """The disk took no more: make room for so many bytes; whether it may work now."""
        ...

    def count(self, change: int) -> None:
        """So many bytes more, or fewer, are on the disk."""
        ...

    def new_name(self, version: ContentVersion) -> str:
        """The name of a new data file, used once."""
        ...

    def forget(self, version: ContentVersion, name: str, recorded: int) -> None:
        """Remove a data file, if it is there, and its record, which should count so much."""
        ...

    def discard(self, version: ContentVersion, file: DataFile, cost: int, recorded: int) -> None:
        """Remove an open data file that cost so much, of which so much should be recorded."""
        ...

    def changed(self, cached: Cached) -> None:
        """There is something new to be recorded."""
        ...

    def unpinned(self, cached: Cached) -> None:
        """Nobody has it open any more."""
        ...

    @property
    def spread(self) -> int:
        """How many bytes one file may run ahead of its readers."""
        ...


class Grant:
    """The right to write [start, stop) into the data file ``fd``, from anywhere in any process.

    ``fd`` belongs to the cached file, which may give it up at any checkpoint: pass it on, or
    duplicate it, before yours. ``file`` is one number for each data file that was ever made: where
    it is that of another grant, so is the file.
    """

    __slots__ = ("fd", "file", "start", "stop", "written")

    def __init__(self, fd: int, file: int, start: int, stop: int) -> None:
        # given
        self.fd = fd
        self.file = file
        self.start = start
        self.stop = stop
        # mutable
        self.written = start
        """What arrived so far ends here."""
