"""When a file that has changed gets another inode number.

The kernel keeps some facts of an inode for good, whatever it is told later: then those it keeps
must stay true of that number, and what the file has become needs a number of its own. Which facts
these are depends on the mount:

* Usually it takes every answer for true, but has one size for an inode and ends all reading there.
  Of a file that is open with the length it had, it would tell who copies the old bytes that a part
  of them is all. So where somebody reads it, its size stays.
* Where it keeps what programs write (``write_back``), it has sizes and times of its own, which may
  be newer than ours: of a file that it knows it takes neither from us. So both stay, for as long as
  it knows the number.

A number whose file has got another one is of no use but to who has it open. Whoever names it
otherwise is told to look the name up again (`Renumbered`, ESTALE). What a program writes is no such
change: there the kernel knows first.

The pages of an inode are of one version, too: whoever reads fills them for all who have it open.
With bytes of the stored file, a program that is changing it would read another thing than it has
written; with ``write_back``, where the kernel sends whole pages, they would even be written. So a
stored file that is being read is changed under another number, and one that is being changed is
read through its draft, or past the pages.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from icatfs.catalogue.node import NodeKey
from icatfs.errors import Renumbered
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icatfs.catalogue.node import Glimpse, Node
    from icatfs.fs.handles import AnyHandles
    from icatfs.fs.inodes import Inode, InodeTable


class Numbering:
    """The numbers of the entries of one mount.

    Invariant: ``_changing`` counts, by number, who is about to open a draft of a stored file.
    """

    def __init__(
        self,
        inodes: InodeTable,
        handles: AnyHandles,
        has_draft: Callable[[NodeKey], bool],
        *,
        writes_back: bool,
    ) -> None:
        """``has_draft``: whether an entry, by its key, is being written by this mount."""
        # given
        self._inodes = inodes
        self._handles = handles
        self._has_draft = has_draft
        self.writes_back = writes_back
        # mutable
        self._changing: dict[int, int] = {}

    def remember(self, node: Node, parent: int) -> Inode:
        """The inode of a node that the kernel is about to be told of; counted."""
        number = self._inodes.number(node.key)
        if self._is_other(number, node):
            self._inodes.supersede(self._inodes[number])
        return self._inodes.remember(node, parent)

    def of_file(self, glimpse: Glimpse) -> int:
        """The number of a stored file in a listing that the kernel is about to be told of."""
        number = self._inodes.number_of_datafile(glimpse.datafile)
        if self._changes(number, glimpse.size, glimpse.mtime_ns):
            if self.writes_back and self._has_draft(NodeKey(Kind.DATAFILE, glimpse.datafile)):
                return number
            self._inodes.supersede(self._inodes[number])
            number = self._inodes.number_of_datafile(glimpse.datafile)
        return number

    def update(self, inode: Inode, node: Node) -> bool:
        """Newer facts of an inode; False where they are of another one, and it stays as it is."""
        if self._is_other(inode.number, node):
            return False
        self._inodes.update(inode, node)
        return True

    def renew(self, inode: Inode, node: Node) -> None:
        """Newer facts of an entry, which gets another number if these cannot be the inode's."""
        if not self.update(inode, node):
            self._inodes.update(inode, node)
            self._inodes.supersede(inode)

    def written(self, inode: Inode, node: Node) -> None:
        """Facts that the kernel has already, for it made them."""
        self._inodes.update(inode, node)

    def is_past(self, inode: Inode) -> bool:
        """Whether the kernel knows the entry by another number now, which is the right one."""
        return self._inodes.number(inode.node.key) != inode.number

    def check_present(self, inode: Inode) -> None:
        """Renumbered where the entry has another number by now."""
        if self.is_past(inode):
            raise Renumbered(f"{inode.node.name} is another file by now: look it up again")

    @contextmanager
    def changing(self, inode: Inode) -> Iterator[None]:
        """A draft of a file is about to be opened.

        Renumbered where the pages of the inode are, or may be, those of the stored file: it has
        another number then.
        """
        number = inode.number
        self.check_present(inode)
        if not self._has_draft(inode.node.key) and self._handles.has_stored_pages(number):
            self._inodes.supersede(inode)
            raise Renumbered(f"{inode.node.name} is being read: look it up again")
        self._changing[number] = self._changing.get(number, 0) + 1
        try:
            yield
        finally:
            self._changing[number] -= 1
            if not self._changing[number]:
                del self._changing[number]

    def is_changing(self, inode: Inode) -> bool:
        """Whether the pages of the inode may be those of a draft in a moment."""
        return inode.number in self._changing

    def _is_other(self, number: int, node: Node) -> bool:
        """Whether what the kernel keeps of a number is not true of this node."""
        if node.is_folder or not self._changes(number, node.size, node.mtime_ns):
            return False
        return not self._has_draft(node.key)

    def _changes(self, number: int, size: int, mtime_ns: int) -> bool:
        if not self.writes_back:
            return self._handles.has_other_length(number, size)
        told = self._inodes.told(number)
        return told is not None and told != (size, mtime_ns)
