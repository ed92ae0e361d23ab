"""A folder on a disk that several hosts share is used by the processes of one of them at a time.

SQLite's WAL must not be shared with another host at all, and the locks of its processes may not
reach us. So whoever uses such a folder holds a shared lock on a file in it that names the boot of
the machine: who finds another boot there, while the folder is in use, leaves it alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BOOT = "/proc/sys/kernel/random/boot_id"
_ENTERS_WITHIN_S = 10.0
_LOOKS_EVERY_S = 0.02


@contextmanager
def shared_by_this_host(folder: Path) -> Iterator[bool]:
    """Whether this block may use a folder: no other host does, and none will meanwhile. OSError."""
    fd = os.open(folder / "host", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        alone = lock(fd)
        if alone:
            fcntl.flock(fd, fcntl.LOCK_SH)  # in two steps, between which another host may come
        yield alone is not None and os.pread(fd, 100, 0) == _boot()
    finally:
        os.close(fd)


def lock(fd: int) -> bool | None:
    """Lock a folder by this file, for all processes of this host together. Blocks.

    Whether we are alone in it, and nobody else can come; None if it is another host's.
    """
    boot = _boot()
    give_up = time.monotonic() + _ENTERS_WITHIN_S
    while True:
        if locked(fd, fcntl.LOCK_EX):
            os.pwrite(fd, boot, 0)  # a full disk has room for what is there already
            os.ftruncate(fd, len(boot))
            return True
        if locked(fd, fcntl.LOCK_SH):
            return False if os.pread(fd, 100, 0) == boot else None
        if time.monotonic() > give_up:  # somebody has been alone there for long
            return None
        time.sleep(_LOOKS_EVERY_S)


def locked(fd: int, kind: int) -> bool:
    """Whether this lock is ours now; what lock the descriptor had before may be lost if not."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _boot() -> bytes:
    with open(_BOOT, encoding="ascii") as file:
        return file.read().strip().encode()
