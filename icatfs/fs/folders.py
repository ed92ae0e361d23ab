"""Reading folders: what ``ls`` and every other walk through the tree costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from icatfs.fs.attributes import Attributes
from icatfs.fs.handles import FolderHandle

if TYPE_CHECKING:
    from icatfs.fs.entries import Entries
    from icatfs.fs.handles import HandleTable
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.ports import Caller, CallerProbe
    from icatfs.fs.waiting import Waits

Emit = Callable[[str, Attributes, int], bool]
"""Takes an entry's name, its attributes and the position after it; False if it takes no more."""

_DOTS = 2
"""``.`` and ``..`` come first in every listing."""


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
        with self._entries.reporting(number), self._waits.waiting(caller.pid):
            listing = await self._entries.listing(folder)
        local = self._entries.local(folder, listing)
        process = self._probe.process_of(caller.pid)
        return self._handles.open_folder(FolderHandle(folder, process, listing, local))

    async def read(self, fh: int, start: int, emit: Emit) -> None:
        """Emit entries from a position on, until one is refused; each accepted one is counted.

        What has arrived is emitted at once; only where that is nothing is waited for more.
        """
        handle = self._handles.folder(fh)
        folder = handle.inode
        if start < _DOTS and not self._emit_dots(folder, start, emit):
            return
        position = max(start - _DOTS, 0)
        if start >= _DOTS and position >= len(handle.listing):
            with self._entries.reporting(folder.number), self._waits.waiting(handle.process):
                await handle.listing.has_more(position)
        attributes, inodes = self._entries.attributes, self._inodes
        for after, node in handle.entries(position):
            number = inodes.number(node.key)
            if not emit(node.name, attributes(number, node), after + _DOTS):
                return
            inodes.count(number, node, folder.number)

    def _emit_dots(self, folder: Inode, start: int, emit: Emit) -> bool:
        parent = next((one for one in self._inodes.ancestors(folder) if one is not folder), folder)
        dots = (".", folder), ("..", parent)
        return all(
            emit(name, self._entries.show(inode), position)
            for position, (name, inode) in enumerate(dots, 1)
            if position > start
        )
