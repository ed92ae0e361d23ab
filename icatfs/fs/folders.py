"""Reading folders: what ``ls`` and every other walk through the tree costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from icatfs.catalogue.node import Glimpse
from icatfs.fs.attributes import Attributes
from icatfs.fs.handles import FolderHandle

if TYPE_CHECKING:
    from icatfs.fs.crowd import Crowd
    from icatfs.fs.entries import Entries
    from icatfs.fs.handles import HandleTable
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.ports import Caller, CallerProbe
    from icatfs.fs.waiting import Waits

Emit = Callable[[str, Attributes, int], bool]
"""Takes an entry's name, its attributes and the position after it; False if it takes no more."""

_DOTS = 2
"""``.`` and ``..`` come first in every listing."""
_CROWD = 32
"""Entries of a folder from which on its files are counted together (`icatfs.fs.crowd`)."""


class Folders:
    """The open folders of one mount."""

    def __init__(
        self,
        entries: Entries,
        inodes: InodeTable,
        handles: HandleTable[Any],
        waits: Waits,
        probe: CallerProbe,
    ) -> None:
        self._entries = entries
        self._inodes = inodes
        self._handles = handles
        self._waits = waits
        self._probe = probe

    async def open(self, number: int, caller: Caller) -> int:
        """Pin what the folder has now, as soon as the first of it is there; the handle."""
        folder = self._entries.folder(number)
        handle = FolderHandle(folder, self._probe.process_of(caller.pid))
        await self._pin(handle, caller.pid)
        return self._handles.open_folder(handle)

    async def _pin(self, handle: FolderHandle, pid: int) -> None:
        folder = handle.inode
        with self._entries.reporting(folder.number), self._waits.waiting(pid):
            listing = await self._entries.listing(folder)
        local, revised = self._entries.local(folder, listing), self._entries.revised(folder)
        handle.show(listing, local, revised)

    async def read(self, fh: int, start: int, emit: Emit) -> None:
        """Emit entries from a position on, until one is refused; each accepted one is counted.

        What has arrived is emitted at once; only where that is nothing is waited for more. Who
        begins anew (``rewinddir``) gets what there is by then.
        """
        handle = self._handles.folder(fh)
        folder = handle.inode
        if start == 0 and handle.is_begun:
            await self._pin(handle, handle.process)
        handle.is_begun = True
        if start < _DOTS and not self._emit_dots(folder, start, emit):
            return
        position = max(start - _DOTS, 0)
        if start >= _DOTS and position >= len(handle.listing):
            with self._entries.reporting(folder.number), self._waits.waiting(handle.process):
                await handle.listing.has_more(position)
        if position >= len(handle.listing):
            self._emit_local(handle, position, emit)
        elif len(handle.listing) < _CROWD:
            self._emit_files(handle, position, emit, None)
        else:
            crowd = self._inodes.crowd(folder.number, handle.listing)
            self._emit_files(handle, position, emit, crowd)
            self._inodes.disperse(crowd)

    def _emit_files(
        self, handle: FolderHandle, position: int, emit: Emit, crowd: Crowd | None
    ) -> None:
        """Entries of the catalogue; files are counted in the crowd, if there is one.

        This runs for every entry of every listing: no nodes are made that nobody asks for.
        """
        listing, parent, inodes = handle.listing, handle.inode.number, self._inodes
        attributes_of_file = self._entries.attributes_of_file
        number_of_file = self._entries.numbering.of_file
        for entry in handle.entries(position):
            after = position + _DOTS + 1
            if not isinstance(entry, Glimpse):
                number = inodes.number(entry.key)
                if not emit(entry.name, self._entries.attributes(number, entry), after):
                    return
                inodes.count(number, entry, parent)
            else:
                number = number_of_file(entry)
                if not emit(entry.name, attributes_of_file(number, entry), after):
                    return
                if crowd is not None:
                    inodes.count_member(crowd, position, number, entry.datafile)
                else:
                    inodes.count(number, listing[position], parent)
            position += 1

    def _emit_local(self, handle: FolderHandle, position: int, emit: Emit) -> None:
        """What only this mount has, but for names that have arrived since the folder was opened."""
        for node in handle.local[position - len(handle.listing) :]:
            position += 1
            if handle.listing.find(node.name) is not None:
                continue
            number = self._inodes.number(node.key)
            if not emit(node.name, self._entries.attributes(number, node), position + _DOTS):
                return
            self._inodes.count(number, node, handle.inode.number)

    def _emit_dots(self, folder: Inode, start: int, emit: Emit) -> bool:
        parent = next((one for one in self._inodes.ancestors(folder) if one is not folder), folder)
        dots = (".", folder), ("..", parent)
        return all(
            emit(name, self._entries.show(inode), position)
            for position, (name, inode) in enumerate(dots, 1)
            if position > start
        )
