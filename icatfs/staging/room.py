"""How much may be staged: what the user allows, and what the disk has but for a reserve.

Staged bytes are the only copy of what a program wrote, so nothing makes room for new ones: a
write that does not fit is refused, before any of it is written. Looking costs a system call for
each staged file, so an allowance is taken at each look and used up before the next; others who
fill the disk meanwhile can make it too large by that much, never more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from icatfs.errors import NoSpace

if TYPE_CHECKING:
    from pathlib import Path

_ALLOWANCE = 16 * 2**20


class Room:
    """The room for staged files in one folder, whichever process has them."""

    def __init__(self, folder: Path, max_bytes: int | None = None, min_free: int = 0) -> None:
        # given
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free = min_free
        # mutable: what may be written before the next look
        self._allowance = 0

    def take(self, size: int) -> None:
        """Room for so many bytes, which are about to be written; NoSpace if there is none."""
        if size > self._allowance:
            self._allowance = self._look(size)
        self._allowance -= size

    def check(self, size: int) -> None:
        """NoSpace if there is no room for so many bytes, which nobody writes yet."""
        if size > self._allowance:
            self._allowance = self._look(size)

    def _look(self, size: int) -> int:
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize - self._min_free
        if size > free:
            raise NoSpace(
                f"the staging disk is full ({self._folder}): free some space there, then write "
                "again; what was written before is intact"
            )
        if self._max_bytes is None:
            return min(free, max(size, _ALLOWANCE))
        left = self._max_bytes - self._used()
        if size > left:
            raise NoSpace(
                f"what waits to be sent to the facility has all the space it may have "
                f"(staging_size, {self._max_bytes} bytes): wait until it is sent, or look with "
                "icatfs pending what cannot be"
            )
        return min(free, left, max(size, _ALLOWANCE))

    def _used(self) -> int:
        used = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".data"):
                    try:
                        used += entry.stat().st_blocks * 512
                    except FileNotFoundError:  # sent meanwhile
                        continue
        return used
