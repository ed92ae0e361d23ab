"""Staged files: what programs write, on the local disk until the facility has it.

Writes go straight to a file of the staging folder (`os.pwrite`, 20 us, no thread); the CRC-32 of a
file written from front to back is computed on the way, that of any other when it is sealed. A
full disk is `NoSpace` at the write, with what was there before intact.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import sqlite3
import time
import zlib
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from icatfs.errors import ConfigError, IcatfsError, NoSpace, StagingFailed
from icatfs.staging.journal import Entry, Journal, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from icatfs.values import DatasetId

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK = 1 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Sealed:
    """The bytes of a staged file are final: their number and CRC-32."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class StagingStatus:
    """What is pending, for control and logs."""

    folder: Path
    pending: tuple[Entry, ...]


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
        # mutable
        self.size = os.fstat(descriptor).st_size
        self.mtime_ns = time.time_ns()
        self.state = State.BEGUN
        self._crc32 = 0
        self._crc32_stop = 0 if self.size == 0 else -1

    def pwrite(self, offset: int, data: bytes) -> int:
        """Write all of ``data``; `NoSpace` when the staging disk is full."""
        if not data:
            return 0
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
            self._crc32 = zlib.crc32(data, self._crc32)
            self._crc32_stop += written
        elif offset < self._crc32_stop:
            self._crc32_stop = -1
        self.size = max(self.size, offset + written)
        self.mtime_ns = time.time_ns()
        return written

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
        """Return when the bytes are on the disk."""
        await self._area.beside(os.fsync, self._descriptor)

    async def seal(self, reason: str | None = None) -> Sealed:
        """Declare the bytes final: they are on the disk and so is the journal's word of it.

        Nobody may write to it meanwhile, nor close it. Raises NoSpace, StagingFailed.
        """
        crc32 = self._crc32 if self._crc32_stop == self.size else None
        sealed = await self._area.beside(_measure, self._descriptor, self.size, crc32)
        await self._area.beside(_sync_folder, self._area.folder)
        await self.move(State.SEALED, size=sealed.size, crc32=sealed.crc32, reason=reason)
        return sealed

    async def move(
        self,
        state: State,
        *,
        size: int | None = None,
        crc32: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Record a change of state in the journal."""
        record = partial(
            self._area.journal.move, self.entry, state, size=size, crc32=crc32, reason=reason
        )
        await self._area.in_thread(record)
        self.state = state

    async def rename(self, name: str, shown: str) -> None:
        """Record another name for the file."""
        await self._area.in_thread(self._area.journal.rename, self.entry, name, shown)

    def blocks(self, size: int) -> StagedBlocks:
        """The first ``size`` bytes as an upload body, to be iterated as often as it is sent."""
        return StagedBlocks(self, size)

    async def discard(self) -> None:
        """Forget the file: it was removed before the facility had it."""
        await self.move(State.ABANDONED)
        self.close(keep=False)

    @property
    def closed(self) -> bool:
        """Whether nothing can be read or written any more."""
        return self._descriptor < 0

    def close(self, *, keep: bool) -> None:
        """Let go of the descriptor, and of the staged bytes unless they are kept."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if not keep:
            with suppress(FileNotFoundError):
                self.path.unlink()


class StagedBlocks:
    """Bytes of a staged file in blocks of 1 MiB, each iteration from the start."""

    def __init__(self, staged: StagedFile, size: int) -> None:
        # given
        self._staged = staged
        self._size = size

    def __aiter__(self) -> _Blocks:
        return _Blocks(self._staged, self._size)


class _Blocks:
    """One iteration; not a generator, which an upload that breaks off would leave unfinished."""

    def __init__(self, staged: StagedFile, size: int) -> None:
        # given
        self._staged = staged
        self._size = size
        # mutable
        self._offset = 0

    async def __anext__(self) -> bytes:
        block = self._staged.pread(self._offset, min(_CHUNK, self._size - self._offset))
        if not block:
            raise StopAsyncIteration
        self._offset += len(block)
        return block

    def __aiter__(self) -> _Blocks:
        return self


class StagingArea:
    """The staging folder of one user at one facility."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        # given
        self.folder = folder
        self.journal = journal
        # constant: the journal's connection takes one thread at a time
        self._one_thread = trio.CapacityLimiter(1)

    async def begin(self, dataset: DatasetId, name: str, shown: str) -> StagedFile:
        """A new, empty staged file, on record before the first byte.

        Cancelled, there is none. Raises NoSpace, StagingFailed.
        """
        while True:
            entry = await self.in_thread(self.journal.begin, dataset, name, shown)
            failure: OSError | None = None
            try:
                return self._new_file(entry)
            except OSError as error:
                failure = error
            await self.in_thread(self.journal.move, entry, State.ABANDONED)
            if not isinstance(failure, FileExistsError):
                raise explained(failure, self.folder) from failure
            # Bytes that an older journal knew of: they stay, and the next number is tried.

    def _new_file(self, entry: int) -> StagedFile:
        path = self.path(entry)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return StagedFile(self, entry, path, descriptor)

    def path(self, entry: int) -> Path:
        """Where the bytes of an entry are."""
        return self.folder / f"{entry:08d}.data"

    async def pending(self) -> list[Entry]:
        """All that the facility does not have yet."""
        return await self.in_thread(self.journal.pending)

    async def status(self) -> StagingStatus:
        """What is pending."""
        return StagingStatus(self.folder, tuple(await self.pending()))

    async def in_thread(self, fn: Callable[..., T], *args: object) -> T:
        """Call the journal, in the one thread that may. Raises NoSpace, StagingFailed."""
        try:
            return await trio.to_thread.run_sync(fn, *args, limiter=self._one_thread)
        except (OSError, sqlite3.Error) as error:
            raise explained(error, self.folder) from error

    async def beside(self, fn: Callable[..., T], *args: object) -> T:
        """Call something slow about one file, in any thread. Raises NoSpace, StagingFailed."""
        try:
            return await trio.to_thread.run_sync(fn, *args)
        except OSError as error:
            raise explained(error, self.folder) from error


@asynccontextmanager
async def open_staging(state_dir: Path, *, facility: str, user: str) -> AsyncIterator[StagingArea]:
    """The staging area of this user at this facility, made if need be.

    Two mounts of one user at one facility would repair each other's work, so the second one
    stages in a folder of its own.
    """
    digest = hashlib.sha256(f"{user}\n{facility}".encode()).hexdigest()[:16]
    folder, lock = _claim(state_dir / "staging" / digest)
    try:
        journal = _open_journal(folder / "journal.sqlite")
        try:
            yield StagingArea(folder, journal)
        finally:
            journal.close()
    finally:
        os.close(lock)


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


def _open_journal(path: Path) -> Journal:
    try:
        return Journal(path)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"the journal of files not sent yet, {path}, cannot be used: {error}; move its folder "
            "away (it may have bytes that were not sent) or choose another with ICATFS_STATE_DIR"
        ) from error


def _claim(base: Path) -> tuple[Path, int]:
    """The first of ``base``, ``base-2``, ... that no other mount holds, and its lock."""
    for number in range(1, 100):
        folder = base if number == 1 else base.with_name(f"{base.name}-{number}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot use the staging folder {folder}: {error.strerror}; choose another place "
                "with ICATFS_STATE_DIR"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return folder, lock
    raise ConfigError(f"a hundred mounts use the staging folder {base} already")


def _measure(descriptor: int, size: int, crc32: int | None) -> Sealed:
    """Size and CRC-32 of what is on the disk, after it is there."""
    os.fsync(descriptor)
    if crc32 is None:
        crc32, offset = 0, 0
        while offset < size:
            block = os.pread(descriptor, min(_CHUNK, size - offset), offset)
            if not block:
                break
            crc32 = zlib.crc32(block, crc32)
            offset += len(block)
    return Sealed(size, crc32)


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
