"""The cache on the local disk: who has what open, what is kept, what goes first.

One data file for each content version, named once and never again; an `Index` of what they hold.
The folder belongs to one process at a time (a lock file says so): a second mount of the same user
takes the folder beside it, ``<folder>-2`` and so on, so that no two processes ever write to one.

**Budget.** Every byte that goes to the disk is admitted first. The limit is ``max_bytes`` or what
the disk has free beyond ``min_free_bytes``, whichever is less. Where there is no room the content
used least recently and not open is removed, then the oldest bytes of the largest open file; if that
does not help, the bytes stay in memory for a while (`icatfs.content.cached`).

**Records.** What has changed is recorded some seconds later and at the end, each time after the
bytes have reached the disk. When the machine dies meanwhile, the data files without a record are
removed at the next start. Nothing here is ever an error for a reader: a cache that cannot be
written is a smaller cache.

Invariants: ``_used`` is the sum of what is on the disk, ``FILE_COST`` for each data file included;
``_entries`` has every version with a data file, the least recently used first; ``_live`` has just
what is open, ``_records`` what is closed and not recorded, ``_saving`` what is being recorded.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.content.cached import Cached
from icatfs.content.cachefile import CacheFile
from icatfs.content.chunks import Checksums
from icatfs.content.datafile import DataFile
from icatfs.content.disk import moved
from icatfs.content.house import FILE_COST
from icatfs.content.index import Index, Record
from icatfs.content.ownership import own_folder, unusable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from icatfs.values import ContentVersion

__all__ = ["CacheFile", "ContentStore", "StoreStatus", "open_store"]

log = logging.getLogger(__name__)

_SAVE_EVERY_S = 3.0
_LAST_SAVE_S = 30.0
_LOOK_AT_DISK_EVERY = 4 * 2**20
_DISK_FULL_S = 30.0
_NEWEST = 8 * 2**20


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the cache holds; ``unsaved`` files would be lost if the machine died now."""

    folder: str
    files: int
    open_files: int
    used_bytes: int
    max_bytes: int
    evicted_files: int
    unsaved: int


@dataclass(slots=True)
class _Entry:
    """One data file; ``held`` bytes while it is closed."""

    name: str
    held: int


class ContentStore:
    """Made by ``open_store``."""

    def __init__(self, folder: Path, index: Index, *, max_bytes: int, min_free_bytes: int) -> None:
        # given
        self.folder = folder / "data"
        self._index = index
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        # mutable: see the invariants above
        self._entries: dict[ContentVersion, _Entry] = {}
        self._live: dict[ContentVersion, Cached] = {}
        self._used = self._evicted = 0
        self.withdrawals: Counter[ContentVersion] = Counter()
        # mutable: for the recorder
        self._records: dict[ContentVersion, Record] = {}
        self._saving: dict[ContentVersion, Record] = {}
        self._dirty: set[Cached] = set()
        self._gone: list[str] = []
        self._something = trio.Event()
        self._complained = False
        # mutable: what the disk leaves us, looked up now and then; a refusal counts for a while
        self._limit = max_bytes
        self._until_look = 0
        self._refused_until = 0.0

    # What others use.

    def open(self, version: ContentVersion) -> CacheFile:
        """What the cache has of a version, pinned until closed."""
        cached = self._live.get(version)
        if cached is None:
            cached = self._live[version] = self._revived(version)
        return CacheFile(cached)

    def holds(self, version: ContentVersion) -> bool:
        """Whether all bytes of a version are here; opens no file."""
        cached, entry = self._live.get(version), self._entries.get(version)
        return (cached.extents.total if cached else entry.held if entry else 0) == version.size

    def adopt(self, version: ContentVersion, source: Path) -> None:
        """Make a file with the bytes of this version the cached content; it may be moved away.

        The caller has compared them, and writes no more. Nothing happens where it is not cheap.
        """
        if version in self._live or version in self._entries:
            return
        with suppress(OSError):
            size = source.stat().st_size
            if not size or size != version.size or not self.admit(size):
                return
            name = self.new_name(version)
            if not moved(source, self.folder / name, size):
                self._used -= size
                return
            self._used += FILE_COST
            self._entries[version] = _Entry(name, size)
            self._records[version] = Record(name, version, size, None, size, time.time())
            self._something.set()

    def drop(self, version: ContentVersion) -> None:
        """Forget all bytes of a version, for those too who have it open."""
        if version in self._live:
            self._live[version].reset()
        else:
            self._remove(version)

    def status(self) -> StoreStatus:
        """Counts as they are now."""
        return StoreStatus(
            folder=str(self.folder),
            files=len(self._entries),
            open_files=len(self._live),
            used_bytes=self._used,
            max_bytes=self._max_bytes,
            evicted_files=self._evicted,
            unsaved=len(self._records) + len(self._dirty),
        )

    # What a cached file asks for (`icatfs.content.cached.House`).

    @property
    def spread(self) -> int:
        """How many bytes one file may run ahead of its readers."""
        return max(2**20, min(self._max_bytes, self._limit) // 4)

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        self._until_look -= count
        if self._until_look <= 0:
            self._look_at_disk()
        if self._used + count > self._limit:
            self._make_room(self._used + count - self._limit)
        if self._used + count > self._limit:
            return False
        self._used += count
        return True

    def disk_refused(self, count: int) -> bool:
        """The disk took no more: make room for so many bytes; whether it may work now."""
        self._refused_until = time.monotonic() + _DISK_FULL_S
        self._limit = max(0, min(self._limit, self._used - count))
        self._until_look = _LOOK_AT_DISK_EVERY
        return self._make_room(self._used - self._limit) > 0

    def count(self, change: int) -> None:
        """So many bytes more, or fewer, are on the disk."""
        self._used += change

    def new_name(self, version: ContentVersion) -> str:
        """The name of a new data file, used once."""
        return f"{version.datafile}-{secrets.token_hex(8)}"

    def forget(self, name: str) -> None:
        """Remove a data file, if it is there, and its record."""
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)
        self._gone.append(name)
        self._something.set()

    def changed(self, cached: Cached) -> None:
        """There is something new to be recorded."""
        self._dirty.add(cached)
        self._something.set()

    def unpinned(self, cached: Cached) -> None:
        """Nobody has it open any more."""
        version = cached.version
        if self._live.pop(version, None) is None:
            return  # the store has ended before its user
        is_new = cached in self._dirty
        self._dirty.discard(cached)
        self._entries.pop(version, None)
        record = cached.detach()
        if record is None:
            return
        self._entries[version] = _Entry(record.name, record.held)
        if is_new or version in self._records or version in self._saving:
            self._records[version] = record
            self._something.set()

    # Opening and removing.

    def load(self) -> None:
        """Take over what the index and the folder agree on, and remove the rest. Blocks."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        names = {entry.name: entry for entry in os.scandir(self.folder)}
        for record in self._index.all():
            found = names.pop(record.name, None)
            if found is None or record.version in self._entries or not record.held:
                self._gone.append(record.name)
                if found is not None:
                    os.unlink(found.path)
                continue
            self._entries[record.version] = _Entry(record.name, record.held)
            self._used += record.held + FILE_COST
        for orphan in names.values():
            os.unlink(orphan.path)
        self._look_at_disk()
        self._make_room(self._used - self._limit)

    def _revived(self, version: ContentVersion) -> Cached:
        """A version as it was left, or with nothing."""
        cached = Cached(self, version)
        entry = self._entries.get(version)
        if entry is None:
            return cached
        record = self._records.get(version) or self._saving.get(version)
        if record is None or record.name != entry.name:
            record = self._index.find(entry.name)
        if record is None or (record.version, record.held) != (version, entry.held):
            self._remove(version)
            return cached
        try:
            fd = os.open(self.folder / entry.name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            log.debug("the cache of datafile %d cannot be opened: %s", version.datafile, error)
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                self._remove(version)
            return cached
        if os.fstat(fd).st_size < _end_of(record):
            os.close(fd)
            self._remove(version)
            return cached
        cached.attach(record, DataFile(self.folder, entry.name, fd))
        return cached

    def _remove(self, version: ContentVersion) -> None:
        """Remove the content of a version that is not open."""
        entry = self._entries.pop(version, None)
        self._records.pop(version, None)
        if entry is not None:
            self._used -= entry.held + FILE_COST
            self.forget(entry.name)

    # Room.

    def _look_at_disk(self) -> None:
        """Look how much the disk has left for us."""
        self._until_look = _LOOK_AT_DISK_EVERY
        if time.monotonic() < self._refused_until:
            return
        disk = os.statvfs(self.folder)
        most = self._used + disk.f_bavail * disk.f_frsize - self._min_free_bytes
        self._limit = max(0, min(self._max_bytes, most))

    def _make_room(self, count: int) -> int:
        """Free so many bytes, if possible; returns how many were freed."""
        before = self._used
        while before - self._used < count:
            version = next((one for one in self._entries if one not in self._live), None)
            if version is None:
                break
            self._remove(version)
            self._evicted += 1
        newest = min(_NEWEST, self._max_bytes // 4)
        for cached in sorted(self._live.values(), key=lambda one: one.on_disk, reverse=True):
            left = count - (before - self._used)
            if left <= 0:
                break
            if not cached.unproved:
                cached.give_back(left, newest)
        return before - self._used

    # Records.

    async def save_forever(self) -> None:
        """Record what changes, a few seconds after it does."""
        while True:
            await self._something.wait()
            await trio.sleep(_SAVE_EVERY_S)
            self._something = trio.Event()
            await self.save()

    async def save(self) -> None:
        """Record what has changed; a failure costs nothing but what would be lost in a crash."""
        closed, dirty, gone = self._records, self._dirty, self._gone
        self._records, self._dirty, self._gone = {}, set(), []
        open_now = {cached.version: cached.record() for cached in dirty}
        self._saving = closed | {one: record for one, record in open_now.items() if record}
        try:
            await trio.to_thread.run_sync(self._index.write, list(self._saving.values()), gone)
        except (OSError, sqlite3.Error) as error:
            self._complain(error)
            self._gone += gone
            self._records = self._still_closed(closed) | self._records
            self._dirty |= {cached for cached in dirty if cached.pins}
        finally:
            self._saving = {}

    def _still_closed(self, records: dict[ContentVersion, Record]) -> dict[ContentVersion, Record]:
        """Those records that are still about what is there."""
        return {
            version: record
            for version, record in records.items()
            if version not in self._live
            and version in self._entries
            and self._entries[version].name == record.name
        }

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("the cache in %s cannot be recorded for later: %s", self.folder, error)

    def close(self) -> None:
        """Close what is still open; what was not recorded is removed at the next start."""
        for cached in self._live.values():
            cached.detach()
        self._live.clear()
        self._index.close()


@asynccontextmanager
async def open_store(
    folder: Path, *, max_bytes: int, min_free_bytes: int = 0
) -> AsyncIterator[ContentStore]:
    """The cache in a folder, or in the next one beside it that no other process uses.

    Raises ConfigError when the folder cannot be used. At the end, what it has is recorded.
    """
    with own_folder(folder) as own:
        try:
            store = await trio.to_thread.run_sync(_loaded, own, max_bytes, min_free_bytes)
        except (OSError, sqlite3.Error) as error:
            raise unusable(own, error) from error
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.save_forever)
                yield store
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the recorder raises nothing: it is the caller's
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from group.exceptions[0].__cause__
        finally:
            with trio.move_on_after(_LAST_SAVE_S) as scope:
                scope.shield = True
                await store.save()
            store.close()


def _end_of(record: Record) -> int:
    return record.held if record.pieces is None else Checksums.unpack(record.pieces).extents().end


def _loaded(folder: Path, most: int, min_free: int) -> ContentStore:
    store = ContentStore(folder, Index(folder), max_bytes=most, min_free_bytes=min_free)
    store.load()
    return store
