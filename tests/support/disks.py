"""Disks that are small, fail, or alter what was written."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FIEMAP = 0xC020660B
_EXTENTS_AT_MOST = 64
_DELAYED = 0x4
_HEAD, _EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")


def is_delayed(path: Path) -> bool:
    """Whether bytes of a file are in memory only: the disk has not been told where they go.

    OSError where the file system does not say that.
    """
    answer = bytearray(_HEAD.size + _EXTENTS_AT_MOST * _EXTENT.size)
    _HEAD.pack_into(answer, 0, 0, 2**64 - 1, 0, 0, _EXTENTS_AT_MOST, 0)
    with path.open("rb") as file:
        fcntl.ioctl(file, _FIEMAP, answer)
    count = _HEAD.unpack_from(answer)[3]
    extents = (_EXTENT.unpack_from(answer, _HEAD.size + one * _EXTENT.size) for one in range(count))
    return any(flags & _DELAYED for *_, flags, _, _, _ in extents)


def flip(path: Path, place: int) -> None:
    """Alter one bit of the byte there."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


class Disk:
    """A file system of its own in memory, that can be filled."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def fill(self, size: int) -> None:
        """Let other things take so many bytes of it, or all that there is."""
        self._ballast.unlink(missing_ok=True)
        if size:
            with self._ballast.open("wb") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Disk | None]:
    """A disk at this folder for the time of a block; None where nobody may mount one."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


_SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
"""FS_IOC_SHUTDOWN of ``linux/fs.h``."""
_AS_THE_DISK_IS = struct.pack("I", 2)
"""Nothing more is written: what is only in memory is lost, as when a machine loses its power."""


class FailingDisk:
    """A disk of its own, ext4, that can lose its power."""

    def __init__(self, folder: Path, image: Path) -> None:
        self._folder = folder
        self._image = image

    def lose_power(self) -> None:
        """What is not on the disk now never gets there; nothing can be written any more."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _AS_THE_DISK_IS)
        finally:
            os.close(descriptor)

    def come_back(self) -> None:
        """The power is there again; nobody may have files of the disk open any more."""
        subprocess.run(["umount", self._folder], check=True)
        self.mount()

    def mount(self) -> None:
        """As after the start of the machine."""
        subprocess.run(["mount", "-o", "loop", self._image, self._folder], check=True)


@contextmanager
def failing_disk(folder: Path, size: int = 64 << 20) -> Iterator[FailingDisk | None]:
    """A disk at this folder for the time of a block; None where nobody may mount one."""
    folder.mkdir(exist_ok=True)
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size)
    disk = FailingDisk(folder, image)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        disk.mount()
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def promising_disk(folder: Path, size: int) -> Iterator[Disk | None]:
    """A disk at this folder, None as above; with the one beside it full, it keeps no byte more.

    It takes them still: so do disks that were promised more than there is, and disks across a
    network. Who writes has been told that all is well when the system finds that there is no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    below = folder.with_name(f"{folder.name}-below")
    image = below / "image"
    make = ["mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=0", "-N", "256"]
    with small_disk(below, size) as disk:
        if disk is None:
            yield None
            return
        with image.open("wb") as file:
            file.truncate(4 * size)
        try:
            subprocess.run([*make, image], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        except (OSError, subprocess.CalledProcessError):
            yield None
            return
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
