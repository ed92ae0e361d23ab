"""Is this folder fit to mount at, what is mounted there, and how to take it down again.

Reads ``/proc/self/mountinfo`` and never the inside of a mount: a call into a dead or busy file
system may hang, and the process that serves a mount must not touch it at all.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.errors import (
    MountError,
    MountPointBusy,
    MountPointDenied,
    MountPointMissing,
    MountPointNotEmpty,
    NoFuse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEVICE = Path("/dev/fuse")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo: ``device`` is ``major:minor``.

    ``root`` is the path inside the file system that is seen at ``point``, ``/`` unless this is a
    bind mount of a part of it.
    """

    device: str
    root: str
    point: Path
    kind: str
    source: str


def mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> Iterator[Mounted]:
    """All that is mounted; of several at one point the topmost comes last."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            _, _, device, root, point = before.split()[:5]
            kind, source = after.split()[:2]
            yield Mounted(device, _unescape(root), Path(_unescape(point)), kind, _unescape(source))


def mounted_at(point: Path) -> Mounted | None:
    """What is mounted at this absolute path, the topmost if several; None for nothing."""
    found = None
    for mounted in mounts():
        if os.fspath(mounted.point) == os.fspath(point):
            found = mounted
    return found


def prepare(point: Path, device: Path = _DEVICE) -> None:
    """Check that a mount can be made here; clears away the dead mount of a killed daemon.

    Raises the subclass of `MountError` that says what is wrong and what to do.
    """
    _check_fuse(device)
    if is_dead(point):
        detach(point)
    try:
        facts = os.stat(point)
    except OSError as error:
        raise _refusal(point, error) from error
    if mounted_at(point) is not None:
        raise MountPointBusy(
            f"something is mounted at {point} already; remedy: icatfs unmount {point}"
        )
    try:
        entries = os.listdir(point)
    except OSError as error:
        raise _refusal(point, error) from error
    if entries:
        raise MountPointNotEmpty(
            f"{point} is not empty and a mount would hide what is in it; choose an empty folder"
        )
    if os.getuid() != 0 and not (facts.st_uid == os.getuid() and os.access(point, os.W_OK)):
        raise MountPointDenied(f"you may not mount at {point}: choose a folder of your own")


def is_dead(point: Path) -> bool:
    """Whether something was mounted here whose process is gone.

    The kernel may remember the attributes of a dead root for a minute, and answers ``stat`` from
    them; how full a file system is, only its process knows.
    """
    try:
        os.statvfs(point)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def detach(point: Path) -> None:
    """Lazy unmount: gone from the tree at once, whatever still uses it.

    Raises `MountError` with the words of the system.
    """
    _fusermount("-uz", point)


def unmount(point: Path) -> None:
    """Unmount; `MountPointBusy` when programs still use it, else `MountError`."""
    _fusermount("-u", point)


def _fusermount(flags: str, point: Path) -> None:
    program = shutil.which("fusermount3")
    if program is None:
        raise NoFuse("there is no fusermount3 on this machine; remedy: apt-get install fuse3")
    done = subprocess.run(
        [program, flags, "--", os.fspath(point)], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return
    words = done.stderr.strip().removeprefix("fusermount3: ")
    if "busy" in words.lower():
        raise MountPointBusy(
            f"programs still use {point}: leave the folder and close its files "
            f"(fuser -vm {point} names them)"
        )
    raise MountError(f"cannot unmount {point}: {words}")


def _check_fuse(device: Path) -> None:
    if not device.exists():
        raise NoFuse(f"there is no {device}: load the kernel module (modprobe fuse)")
    if not os.access(device, os.R_OK | os.W_OK):
        raise NoFuse(f"you may not use {device}: ask an administrator for access")
    if shutil.which("fusermount3") is None:
        raise NoFuse("there is no fusermount3 on this machine; remedy: apt-get install fuse3")


def _refusal(point: Path, error: OSError) -> MountError:
    if error.errno == errno.ENOENT:
        return MountPointMissing(
            f"the mount point {point} does not exist; remedy: mkdir -p {point}"
        )
    if error.errno == errno.ENOTDIR:
        return MountPointMissing(f"the mount point {point} is not a folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        return MountPointDenied(f"you may not mount at {point}: {error.strerror}")
    return MountError(f"cannot mount at {point}: {error.strerror}")


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)
