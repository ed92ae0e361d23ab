"""Finding entries: what the catalogue shows, with what is local to this mount laid over it."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from icatfs.errors import IcatfsError, NotADirectory, NotFound, Renumbered
from icatfs.fs.inodes import ROOT
from icatfs.fs.numbering import Numbering
from icatfs.fs.ports import Pages
from icatfs.icat.records import DatafileRow
from icatfs.values import ContentVersion, WriteMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from icatfs.catalogue.node import Glimpse, Node, NodeKey
    from icatfs.fs.attributes import Attributes, Portrait
    from icatfs.fs.handles import AnyHandles
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.options import FsOptions
    from icatfs.fs.ports import Catalogue, Listing
    from icatfs.fs.reports import Reports
    from icatfs.fs.writingports import Writing

_MOST_ABSENT = 1_000
_DISTRUSTED = -1
"""No file has had so few of its bytes withdrawn."""


@dataclass(slots=True)
class Content:
    """What the kernel may have in its page cache of one inode, and a size learnt by reading."""

    version: ContentVersion
    withdrawals: int
    """Those of the cached file then: when it has more now, pages may be wrong."""
    pages: Pages | None = None
    """What was read of it; None where that is right."""
    size: int | None = None


class Entries:
    """The entries of one mount, by inode.

    Invariants: ``contents`` holds only inodes that the kernel knows, or is to look up; ``_absent``
    holds the latest names, in their folders, that the kernel was told do not exist.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        writing: Writing,
        inodes: InodeTable,
        handles: AnyHandles,
        portrait: Portrait,
        reports: Reports,
        options: FsOptions,
    ) -> None:
        # given
        self._catalogue = catalogue
        self._writing = writing
        self._inodes = inodes
        self._handles = handles
        self._portrait = portrait
        self._reports = reports
        self._writes = options.mode is not WriteMode.READ_ONLY
        # constant
        self.numbering = Numbering(
            inodes, handles, self._has_draft, writes_back=options.writes_back
        )
        # mutable
        self.contents: dict[int, Content] = {}
        self._absent: OrderedDict[tuple[int, str], None] = OrderedDict()

    def folder(self, number: int) -> Inode:
        """The inode of a folder; raises `NotADirectory`."""
        inode = self._inodes[number]
        if not inode.node.is_folder:
            raise NotADirectory(f"{inode.node.name} is not a folder")
        return inode

    async def find(self, folder: Inode, name: str) -> Node:
        """The entry of this name; raises `NotFound`."""
        if not _is_text(name):
            raise NotFound("no entry has a name that is not UTF-8")
        local = self._writing.find(folder.node, name) if self._writes else None
        return local or await self._catalogue.lookup(folder.node, name)

    async def listing(self, folder: Inode) -> Listing:
        """What the catalogue has in a folder, as far as it has arrived.

        Nothing for a folder of this mount alone.
        """
        try:
            return await self._catalogue.arriving(folder.node)
        except NotFound:
            if not self._is_local(folder):
                raise
        return _EMPTY

    def local(self, folder: Inode, listing: Listing) -> Sequence[Node]:
        """What this mount alone has in a folder beyond what has arrived of its listing."""
        if not self._writes:
            return ()
        entries = self._writing.entries(folder.node)
        return [node for node in entries if listing.find(node.name) is None]

    def revised(self, folder: Inode) -> Mapping[str, Node]:
        """The files of this mount that are shown instead of the catalogue's of the same name."""
        if not self._writes:
            return {}
        entries = self._writing.entries(folder.node)
        return {node.name: node for node in entries if not node.is_folder}

    async def refresh(self, inode: Inode) -> bool:
        """Bring ``inode.node`` up to date; raises `NotFound` for what has gone and is not open.

        False where it stays as it is for who has it open, and what is now there is another one.
        Raises `Renumbered` where nobody has it open, and the kernel has to look up the other.
        """
        if self.numbering.is_past(inode):
            return self._stays(inode)
        try:
            node = await self._current(inode)
        except NotFound:
            if not self._handles.is_open(inode.number):
                raise
            return True
        return self.numbering.update(inode, node) or self._stays(inode)

    def _stays(self, inode: Inode) -> bool:
        """False; Renumbered where nobody needs the inode as it was."""
        if not self._handles.is_open(inode.number):
            raise Renumbered(f"{inode.node.name} is another file by now: look it up again")
        return False

    def _has_draft(self, key: NodeKey) -> bool:
        return self._writes and self._writing.draft(key) is not None

    async def _current(self, inode: Inode) -> Node:
        key = inode.node.key
        if self._writes:
            draft = self._writing.draft(key)
            if draft is not None:
                return draft.node
            if self._is_local(inode):
                return inode.node
        if key.id >= 0:
            return await self._catalogue.node(key)
        # A draft that was published in the background: it is in the catalogue under its name.
        return await self._catalogue.lookup(self._inodes[inode.parent].node, inode.node.name)

    def _is_local(self, inode: Inode) -> bool:
        if not self._writes or inode.number == ROOT:
            return False
        parent = next((one for one in self._inodes.ancestors(inode) if one is not inode), None)
        if parent is None:
            return False
        found = self._writing.find(parent.node, inode.node.name)
        return found is not None and found.key == inode.node.key

    def attributes(self, number: int, node: Node) -> Attributes:
        """What ``stat`` shows of a node under this number."""
        content = self.contents.get(number)
        size = content.size if content is not None and node.size == 0 else None
        return self._portrait.of(number, node, writable=self._is_writable(node), size=size)

    def attributes_of_file(self, number: int, glimpse: Glimpse) -> Attributes:
        """The same of a stored file in a listing."""
        size = glimpse.size
        if not size and number in self.contents:
            size = self.contents[number].size or 0
        writable = self._writes and self._writing.is_own_file(glimpse.datafile)
        return self._portrait.of_file(number, size, glimpse.mtime_ns, writable=writable)

    def show(self, inode: Inode) -> Attributes:
        """What ``stat`` shows of an inode as last known."""
        return self.attributes(inode.number, inode.node)

    def _is_writable(self, node: Node) -> bool:
        if not self._writes:
            return False
        return self._writing.may_add(node) if node.is_folder else self._writing.is_own(node)

    def pages_are_of(self, inode: Inode) -> bool:
        """Whether the pages that the kernel may have are those of the version now catalogued."""
        content = self.contents.get(inode.number)
        if content is None or inode.node.key.id < 0:
            return True
        is_right = content.pages is None or content.pages.is_sure
        is_right = is_right and content.withdrawals != _DISTRUSTED
        return is_right and content.version == inode.node.version

    def distrust_pages(self, inode: Inode) -> None:
        """The kernel's pages have bytes that were written and are not those of the stored file."""
        if inode.number in self.contents:
            self.contents[inode.number].withdrawals = _DISTRUSTED
        elif isinstance(inode.node.entity, DatafileRow):
            self.contents[inode.number] = Content(inode.node.version, _DISTRUSTED)

    def pages_written(self, inode: Inode) -> None:
        """The kernel's pages are those of the version that has just been stored.

        Not where the old version is still being read: what is read of it goes to the same pages.
        """
        if inode.node.key.id < 0 or inode.number in self.contents:
            return
        if isinstance(inode.node.entity, DatafileRow):
            self.contents[inode.number] = Content(inode.node.version, 0)

    def learn_size(self, inode: Inode, content: Content, size: int) -> None:
        """Reading has shown how long a file is of which the catalogue does not know that."""
        content.size = size
        if self.numbering.writes_back:  # under this number the kernel goes on as it began
            self._inodes.supersede(inode)
            self.contents[self._inodes.number(inode.node.key)] = replace(content)

    def remember_absent(self, folder: int, name: str) -> None:
        """The kernel is told that there is no such name, and may rely on it for a while."""
        self._absent[folder, name] = None
        self._absent.move_to_end((folder, name))
        while len(self._absent) > _MOST_ABSENT:
            self._absent.popitem(last=False)

    def take_absent(self) -> Sequence[tuple[int, str]]:
        """The names that the kernel may think do not exist; forgotten here."""
        absent = list(self._absent)
        self._absent.clear()
        return absent

    def forget(self, number: int, count: int) -> None:
        """The kernel takes lookups back. Never raises."""
        if self._inodes.forget(number, count):
            self.contents.pop(number, None)
            self._reports.forget(number)

    @contextmanager
    def reporting(self, number: int) -> Iterator[None]:
        """Whatever fails in this block, failed for this inode."""
        try:
            yield
        except IcatfsError as error:
            self._reports.failed(number, error)
            raise


class _Empty:
    """The listing of a folder that the catalogue does not have."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int, /) -> Node:
        raise IndexError(index)

    def find(self, name: str) -> Node | None:
        return None

    @property
    def identity(self) -> object:
        return self

    def glimpses(self, start: int, stop: int) -> Sequence[Node]:
        return ()

    def position_of(self, datafile: int) -> int | None:
        return None

    def name(self, position: int) -> str:
        raise IndexError(position)

    async def has_more(self, count: int) -> bool:
        return False


_EMPTY = _Empty()


def _is_text(name: str) -> bool:
    """Whether a name came from valid UTF-8 (others carry surrogates)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
