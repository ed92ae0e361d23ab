"""Which processes share a cache folder, and what of it is whose.

All processes of one host may use a folder together, those of several may not (`icatfs.hosts`): who
finds that another host has it takes the folder beside it, ``<folder>-2``, and so on. The lock of
that is on the folder's file ``lock``.

Who is alone, and only then, may throw the index away.

Each process has a *mark*, used once, which it puts into the names of the data files that it may
write to. While it lives it holds a lock on ``mounts/<mark>``: so everybody can tell what the dead
have left, however they died.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from icatfs import hosts
from icatfs.hosts import locked

if TYPE_CHECKING:
    from pathlib import Path


class Tenancy:
    """A process's share of a cache folder; made by ``share_folder`` or ``share_nothing``."""

    def __init__(self, folder: Path, lock: int, mark: str, own: int, *, alone: bool) -> None:
        # given
        self.folder = folder
        self.mark = mark
        self.alone = alone
        """Whether nobody else has the folder; until ``admit_others``."""
        self._lock = lock
        self._own = own

    def admit_others(self) -> None:
        """Who waits for the folder may have it too."""
        if self.alone:
            self.alone = False
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def is_dead(self, mark: str) -> bool:
        """Whether the process of this mark has ended."""
        if mark == self.mark:
            return False
        if self.alone:
            return True
        try:
            fd = os.open(self.folder / "mounts" / mark, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            return locked(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def bury(self, mark: str) -> None:
        """Nothing is left of a process that is dead; of one that was only about to lock, all is."""
        path = self.folder / "mounts" / mark
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if locked(fd, fcntl.LOCK_EX):
                    path.unlink(missing_ok=True)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Leave the folder."""
        with suppress(OSError):
            (self.folder / "mounts" / self.mark).unlink(missing_ok=True)
        os.close(self._own)
        os.close(self._lock)


def living(folder: Path) -> int:
    """How many processes have a share of this folder. OSError."""
    count = 0
    for entry in os.scandir(folder / "mounts"):
        with suppress(FileNotFoundError):
            fd = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
            count += not locked(fd, fcntl.LOCK_EX)
            os.close(fd)
    return count


def share_folder(folder: Path) -> Tenancy | None:
    """A share of this folder; None while another host has it. Blocks; OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("data", "mounts"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        alone = hosts.lock(fd)
        if alone is not None:
            return Tenancy(folder, fd, *_mark(folder / "mounts"), alone=alone)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None


def share_nothing(folder: Path) -> Tenancy:
    """The share of one who keeps nothing, and is alone with that."""
    lock, own = (os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(2))
    return Tenancy(folder, lock, secrets.token_hex(8), own, alone=True)


def _mark(folder: Path) -> tuple[str, int]:
    """A mark that was never used, and the descriptor that holds its lock."""
    while True:
        mark = secrets.token_hex(8)
        fd = os.open(folder / mark, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if locked(fd, fcntl.LOCK_EX) and os.fstat(fd).st_nlink:
            return mark, fd
        os.close(fd)  # somebody took it for a dead one's before it was locked
