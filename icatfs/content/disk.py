"""What the disk can do for the cache: free parts of a file, sync everything, take a file over."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COPIED_AT_MOST = 16 * 2**20
_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_libc = ctypes.CDLL(None, use_errno=True)


def free_on(folder: Path) -> int:
    """How many bytes the disk of a folder has left; none where that is no more."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def punch(fd: int, start: int, stop: int) -> bool:
    """Give the blocks of [start, stop) back to the disk; False where that cannot be done."""
    try:
        failed = _libc.fallocate(
            fd,
            _PUNCH_HOLE | _KEEP_SIZE,
            ctypes.c_int64(start),
            ctypes.c_int64(stop - start),
        )
    except AttributeError:
        return False
    return not failed


def sync_file_system(folder: str) -> None:
    """Return when everything written below the folder so far is on the disk; blocks. OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code or errno.EIO, os.strerror(code or errno.EIO), folder)
    finally:
        os.close(fd)


def moved(source: Path, target: Path, size: int) -> bool:
    """Whether the file is now at its new place, to where it was moved or, if small, copied."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or size > _COPIED_AT_MOST or not _copied(source, target):
            return False
    os.chmod(target, 0o600)
    return True


def _copied(source: Path, target: Path) -> bool:
    """Whether there is a copy now; else nothing is left of it."""
    try:
        shutil.copyfile(source, target)
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        return False
    return True
