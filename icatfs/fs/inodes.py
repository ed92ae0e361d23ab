"""The kernel's acquaintances: inode number <-> node, and how often the kernel was told of each.

The kernel names entries by number and may ask for a number as long as it has been told of it more
often than it has taken back: that is the lookup count. Counts change here and nowhere else: `count`
after each answer that makes the kernel count (lookup, create, mkdir, each listed entry it
accepted), and `forget`.

A number follows from the node key, so that rsync, tar and backup programs find the same numbers
after the next mount with nothing to remember. Where the key is an entity's id it is that id, with
bits above it that tell the kind, as ids are per type; else it is a hash. Should two keys share one,
the later one gets the next free number. Numbers in the order of ids are more than a nicety:
``cp -r`` and others open the files of a folder in the order of their inode numbers, and a dataset
is brought fastest in the order of ids (`icatfs.content.foresight`).

Invariants: the root is always there; every other inode has a lookup count above zero; ``_moved``
holds exactly the keys of inodes whose number is not the hash of their key; ``_displaced`` is the
key that `number` was last asked for, if another had the number it would like.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING

from icatfs.errors import ContentChanged
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.catalogue.node import Node, NodeKey

log = logging.getLogger(__name__)

ROOT = 1
"""The number that the kernel gives to the root of every FUSE mount."""

_MASK = (1 << 63) - 1
_OF_IDS = 1 << 62
_ID_BITS = 58
_ENTITIES = {Kind.FACILITY: 1, Kind.VISIT: 2, Kind.DATASET: 3, Kind.DATAFILE: 4}
"""Kinds whose key is an id, and what stands for them above it; these never change."""
_MOST_LEVELS = 256
_KINDS = {kind: kind.value.encode() for kind in Kind}


class Inode:
    """One entry that the kernel knows; ``node`` is what we last knew of it."""

    __slots__ = ("number", "node", "parent", "lookups")  # noqa: RUF023 - in order of meaning

    def __init__(self, number: int, node: Node, parent: int) -> None:
        self.number = number
        self.node = node
        self.parent = parent
        """The number of the folder that it was found in; that of itself for the root."""
        self.lookups = 0


def number_of(key: NodeKey) -> int:
    """The number that a key would like to have: above the root's, below 2^63."""
    kind = _ENTITIES.get(key.kind)
    if kind is not None and 0 <= key.id < 1 << _ID_BITS and not key.name:
        return _OF_IDS | kind << _ID_BITS | key.id
    text = b"%b %d %b" % (_KINDS[key.kind], key.id, key.name.encode("utf-8", "surrogatepass"))
    number = int.from_bytes(blake2b(text, digest_size=8).digest(), "little") % _OF_IDS
    return number if number > ROOT else number + ROOT + 1


class InodeTable:
    """All inodes that the kernel may ask for."""

    def __init__(self, root: Node) -> None:
        # constant
        self._root = Inode(ROOT, root, ROOT)
        # mutable
        self._inodes = {ROOT: self._root}
        self._moved: dict[NodeKey, int] = {root.key: ROOT}
        self._displaced: NodeKey | None = None

    def __len__(self) -> int:
        return len(self._inodes)

    def __getitem__(self, number: int) -> Inode:
        """Raises `ContentChanged` for a number that the kernel does not or no longer know."""
        try:
            return self._inodes[number]
        except KeyError:
            raise ContentChanged(
                "the entry is no longer known to the mount: look it up again"
            ) from None

    def number(self, key: NodeKey) -> int:
        """The number an entry has, or would get; nothing is counted."""
        self._displaced = None
        moved = self._moved.get(key)
        if moved is not None:
            return moved
        number = number_of(key)
        while (inode := self._inodes.get(number)) is not None and inode.node.key != key:
            number = number + 1 if number < _MASK else ROOT + 1
            self._displaced = key
        return number

    def find(self, key: NodeKey) -> Inode | None:
        """The inode of an entry that the kernel knows."""
        return self._inodes.get(self.number(key))

    def count(self, number: int, node: Node, parent: int) -> Inode:
        """The kernel has been told once more that ``number``, as `number` gave it, is this node.

        Must follow `number` without an await in between.
        """
        inode = self._inodes.get(number)
        if inode is None:
            inode = self._inodes[number] = Inode(number, node, parent)
            if self._displaced is not None:
                self._moved[node.key] = number
        else:
            inode.node, inode.parent = node, parent
        inode.lookups += 1
        return inode

    def remember(self, node: Node, parent: int) -> Inode:
        """The inode of a node that the kernel is about to be told of; counted."""
        return self.count(self.number(node.key), node, parent)

    def update(self, inode: Inode, node: Node) -> None:
        """Newer facts, perhaps under another key: a draft has become a datafile.

        The number stays. Should the kernel know the new key under another number, both live on
        until it forgets the one it does not use.
        """
        if node.key != inode.node.key and self._inodes.get(inode.number) is inode:
            self._moved.pop(inode.node.key, None)
            if self.find(node.key) is None:
                self._moved[node.key] = inode.number
        inode.node = node

    def forget(self, number: int, count: int) -> bool:
        """The kernel takes ``count`` lookups back; whether the inode is gone. Never raises."""
        inode = self._inodes.get(number)
        if inode is None or number == ROOT:
            return False
        inode.lookups -= count
        if inode.lookups > 0:
            return False
        if inode.lookups < 0:
            log.error("lookup count of inode %d fell to %d", number, inode.lookups)
        del self._inodes[number]
        if self._moved.get(inode.node.key) == number:
            del self._moved[inode.node.key]
        return True

    def all(self) -> list[Inode]:
        """All inodes, the root first."""
        return list(self._inodes.values())

    def ancestors(self, inode: Inode) -> Iterator[Inode]:
        """The inode itself and the folders it is in, innermost first, as far as they are known."""
        here: Inode | None = inode
        for _ in range(_MOST_LEVELS):
            if here is None:
                return
            yield here
            here = None if here.number == ROOT else self._inodes.get(here.parent)

    def path(self, number: int) -> str:
        """Where the entry is, from the root of the mount, as far as that is known; for people."""
        names: list[str] = []
        here = self._inodes.get(number)
        for inode in self.ancestors(here) if here is not None else ():
            if inode.number == ROOT:
                return "/" + "/".join(reversed(names))
            names.append(inode.node.name)
        return ".../" + "/".join(reversed(names))
