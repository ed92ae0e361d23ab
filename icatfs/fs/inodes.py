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

An `Inode` of a file that the kernel knows from a large listing is made when somebody asks for it,
and lives while anybody holds it (`icatfs.fs.crowd`); it stays when more is known of it than the
listing tells.

Invariants: the root is always there; every other inode has a lookup count above zero, here or in
one crowd; ``_faces`` holds inodes of members of crowds only; ``_moved``
holds exactly the keys whose inode has, or gets when it is counted, another number than follows from
them; ``_displaced`` is the key that `number` was last asked for, if another had the number it would
like.
"""

from __future__ import annotations

import logging
from hashlib import blake2b
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from icatfs.catalogue.node import NodeKey
from icatfs.errors import ContentChanged
from icatfs.fs.crowd import Crowd, Crowds
from icatfs.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.catalogue.node import Node
    from icatfs.fs.moving import Move
    from icatfs.fs.ports import Listing

log = logging.getLogger(__name__)

ROOT = 1
"""The number that the kernel gives to the root of every FUSE mount."""

_MASK = (1 << 63) - 1
_OF_IDS = 1 << 62
_ID_BITS = 58
_ENTITIES = {Kind.FACILITY: 1, Kind.VISIT: 2, Kind.DATASET: 3, Kind.DATAFILE: 4}
"""Kinds whose key is an id, and what stands for them above it; these never change."""
_DATAFILES = _OF_IDS >> _ID_BITS | _ENTITIES[Kind.DATAFILE]
_SUCCESSORS = _OF_IDS | (len(_ENTITIES) + 1) << _ID_BITS
"""Numbers from here on follow from nothing but the order in which they are given."""
_ID_MASK = (1 << _ID_BITS) - 1
_MOST_LEVELS = 256
_KINDS = {kind: kind.value.encode() for kind in Kind}


class Inode:
    """One entry that the kernel knows; ``node`` is what we last knew of it."""

    __slots__ = ("number", "node", "parent", "lookups", "__weakref__")  # noqa: RUF023 - in order of meaning

    def __init__(self, number: int, node: Node, parent: int) -> None:
        self.number = number
        self.node = node
        self.parent = parent
        """The number of the folder that it was found in; that of itself for the root."""
        self.lookups = 0
        """0 also for a member of a crowd, which counts for it."""


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
        self._successors = 0
        self._crowds = Crowds()
        self._faces: WeakValueDictionary[int, Inode] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._inodes) + len(self._crowds)

    def __getitem__(self, number: int) -> Inode:
        """Raises `ContentChanged` for a number that the kernel does not or no longer know."""
        inode = self._known(number)
        if inode is None:
            raise ContentChanged("the entry is no longer known to the mount: look it up again")
        return inode

    def _known(self, number: int) -> Inode | None:
        inode = self._inodes.get(number) or self._faces.get(number)
        if inode is not None:
            return inode
        found = self._member(number)
        if found is None:
            return None
        crowd, position = found
        inode = self._faces[number] = Inode(number, crowd.listing[position], crowd.parent)
        return inode

    def _member(self, number: int) -> tuple[Crowd, int] | None:
        return self._crowds.find(number & _ID_MASK) if number >> _ID_BITS == _DATAFILES else None

    def told(self, number: int) -> tuple[int, int] | None:
        """Size and modification time (ns) that the kernel was told of a number, if it knows it."""
        inode = self._inodes.get(number) or self._faces.get(number)
        if inode is not None:
            return inode.node.size, inode.node.mtime_ns
        found = self._member(number)
        if found is None:
            return None
        crowd, position = found
        (one,) = crowd.listing.glimpses(position, position + 1)
        return one.size, one.mtime_ns

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
        return self._known(self.number(key))

    def count(self, number: int, node: Node, parent: int) -> Inode:
        """The kernel has been told once more that ``number``, as `number` gave it, is this node.

        Must follow `number` without an await in between.
        """
        inode = self._inodes.get(number)
        if inode is None:
            known = self._known(number)
            if known is not None and known.parent == parent and known.node == node:
                crowd, position = self._member(number) or (None, 0)
                if crowd is not None and crowd.add(position):
                    return known
            inode = self._inodes[number] = known or Inode(number, node, parent)
            inode.lookups = self._take(number)
            if self._displaced is not None:
                self._moved[node.key] = number
        inode.node, inode.parent = node, parent
        inode.lookups += 1
        return inode

    def _take(self, number: int) -> int:
        """The inode stays from now on, and counts for itself what a crowd has counted for it."""
        self._faces.pop(number, None)
        return self._crowds.take(number & _ID_MASK) if number >> _ID_BITS == _DATAFILES else 0

    def crowd(self, parent: int, listing: Listing) -> Crowd:
        """Those that the kernel knows from this listing of a folder: for `count_member`."""
        return self._crowds.of(parent, listing)

    def disperse(self, crowd: Crowd) -> None:
        """Forget a crowd if the kernel knows nobody of it."""
        self._crowds.tidy(crowd)

    def number_of_datafile(self, datafile: int) -> int:
        """What `number` gives for a datafile, faster."""
        if len(self._moved) > 1 or not 0 <= datafile <= _ID_MASK:
            return self.number(NodeKey(Kind.DATAFILE, datafile))
        return _DATAFILES << _ID_BITS | datafile

    def count_member(self, crowd: Crowd, position: int, number: int, datafile: int) -> None:
        """The kernel has been told once more, by a listing, of the datafile of this number."""
        if number not in self._inodes and number == _DATAFILES << _ID_BITS | datafile:
            if self._crowds.is_alone(crowd, datafile):
                if crowd.add(position):
                    return
            elif self._join(crowd, position, datafile):
                self._faces.pop(number, None)
                return
        self.count(number, crowd.listing[position], crowd.parent)

    def _join(self, crowd: Crowd, position: int, datafile: int) -> bool:
        """Count a member where it was listed last; not if somebody holds it as it was before."""
        number = _DATAFILES << _ID_BITS | datafile
        if self._faces.get(number) is not None:
            return False
        if crowd.count(position):
            return crowd.add(position)
        before = self._crowds.take(datafile)
        if crowd.add(position, before + 1):
            return True
        crowd.add(position, before)
        return False

    def remember(self, node: Node, parent: int) -> Inode:
        """The inode of a node that the kernel is about to be told of; counted."""
        return self.count(self.number(node.key), node, parent)

    def update(self, inode: Inode, node: Node) -> None:
        """Newer facts, perhaps under another key: a draft has become a datafile.

        The number stays. Should the kernel know the new key under another number, both live on
        until it forgets the one it does not use.
        """
        if node != inode.node:
            self._settle(inode)
        if node.key != inode.node.key and self._inodes.get(inode.number) is inode:
            self._moved.pop(inode.node.key, None)
            if self.find(node.key) is None:
                self._moved[node.key] = inode.number
        inode.node = node

    def move(self, move: Move) -> None:
        """A folder was renamed: what the kernel knows in it keeps its numbers."""
        for inode in self.all():
            moved = move.of_node(inode.node)
            if moved != inode.node:
                self.update(inode, moved)

    def supersede(self, inode: Inode) -> None:
        """Let the inode be what it is; its key gets another number when it is looked up again."""
        self._settle(inode)
        self._successors += 1
        self._moved[inode.node.key] = _SUCCESSORS + self._successors

    def _settle(self, inode: Inode) -> None:
        """It stays from now on, also if it was made of what a listing tells."""
        if self._faces.get(inode.number) is inode:
            inode.lookups = self._take(inode.number)
            self._inodes[inode.number] = inode

    def forget(self, number: int, count: int) -> bool:
        """The kernel takes ``count`` lookups back; whether the inode is gone. Never raises."""
        if number == ROOT:
            return False
        inode = self._inodes.get(number)
        if inode is None:
            return self._forget_member(number, count)
        inode.lookups -= count
        if inode.lookups > 0:
            return False
        if inode.lookups < 0:
            log.error("lookup count of inode %d fell to %d", number, inode.lookups)
        del self._inodes[number]
        self._forget_move(inode.node.key)
        return True

    def _forget_move(self, key: NodeKey) -> None:
        """Its own number is good enough again, unless the kernel knows something else by that.

        That may be what it was before: it asks for a name twice when its number has changed, and
        may forget the first answer before it asks for the second.
        """
        moved, before = self._moved.get(key), self._inodes.get(number_of(key))
        is_superseded = before is not None and before.node.key == key
        if moved is not None and moved not in self._inodes and not is_superseded:
            del self._moved[key]

    def _forget_member(self, number: int, count: int) -> bool:
        if number >> _ID_BITS != _DATAFILES:
            return False
        left = self._crowds.forget(number & _ID_MASK, count)
        if left is None or left > 0:
            return False
        self._faces.pop(number, None)
        if left < 0:
            log.error("lookup count of inode %d fell to %d", number, left)
        return True

    def all(self) -> list[Inode]:
        """All inodes but the members of crowds, the root first."""
        return list(self._inodes.values())

    def members(self) -> Iterator[tuple[int, str]]:
        """The members of crowds: the number of their folder, and their name."""
        for crowd in self._crowds:
            for position in crowd.members():
                yield crowd.parent, crowd.listing.name(position)

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
        here = self._known(number)
        for inode in self.ancestors(here) if here is not None else ():
            if inode.number == ROOT:
                return "/" + "/".join(reversed(names))
            names.append(inode.node.name)
        return ".../" + "/".join(reversed(names))
