"""Kept listings as the owner of a cache folder sees them: how many, remove them, check all of them.

For the command line; everything here blocks. It works beside running mounts: a mount reads a file
of these in one go and never keeps it open, and one that has gone costs it what the listing costs at
the facility. Files are replaced as a whole, so what is read here is one listing or another.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from icatfs.catalogue import kept

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABANDONED_S = 3600.0
"""No file is being written for so long: whoever began it is no more."""


@dataclass(frozen=True, slots=True)
class Listings:
    """How many a cache folder has, and what they take of the disk, in bytes."""

    count: int
    held: int


@dataclass(frozen=True, slots=True)
class WrongListing:
    """A file that is gone now, and what was wrong with it."""

    file: str
    reason: str


@dataclass(slots=True)
class Checked:
    """How many were as they had been written; which were not, are gone now, and why."""

    right: int = 0
    wrong: list[WrongListing] = field(default_factory=list)


def account(cache: Path) -> Listings:
    """What a cache folder has; changes nothing. OSError where it cannot be read."""
    sizes = [stat.st_blocks * 512 for _, stat in _files(cache, kept.SUFFIX)]
    return Listings(len(sizes), sum(sizes))


def clear(cache: Path) -> Listings:
    """Remove all, and what was left half written; what has gone. OSError."""
    removed = []
    for path, stat in _files(cache, kept.SUFFIX):
        if _remove(path, stat.st_ino):
            removed.append(stat.st_blocks * 512)
    for path, stat in _files(cache, kept.UNFINISHED):
        if time.time() - stat.st_mtime > _ABANDONED_S:
            _remove(path, stat.st_ino)
    return Listings(len(removed), sum(removed))


def verify(cache: Path) -> Checked:
    """Compare all with the CRC-32s that were written with them, and remove what is wrong. OSError.

    One of another version of icatfs is wrong, too: no mount would use it.
    """
    checked = Checked()
    for path, _ in _files(cache, kept.SUFFIX):
        with suppress(FileNotFoundError):
            inode, reason = path.lstat().st_ino, _fault(path)
            if not reason:
                checked.right += 1
            elif _remove(path, inode):
                checked.wrong.append(WrongListing(path.name, reason))
    return checked


def _fault(path: Path) -> str:
    """What is wrong with a listing; empty if nothing is."""
    try:
        with kept.opened(path) as file:
            key, _ = kept.read(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        return str(error)
    return "" if path == kept.path_of(path.parent, key) else f"it is of {key.kind} {key.id}"


def _files(cache: Path, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
    """What has such a name and is no folder; what goes meanwhile is left out."""
    try:
        entries = list(os.scandir(cache / kept.FOLDER))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.endswith(suffix) and not entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _remove(path: Path, inode: int) -> bool:
    """Whether this very file has gone; one that has taken its place meanwhile stays."""
    with suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
            return True
    return False
