"""FileSystem: what each file-system operation means, one short method each.

The meeting point of catalogue, content, recall and writing, which do not know each other. Inode
and handle numbers are the kernel's words, everything else is ours: nodes, our errors, seconds.
Every operation that may wait does so inside `Waits.waiting`, so that a signal of the caller (where
the operation can be given up without harm) and the end of the mount end it. Operations that change
something are in `FileSystem.changes`.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from icatfs.errors import IsADirectory, NotFound, NotSupported
from icatfs.fs.aftermath import Aftermath
from icatfs.fs.attributes import Portrait, permits, statfs
from icatfs.fs.changing import Changing
from icatfs.fs.entries import Entries
from icatfs.fs.folders import Folders
from icatfs.fs.handles import DraftHandle, HandleTable, Opened
from icatfs.fs.inodes import InodeTable
from icatfs.fs.options import FsOptions, FsStatus
from icatfs.fs.ports import CacheFile
from icatfs.fs.readers import Readers
from icatfs.fs.reading import Asking, Reader
from icatfs.fs.reports import Reports
from icatfs.fs.revising import OldContent
from icatfs.fs.siblings import NoForesight
from icatfs.fs.storedfiles import StoredFiles
from icatfs.fs.waiting import Waits
from icatfs.fs.xattrs import Xattrs
from icatfs.values import WriteMode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from icatfs.catalogue.node import Node
    from icatfs.fs.attributes import Attributes, StatFs
    from icatfs.fs.folders import Emit
    from icatfs.fs.ports import (
        Caller,
        CallerProbe,
        Catalogue,
        Foresight,
        Notifier,
        Recall,
        Store,
        Transfer,
    )
    from icatfs.fs.writingports import Writing

__all__ = ["FileSystem", "FsOptions", "FsStatus", "open_filesystem"]

F = TypeVar("F", bound=CacheFile)

_MOST_NAMES = 10_000
"""Names in large folders that the kernel is told to forget at once; it forgets all in a minute."""


class FileSystem(Generic[F]):
    """One mount, without the kernel."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: Store[F],
        transfer: Transfer[F],
        recall: Recall,
        writing: Writing,
        options: FsOptions,
        probe: CallerProbe,
        notifier: Notifier,
        foresight: Foresight | None = None,
        root: Node | None = None,
    ) -> None:
        """``root``: the folder of the facility that is the root of the mount; None: the top."""
        # given
        self._catalogue = catalogue
        self._writing = writing
        self._options = options
        self._probe = probe
        self._notifier = notifier
        # constant
        self.waits = Waits(probe)
        self._inodes = InodeTable(root or catalogue.root)
        self._handles: HandleTable[F] = HandleTable()
        self._reports = Reports(self._inodes.path)
        self._portrait = Portrait(
            options.uid, options.gid, options.attr_timeout_s, options.entry_timeout_s
        )
        self._entries = Entries(
            catalogue=catalogue,
            writing=writing,
            inodes=self._inodes,
            handles=self._handles,
            portrait=self._portrait,
            reports=self._reports,
            options=options,
        )
        self._folders = Folders(self._entries, self._inodes, self._handles, self.waits, probe)
        self.readers = Readers(self._handles, self._inodes, self._reports)
        self.aftermath = Aftermath(self._entries, self._inodes, notifier)
        writing.watch(self.aftermath)
        self._xattrs = Xattrs(self._inodes, catalogue, recall, self._reports)
        self._reader = Reader(
            transfer,
            foresight or NoForesight(),
            recall,
            self.waits,
            Asking(probe.program, self._inodes.path, options.recall_wait_s, options.slot_wait_s),
        )
        self._stored = StoredFiles(
            store,
            self._reader,
            foresight or NoForesight(),
            catalogue,
            self._entries,
            self._handles,
            notifier,
        )
        self.changes = Changing(
            writing=writing,
            entries=self._entries,
            old=OldContent(store, self._reader),
            inodes=self._inodes,
            handles=self._handles,
            waits=self.waits,
            probe=probe,
            notifier=notifier,
            options=options,
        )

    def status(self) -> FsStatus:
        """Numbers for ``icatfs status``."""
        return FsStatus(
            inodes=len(self._inodes),
            handles=len(self._handles),
            waiting=len(self.waits),
            fetched=self._reader.fetched,
            failed=self._reader.failed,
        )

    def shut_down(self) -> None:
        """Wake everybody who waits, and refuse further waiting, with `ShuttingDown`."""
        self.waits.end_all()

    def limit_waiting(self, reads: int) -> None:
        """From now on no more reads than this wait for the archive at once; others get `Busy`."""
        self._reader.limit_waiting(reads)

    def refresh(self) -> None:
        """Forget what is known of all entries: what is looked at from now on is new.

        Names of folders are left to their timeouts: the kernel would take a folder that somebody
        works in from under them.
        """
        for inode in self._inodes.all():
            if inode.node.is_folder:
                self._catalogue.invalidate(inode.node.key)
                self._notifier.invalidate_inode(inode.number)
            else:
                self._notifier.invalidate_entry(inode.parent, inode.node.name)
        known = islice(self._inodes.members(), _MOST_NAMES)
        for folder, name in chain(self._entries.take_absent(), known):
            self._notifier.invalidate_entry(folder, name)

    @property
    def is_read_only(self) -> bool:
        """Whether nothing at all can be changed."""
        return self._options.mode is WriteMode.READ_ONLY

    @property
    def writes_back(self) -> bool:
        """Whether the kernel is to keep what programs write, and to pass it on later."""
        return self._options.writes_back

    # Entries.

    async def lookup(self, parent: int, name: str, caller: Caller) -> Attributes:
        """The entry of this name, counted as one lookup; number 0 where there is none."""
        folder = self._entries.folder(parent)
        with self._entries.reporting(parent), self.waits.waiting(caller.pid):
            try:
                node = await self._entries.find(folder, name)
            except NotFound:
                self._entries.remember_absent(parent, name)
                return self._portrait.absent
        return self._entries.show(self._entries.numbering.remember(node, parent))

    def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        """The kernel takes back lookups: (number, count). Never raises."""
        for number, count in forgotten:
            self._entries.forget(number, count)

    async def getattr(self, number: int, caller: Caller) -> Attributes:
        """What ``stat`` shows; raises `NotFound` when the entry has gone."""
        inode = self._inodes[number]
        with self._entries.reporting(number), self.waits.waiting(caller.pid):
            if not await self._entries.refresh(inode):
                self._notifier.invalidate_entry(inode.parent, inode.node.name)
            self.changes.check_whole(inode)
        return self._entries.show(inode)

    def access(self, number: int, mask: int, caller: Caller) -> bool:
        """Whether the mode bits let the caller do this."""
        return permits(self._entries.show(self._inodes[number]), caller, mask)

    def statfs(self) -> StatFs:
        """The same for every caller, and asked of nobody."""
        return statfs(writable=not self.is_read_only)

    # Extended attributes.

    async def getxattr(self, number: int, name: str, caller: Caller) -> str | None:
        """The value, None where the entry has none of this name.

        Raises `NotSupported` for names outside ``user.``: programs then stop asking for
        ``security.*`` and access control lists file by file. (Were the kernel told that there are
        no attributes at all it would ask for none of ours either.)
        """
        if not name.startswith("user."):
            raise NotSupported("only attributes of the kind user.icat.* exist here")
        inode = self._inodes[number]
        with self._entries.reporting(number), self.waits.waiting(caller.pid):
            return await self._xattrs.value(inode, name)

    def listxattr(self, number: int) -> list[str]:
        """The names of all attributes that are known without asking anybody."""
        return self._xattrs.names(self._inodes[number])

    # Folders.

    async def opendir(self, number: int, caller: Caller) -> int:
        """Pin what the folder has now; `readdir` shows this and nothing else."""
        return await self._folders.open(number, caller)

    async def readdir(self, fh: int, start: int, emit: Emit) -> None:
        """Emit entries from a position on, each with the position after it, until one is refused.

        Each accepted entry is counted as one lookup; the kernel does not count ``.`` and ``..``.
        """
        await self._folders.read(fh, start, emit)

    def releasedir(self, fh: int) -> None:
        """Let go of a pinned listing."""
        self._handles.release_folder(fh)

    # Files.

    async def open(self, number: int, flags: int, caller: Caller) -> Opened:
        """Open a file; never waits for data."""
        inode = self._inodes[number]
        if inode.node.is_folder:
            raise IsADirectory(f"{inode.node.name} is a folder")
        with self._entries.reporting(number), self.waits.waiting(caller.pid):
            if flags & os.O_ACCMODE != os.O_RDONLY:
                return await self.changes.open(inode, flags, caller)
            self._entries.numbering.check_present(inode)
            if inode.node.key.id < 0:
                await self._entries.refresh(inode)
            if inode.node.key.id < 0 or self.changes.is_draft(inode):
                return await self.changes.open(inode, flags, caller)
        return self._stored.open(inode, self._probe.opener(caller.pid), flags)

    def read_nowait(self, fh: int, offset: int, size: int) -> bytes | None:
        """What ``read`` gives, where nothing has to be waited for; None: ask ``read``."""
        handle = self._handles.file(fh)
        if isinstance(handle, DraftHandle):
            return None
        return self._reader.read_nowait(handle, offset, size)

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        """All bytes that were asked for up to the end of the file, or an error."""
        handle = self._handles.file(fh)
        if isinstance(handle, DraftHandle):
            return handle.draft.read(offset, size)
        return await self._stored.read(handle, offset, size)

    async def flush(self, fh: int) -> None:
        """One descriptor of the handle was closed."""
        handle = self._handles.file(fh)
        if isinstance(handle, DraftHandle):
            await self.changes.flush(handle)

    async def release(self, fh: int) -> None:
        """The last descriptor of the handle is gone; nobody hears of errors any more."""
        handle = self._handles.release_file(fh)
        if isinstance(handle, DraftHandle):
            await self.changes.release(handle)
        else:
            handle.file.close()


@asynccontextmanager
async def open_filesystem(
    *,
    catalogue: Catalogue,
    store: Store[F],
    transfer: Transfer[F],
    recall: Recall,
    writing: Writing,
    options: FsOptions,
    probe: CallerProbe,
    notifier: Notifier,
    foresight: Foresight | None = None,
    root: Node | None = None,
) -> AsyncIterator[FileSystem[F]]:
    """A file system whose waiting requests are looked after; at the end nobody waits any more."""
    filesystem = FileSystem(
        catalogue=catalogue,
        store=store,
        transfer=transfer,
        recall=recall,
        writing=writing,
        options=options,
        probe=probe,
        notifier=notifier,
        foresight=foresight,
        root=root,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(filesystem.waits.watch)
        try:
            yield filesystem
        finally:
            filesystem.shut_down()
            nursery.cancel_scope.cancel()
