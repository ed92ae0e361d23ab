"""Entries that exist on this mount only: files not published yet, folders without a file.

A draft is a file that a program of this machine is writing. It is listed like any other entry, has
a node with a negative datafile id, and becomes a real entry when it is published. A local folder
is one made inside a dataset: ICAT knows such folders only through the names of the files in them,
so it lives here until a file does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import trio

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import Busy, IcatfsError, NotPermitted
from icatfs.fs.moving import Move
from icatfs.values import DatasetId, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icatfs.icat.records import DatafileRow
    from icatfs.staging.staged import StagedFile


class Publisher(Protocol):
    """What a draft needs of `icatfs.fs.publishing`."""

    def is_temporary(self, name: str) -> bool:
        """Whether a file of this name stays local."""

    def written(self, draft: Draft) -> None:
        """Bytes were added: they may be sent while the next ones are written."""

    def changed(self, draft: Draft) -> None:
        """Its name, or bytes that were there, have changed: what was sent of it is void."""

    async def publish(self, draft: Draft) -> None:
        """Bring a draft to the facility, now; called with its lock held."""

    async def revise(self, draft: Draft) -> None:
        """Make a published draft writable, as the next version; called with its lock held."""

    def publish_later(self, draft: Draft) -> None:
        """Bring a draft that nobody has open to the facility in the background."""

    async def keep(self, draft: Draft, reason: str) -> None:
        """Stop showing a draft that is not whole, and record why; its bytes stay."""

    def give_up(self, draft: Draft) -> None:
        """Stop showing a draft that could not be stored; its bytes stay."""

    async def withdraw(self, draft: Draft) -> None:
        """Forget a draft that is nothing but a copy of what is stored."""


KILLED = "incomplete: the program that wrote it was killed"


@dataclass(frozen=True, slots=True)
class Lacking:
    """Where a write failed, and why."""

    offset: int
    error: IcatfsError


class Draft:
    """One file on its way out: writable until the facility has it, then again as its next version.

    Invariants: ``node`` has a negative datafile id until the file is published, then the real one;
    ``dirty`` is true as long as the facility does not have the present bytes; a ``removed`` draft
    is in no folder, and its bytes go with the last handle. ``staged`` is where the present bytes
    are: once they are published they may be cached content, and are never written to again.
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
        self.lacking: Lacking | None = None
        """A write that failed and was not tried again: the file must not look whole."""
        self.stream_at: int | None = None
        """How many bytes it has to have before it is sent while it is written; None: never."""
        self.sending = False
        """Whether its publication is under way: its bytes must not change now."""
        self.killed = False
        """Whether a program that wrote to it was killed, and nobody has closed it since."""
        self.row: DatafileRow | None = None
        """The catalogue's entry of what was published last."""
        self.replaces: DatafileRow | None = None
        """The stored datafile that it is a new version of; None for a new name."""

    @property
    def node(self) -> Node:
        """Its facts now."""
        if self.published:
            return self._node
        return replace(self._node, size=self.staged.size, mtime_ns=self.mtime_ns)

    @property
    def mtime_ns(self) -> int:
        """When it was last written, or the time a program gave it, in whole seconds.

        The catalogue keeps no more, and what the kernel has seen must be true once it is stored.
        """
        mtime_ns = self.staged.mtime_ns if self._mtime_ns is None else self._mtime_ns
        return mtime_ns // 10**9 * 10**9

    @property
    def is_local(self) -> bool:
        """Whether its name says that it is not meant for the facility."""
        return self._publisher.is_temporary(self._node.name)

    @property
    def is_stored(self) -> bool:
        """Whether the facility has its bytes, so that `revise` must come before a write."""
        return self.published or self.staged.row is not None

    async def revise(self) -> None:
        """Make it writable after it was published: as a new version of what is stored.

        Raises NotPermitted where stored files cannot be replaced, NoSpace, StagingFailed.
        """
        async with self.lock:
            if self.staged.row is not None:  # the close that sent it was interrupted
                await self._publisher.publish(self)
            if self.published:
                await self._publisher.revise(self)

    def write(self, offset: int, data: bytes) -> int:
        """Write all of ``data``; NoSpace, Busy while it is sent, NotPermitted once it is stored."""
        self._check_open()
        if offset < self.staged.contiguous:
            self._publisher.changed(self)
        try:
            written = self.staged.pwrite(offset, data)
        except IcatfsError as error:
            self._lacks(offset, error)
            raise
        if self.lacking is not None and offset <= self.lacking.offset:
            self.lacking = None  # tried again
        self._touch()
        self._publisher.written(self)
        return written

    def read(self, offset: int, size: int) -> bytes:
        """The staged bytes in this range."""
        return self.staged.pread(offset, size)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeroes; NoSpace, Busy, or NotPermitted once it is stored."""
        if size == self.node.size:
            return
        self._check_open()
        if size < self.staged.contiguous:
            self._publisher.changed(self)
        self.staged.truncate(size)
        if self.lacking is not None and size <= self.lacking.offset:
            self.lacking = None
        self._touch()

    def set_mtime(self, mtime_ns: int) -> None:
        """Give it a time of its own; holds until it is written again."""
        self._mtime_ns = mtime_ns

    async def sync(self, *, publish: bool) -> None:
        """Return when the bytes written so far are at the facility, or else on the local disk.

        On the local disk only: what has a temporary name, and without ``publish``. Raises what an
        upload raises.
        """
        if self.published:
            return
        if not publish or self.removed or self.is_local:
            await self.staged.sync()
            return
        async with self.lock:
            await self._publisher.publish(self)

    async def flush(self, still_open: bool) -> None:
        """A descriptor was closed; publish if it was the opener's last.

        Raises what the upload raises: AccessDenied, Exists, NoSpace, Busy, FacilityUnreachable ...
        """
        if still_open:
            return
        self.killed = False
        if not self.dirty or self.removed or self.is_local:
            return
        async with self.lock:
            await self._publisher.publish(self)

    async def release(self) -> None:
        """One handle less; what no close published is published in the background.

        But not what a program left that was killed: it must not look whole.
        """
        self.handles -= 1
        if self.handles:
            return
        if self.removed:
            self._publisher.changed(self)
            await self.staged.discard()
        elif self.published:
            self.staged.close(keep=False)
        elif not self.dirty:
            await self._publisher.withdraw(self)
        elif self.is_local:
            return  # its name will change, or it will be removed
        elif self.killed:
            await self._publisher.keep(self, KILLED)
        elif self.lacking is not None:
            await self._publisher.keep(self, f"incomplete: {self.lacking.error}")
        elif self.failed:
            self._publisher.give_up(self)
        else:
            self._publisher.publish_later(self)

    def move(self, node: Node, name: str) -> None:
        """It has another name now."""
        self._publisher.changed(self)
        self._node, self.name = node, name

    def is_as_stored(self) -> None:
        """Its bytes are those of the stored file that it replaces: there is nothing to publish."""
        assert self.replaces is not None
        self.dirty, self._mtime_ns = False, self._node.mtime_ns

    def become(self, node: Node, row: DatafileRow) -> None:
        """The facility has it: from now on it is this entry."""
        self._node, self.row, self.replaces = node, row, None
        self.published, self.dirty, self.failed = True, False, False

    def continue_in(self, staged: StagedFile) -> None:
        """It is the next version of what was published, with these bytes to begin with."""
        self.staged, self.replaces = staged, self.row
        self.published, self.dirty, self._mtime_ns = False, True, None

    def _lacks(self, offset: int, error: IcatfsError) -> None:
        if self.lacking is None or offset < self.lacking.offset:
            self.lacking = Lacking(offset, error)

    def _touch(self) -> None:
        self._mtime_ns = None
        self.dirty = True

    def _check_open(self) -> None:
        if self.sending or (self.staged.is_frozen and not self.published):
            raise Busy(f"{self._node.name} is being sent to the facility; write to it before")
        if self.published:
            raise NotPermitted(
                f"{self._node.name} is stored at the facility already and what is stored is not "
                "changed; write to a new name"
            )


class Overlay:
    """The local entries of a mount, by folder.

    Invariants: no two entries of one folder have the same name; every draft in a folder is also
    found by the key it had first. A published draft is in no folder, but found by that key and by
    its catalogue entry's as long as somebody has it; one that was given up is not.
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
        draft = self._by_key.get(key)
        if draft is not None and draft.published and draft.staged.closed:
            return None  # nobody has it; an error that somebody keeps may still refer to it
        return draft

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
        self._drop(folder, draft.node.name, draft)

    def _drop(self, folder: NodeKey, name: str, draft: Draft) -> None:
        drafts = self._drafts.get(folder, {})
        if drafts.get(name) is draft:
            del drafts[name]
        if not drafts:
            self._drafts.pop(folder, None)

    def published(self, folder: NodeKey, name: str, draft: Draft) -> None:
        """No longer show a draft beside the catalogue's entry, but find it by that one's key."""
        self._drop(folder, name, draft)
        self._by_key[draft.node.key] = draft

    def drafts(self) -> list[Draft]:
        """All drafts that are shown or open."""
        return list({id(draft): draft for draft in self._by_key.values()}.values())

    def forget_draft(self, folder: NodeKey, draft: Draft) -> None:
        """No longer show a draft, and no longer find it by its key."""
        self.drop_draft(folder, draft)
        self._by_key.pop(draft.key, None)
        self._by_key.pop(draft.node.key, None)

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
