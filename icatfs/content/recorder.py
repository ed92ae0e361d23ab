"""Records what the cache has some seconds after it changes, when the bytes are on the disk.

Invariants: ``pending`` has the closed files of ours that are not recorded as they are now,
``_saving`` what is being recorded; a file is in the folder as long as it is in either, unless
another process, or somebody with his own hands, removed it.

**What cannot be synced** is dropped and comes again. The system may have forgotten the bytes, gives
back others or zeros once the pages are gone, and says so just once.

**What a file cost** comes back to us in two parts when it is no more. What it had beyond its record
is in our lease, and room at once. What its record counted is room for who removes the record, and
only then: that may have been another process (`icatfs.content.eviction`, or one that was told that
these bytes are wrong). So who removes a file counts all of it, `Recorder.gone` takes back what the
record should count, and when the record is removed, it is counted what it did.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio
from isal.isal_zlib import crc32

from icatfs.content.chunks import Checksums, Piece, cut
from icatfs.content.disk import sync_file_system
from icatfs.content.index import parts
from icatfs.content.record import Record, mark_of
from icatfs.content.sweep import has_dead, sweep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from icatfs.content.cached import Cached
    from icatfs.content.index import Index
    from icatfs.content.ownership import Tenancy
    from icatfs.content.room import Room
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

_SAVE_EVERY_S = 3.0
_FILES_SYNCED_ONE_BY_ONE = 16
_RECLAIMED_AT_ONCE = 100


@dataclass(slots=True)
class Outcome:
    """What became of the records that were to be written: of all, or until something failed."""

    there: list[Record] = field(default_factory=list)
    wrong: list[Record] = field(default_factory=list)
    """They came from elsewhere, are not what they should be, and were removed."""
    refused: list[Record] = field(default_factory=list)
    """The disk has not taken all of the bytes, and what it gives back may be others."""
    lost: list[Record] = field(default_factory=list)
    """Somebody removed the file: what it had beyond its record is in our lease."""
    gained: int = 0
    """What removed records counted, and our lease has now."""
    is_all: bool = False


class Recorder:
    """What is to be recorded of one process's part of the cache."""

    def __init__(
        self, index: Index, tenancy: Tenancy, room: Room, live: Mapping[ContentVersion, Cached]
    ) -> None:
        """``live`` has what is open."""
        # given
        self._room = room
        self._live = live
        self._index = index
        self._tenancy = tenancy
        # mutable: see the invariants above
        self.pending: dict[ContentVersion, Record] = {}
        self._saving: dict[ContentVersion, Record] = {}
        # mutable: what else is to be written
        self._dirty: set[Cached] = set()
        self._gone: set[str] = set()
        self._going: set[str] = set()
        """As ``_saving`` to ``pending``."""
        self._withdrawn: set[str] = set()
        """Of what is being recorded, the names of files that are gone since."""
        self._used: dict[str, None] = {}
        self._something = trio.Event()
        self._complained = False

    @property
    def is_done(self) -> bool:
        """Whether the index says of our files what there is to say."""
        return not self.unsaved and not self._gone

    @property
    def owed(self) -> int:
        """What comes back when the records of files are removed that are gone, unless another
        process removes them first."""
        ours = filter(self._is_ours, self._gone | self._going)
        with suppress(sqlite3.Error):
            return self._index.counted(ours)
        return 0

    @property
    def unsaved(self) -> int:
        """How many files would be lost, in part at least, if the machine died now."""
        return len(self.pending) + len(self._dirty) + len(self._saving)

    def find(self, version: ContentVersion) -> Record | None:
        """The record of a closed file of ours that may not be in the index yet."""
        return self.pending.get(version) or self._saving.get(version)

    def changed(self, cached: Cached) -> None:
        """An open file has something new."""
        self._dirty.add(cached)
        self._something.set()

    def closed(self, cached: Cached, record: Record | None) -> None:
        """A file was closed, with this to be recorded of it, if it is ours and has changed."""
        is_new = cached in self._dirty or self.find(cached.version) is not None
        self._dirty.discard(cached)
        if record is None:
            return
        if is_new and self._is_own(record):
            self.pending.pop(cached.version, None)  # what was used last is the last
            self.pending[cached.version] = record
        self._used[record.name] = None
        self._something.set()

    def adopted(self, record: Record) -> None:
        """A whole file came from elsewhere."""
        self.pending[record.version] = record
        self._something.set()

    def gone(self, version: ContentVersion, name: str, recorded: int) -> None:
        """A data file is no more, or not under this name; its record should count so much.

        The caller counts all that the file cost as room.
        """
        for records in (self.pending, self._saving):
            if (record := records.get(version)) is not None and record.name == name:
                del records[version]
                if records is self._saving:
                    self._withdrawn.add(name)
        self._room.count(recorded)
        self._gone.add(name)
        self._something.set()

    def is_gone(self, name: str) -> bool:
        """Whether the index may still have a record of this file, which is no more."""
        return name in self._gone or name in self._going

    def reclaim(self) -> None:
        """Have what the records of files count that are gone; a part, if that are many."""
        names = list(self._gone)[:_RECLAIMED_AT_ONCE]
        if not names:
            return
        try:
            with self._index.changing() as books:
                gained = sum(map(books.remove, names))
        except sqlite3.Error as error:
            log.debug("no room is reclaimed in the cache: %s", error)
            return
        self._gone.difference_update(names)
        self._room.count(-gained)

    def evicted(self, name: str, cost: int) -> None:
        """The room removed a data file, and has what its record counted."""
        for version, record in self.pending.items():
            if record.name == name:
                del self.pending[version]
                if (saving := self._saving.get(version)) is not None and saving.name == name:
                    del self._saving[version]
                self._room.count(cost - record.cost)
                return

    async def save_forever(self) -> None:
        """Record what changes, a few seconds after it does."""
        while True:
            await self._something.wait()
            await trio.sleep(_SAVE_EVERY_S)
            self._something = trio.Event()
            await self.save()

    async def save(self) -> None:
        """Record what has changed; a failure costs nothing but what would be lost in a crash."""
        closed, self.pending = self.pending, {}
        dirty, self._dirty = self._dirty, set()
        gone, self._gone = self._gone, set()
        self._going = gone
        used, self._used = self._used, {}
        open_now = [record for cached in dirty if (record := cached.record()) is not None]
        self._saving = closed | {one.version: one for one in open_now if self._is_own(one)}
        surplus = self._room.take_spare()
        outcome = Outcome()
        try:
            await trio.to_thread.run_sync(
                self._write, outcome, list(self._saving.values()), list(gone), list(used), -surplus
            )
        except (OSError, sqlite3.Error) as error:
            self._complain(error)
        finally:
            self._settle(outcome)
            self._room.returned(failed=not outcome.is_all)
            if not outcome.is_all:
                written = (*outcome.there, *outcome.wrong, *outcome.refused, *outcome.lost)
                done = {one.name for one in written}
                self._gone |= gone
                self._used = used | self._used
                left = (one for one in closed if one in self._saving)
                self.pending = {
                    one: closed[one] for one in left if closed[one].name not in done
                } | self.pending
                self._dirty |= {cached for cached in dirty if cached.pins}
            self._saving, self._going, self._withdrawn = {}, set(), set()

    def _settle(self, outcome: Outcome) -> None:
        """Take account of what was recorded, and of what was not."""
        self._room.count(-outcome.gained)
        for record in outcome.there:
            cached, pending = self._live.get(record.version), self.pending.get(record.version)
            if record.name in self._withdrawn:  # `gone` did not know yet that it counts more
                self._room.count(record.cost - record.recorded)
            elif cached is not None and cached.name == record.name:
                cached.recorded = record.cost
            elif pending is not None and pending.name == record.name:
                self.pending[record.version] = replace(pending, recorded=record.cost)
        for record in outcome.wrong:
            cached = self._live.get(record.version)
            if cached is not None and cached.name == record.name:
                cached.reset()
            elif self._is_over(record):
                self._room.count(-record.cost)
        for record in outcome.refused:
            cached = self._live.get(record.version)
            if cached is not None:  # whatever the file is called by now
                cached.begin_again()
            elif self._is_over(record):
                self._room.count(-record.cost)
                self.gone(record.version, record.name, record.recorded)
        for record in outcome.lost:
            cached = self._live.get(record.version)
            if cached is not None and cached.name == record.name:
                self._dirty.add(cached)  # it takes its room until it is closed
            elif self._is_over(record):
                self._room.count(record.recorded - record.cost)

    def _is_over(self, record: Record) -> bool:
        """Whether what a file cost that is no more is counted now.

        Not if it is open, or to be recorded again (it is counted then), or was removed by us.
        """
        others = (self._live.get(record.version), self.pending.get(record.version))
        is_known = any(one is not None and one.name == record.name for one in others)
        return record.version in self._saving and not is_known

    def _is_own(self, record: Record) -> bool:
        return self._is_ours(record.name)

    def _is_ours(self, name: str) -> bool:
        return mark_of(name) == self._tenancy.mark

    def _complain(self, error: Exception) -> None:
        """Say once that the cache cannot be recorded."""
        if not self._complained:
            self._complained = True
            log.warning("what the cache has cannot be recorded, and may be lost: %s", error)

    # In a thread.

    def _write(
        self,
        outcome: Outcome,
        records: Sequence[Record],
        gone: Sequence[str],
        used: Sequence[str],
        lease: int,
    ) -> None:
        """Sync, then record."""
        data = self._tenancy.folder / "data"
        is_synced = len(records) > _FILES_SYNCED_ONE_BY_ONE and self._synced(data)
        ready = []
        for record in records:
            with _opened(data, record.name) as fd:
                if fd is None:
                    ready.append(record)  # it is found lost below
                    continue
                if not is_synced and not self._synced_one(fd):
                    outcome.refused.append(record)
                    (data / record.name).unlink(missing_ok=True)
                    continue
                read = _read(fd, record)
            if read is None:
                (data / record.name).unlink(missing_ok=True)
                outcome.wrong.append(record)
            else:
                ready.append(read)
        for part in parts(ready):
            self._record(part, outcome)
        for names in parts(gone):
            with self._index.changing_there() as books:
                gained = sum(map(books.remove, names))
            outcome.gained += gained
        self._index.write(used=used, lease=lease)
        outcome.is_all = True
        self._sweep()

    def _synced(self, folder: Path) -> bool:
        """Whether everything is on the disk; if not, each file tells whether it is."""
        try:
            sync_file_system(str(folder))
        except OSError as error:
            log.debug("the cache's disk refuses: %s", error)
            return False
        return True

    def _synced_one(self, fd: int) -> bool:
        """Whether a file is on the disk. The system says it once if not, and forgets the bytes."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            self._complain(error)
            return False
        return True

    def _record(self, records: Sequence[Record], outcome: Outcome) -> None:
        """Record the files that are there.

        Other processes remove files in transactions, with their records: what is there in one, is
        there until it is recorded. (We may remove it at any time, and then the record.)
        """
        there, lost, gained = [], [], 0
        with self._index.changing_there() as books:
            for record in records:
                if os.path.lexists(self._tenancy.folder / "data" / record.name):
                    books.record(record)
                    there.append(record)
                else:
                    gained += books.remove(record.name)
                    lost.append(record)
        outcome.there += there
        outcome.lost += lost
        outcome.gained += gained

    def _sweep(self) -> None:
        """Look for the dead. What is recorded stays recorded where this fails: it comes again."""
        try:
            if has_dead(self._index, self._tenancy):
                sweep(self._index, self._tenancy)
        except (OSError, sqlite3.Error) as error:
            log.debug("what the dead left in the cache cannot be swept up: %s", error)


def _read(fd: int, record: Record) -> Record | None:
    """The record with its pieces; None if the file is not what it should be."""
    if record.pieces is not None:
        return record
    checksums = checksums_of(fd, record.held)
    if record.version.crc32 not in (None, checksums.whole(record.held)):
        return None
    return replace(record, pieces=checksums.pack(checksums.chunks()))


def checksums_of(fd: int, size: int) -> Checksums:
    """What the first ``size`` bytes of a file are; fewer where it is shorter. Blocks; OSError."""
    checksums = Checksums()
    for start, stop in cut(0, size):
        data = os.pread(fd, stop - start, start)
        if len(data) < stop - start:
            break
        checksums.add(Piece(start, stop, crc32(data)))
    return checksums


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[int | None]:
    fd = None
    with suppress(FileNotFoundError):
        fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)
