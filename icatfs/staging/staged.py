"""One staged file: writable until it is sealed, readable until the facility has it."""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio
from isal.isal_zlib import crc32

from icatfs.crashing import crash_point
from icatfs.errors import IcatfsError, NoSpace, StagingFailed
from icatfs.staging.journal import PENDING, Sealed, State
from icatfs.transport import FileBody, Ready

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.area import StagingArea
    from icatfs.staging.journal import Entry
    from icatfs.values import DatafileFormatId, DatafileId

_CHUNK = 1 << 20
_LAST_RECORD_S = 10.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StagedFile:
    """One new file: readable and writable at any offset until it is stored or discarded.

    Invariants: ``size`` is that of the file on disk; ``_crc32`` is the CRC-32 of the first
    ``_crc32_stop`` bytes, or nothing is known about it and ``_crc32_stop`` is -1.
    """

    def __init__(self, area: StagingArea, entry: int, path: Path, descriptor: int) -> None:
        # given
        self.entry = entry
        self.path = path
        self._area = area
        self._descriptor = descriptor
        area.opened.add(entry)
        # mutable
        self.size = os.fstat(descriptor).st_size
        self.mtime_ns = time.time_ns()
        self.state = State.BEGUN
        self._crc32 = 0
        self._crc32_stop = 0 if self.size == 0 else -1
        self.row: DatafileRow | None = None
        """The catalogue's entry, once the facility has the file."""
        self.plan: Mapping[str, Any] | None = None
        """What is to be done with it beyond sending it, as it is on record."""
        self._users = 0
        self._is_frozen = False
        self._closing: bool | None = None
        """Whether to keep the bytes, if it is to be closed when its last user is done."""

    @property
    def is_frozen(self) -> bool:
        """Whether its bytes are being sent as they are, or are stored: they must not change."""
        return self._is_frozen or self.row is not None

    @contextmanager
    def in_use(self, *, frozen: bool = False) -> Iterator[None]:
        """Its descriptor stays open in this block, whoever closes the file meanwhile."""
        self._users += 1
        self._is_frozen = self._is_frozen or frozen
        try:
            yield
        finally:
            self._users -= 1
            self._is_frozen = self._is_frozen and not frozen
            if not self._users and self._closing is not None:
                self.close(keep=self._closing)

    async def copy_from(self, other: StagedFile) -> None:
        """Take the bytes of another file. Raises NoSpace, StagingFailed."""
        with self.in_use(), other.in_use():
            self._crc32_stop = -1
            self._area.room.take(other.size)
            await self._area.beside(_copy, other._descriptor, self._descriptor)
            self.size, self.mtime_ns = os.fstat(self._descriptor).st_size, other.mtime_ns

    @property
    def contiguous(self) -> int:
        """How many bytes were written from the start on, one after another; -1 if not so."""
        return self._crc32_stop

    @property
    def written(self) -> float:
        """When its bytes changed last, in seconds since the epoch."""
        return os.fstat(self._descriptor).st_mtime

    def pwrite(self, offset: int, data: bytes) -> int:
        """Write all of ``data``; `NoSpace` when the staging disk is full."""
        if not data:
            return 0
        self._area.room.take(len(data))
        view = memoryview(data)
        written = 0
        while written < len(view):
            try:
                written += os.pwrite(self._descriptor, view[written:], offset + written)
            except OSError as error:
                self.size = os.fstat(self._descriptor).st_size
                self._crc32_stop = -1
                raise explained(error, self._area.folder) from error
        if offset == self._crc32_stop:
            self._crc32 = crc32(data, self._crc32)
            self._crc32_stop += written
        elif offset < self._crc32_stop:
            self._crc32_stop = -1
        self.size = max(self.size, offset + written)
        self.mtime_ns = time.time_ns()
        crash_point("written")
        return written

    def check_room(self, size: int) -> None:
        """`NoSpace` when so many bytes could not be written now."""
        self._area.room.check(size)

    def fileno(self) -> int:
        """Its descriptor, open while it is ``in_use``."""
        return self._descriptor

    def pread(self, offset: int, size: int) -> bytes:
        """The bytes there are in ``[offset, offset + size)``."""
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise explained(error, self._area.folder) from error

    def truncate(self, size: int) -> None:
        """Cut or extend with zeroes; `NoSpace` when the staging disk is full."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise explained(error, self._area.folder) from error
        if size < self._crc32_stop:
            self._crc32, self._crc32_stop = 0, 0 if size == 0 else -1
        self.size = size
        self.mtime_ns = time.time_ns()

    async def sync(self) -> None:
        """Return when the bytes are on the disk, and what they are. Raises NoSpace, StagingFailed.

        The file may be closed meanwhile.
        """
        try:
            descriptor = os.dup(self._descriptor)
        except OSError as error:
            raise explained(error, self._area.folder) from error
        try:
            await self._area.beside(os.fsync, descriptor)
            await self._area.beside(_sync_folder, self._area.folder)
            await self._area.settle()
        finally:
            os.close(descriptor)

    async def seal(
        self,
        *,
        mtime_ns: int | None = None,
        data_format: DatafileFormatId | None = None,
    ) -> Sealed:
        """Declare the bytes final, and have the journal say so.

        With a format it is about to be sent with it: the journal says that in the same step.
        Nobody may write to it meanwhile, nor close it. Raises NoSpace, StagingFailed.
        """
        sealed = await self.measure()
        await self.move(
            State.SEALED if data_format is None else State.SENDING,
            size=sealed.size,
            crc32=sealed.crc32,
            mtime_ns=self.mtime_ns if mtime_ns is None else mtime_ns,
            data_format=data_format,
        )
        crash_point("sealed")
        return sealed

    @property
    def is_sealed(self) -> bool:
        """Whether `unseal` must come before a change: it was to be sent, and could not be."""
        return self.state in (State.SEALED, State.SENDING) and not self._is_frozen

    async def unseal(self) -> None:
        """Record that its bytes are about to change. Raises NoSpace, StagingFailed."""
        await self.move(State.BEGUN, reason="written to after it could not be sent")

    async def measure(self) -> Sealed:
        """Size and CRC-32 of the bytes as they are; nobody may close it meanwhile."""
        if self._crc32_stop == self.size:
            return Sealed(self.size, self._crc32)
        sealed = await self._area.beside(_measure, self._descriptor, self.size)
        self._crc32, self._crc32_stop = sealed.crc32, sealed.size
        return sealed

    async def move(
        self,
        state: State,
        *,
        size: int | None = None,
        crc32: int | None = None,
        mtime_ns: int | None = None,
        data_format: DatafileFormatId | None = None,
        reason: str | None = None,
    ) -> None:
        """Record a change of state in the journal."""
        record = partial(
            self._area.journal.move,
            self.entry,
            state,
            size=size,
            crc32=crc32,
            mtime_ns=mtime_ns,
            data_format=data_format,
            reason=reason,
        )
        await self._area.in_thread(record)
        self.state = state
        if state is State.STORED:
            self._area.settle_soon()

    async def remark(self, reason: str) -> None:
        """Record why it is not at the facility, whatever its state."""
        if self.state in PENDING:
            await self.move(self.state, reason=reason)

    async def set_plan(self, plan: Mapping[str, Any] | None) -> None:
        """Record what is to be done with the file beyond sending it."""
        await self._area.in_thread(self._area.journal.set_plan, self.entry, plan)
        self.plan = plan

    async def blame(self, datafile: DatafileId) -> None:
        """Record that it arrived damaged as this datafile, which is to be removed."""
        await self._area.in_thread(self._area.journal.blame, self.entry, datafile)

    async def record(self) -> Entry:
        """What the journal has of it."""
        return await self._area.entry(self.entry)

    async def rename(self, name: str, shown: str) -> None:
        """Record another name for the file."""
        await self._area.in_thread(self._area.journal.rename, self.entry, name, shown)

    def blocks(self, size: int) -> StagedBlocks:
        """The first ``size`` bytes as an upload body, to be iterated as often as it is sent."""
        return StagedBlocks(self, size)

    async def discard(self) -> None:
        """Forget the file: it was removed before the facility had it, or never was to be sent.

        Also when cancelled: what stays on record would be taken for bytes that were not sent.
        """
        with trio.move_on_after(_LAST_RECORD_S, shield=True):
            try:
                await self.move(State.ABANDONED)
            finally:
                self.close(keep=False)

    @property
    def closed(self) -> bool:
        """Whether nothing can be read or written any more."""
        return self._descriptor < 0 or self._closing is not None

    def close(self, *, keep: bool) -> None:
        """Let go of the descriptor, and of the staged bytes unless they are kept.

        Somebody who uses it meanwhile goes on, and it is closed after that.
        """
        if self._descriptor < 0:
            return
        if self._users:
            self._closing = keep
            return
        if not keep:
            crash_point("adopted")
            with suppress(FileNotFoundError):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        self._area.opened.discard(self.entry)


class StagedBlocks(FileBody):
    """The first bytes of a staged file that is final, to be sent as often as is needed."""

    def __init__(self, staged: StagedFile, size: int) -> None:
        # given
        self._staged = staged
        self._size = size

    def fileno(self) -> int:
        return self._staged.fileno()

    async def ready(self, offset: int) -> Ready:
        await trio.lowlevel.checkpoint()
        return Ready(self._size, True)

    def read(self, offset: int, size: int) -> bytes:
        return self._staged.pread(offset, size)

    def taken(self, count: int) -> None:
        if 0 < count < self._size:
            crash_point("half")


def explained(error: OSError | sqlite3.Error, folder: Path) -> IcatfsError:
    """What a failure of the local disk means to the program that writes."""
    if isinstance(error, OSError):
        is_full, words = error.errno in _NO_ROOM, error.strerror
    else:
        is_full, words = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL", str(error)
    if is_full:
        return NoSpace(
            f"the staging disk is full ({folder}): free some space there, then write again; what "
            "was written before is intact"
        )
    return StagingFailed(f"the staging folder {folder} cannot be used: {words}")


def _measure(descriptor: int, size: int) -> Sealed:
    crc, offset = 0, 0
    while offset < size:
        block = os.pread(descriptor, min(_CHUNK, size - offset), offset)
        if not block:
            break
        crc = crc32(block, crc)
        offset += len(block)
    return Sealed(size, crc)


def _copy(source: int, target: int) -> None:
    """All bytes of a file; file systems that can share them do, and holes stay holes elsewhere."""
    size, offset = os.fstat(source).st_size, 0
    while offset < size:
        offset += os.copy_file_range(source, target, size - offset, offset, offset) or size


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
