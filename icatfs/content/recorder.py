"""Records what the cache has some seconds after it changes, when the bytes are on the disk.

Invariants: ``pending`` has the closed files that are not recorded as they are now, ``_saving`` what
is being recorded; a file is in the folder as long as it is in either, unless another process, or
somebody with his own hands, removed it. What it cost comes back to us once, then: from who removed
it (`Recorder.gone`), or when it is found lost.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio
from isal.isal_zlib import crc32

from icatfs.content.chunks import Checksums, Piece, cut
from icatfs.content.disk import sync_file_system
from icatfs.content.record import Record
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the records that were to be written."""

    there: list[Record]
    wrong: list[Record]
    """They came from elsewhere, are not what they should be, and were removed."""
    lost: list[Record]
    """Somebody removed the file: what it had beyond its record is in our lease."""


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
        self._gone: dict[str, None] = {}
        self._going: dict[str, None] = {}
        """As ``_saving`` to ``pending``."""
        self._used: dict[str, None] = {}
        self._something = trio.Event()
        self._complained = False

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
        """A file of ours was closed, with this to be recorded of it, if it has changed."""
        is_new = cached in self._dirty or self.find(cached.version) is not None
        self._dirty.discard(cached)
        self.pending.pop(cached.version, None)
        if record is not None:
            if is_new:
                self.pending[cached.version] = record
            self._used[record.name] = None
            self._something.set()

    def adopted(self, record: Record) -> None:
        """A whole file came from elsewhere."""
        self.pending[record.version] = record
        self._something.set()

    def gone(self, version: ContentVersion, name: str) -> None:
        """A data file is no more, or not under this name; what it cost is counted."""
        for records in (self.pending, self._saving):
            if (record := records.get(version)) is not None and record.name == name:
                del records[version]
        self._gone[name] = None
        self._something.set()

    def is_gone(self, name: str) -> bool:
        """Whether the index may still have a record of this file, which is no more."""
        return name in self._gone or name in self._going

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
        gone, self._gone = self._gone, {}
        self._going = gone
        used, self._used = self._used, {}
        open_now = {cached.version: cached.record() for cached in dirty}
        self._saving = closed | {one: record for one, record in open_now.items() if record}
        surplus = self._room.take_spare()
        is_saved = False
        try:
            outcome = await trio.to_thread.run_sync(
                self._write, list(self._saving.values()), list(gone), list(used), -surplus
            )
            is_saved = True
            self._settle(outcome)
        except (OSError, sqlite3.Error) as error:
            self._complain(error)
        finally:
            self._room.returned(failed=not is_saved)
            if not is_saved:
                self._gone |= gone
                self._used = used | self._used
                left = {one: record for one, record in closed.items() if one in self._saving}
                self.pending = left | self.pending
                self._dirty |= {cached for cached in dirty if cached.pins}
            self._saving, self._going = {}, {}

    def _settle(self, outcome: Outcome) -> None:
        """Take account of what was recorded, and of what was not."""
        for record in outcome.there:
            cached, pending = self._live.get(record.version), self.pending.get(record.version)
            if cached is not None and cached.name == record.name:
                cached.recorded = record.cost
            elif pending is not None and pending.name == record.name:
                self.pending[record.version] = replace(pending, recorded=record.cost)
        for record in outcome.wrong:
            cached = self._live.get(record.version)
            if cached is not None and cached.name == record.name:
                cached.reset()
            elif self._is_over(record):
                self._room.count(-record.cost)
        for record in outcome.lost:
            if self._is_over(record):
                self._room.count(record.recorded - record.cost)

    def _is_over(self, record: Record) -> bool:
        """Whether what a file cost that is no more is counted now.

        Not if it is open, or to be recorded again (it is counted then), or was removed by us.
        """
        others = (self._live.get(record.version), self.pending.get(record.version))
        is_known = any(one is not None and one.name == record.name for one in others)
        return record.version in self._saving and not is_known

    def _complain(self, error: Exception) -> None:
        """Say once that the cache cannot be recorded."""
        if not self._complained:
            self._complained = True
            log.warning("what the cache has cannot be recorded, and may be lost: %s", error)

    # In a thread.

    def _write(
        self, records: Sequence[Record], gone: list[str], used: list[str], lease: int
    ) -> Outcome:
        """Sync, then record."""
        data = self._tenancy.folder / "data"
        if len(records) > _FILES_SYNCED_ONE_BY_ONE:
            sync_file_system(str(data))
        outcome = Outcome([], [], [])
        for record in records:
            with _opened(data, record.name) as fd:
                if fd is None:
                    outcome.lost.append(self._as_lost(record))
                    continue
                if len(records) <= _FILES_SYNCED_ONE_BY_ONE:
                    os.fdatasync(fd)
                read = _read(fd, record)
            if read is None:
                (data / record.name).unlink(missing_ok=True)
                outcome.wrong.append(record)
            else:
                outcome.there.append(read)
        gone = [*gone, *(record.name for record in outcome.lost)]
        self._index.write(outcome.there, gone=gone, used=used, lease=lease)
        self._sweep()
        return outcome

    def _sweep(self) -> None:
        """Look for the dead. What is recorded stays recorded where this fails: it comes again."""
        try:
            if has_dead(self._index, self._tenancy):
                sweep(self._index, self._tenancy)
        except (OSError, sqlite3.Error) as error:
            log.debug("what the dead left in the cache cannot be swept up: %s", error)

    def _as_lost(self, record: Record) -> Record:
        """Where the index still has its record, that goes now, and its cost comes to us."""
        with self._index.reading_there() as books:
            return replace(record, recorded=0) if books.cost(record.name) else record


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
