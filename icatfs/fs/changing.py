"""Operations that change something, in terms of `icatfs.fs.writingports.Writing`.

Only the user who mounted (and root) may change anything, whoever else may read. What an operation
changes is decided by ``Writing``; here it is tied to inodes and handles: a file keeps its number
when it is published or renamed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from icatfs.errors import (
    AccessDenied,
    BadName,
    CopyInstead,
    IcatfsError,
    IsADirectory,
    NotADirectory,
    NotPermitted,
    NotSupported,
    ReadOnly,
    StaleHandle,
)
from icatfs.fs.handles import DraftHandle, Opened
from icatfs.fs.moving import Move
from icatfs.values import Kind, WriteMode

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.attributes import Attributes
    from icatfs.fs.entries import Entries
    from icatfs.fs.handles import AnyHandles
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.options import FsOptions
    from icatfs.fs.ports import Caller, CallerProbe, Notifier
    from icatfs.fs.revising import OldContent
    from icatfs.fs.waiting import Waits
    from icatfs.fs.writingports import Draft, Writing

_LAST_RECORD_S = 10.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What ``setattr`` is to change; None is left alone. Mode and owner have no effect."""

    size: int | None = None
    mtime_ns: int | None = None


class Changing:
    """The operations of one mount that change something."""

    def __init__(
        self,
        *,
        writing: Writing,
        entries: Entries,
        old: OldContent[Any],
        inodes: InodeTable,
        handles: AnyHandles,
        waits: Waits,
        probe: CallerProbe,
        notifier: Notifier,
        options: FsOptions,
    ) -> None:
        # given
        self._writing = writing
        self._entries = entries
        self._old = old
        self._inodes = inodes
        self._handles = handles
        self._waits = waits
        self._probe = probe
        self._notifier = notifier
        self._options = options
        # constant
        self._numbering = entries.numbering

    def refuse(self, parent: int, name: str, what: str, instead: str, caller: Caller) -> NoReturn:
        """NotPermitted, or what comes before it, for what no mount can make."""
        with self._entries.reporting(parent):
            self._check(caller, name)
            raise NotPermitted(
                f"cannot make {name!r}: a catalogue has files and folders, and no {what}; {instead}"
            )

    # Files.

    async def create(
        self, parent: int, name: str, caller: Caller, flags: int = os.O_RDWR, mode: int = 0o666
    ) -> tuple[Opened, Attributes]:
        """A new, empty file, open; counted as one lookup."""
        folder = self._entries.folder(parent)
        with self._entries.reporting(parent), self._waits.waiting():
            self._check(caller, name)
            draft = await self._writing.create(folder.node, name, flags, mode)
        inode = self._inodes.remember(draft.node, parent)
        return self._opened(inode, draft, flags, caller), self._entries.show(inode)

    async def open(self, inode: Inode, flags: int, caller: Caller) -> Opened:
        """Open a file for writing, or one that is not published yet for whatever."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._check(caller)
        if self._numbering.is_past(inode):  # the kernel looks a name up again once, not twice
            await self._writing.confirm(inode.node)
        with self._numbering.changing(inode):
            draft = await self._edit(inode, caller, flags)
        if flags & os.O_TRUNC:
            try:
                await _cut(draft, 0)
            except BaseException:  # not swallowed: no handle holds the draft yet
                await _give_back(draft)
                raise
        keep = self._entries.pages_are_of(inode)
        return replace(self._opened(inode, draft, flags, caller), keep_cache=keep)

    async def _edit(self, inode: Inode, caller: Caller, flags: int) -> Draft:
        """The draft behind a file; of a stored one it is made, with its bytes unless they go."""
        node = inode.node
        if node.key.id < 0 or self._writing.draft(node.key) is not None:
            return await self._writing.edit(node, caller)
        opener = self._probe.opener(caller.pid)
        nonblocking = bool(flags & os.O_NONBLOCK)
        fill = partial(self._old.copy, inode, opener, nonblocking=nonblocking)
        return await self._writing.revise(node, None if flags & os.O_TRUNC else fill)

    def is_draft(self, inode: Inode) -> bool:
        """Whether the file is read from its draft, as are the pages that the kernel has of it."""
        return self._writing.draft(inode.node.key) is not None

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write all of ``data``; returns how much that is."""
        handle = self._draft_handle(fh)
        with self._entries.reporting(handle.inode.number):
            if self._options.writes_back:
                return await self._write_kept(handle, offset, data)
            if handle.draft.is_final:
                await handle.draft.revise()
            return handle.draft.write(offset, data)

    async def _write_kept(self, handle: DraftHandle, offset: int, data: bytes) -> int:
        """Where it fails the kernel has to ask before the next ``write``, which is told then."""
        try:
            with self._waits.waiting():
                return await handle.draft.write_kept(offset, data)
        except IcatfsError:
            self._notifier.invalidate_attributes(handle.inode.number)
            raise

    def check_whole(self, inode: Inode) -> None:
        """Raises why something of a file lacks that the kernel had kept of it."""
        if self._options.writes_back and not self._numbering.is_past(inode):
            draft = self._writing.draft(inode.node.key)
            if draft is not None:
                draft.check_whole()

    async def flush(self, handle: DraftHandle) -> None:
        """A descriptor was closed; the opener's last close publishes and tells how that went.

        That of a reader changes nothing. Nor does that of a program that was killed: nobody said
        that the file is whole.
        """
        handle.is_flushed = True
        if not handle.writes or handle.killed:
            return
        number = handle.inode.number
        if handle.process and self._probe.was_killed(handle.process):
            handle.killed = handle.draft.killed = True
            return
        with self._entries.reporting(number), self._waits.waiting(handle.process):
            await handle.draft.flush(self._still_open(handle))
        self._inodes.update(handle.inode, handle.draft.node)
        self._entries.pages_written(handle.inode)

    async def release(self, handle: DraftHandle) -> None:
        """The last descriptor of a handle has gone.

        The kernel asks nothing at a close where it could not pass on what it had kept.
        """
        if self._options.writes_back:
            if handle.writes and not handle.is_flushed:
                handle.draft.was_not_flushed()
            self._numbering.written(handle.inode, handle.draft.node)
        handle.draft.readers -= not handle.writes
        await handle.draft.release()

    async def fsync(self, fh: int) -> None:
        """Return when the facility has what was written, or the local disk where that is all.

        The kernel calls this after each write to a file opened with ``O_SYNC``, too: for such a
        file, as for one with a temporary name, safe means safe on the local disk.
        """
        handle = self._handles.file(fh)
        if not isinstance(handle, DraftHandle):
            return
        with self._entries.reporting(handle.inode.number), self._waits.waiting(handle.process):
            await handle.draft.sync(publish=handle.writes and not handle.is_synchronous)
        self._inodes.update(handle.inode, handle.draft.node)

    def _opened(self, inode: Inode, draft: Draft, flags: int, caller: Caller) -> Opened:
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        draft.readers += not writes
        handle = DraftHandle(
            inode,
            self._probe.process_of(caller.pid),
            draft,
            writes=writes,
            is_synchronous=bool(flags & os.O_DSYNC),
        )
        return Opened(self._handles.open_file(handle))

    def _still_open(self, handle: DraftHandle) -> bool:
        """Whether the opener can write through another descriptor; no where that is not seen."""
        if not handle.process:
            return False
        return bool(self._probe.holds(handle.process, handle.inode.number))

    def _draft_handle(self, fh: int) -> DraftHandle:
        handle = self._handles.file(fh)
        if not isinstance(handle, DraftHandle):
            raise StaleHandle("the file is not open for writing")
        return handle

    # Attributes.

    async def setattr(
        self, number: int, changes: Changes, fh: int | None, caller: Caller
    ) -> Attributes:
        """Cut or extend a file, give it a time; mode and owner are accepted without effect."""
        inode = self._inodes[number]
        with self._entries.reporting(number), self._waits.waiting():
            if self._options.writes_back and self._is_kernels(inode, changes, fh):
                return self._entries.show(inode)
            self._check(caller)
            if changes.size is not None:
                await self._resize(inode, changes, changes.size, fh, caller)
            else:
                await self._set_mtime(inode, changes.mtime_ns)
            if not self._options.writes_back or inode.node.is_folder:
                await self._entries.refresh(inode)
        return self._entries.show(inode)

    def _is_kernels(self, inode: Inode, changes: Changes, fh: int | None) -> bool:
        """Whether the kernel tells what it keeps, in the name of whoever made it do so.

        Through a handle that is when a file was written. Otherwise it is a time that we know, for
        the kernel has another one to tell, too: that of a new name, or of losing it.
        """
        if changes.size is not None or changes.mtime_ns is None:
            return False
        if fh is None:
            return changes.mtime_ns == inode.node.mtime_ns
        draft = self._draft_handle(fh).draft
        draft.hear_mtime(changes.mtime_ns)
        self._numbering.written(inode, draft.node)
        return True

    async def _set_mtime(self, inode: Inode, mtime_ns: int | None) -> None:
        node = inode.node
        if node.is_folder:
            if not self._writing.may_add(node):
                raise NotPermitted(
                    f"cannot change {node.name!r}: facilities and investigations are the facility's"
                )
        elif not self._writing.is_own(node):
            raise NotPermitted(
                f"cannot change {node.name!r}: this mount did not make it; mount with --mode rw to "
                "change what ICAT lets you change"
            )
        elif mtime_ns is not None:
            await self._writing.set_mtime(node, mtime_ns)
            if self._options.writes_back:
                self._numbering.written(inode, replace(inode.node, mtime_ns=mtime_ns))

    async def _resize(
        self, inode: Inode, changes: Changes, size: int, fh: int | None, caller: Caller
    ) -> None:
        if inode.node.is_folder:
            raise IsADirectory(f"{inode.node.name} is a folder")
        if fh is not None:
            draft = self._draft_handle(fh).draft
            await _cut(draft, size, changes.mtime_ns)
            self._inodes.update(inode, draft.node)
            return
        with self._numbering.changing(inode):
            draft = await self._edit(inode, caller, 0 if size else os.O_TRUNC)
        try:
            await _cut(draft, size, changes.mtime_ns)
            if not self._handles.is_open(inode.number):
                await draft.flush(still_open=False)
        except BaseException:  # not swallowed: no handle holds the draft
            await _give_back(draft)
            self._inodes.update(inode, draft.node)
            raise
        await draft.release()
        self._inodes.update(inode, draft.node)

    async def setxattr(self, number: int, name: str, value: bytes | None, caller: Caller) -> None:
        """Set an extended attribute, or clear it with None."""
        inode = self._inodes[number]
        with self._entries.reporting(number), self._waits.waiting():
            self._check(caller)
            await self._writing.describe(inode.node, name, value)
            if inode.node.is_folder:  # what is said of it is in its entry
                await self._entries.refresh(inode)

    # Names.

    async def mkdir(self, parent: int, name: str, caller: Caller) -> Attributes:
        """A new folder; counted as one lookup."""
        folder = self._entries.folder(parent)
        with self._entries.reporting(parent), self._waits.waiting():
            self._check(caller, name)
            node = await self._writing.mkdir(folder.node, name)
        return self._entries.show(self._inodes.remember(node, parent))

    async def unlink(self, parent: int, name: str, caller: Caller) -> None:
        """Remove a file."""
        folder = self._entries.folder(parent)
        with self._entries.reporting(parent), self._waits.waiting():
            node = await self._doomed(folder, name, caller)
            if node.is_folder:
                raise IsADirectory(f"{name} is a folder")
            process = self._probe.process_of(caller.pid)
            await self._writing.unlink(folder.node, node, process)

    async def rmdir(self, parent: int, name: str, caller: Caller) -> None:
        """Remove an empty folder."""
        folder = self._entries.folder(parent)
        with self._entries.reporting(parent), self._waits.waiting():
            node = await self._doomed(folder, name, caller)
            if not node.is_folder:
                raise NotADirectory(f"{name} is not a folder")
            await self._writing.rmdir(folder.node, node)

    async def rename(
        self, parent: int, name: str, new_parent: int, new_name: str, replace: bool, caller: Caller
    ) -> None:
        """Give an entry another name or folder; it keeps its number.

        It may be a matter of an upload: a signal ends the waiting for it, and it goes on. Raises
        `CopyInstead` where the entry may be copied and removed but not renamed.
        """
        folder, new_folder = self._entries.folder(parent), self._entries.folder(new_parent)
        process = self._probe.process_of(caller.pid)
        with self._entries.reporting(parent), self._waits.waiting(process):
            node = await self._doomed(folder, name, caller)
            self._check(caller, new_name)
            inode = self._inodes.find(node.key)
            try:
                renamed = await self._writing.rename(
                    folder.node, node, new_folder.node, new_name, replace=replace
                )
            except NotSupported as error:
                if node.is_folder or not self._writing.is_own(node):
                    raise
                raise CopyInstead(str(error)) from error
        if inode is not None:
            self._numbering.renew(inode, renamed)
            inode.parent = new_parent
        if node.key.kind is Kind.FOLDER:
            self._inodes.move(Move(node.key, renamed.key))

    async def _doomed(self, folder: Inode, name: str, caller: Caller) -> Node:
        self._check(caller)
        return await self._entries.find(folder, name)

    def _check(self, caller: Caller, name: str = "") -> None:
        if self._options.mode is WriteMode.READ_ONLY:
            raise ReadOnly("this mount is read-only; mount with --mode add to add data")
        if caller.uid not in (0, self._options.uid):
            raise AccessDenied("only the user who mounted the facility may change anything")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadName("the catalogue holds names in UTF-8 only") from None


async def _cut(draft: Draft, size: int, mtime_ns: int | None = None) -> None:
    """Cut or extend a draft, as a new version where it is stored already.

    The kernel says when that is, if it keeps times.
    """
    if draft.is_final and size != draft.node.size:
        await draft.revise()
    draft.truncate(size)
    if mtime_ns is not None:
        draft.hear_mtime(mtime_ns)


async def _give_back(draft: Draft) -> None:
    """One holder less of a draft, also when cancelled: what is kept of it is on record then."""
    with trio.move_on_after(_LAST_RECORD_S, shield=True):
        await draft.release()
