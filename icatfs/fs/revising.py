"""A stored file is opened for writing: its bytes are brought first, and it becomes a draft.

IDS replaces files as a whole, so a program that changes one byte of a large file costs a download
and an upload of all of it. The download happens in ``open``, unless that cuts the file to nothing;
what is in the cache already is not asked for again. Until the draft is published everybody else
sees the stored version; programs of this mount see what is being written, as of any file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from icatfs.errors import ContentChanged, IcatfsError, NotFound
from icatfs.fs.drafts import Draft
from icatfs.fs.handles import ReadHandle
from icatfs.fs.ports import CacheFile
from icatfs.fs.publishing import dataset_of
from icatfs.icat.records import DatafileRow
from icatfs.sharing import KeyedLock

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node, NodeKey
    from icatfs.fs.closed import Closed
    from icatfs.fs.inodes import Inode
    from icatfs.fs.overlay import Overlay
    from icatfs.fs.permission import Permission
    from icatfs.fs.ports import Opener, Store
    from icatfs.fs.publishing import Publishing, WritingServices
    from icatfs.fs.reading import Reader
    from icatfs.fs.replacing import Replacing
    from icatfs.fs.writingports import Fill

_BLOCK = 1 << 20

F = TypeVar("F", bound=CacheFile)


class OldContent(Generic[F]):
    """Brings the bytes of stored files as reads do: from the cache, or streams, or the archive."""

    def __init__(self, store: Store[F], reader: Reader[F]) -> None:
        # given
        self._store = store
        self._reader = reader

    async def copy(
        self, inode: Inode, opener: Opener, draft: Draft, *, nonblocking: bool = False
    ) -> None:
        """Write all bytes of a file into a draft, on behalf of who opened it.

        Raises what a read raises, and NoSpace.
        """
        file = self._store.open(inode.node.version)
        handle = ReadHandle(
            inode, opener, inode.node, file, file.withdrawals, nonblocking=nonblocking
        )
        try:
            offset = 0
            while block := await self._reader.read(handle, offset, _BLOCK):
                draft.staged.pwrite(offset, block)
                offset += len(block)
        except NotFound as error:
            raise ContentChanged(f"{inode.node.name} is no longer at the facility") from error
        finally:
            file.close()


class Revising:
    """Makes drafts of stored files."""

    def __init__(
        self,
        services: WritingServices,
        permission: Permission,
        overlay: Overlay,
        publishing: Publishing,
        replacing: Replacing,
        closed: Closed,
    ) -> None:
        # given
        self._services = services
        self._permission = permission
        self._overlay = overlay
        self._publishing = publishing
        self._replacing = replacing
        self._closed = closed
        # mutable
        self._locks: KeyedLock[NodeKey] = KeyedLock()

    async def revise(self, node: Node, fill: Fill | None) -> Draft:
        """A stored file opened for writing, as a draft that is open once more.

        ``fill`` brings its bytes; None: it starts empty, and is changed by that already. Cancelled
        or refused, there is no draft. Raises ReadOnly, NotPermitted, AccessDenied or NotOnline
        where the facility would refuse the new version, what a read raises, NoSpace.
        """
        self._permission.check_changeable(node, "write to")
        async with self._locks(node.key):
            draft = self._overlay.by_key(node.key)
            if draft is None:
                draft = await self._begin(node, fill)
            draft.handles += 1
            return draft

    async def _begin(self, node: Node, fill: Fill | None) -> Draft:
        row, folder = node.entity, node.parent
        assert isinstance(row, DatafileRow)
        assert folder is not None
        shown = f"{folder.name or dataset_of(node)}/{node.name}"
        staged = await self._services.area.begin(dataset_of(node), row.name, shown)
        draft = Draft(self._publishing, staged, node, row.name)
        failure: IcatfsError | None = None
        try:
            await self._replacing.begin(draft, row)
            if fill is not None:
                await fill(draft)
            await self._closed.check_archived(node, node.name)
            row = await self._follow(draft, row)
        except IcatfsError as error:
            failure = error
        except BaseException:  # not swallowed: nobody else knows of the staged file
            await staged.discard()
            raise
        if failure is not None:
            await staged.discard()
            raise failure
        draft.replaces = row
        if fill is not None:
            draft.is_as_stored()
        assert draft.node.parent is not None
        self._overlay.add_draft(draft.node.parent, draft)
        return draft

    async def _follow(self, draft: Draft, row: DatafileRow) -> DatafileRow:
        """The entry of a file that may have got another name while its bytes were brought.

        The draft has that name, too. Raises NotFound where the file was removed.
        """
        while True:
            node = await self._services.catalogue.node(draft.key)
            assert isinstance(node.entity, DatafileRow)
            if node.entity.name == draft.name:
                return row
            row = node.entity
            await draft.staged.rename(row.name, node.path_in_dataset)
            draft.move(node, row.name)
