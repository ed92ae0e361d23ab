"""Entries that exist on this mount only: files not published yet, folders without a file.

A draft is a file that a program of this machine is writing. It is listed like any other entry, has
a node with a negative datafile id, and becomes a real entry when it is published. A local folder
is one made inside a dataset: ICAT knows such folders only through the names of the files in them,
so it lives here until a file does.
"""

from __future__ import annotations

import fnmatch
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import trio

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import Busy, NotPermitted
from icatfs.fs.moving import Move
from icatfs.values import DatasetId, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.staged import StagedFile

TEMPORARY_NAMES = (
    ".*.[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]",  # rsync
    "*.sw[a-p]",
    "*~",
    "4913",  # vim, probing whether it may write here
    ".goutputstream-*",
    "*.part",
    "*.partial",
    ".~lock.*",
    ".fuse_hidden*",
    ".nfs*",
    "sed[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]",  # sed -i
)
"""Names that programs give to files they will rename or remove: such a file stays local."""


def is_temporary(name: str) -> bool:
    """Whether a file of this name is kept local until it is renamed."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in TEMPORARY_NAMES)


class Publisher(Protocol):
    """What a draft needs of `icatfs.fs.publishing`."""

    async def publish(self, draft: Draft) -> None:
        """Bring a draft to the facility, now; called with its lock held."""
        ...

    def publish_later(self, draft: Draft) -> None:
        """Bring a draft that nobody has open to the facility in the background."""
        ...

    def give_up(self, draft: Draft) -> None:
        """Stop showing a draft that could not be stored; its bytes stay."""
        ...

    async def withdraw(self, draft: Draft) -> None:
        """Forget a draft that is nothing but a copy of what is stored."""
        ...


class Draft:
    """One file on its way out: writable until the facility has it.

    Invariants: ``node`` has a negative datafile id until the file is published, then the real one;
    ``dirty`` is true as long as the facility does not have the present bytes; a ``removed`` draft
    is in no folder, and its bytes go with the last handle.
    """

    def __init__(self, publisher: Publisher, staged: StagedFile, node: Node, name: str) -> None:
        # given
        self.staged = staged
        self.key = node.key
        """What it was known by first; `node` has the key it is known by now."""
        self._publisher = publisher
        # constant
        self.lock = trio.Lock()
        """Held while the draft is published, renamed or removed."""
        # mutable
        self.name = name
        """The Datafile name it will get."""
        self._node = node
        self._mtime_ns: int | None = None
        self.handles = 0
        self.dirty = True
        self.published = False
        self.failed = False
        self.removed = False
        self.replaces: DatafileRow | None = None
        """The stored datafile that it is a new version of; None for a new name."""
        self.sending = False
        """Whether its bytes are being sent: they must not change now."""

    @property
    def node(self) -> Node:
        """Its facts now."""
        if self.published:
            return self._node
        return replace(self._node, size=self.staged.size, mtime_ns=self.mtime_ns)

    @property
    def mtime_ns(self) -> int:
        """When it was last written, or the time a program gave it."""
        return self.staged.mtime_ns if self._mtime_ns is None else self._mtime_ns

    @property
    def is_local(self) -> bool:
        """Whether its name says that it is not meant for the facility."""
        return is_temporary(self._node.name)

    def write(self, offset: int, data: bytes) -> int:
        """Write all of ``data``; NoSpace, or NotPermitted once the facility has the file."""
        self._check_open()
        written = self.staged.pwrite(offset, data)
        self._touch()
        return written

    def read(self, offset: int, size: int) -> bytes:
        """The staged bytes in this range."""
        return self.staged.pread(offset, size)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeroes; NoSpace, or NotPermitted once the facility has the file."""
        if size == self.node.size:
            return
        self._check_open()
        self.staged.truncate(size)
        self._touch()

    def set_mtime(self, mtime_ns: int) -> None:
        """Give it a time of its own; holds until it is written again."""
        self._mtime_ns = mtime_ns

    async def sync(self) -> None:
        """Return when the bytes written so far are on the local disk."""
        if not self.published:
            await self.staged.sync()

    async def flush(self, still_open: bool) -> None:
        """A descriptor was closed; publish if it was the opener's last.

        Raises what the upload raises: AccessDenied, Exists, NoSpace, Busy, FacilityUnreachable ...
        """
        if still_open or not self.dirty or self.removed or self.is_local:
            return
        async with self.lock:
            await self._publisher.publish(self)

    async def release(self) -> None:
        """One handle less; what no close published is published in the background."""
        self.handles -= 1
        if self.handles:
            return
        if self.removed:
            await self.staged.discard()
        elif self.published:
            self.staged.close(keep=False)
        elif not self.dirty:
            await self._publisher.withdraw(self)
        elif self.failed:
            self._publisher.give_up(self)
        elif not self.is_local:
            self._publisher.publish_later(self)

    def move(self, node: Node, name: str) -> None:
        """It has another name now."""
        self._node, self.name = node, name

    def is_as_stored(self) -> None:
        """Its bytes are those of the stored file that it replaces: there is nothing to publish."""
        assert self.replaces is not None
        self.dirty, self._mtime_ns = False, self._node.mtime_ns

    def become(self, node: Node) -> None:
        """The facility has it: from now on it is this entry."""
        self._node, self.published, self.dirty, self.failed = node, True, False, False

    def _touch(self) -> None:
        self._mtime_ns = None
        self.dirty = True

    def _check_open(self) -> None:
        if self.sending:
            raise Busy(f"{self._node.name} is being sent to the facility; write to it before")
        if self.published:
            raise NotPermitted(
                f"{self._node.name} is stored at the facility already and what is stored is not "
                "changed; write to a new name"
            )


class Overlay:
    """The local entries of a mount, by folder.

    Invariants: no two entries of one folder have the same name; every draft in a folder is also
    found by the key it had first. A published draft is in no folder, but found by its key as long
    as somebody has it; one that was given up is not.
    """

    def __init__(self) -> None:
        self._drafts: dict[NodeKey, dict[str, Draft]] = {}
        self._folders: dict[NodeKey, dict[str, Node]] = {}
        self._by_key: WeakValueDictionary[NodeKey, Draft] = WeakValueDictionary()

    def entries(self, folder: NodeKey) -> list[Node]:
        """The local entries of a folder."""
        drafts = self._drafts.get(folder, {}).values()
        return [*self._folders.get(folder, {}).values(), *(draft.node for draft in drafts)]

    def find(self, folder: NodeKey, name: str) -> Node | None:
        """The local entry of this name, if there is one."""
        draft = self._drafts.get(folder, {}).get(name)
        return draft.node if draft else self._folders.get(folder, {}).get(name)

    def by_key(self, key: NodeKey) -> Draft | None:
        """The draft that has or had this key, as long as it is shown or open."""
        return self._by_key.get(key)

    def add_draft(self, folder: NodeKey, draft: Draft) -> None:
        """Show a draft in a folder."""
        self._drafts.setdefault(folder, {})[draft.node.name] = draft
        self._by_key[draft.key] = draft

    def move_draft(
        self, folder: NodeKey, draft: Draft, new_folder: NodeKey, node: Node, name: str
    ) -> None:
        """Show a draft in another place, as this node with this Datafile name."""
        self.drop_draft(folder, draft)
        draft.move(node, name)
        self.add_draft(new_folder, draft)

    def drop_draft(self, folder: NodeKey, draft: Draft) -> None:
        """No longer show a draft."""
        drafts = self._drafts.get(folder, {})
        if drafts.get(draft.node.name) is draft:
            del drafts[draft.node.name]
        if not drafts:
            self._drafts.pop(folder, None)

    def forget_draft(self, folder: NodeKey, draft: Draft) -> None:
        """No longer show a draft, and no longer find it by its key."""
        self.drop_draft(folder, draft)
        self._by_key.pop(draft.key, None)

    def add_folder(self, parent: NodeKey, folder: Node) -> None:
        """Show a local folder."""
        self._folders.setdefault(parent, {})[folder.name] = folder

    def keep_folder(self, folder: Node) -> None:
        """Show a folder inside a dataset, whether the catalogue has it or not."""
        assert folder.parent is not None
        self._folders.setdefault(folder.parent, {})[folder.name] = folder

    def drafts_below(self, folder: NodeKey) -> list[Draft]:
        """The drafts in a folder inside a dataset, and in the folders in it."""
        move = Move(folder, folder)
        return [
            draft
            for key, drafts in self._drafts.items()
            if move.concerns(key)
            for draft in drafts.values()
        ]

    def move_folder(self, move: Move, folder: Node, names: Mapping[Draft, str]) -> None:
        """Show a local folder, and all that is in it, in another place, as ``folder``.

        ``names`` are the Datafile names that the drafts in it get.
        """
        self._folders = {
            move.of_key(parent): {name: move.of_node(node) for name, node in folders.items()}
            for parent, folders in self._folders.items()
        }
        for folders in self._folders.values():
            for name, node in list(folders.items()):
                if node.key == folder.key:
                    del folders[name]
        self._drafts = {move.of_key(parent): drafts for parent, drafts in self._drafts.items()}
        for draft, name in names.items():
            draft.move(move.of_node(draft.node), name)
        self.keep_folder(folder)

    def drop_folder(self, parent: NodeKey, name: str) -> bool:
        """No longer show a local folder; whether it was there."""
        return self._folders.get(parent, {}).pop(name, None) is not None


def draft_node(folder: Node, dataset: DatasetId, name: str, entry: int) -> Node:
    """The node of a new draft."""
    return Node(
        key=NodeKey(Kind.DATAFILE, -entry),
        parent=folder.key,
        name=name,
        mtime_ns=time.time_ns(),
        size=0,
        entity=None,
        dataset=dataset,
    )
