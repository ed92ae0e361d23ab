"""The cache on the local disk: who has what open, what is kept, what goes first.

All mounts of one user on one host use one folder together (`icatfs.content.ownership`): what one of
them fetched, the others read. In it are the data files, and an `Index` of what is in them, which is
all that the processes tell each other.

**Data files.** One for each content version and process that brings it, sparse, with a name that is
used once. A file that is not complete belongs to the process that writes it: an exclusive lock on
it says so, and its name has the process's mark. Who finds one that nobody has open makes it its
own; who finds it in use begins a file of its own, and of several the fullest is taken up first. A
complete file, compared with the catalogue, never changes any more: everybody reads it under a
shared lock, and it can only be removed, which harms nobody who has it open. (*Against* one file
with several writers: each would have to hear of the others' extents before every read.)

**Budget.** Every byte that goes to the disk is admitted first, out of a lease of the room that all
mounts have together (`icatfs.content.room`). Where there is none left the content used least
recently and not open is removed, then what was not read lately of the largest open file; if that
does not help, the bytes stay in memory for a while (`icatfs.content.cached`).

**Records.** What has changed is recorded some seconds later and at the end, each time after the
bytes have reached the disk (`icatfs.content.recorder`): until then other mounts do not see it. What
is kept is compared with its CRC-32s when it is first read after a mount, chunk by chunk; a content
is fetched again as a whole where the disk altered it. (*Against* keeping the other chunks: a disk
that does this once is not to be trusted with them, and nobody can write into a file that others
read.) What a process leaves that dies is swept up by the others, or by the next one
(`icatfs.content.sweep`). Nothing here is ever an error for a reader: a cache that cannot be written
is a smaller cache.

Every crash leaves one of these, and none of them can show wrong bytes:

* a data file without a record: removed, since nobody knows what is in it;
* a record without its data file: nothing is there, and the record goes;
* a file with more in it than its record claims: the rest is given back to the disk;
* a lease of a process that is dead: ended, when the above is done for all its files.

Invariant: ``_live`` has just what is open, each version once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count as counter
from typing import TYPE_CHECKING

import trio

from icatfs.content.books import Home
from icatfs.content.cached import Cached
from icatfs.content.cachefile import CacheFile
from icatfs.content.datafile import DataFile
from icatfs.content.disk import moved
from icatfs.content.entering import enter
from icatfs.content.eviction import Unlinked
from icatfs.content.house import FILE_COST
from icatfs.content.record import Record, mark_of
from icatfs.content.recorder import Recorder
from icatfs.content.room import Room
from icatfs.content.shown import Shown
from icatfs.sharing import service_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from icatfs.content.checking import Unchecked
    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy
    from icatfs.values import ContentVersion

__all__ = ["CacheFile", "ContentStore", "StoreStatus", "open_store"]

log = logging.getLogger(__name__)

_LAST_SAVE_S = 30.0
_NEWEST = 8 * 2**20
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the cache holds; ``unsaved`` files would be lost if the machine died now.

    ``files`` are those in the index and ``used_bytes`` what all mounts have together; the other
    counts are this mount's.
    """

    folder: str
    files: int
    open_files: int
    used_bytes: int
    max_bytes: int
    evicted_files: int
    unsaved: int


class ContentStore:
    """Made by ``open_store``."""

    def __init__(
        self, index: Index, tenancy: Tenancy, *, max_bytes: int, min_free_bytes: int
    ) -> None:
        # given
        self._index = index
        self._tenancy = tenancy
        self._max_bytes = max_bytes
        # constant
        self.folder = tenancy.folder / "data"
        self.room = Room(index, tenancy, self, max_bytes=max_bytes, min_free_bytes=min_free_bytes)
        self._live: dict[ContentVersion, Cached] = {}
        self.recorder = Recorder(index, tenancy, self.room, self._live)
        self._numbers = counter(1)
        # mutable
        self._checked: dict[str, Unchecked | None] = {}
        """What is still to be compared of closed files that were open before."""
        self._shown = Shown()
        self.withdrawals: Counter[ContentVersion] = Counter()

    # What others use.

    def open(self, version: ContentVersion) -> CacheFile:
        """What the cache has of a version, pinned until closed."""
        cached = self._live.get(version)
        if cached is None:
            cached = self._live[version] = self._revived(version)
        return CacheFile(cached)

    def holds(self, version: ContentVersion) -> bool:
        """Whether the cache has all bytes of a version; opens no file."""
        cached = self._live.get(version)
        if cached is not None:
            return cached.complete
        record = self.recorder.find(version)
        if record is not None and record.complete:
            return True
        with suppress(sqlite3.Error):
            return not all(map(self.recorder.is_gone, self._index.whole(version)))
        return False

    def is_begun(self, version: ContentVersion) -> bool:
        """Whether some bytes of a version are here and open, or may be in the kernel's pages."""
        cached = self._live.get(version)
        return version in self._shown or (cached is not None and cached.extents.total > 0)

    def adopt(self, version: ContentVersion, source: Path) -> None:
        """Make a file with the bytes of this version the cached content; it may be moved away.

        The caller has compared size and CRC-32, and writes to the file no more; it may go on
        reading it as long as it has it locked, for then it stays whole. Does nothing where that is
        not cheap, or not possible.
        """
        if version in self._live or self.holds(version):
            return
        with suppress(OSError):
            size = source.stat().st_size
            if not size or size != version.size or not self.room.admit(size + FILE_COST):
                return
            if (pending := self.recorder.find(version)) is not None:
                self._remove(pending)
            name = self.new_name(version)
            if not moved(source, self.folder / name, size):
                self.room.count(-size - FILE_COST)
                return
            self.recorder.adopted(Record(name, version, size, None, size))

    def drop(self, version: ContentVersion) -> None:
        """Forget all bytes of a version, for those too who have it open here."""
        cached = self._live.get(version)
        if cached is not None:
            cached.reset()
        for record in self._records(version):
            self._remove(record)

    def status(self) -> StoreStatus:
        """Counts as they are now."""
        files, used = 0, 0
        with suppress(sqlite3.Error):
            files, used = self._index.count()
        return StoreStatus(
            folder=str(self.folder),
            files=files,
            open_files=len(self._live),
            used_bytes=used - self.room.spare - self.recorder.owed,
            max_bytes=self._max_bytes,
            evicted_files=self.room.evicted,
            unsaved=self.recorder.unsaved,
        )

    # What a cached file asks for (`icatfs.content.house.House`).

    @property
    def spread(self) -> int:
        """How many bytes one file may run ahead of its readers."""
        return self.room.reach

    def admit(self, count: int) -> bool:
        """Whether so many bytes more may go to the disk; they are then counted."""
        return self.room.admit(count)

    def disk_refused(self, count: int) -> bool:
        """The disk took no more: make room for so many bytes; whether it may work now."""
        is_freed = self.room.make_room(count)
        self.room.look_at_disk()  # others wrote: what we thought is free is not
        return is_freed

    def count(self, change: int) -> None:
        """So many bytes more, or fewer, are on the disk."""
        self.room.count(change)

    def new_name(self, version: ContentVersion) -> str:
        """The name of a new data file, used once."""
        return f"{version.datafile}-{self._tenancy.mark}-{next(self._numbers)}"

    def forget(self, version: ContentVersion, name: str, recorded: int) -> None:
        """Remove a data file, if it is there, and its record, which should count so much."""
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)
        self._checked.pop(name, None)
        self.recorder.gone(version, name, recorded)

    def discard(self, version: ContentVersion, file: DataFile, cost: int, recorded: int) -> None:
        """Remove an open data file that cost so much, of which so much should be recorded."""
        self.forget(version, file.name, recorded)
        self.room.wait_for(Unlinked(file.name, cost, file.fd))

    def changed(self, cached: Cached) -> None:
        """There is something new to be recorded."""
        self.recorder.changed(cached)

    def unpinned(self, cached: Cached) -> None:
        """Nobody has it open any more."""
        if self._live.pop(cached.version, None) is None:
            return  # the store has ended before its user
        if cached.shown:
            self._shown.add(cached.version)
        record = cached.detach()
        if record is not None and not record.held:
            self._remove(record)
            record = None
        self.recorder.closed(cached, record)
        self.room.hope()
        if record is not None:
            if len(self._checked) >= _REMEMBERED:
                self._checked.clear()
            self._checked[record.name] = cached.unchecked

    # What the budget asks for (`icatfs.content.room.Tenant`).

    def give_up(self, count: int) -> None:
        """Free so many bytes of what is not in the index, if possible; they are counted."""
        left = count
        for version, record in list(self.recorder.pending.items()):
            if left > 0 and version not in self._live:
                self._remove(record)
                self.room.evicted += 1
                left -= record.cost
        newest = min(_NEWEST, self._max_bytes // 4)
        for cached in sorted(self._live.values(), key=lambda one: one.on_disk, reverse=True):
            if left > 0:
                left -= cached.give_back(left, newest)
        self.reclaim()

    def evicted(self, name: str, cost: int) -> None:
        """A data file was removed, whose record counted so much."""
        self.recorder.evicted(name, cost)

    def reclaim(self) -> None:
        """Have what the records of removed files count."""
        self.recorder.reclaim()

    # Opening and removing.

    def _records(self, version: ContentVersion) -> list[Record]:
        """What is known of the closed files of a version: the best first."""
        pending = self.recorder.find(version)
        records = [] if pending is None else [pending]
        with suppress(sqlite3.Error):
            records += [
                record
                for record in self._index.find(version)
                if pending is None or record.name != pending.name
            ]
        return sorted(records, key=lambda record: record.held, reverse=True)

    def _revived(self, version: ContentVersion) -> Cached:
        """A version as it was left, or with nothing."""
        cached = Cached(self, version)
        pending = self.recorder.find(version)
        for record in self._records(version):
            try:
                file = self._opened(record)
            except OSError as error:
                log.debug("the cache of datafile %d is not used: %s", version.datafile, error)
                return cached
            if file is not None:
                cached.attach(record, file)
                cached.unchecked = self._checked.get(file.name, cached.unchecked)
                break
        if pending is not None and pending.name != cached.name:
            self._remove(pending)
        return cached

    def _opened(self, record: Record) -> DataFile | None:
        """The file of a record, locked, and ours if it is not complete; None without it."""
        is_own = mark_of(record.name) == self._tenancy.mark
        file = DataFile.open(self.folder, record.name, is_own=is_own, complete=record.complete)
        if file is None:
            return None
        if os.fstat(file.fd).st_size < record.end:
            file.close()
            self._remove(record)
            return None
        if record.complete or is_own or self._taken_over(file, record):
            return file
        file.close()
        return None

    def _taken_over(self, file: DataFile, record: Record) -> bool:
        """Whether a file that nobody has open is in our books now, under a name of ours."""
        name = self.new_name(record.version)
        try:
            with self._index.changing() as books:
                if books.find(record.name) != record or not file.rename(name):
                    return False
                books.rename(record, name)
        except sqlite3.Error as error:
            log.debug("a file of the cache cannot be taken over: %s", error)
            file.rename(record.name)
            return False
        file.is_own = True
        file.keep_only(record.checksums().extents())
        return True

    def _remove(self, record: Record) -> None:
        """Remove a file that is not open here."""
        is_own = mark_of(record.name) == self._tenancy.mark
        cost, recorded = (record.cost, record.recorded) if is_own else (0, 0)
        with suppress(OSError):
            try:
                self.room.unlink(record.name, cost)
            except FileNotFoundError:  # somebody else has removed it
                self.room.count(-cost)
        self.forget(record.version, record.name, recorded)

    # The end.

    async def save(self) -> None:
        """Record now what has changed."""
        await self.recorder.save()

    def close(self) -> None:
        """Close what is still open; what could not be recorded is swept up by others."""
        while self._live:
            self._live.popitem()[1].detach()
        self.room.close()
        if self.recorder.is_done:
            with suppress(sqlite3.Error), self._index.changing() as books:
                books.end_lease(self._tenancy.mark)
        self._index.close()
        self._tenancy.close()


@asynccontextmanager
async def open_store(
    folder: Path, *, max_bytes: int, min_free_bytes: int = 0, server: str = "", user: str = ""
) -> AsyncIterator[ContentStore]:
    """The cache in a folder, shared with the other mounts of this user on this host.

    Server and user are noted in it, for `icatfs.content.upkeep`.

    Raises ConfigError when the folder cannot be used. At the end, what it has is recorded.
    """
    store = await trio.to_thread.run_sync(
        _entered, folder, Home(server, user, max_bytes), min_free_bytes
    )
    try:
        async with service_nursery() as nursery:
            nursery.start_soon(store.recorder.save_forever)
            nursery.start_soon(store.room.keep_ready)
            yield store
            nursery.cancel_scope.cancel()
    finally:
        with trio.move_on_after(_LAST_SAVE_S) as scope:
            scope.shield = True
            await store.save()
        store.close()


def _entered(folder: Path, home: Home, min_free_bytes: int) -> ContentStore:
    index, tenancy = enter(folder, home.max_bytes)
    with suppress(sqlite3.Error), index.changing_there() as books:
        books.belongs_to(home)
    store = ContentStore(index, tenancy, max_bytes=index.max_bytes, min_free_bytes=min_free_bytes)
    store.room.look_at_disk()
    store.room.keep_to_budget()
    return store
