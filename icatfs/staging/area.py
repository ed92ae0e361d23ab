"""Staged files: what programs write, on the local disk until the facility has it.

Writes go straight to a file of the staging folder (`os.pwrite`, 20 us, no thread); the CRC-32 of a
file written from front to back is computed on the way, that of any other when it is sealed. A
full disk is `NoSpace` at the write, with what was there before intact.

**One folder for all.** The mounts of one user at one facility, and ``icatfs pending``, share one
folder and one journal. A file belongs to whoever holds its lock (`flock`, which the kernel releases
when the process dies, however it dies): nobody else sends it, discards it, or looks at it. A new
file gets its name only when it is locked, and from its record in the journal until then the folder
is locked for sharing: so there is no moment in which it looks abandoned. A home folder may be on
the disk of several machines: what another one uses now is left to it (`icatfs.hosts`).

**Sealed** means that the bytes are final and that the journal has their size and CRC-32. They get
to the disk while they are being sent (`StagedFile.sync`): before ``close`` reports an error they
are there, and when it reports success they are at the facility. If the machine loses its power in
between, the CRC-32 tells whether the staged bytes are still the ones that were sealed.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from icatfs.crashing import crash_point
from icatfs.errors import ConfigError, IcatfsError
from icatfs.hosts import shared_by_this_host
from icatfs.sharing import service_nursery
from icatfs.staging.journal import PENDING, Entry, Home, Journal, State
from icatfs.staging.making import Making
from icatfs.staging.room import Room
from icatfs.staging.staged import StagedFile, explained

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from icatfs.values import DatasetId

log = logging.getLogger(__name__)

T = TypeVar("T")

JOURNAL = "journal.sqlite"
_LOOKS, _LOOK_S = 3, 0.02
_SOON_S = 0.1
_TOO_LITTLE = 2**20
"""With less than this SQLite cannot even begin, and may call that an I/O error."""


@dataclass(frozen=True, slots=True)
class StagingStatus:
    """What is pending, for control and logs."""

    folder: Path
    pending: tuple[Entry, ...]


class StagingArea:
    """The staging folder of one user at one facility.

    Invariant: ``_is_settling`` is true while a task brings the journal to the disk.
    """

    def __init__(
        self, folder: Path, journal: Journal, making: Making, room: Room, nursery: trio.Nursery
    ) -> None:
        # given
        self.folder = folder
        self.room = room
        self.journal = journal
        self._making = making
        self._nursery = nursery
        # constant: the journal's connection takes one thread at a time
        self._one_thread = trio.CapacityLimiter(1)
        # mutable: the files that are open in this process
        self.opened: set[int] = set()
        self._is_settling = False

    async def begin(self, dataset: DatasetId, name: str, shown: str) -> StagedFile:
        """A new, empty staged file, on record before the first byte.

        Cancelled, there is none. Raises NoSpace, StagingFailed.
        """
        while True:
            failure: OSError | None = None
            with self._making:
                entry = await self.in_thread(self.journal.begin, dataset, name, shown)
                self.settle_soon()
                crash_point("begun")
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
        nameless = path.with_suffix(".new")
        descriptor = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(nameless, path)
        except OSError:
            os.close(descriptor)
            raise
        finally:
            nameless.unlink()
        crash_point("created")
        return StagedFile(self, entry, path, descriptor)

    async def take(self, entry: int) -> tuple[Entry, StagedFile] | None:
        """A pending file that no living process has, with its entry; None if there is none.

        Whoever has taken it closes it. What a crash left of files that are not pending is removed.
        """
        path = self.path(entry)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            await self.in_thread(self._forget_if_lost, entry)
            return None
        except OSError as error:
            raise explained(error, self.folder) from error
        try:
            await _lock(descriptor)
            known = await self.in_thread(self.journal.entry, entry)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:  # not swallowed: nobody else knows of the descriptor
            os.close(descriptor)
            raise
        staged = StagedFile(self, entry, path, descriptor)
        staged.state, staged.plan = known.state, known.plan
        staged.mtime_ns = known.mtime_ns or os.fstat(descriptor).st_mtime_ns
        if known.state not in PENDING:
            staged.close(keep=False)
            return None
        return known, staged

    def _forget_if_lost(self, entry: int) -> None:
        """Abandon a file on record whose bytes are not in the folder, unless it is being made."""
        known = self.journal.entry(entry)
        if known.state not in PENDING:
            return
        with self._making.alone() as alone:
            if not alone or self.path(entry).exists():
                return
            self.journal.move(entry, State.ABANDONED)
        if known.state is not State.BEGUN:
            log.error("%s: its bytes are no longer in %s", known.shown, self.folder)

    @asynccontextmanager
    async def undertaking(
        self, dataset: DatasetId, name: str, shown: str, plan: Mapping[str, Any]
    ) -> AsyncIterator[None]:
        """What is done in this block is on record, with a plan, for whoever tidies up after it.

        There are no bytes to it. As long as the block runs nobody takes it for left over.
        """
        with self._making:
            entry = await self.in_thread(self.journal.begin, dataset, name, shown)
            await self.in_thread(self.journal.set_plan, entry, plan)
            failure: IcatfsError | None = None
            try:
                yield
            except IcatfsError as error:
                failure = error
            await self.in_thread(self.journal.move, entry, State.ABANDONED)
        if failure is not None:
            raise failure

    async def sweep(self) -> None:
        """Remove the bytes of what is on record as stored or abandoned: a crash left them."""
        for path in sorted(self.folder.glob("*.data")):
            with suppress(KeyError, ValueError):
                known = await self.in_thread(self.journal.entry, int(path.stem))
                if known.state not in PENDING:
                    await self.take(known.id)

    def path(self, entry: int) -> Path:
        """Where the bytes of an entry are."""
        return self.folder / f"{entry:08d}.data"

    async def pending(self) -> list[Entry]:
        """All that the facility does not have yet."""
        return await self.in_thread(self.journal.pending)

    def held_elsewhere(self, entry: int) -> bool:
        """Whether another living process has this file."""
        if entry in self.opened:
            return False
        try:
            descriptor = os.open(self.path(entry), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    async def left(self) -> list[Entry]:
        """What the facility does not have yet, and no other living process has."""
        return [entry for entry in await self.pending() if not self.held_elsewhere(entry.id)]

    async def entry(self, entry: int) -> Entry:
        """One entry; KeyError if there is none."""
        return await self.in_thread(self.journal.entry, entry)

    async def record_stored(self, entry: int) -> None:
        """The facility has a file of which nothing but the record is left here."""
        await self.in_thread(self.journal.move, entry, State.STORED)
        self.settle_soon()

    async def abandon(self, entry: int) -> bool:
        """Forget a pending file, and its bytes if there are any; False where somebody has it."""
        taken = await self.take(entry)
        if taken is not None:
            await taken[1].discard()
        return (await self.entry(entry)).state is State.ABANDONED

    def others(self) -> list[Path]:
        """The folders of this user at this facility that mounts of other machines have, or had."""
        stem = self.folder.name.partition("-")[0]
        found = {path.parent for path in self.folder.parent.glob(f"{stem}*/{JOURNAL}")}
        return sorted(found - {self.folder})

    async def status(self) -> StagingStatus:
        """What is pending."""
        return StagingStatus(self.folder, tuple(await self.pending()))

    async def settle(self) -> None:
        """Return when the journal is on the disk as it is now. Raises NoSpace, StagingFailed."""
        if not self.journal.is_settled:
            await self.beside(self.journal.sync)

    def settle_soon(self) -> None:
        """Bring the journal to the disk, while others go on, and once for many records."""
        if not self._is_settling:
            self._is_settling = True
            self._nursery.start_soon(self._settle_soon)

    async def _settle_soon(self) -> None:
        failure: IcatfsError | None = None
        await trio.sleep(_SOON_S)
        self._is_settling = False  # who records something from now on may be too late for this
        try:
            await self.settle()
        except IcatfsError as error:
            failure = error
        if failure is not None:
            log.warning("the journal may not be on the disk: %s", failure)

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
async def open_staging(
    state_dir: Path,
    *,
    facility: str,
    user: str,
    max_bytes: int | None = None,
    min_free: int = 0,
) -> AsyncIterator[StagingArea]:
    """The staging area of this user at this facility, made if need be. ConfigError.

    ``max_bytes`` may wait there at a time, and ``min_free`` of the disk is left to others.
    """
    digest = hashlib.sha256(f"{user}\n{facility}".encode()).hexdigest()[:16]
    with ExitStack() as stack:
        folder = _own(state_dir / "staging" / digest, stack)
        room = Room(folder, max_bytes, min_free)
        async with open_folder(folder, Home(facility, user), room) as area:
            yield area


def _own(folder: Path, stack: ExitStack) -> Path:
    """This folder, or the first of its name with a number that no other host uses now."""
    for number in count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        if _may_use(own, stack):
            return own
    raise AssertionError("numbers do not end")


def _may_use(folder: Path, stack: ExitStack) -> bool:
    """Whether no other host uses a folder, as long as the stack is open. ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return stack.enter_context(shared_by_this_host(folder))
    except OSError as error:
        raise ConfigError(
            f"cannot use the staging folder {folder}: {error.strerror}; choose another place "
            "with ICATFS_STATE_DIR"
        ) from error


@asynccontextmanager
async def open_folder(
    folder: Path, home: Home | None = None, room: Room | None = None
) -> AsyncIterator[StagingArea]:
    """The staging area in a folder; without ``home`` one that was made before. ConfigError."""
    with ExitStack() as stack:
        if not _may_use(folder, stack):
            raise ConfigError(f"icatfs uses {folder} on another machine now: look there")
        journal, making = _open_journal(folder, home, stack)
        async with service_nursery() as nursery:
            yield StagingArea(folder, journal, making, room or Room(folder), nursery)


def folders(state_dir: Path) -> list[Path]:
    """The staging folders of all facilities of this user, but for those that other hosts use."""
    found = []
    for folder in sorted(path.parent for path in (state_dir / "staging").glob(f"*/{JOURNAL}")):
        with ExitStack() as stack:
            if _may_use(folder, stack):
                found.append(folder)
            else:
                log.warning("icatfs uses %s on another machine now: icatfs pending there", folder)
    return found


async def _lock(descriptor: int) -> None:
    """Take the lock; BlockingIOError if somebody has it for longer than a look takes."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await trio.sleep(_LOOK_S)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_journal(folder: Path, home: Home | None, stack: ExitStack) -> tuple[Journal, Making]:
    path = folder / JOURNAL
    try:
        journal = stack.enter_context(closing(Journal(path)))
        if home is not None:
            journal.settle(home)
        return journal, stack.enter_context(closing(Making(folder / "lock")))
    except (OSError, sqlite3.Error) as error:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _TOO_LITTLE:
            raise ConfigError(
                f"the disk of {path} is full, and files that wait to be sent are on record there: "
                "free some space"
            ) from error
        raise ConfigError(
            f"the journal of files not sent yet, {path}, cannot be used: {error}; move its folder "
            "away (it may have bytes that were not sent) or choose another with ICATFS_STATE_DIR"
        ) from error
