"""Files that the facility has: opened and read, and what the kernel may keep of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from icatfs.errors import ContentChanged, Damaged, NotFound
from icatfs.fs.entries import Content
from icatfs.fs.handles import Opened, ReadHandle
from icatfs.fs.ports import CacheFile

if TYPE_CHECKING:
    from icatfs.fs.entries import Entries
    from icatfs.fs.handles import HandleTable
    from icatfs.fs.inodes import Inode
    from icatfs.fs.ports import Catalogue, Foresight, Notifier, Opener, Store
    from icatfs.fs.reading import Reader

F = TypeVar("F", bound=CacheFile)


class StoredFiles(Generic[F]):
    """The stored files of one mount."""

    def __init__(
        self,
        store: Store[F],
        reader: Reader[F],
        foresight: Foresight,
        catalogue: Catalogue,
        entries: Entries,
        handles: HandleTable[Any],
        notifier: Notifier,
    ) -> None:
        # given
        self._store = store
        self._reader = reader
        self._foresight = foresight
        self._catalogue = catalogue
        self._entries = entries
        self._handles = handles
        self._notifier = notifier

    def open(self, inode: Inode, opener: Opener, flags: int) -> Opened:
        """Open a file for reading; asks nobody."""
        version, dataset = inode.node.version, inode.node.dataset
        if dataset is not None:
            self._foresight.opened(dataset, version.datafile)
        file = self._store.open(version)
        keep = self._keep_cache(inode, file)
        new = Content(version, file.withdrawals)
        content = self._entries.contents.setdefault(inode.number, new)
        if content.version != version:
            content.version, content.size = version, None
        content.withdrawals, content.pages = file.withdrawals, file.pages
        if version.size is None:
            content.size = file.size
        # The kernel asks for nothing beyond the size it knows, unless it is told not to cache.
        direct = version.size is None or self._entries.numbering.is_changing(inode)
        handle = ReadHandle(
            inode,
            opener,
            inode.node,
            file,
            file.withdrawals,
            nonblocking=bool(flags & os.O_NONBLOCK),
            is_direct=direct,
        )
        return Opened(self._handles.open_file(handle), keep_cache=keep, direct_io=direct)

    def _keep_cache(self, inode: Inode, file: F) -> bool:
        """Whether the pages that the kernel may have of this inode are those of the new open.

        To be told that they are not, the kernel would wait for pages that are being read: so where
        somebody waits for such pages, a thread tells it, and this open need not wait.
        """
        content = self._entries.contents.get(inode.number)
        if content is None:
            return True
        may_stay = content.pages is None or content.pages.may_stay(file.pages)
        may_stay = may_stay and content.withdrawals == file.withdrawals
        if may_stay and content.version == file.version:
            return True
        if not any(
            isinstance(handle, ReadHandle) and handle.inode is inode and handle.waiting
            for handle in self._handles.files()
        ):
            return False
        self._notifier.invalidate_inode(inode.number)
        return True

    async def read(self, handle: ReadHandle[F], offset: int, size: int) -> bytes:
        """All bytes that were asked for up to the end of the file, or an error."""
        with self._entries.reporting(handle.inode.number):
            try:
                data = await self._reader.read(handle, offset, size)
            except Damaged:
                self._distrust(handle)
                raise
            except NotFound as error:
                self._distrust(handle)
                raise ContentChanged("the datafile is no longer at the facility") from error
        if handle.file.version.size is None:
            self._learn_size(handle)
        return data

    def _distrust(self, handle: ReadHandle[F]) -> None:
        """The data contradict the catalogue as we know it: look again when next asked.

        Pages of bytes that proved wrong must not be read by anybody else.
        """
        if handle.node.parent is not None:
            self._catalogue.invalidate(handle.node.parent)
        if handle.file.withdrawals != handle.withdrawals:
            self._notifier.invalidate_inode(handle.inode.number)

    def _learn_size(self, handle: ReadHandle[F]) -> None:
        content = self._entries.contents.get(handle.inode.number)
        size = handle.file.size
        if content is None or size is None or content.size == size:
            return
        if content.version == handle.file.version:
            self._entries.learn_size(handle.inode, content, size)
            self._notifier.invalidate_inode(handle.inode.number)
            if self._entries.numbering.writes_back:
                self._notifier.invalidate_entry(handle.inode.parent, handle.inode.node.name)
