"""Cache folders as their owner sees them: how much is in them, empty them, compare all of it.

For the command line; everything here blocks. It works beside running mounts, as one more process
that shares the folder (`icatfs.content.ownership`): what anybody has open stays, and whoever reads
notices nothing.

What is compared is read without a lock, so that a mount which wants a file meanwhile gets it. What
seems wrong is looked at again under the lock before it is dropped: a file that its mount is writing
may have changed in between; the mount compares that itself when it reads it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.content.books import Home, home_of
from icatfs.content.checking import altered
from icatfs.content.database import NAME
from icatfs.content.datafile import DataFile
from icatfs.content.entering import enter_only, unusable
from icatfs.content.ownership import Tenancy, living
from icatfs.content.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.content.index import Index
    from icatfs.content.record import Record

_PLENTY = 2**62


@dataclass(frozen=True, slots=True)
class Account:
    """What a cache folder has; ``held`` is what its files take of the disk, in bytes."""

    folder: Path
    home: Home | None
    """None where nobody ever said, or another version of icatfs did."""
    files: int
    held: int
    mounts: int
    """How many processes use it now."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was there before, and after."""

    before: Account
    after: Account


@dataclass(frozen=True, slots=True)
class Wrong:
    """A file that is gone now: what it belonged to, and what was wrong with it."""

    datafile: int | None
    reason: str


@dataclass(slots=True)
class Verified:
    """What was compared; of ``in_use`` files, whether they are wrong is for their mounts to say."""

    account: Account
    files: int = 0
    bytes: int = 0
    in_use: int = 0
    wrong: list[Wrong] = field(default_factory=list)


def folders(cache_dir: Path) -> list[Path]:
    """The cache folders below the folder that mounts are given."""
    return sorted(path.parent for path in cache_dir.glob(f"*/{NAME}"))


def account(folder: Path) -> Account:
    """What is in a cache folder; changes nothing. ConfigError."""
    try:
        sizes = _sizes(folder)
        mounts = living(folder)
    except OSError as error:
        raise unusable(folder, error) from error
    return Account(folder, home_of(folder), len(sizes), sum(sizes), mounts)


def clear(folder: Path) -> Cleared:
    """Remove all that nobody has open. ConfigError."""
    before = account(folder)
    with _share(folder, max_bytes=0) as (index, tenancy):
        Room(index, tenancy, _Nobody(), max_bytes=0, min_free_bytes=0).keep_to_budget()
        if tenancy.alone:
            index.shrink()
    return Cleared(before, account(folder))


def verify(folder: Path, progress: Callable[[int], None]) -> Verified:
    """Compare every byte with the CRC-32 it had when it came, and drop the files that are wrong.

    A complete file also with the catalogue's CRC-32. ``progress`` is told how many bytes more were
    compared. ConfigError.
    """
    verified = Verified(account(folder))
    with _share(folder, max_bytes=_PLENTY) as (index, tenancy):
        tenancy.admit_others()
        with index.reading_there() as books:
            names = list(books.names())
        for name in names:
            _verify(index, tenancy, name, verified, progress)
    return verified


def _sizes(folder: Path) -> list[int]:
    sizes = []
    for entry in os.scandir(folder / "data"):
        with suppress(FileNotFoundError):
            if not entry.is_dir(follow_symlinks=False):
                sizes.append(entry.stat(follow_symlinks=False).st_blocks * 512)
    return sizes


@contextmanager
def _share(folder: Path, *, max_bytes: int) -> Iterator[tuple[Index, Tenancy]]:
    """A share of a folder, for as long as the block."""
    try:
        entered = enter_only(folder, max_bytes)
        if entered is None:
            raise OSError("another host, or another version of icatfs, uses it")
        index, tenancy = entered
        try:
            yield index, tenancy
        finally:
            with suppress(sqlite3.Error), index.changing_there() as books:
                books.end_lease(tenancy.mark)
            index.close()
            tenancy.close()
    except (OSError, sqlite3.Error) as error:
        raise unusable(folder, error) from error


class _Nobody:
    """A tenant that has nothing."""

    def give_up(self, count: int) -> None:
        """There is nothing."""

    def evicted(self, name: str, cost: int) -> None:
        """It was not ours."""

    def reclaim(self) -> None:
        """There is nothing."""


def _verify(
    index: Index, tenancy: Tenancy, name: str, verified: Verified, progress: Callable[[int], None]
) -> None:
    """Compare one file; drop it if it is wrong, and not a mount's to be changed."""
    data = tenancy.folder / "data"
    record = _record(index, name)
    try:
        reason = _fault(data, record, progress)
    except FileNotFoundError:
        return  # removed meanwhile, or a record of nothing
    if not reason:
        verified.files += 1
        verified.bytes += record.held if record else 0
        return
    is_complete = record is not None and record.complete
    file = DataFile.open(data, name, is_own=False, complete=is_complete)
    if file is None:
        verified.in_use += 1
        return
    with closing(file):
        if _fault(data, _record(index, name), lambda _: None):
            (data / name).unlink(missing_ok=True)
            with index.changing_there() as books:
                books.erase(name)
            verified.wrong.append(Wrong(record.version.datafile if record else None, reason))


def _record(index: Index, name: str) -> Record | None:
    with index.reading_there() as books:
        return books.find(name)


def _fault(data: Path, record: Record | None, progress: Callable[[int], None]) -> str:
    """What is wrong with a file of this record; empty if nothing is. FileNotFoundError."""
    if record is None:
        return "its record is damaged"
    fd = os.open(data / record.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        checksums = record.checksums()
        for run in checksums:
            if altered([run], lambda start, size: os.pread(fd, size, start)):
                return f"the disk altered bytes in [{run.start}, {run.stop})"
            progress(run.stop - run.start)
    finally:
        os.close(fd)
    crc32 = record.version.crc32
    if record.complete and crc32 not in (None, checksums.whole(record.held)):
        return "it is not what the catalogue says"
    return ""
