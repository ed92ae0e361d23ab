"""What ends when nobody waits for it: the kernel is told, for no request of its own did it.

The kernel keeps names, sizes and pages for a minute, also of a file that turned out not to be
stored, and the absence of one that was sent after all. So whoever publishes in the background, or
gives a file up, says so here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.catalogue.naming import components
from icatfs.catalogue.node import NodeKey, inside_key
from icatfs.fs.moving import Move
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.catalogue.node import Node
    from icatfs.fs.entries import Entries
    from icatfs.fs.inodes import Inode, InodeTable
    from icatfs.fs.ports import Notifier
    from icatfs.values import DatasetId


class Aftermath:
    """`icatfs.fs.writingports.Watcher` of one mount."""

    def __init__(self, entries: Entries, inodes: InodeTable, notifier: Notifier) -> None:
        # given
        self._entries = entries
        self._inodes = inodes
        self._notifier = notifier

    def became(self, before: NodeKey, node: Node) -> None:
        """What was known by a key is this entry from now on, under the number that it has.

        Nobody may be told of the entry before: it would get another one, and there would be two
        for one file.
        """
        inode = self._inodes.find(before)
        if inode is not None:
            self._inodes.update(inode, node)

    def published(self, before: NodeKey, node: Node) -> None:
        """What was known by a key is at the facility, and is this entry."""
        inode = self._inodes.find(before)
        if inode is not None:
            self._inodes.update(inode, node)
            self._entries.pages_written(inode)
            self._notifier.invalidate_inode(inode.number)

    def given_up(self, node: Node) -> None:
        """A local file is shown no longer; a stored one of which it was to be a version is."""
        inode = self._inodes.find(node.key)
        writes_back = self._entries.numbering.writes_back
        if inode is not None and node.key.id >= 0:
            if writes_back:
                self._inodes.supersede(inode)
            self._entries.distrust_pages(inode)
            self._notifier.invalidate_inode(inode.number)
        folder = self._folder(node, inode)
        if (node.key.id < 0 or writes_back) and folder is not None:
            self._notifier.invalidate_entry(folder, node.name)

    def renamed(
        self, before: Node, after: Node | None, names: Sequence[tuple[NodeKey, str]]
    ) -> None:
        """An entry has another name, or has not; the kernel was told that it was interrupted."""
        if after is not None:
            inode = self._inodes.find(before.key) or self._inodes.find(after.key)
            folder = None if after.parent is None else self._inodes.find(after.parent)
            if inode is not None:
                self._entries.numbering.renew(inode, after)
                inode.parent = inode.parent if folder is None else folder.number
            if before.key.kind is Kind.FOLDER:
                self._inodes.move(Move(before.key, after.key))
        for key, name in names:
            folder = self._inodes.find(key)
            if folder is not None:
                self._notifier.invalidate_entry(folder.number, name)

    def _folder(self, node: Node, inode: Inode | None) -> int | None:
        if inode is not None:
            return inode.parent
        folder = None if node.parent is None else self._inodes.find(node.parent)
        return None if folder is None else folder.number

    def arrived(self, dataset: DatasetId, name: str) -> None:
        """A Datafile has got a name in a dataset without a request of this mount's programs.

        Of the folders that lead to it the kernel may know that the first missing one is missing.
        """
        folder = self._inodes.find(NodeKey(Kind.DATASET, dataset))
        path = ""
        for component in components(name):
            if folder is None:
                return
            path = f"{path}/{component}" if path else component
            inner = self._inodes.find(inside_key(dataset, path))
            if inner is None:
                self._notifier.invalidate_entry(folder.number, component)
            folder = inner
