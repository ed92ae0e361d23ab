"""Files that a program of this machine is writing, and that are not published yet.

A draft is listed like any other entry (`overlay`), has a node with a negative datafile id, and
becomes a real entry when it is published.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from icatfs.catalogue.node import Node, NodeKey
from icatfs.errors import Busy, IcatfsError, NoSpace, NotPermitted, ShuttingDown, StagingFailed
from icatfs.fs.lacking import Lacking
from icatfs.fs.temporary import Making
from icatfs.icat.records import DatafileRow
from icatfs.values import DatasetId, Kind

if TYPE_CHECKING:
    from icatfs.fs.publisher import Publisher
    from icatfs.staging.staged import StagedFile


_REQUEST = 1 << 20
"""As much as the kernel writes at once."""
KILLED = "incomplete: the program that wrote it was killed"
_NOT_CLOSED = "the kernel could not pass on all that was written to it"
_ENDED = "the mount ended before all that the kernel had kept of it was written"


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
        self.making = Making()
        self._node = node
        self._mtime_ns = node.mtime_ns if publisher.writes_back else None
        """A time that a program gave it. Where the kernel keeps times, the kernel's: it says when
        that changes, and the time at which bytes reach us means nothing."""
        self.handles = 0
        self.readers = 0
        """How many of these only read: they keep the bytes, and nobody waits for them."""
        self.dirty = True
        self.published = False
        self.failed = False
        self.removed = False
        self.lacking = Lacking()
        """Writes that failed and were not tried again: the file must not look whole."""
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
        return _whole_seconds(self.staged.mtime_ns if self._mtime_ns is None else self._mtime_ns)

    @property
    def is_being_written(self) -> bool:
        """Whether somebody has it open who may write to it."""
        return self.handles > self.readers

    @property
    def is_local(self) -> bool:
        """Whether its name says that it is not meant for the facility, which has none of it."""
        return self.replaces is None and self.would_be_local(self.name)

    def would_be_local(self, name: str) -> bool:
        """Whether this Datafile name would say that, with the bytes it has."""
        return self._publisher.temporary.has(name, self.making, is_empty=not self.staged.size)

    @property
    def is_stored(self) -> bool:
        """Whether the facility has its bytes."""
        return self.published or self.staged.row is not None

    @property
    def is_final(self) -> bool:
        """Whether its bytes were declared final, so that `revise` must come before a write."""
        return self.is_stored or self.staged.is_sealed

    async def revise(self) -> None:
        """Make it writable after it was sent: as a new version of what is stored, if it is.

        Raises NotPermitted where stored files cannot be replaced, NoSpace, StagingFailed.
        """
        async with self.lock:
            if self.staged.row is not None:  # the close that sent it was interrupted
                await self._publisher.publish(self)
            if self.published:
                await self._publisher.revise(self)
            elif self.staged.is_sealed:
                await self.staged.unseal()

    def write(self, offset: int, data: bytes) -> int:
        """Write all of ``data``; NoSpace, Busy while it is sent, NotPermitted once it is stored."""
        self._check_open()
        try:
            self._put(offset, data)
        except IcatfsError as error:
            self.lacking.refused(offset, error)
            raise
        return len(data)

    async def write_kept(self, offset: int, data: bytes) -> int:
        """Write all of ``data``, which the kernel has kept: no program is told now if that fails.

        So a version that is being sent is waited for, and this becomes a part of the next one; what
        cannot be written, for whatever reason, lacks. Raises NoSpace, StagingFailed, NotPermitted.
        """
        try:
            await self.settle()
            if self.is_final:
                await self.revise()
            self._check_open()
            self._put(*self._news(offset, data))
        except IcatfsError as error:
            self.lacking.lost(offset, offset + len(data), error)
            raise
        except BaseException:  # not swallowed: it is cancelled, and nobody writes these bytes again
            self.lacking.lost(offset, offset + len(data), ShuttingDown(_ENDED))
            raise
        self.lacking.written(offset, offset + len(data))
        return len(data)

    async def settle(self) -> None:
        """Return when nothing of it is being sent: it is stored then, or could not be."""
        if self._is_being_sent:
            async with self.lock:
                await self.finish()

    async def finish(self) -> None:
        """The same; called with its lock held, by whoever changes what it is called.

        An upload goes on when the close or fsync that asked for it is interrupted.
        """
        if self.staged.is_frozen and not self.published:
            with suppress(IcatfsError):  # who closed it is told
                await self._publisher.publish(self)  # there is one under way, and this waits for it

    @property
    def _is_being_sent(self) -> bool:
        return self.sending or (self.staged.is_frozen and not self.published)

    def check_whole(self) -> None:
        """Raises why something lacks that the kernel had kept, unless it can be tried again now."""
        error = self.lacking.error
        if error is None or not self.handles:
            return
        if not isinstance(error, NoSpace):
            raise error
        self.staged.check_room(_REQUEST)

    def was_not_flushed(self) -> None:
        """A program's close failed in the kernel, which had kept what cannot be written now."""
        if self.lacking.error is None:
            self.lacking.refused(0, StagingFailed(_NOT_CLOSED))

    def _news(self, offset: int, data: bytes) -> tuple[int, bytes]:
        """What of a write is not there already.

        The kernel writes whole pages: of a log that grows line by line it writes the last page
        again and again, which is nothing that makes void what was sent of it.
        """
        known = min(self.staged.contiguous - offset, len(data))
        if known <= 0 or self.staged.pread(offset, known) != data[:known]:
            return offset, data
        return offset + known, data[known:]

    def _put(self, offset: int, data: bytes) -> None:
        if data and offset < self.staged.contiguous:
            self._publisher.changed(self)
        self.staged.pwrite(offset, data)
        self.lacking.written(offset, offset + len(data))
        self._touch()
        self._publisher.written(self)

    def read(self, offset: int, size: int) -> bytes:
        """The staged bytes in this range."""
        return self.staged.pread(offset, size)

    def truncate(self, size: int) -> None:
        """Cut or extend with zeroes; NoSpace, Busy, or NotPermitted once it is stored."""
        if size == self.node.size:
            if self._publisher.writes_back:  # the kernel may have kept more than we have
                self.lacking.cut(size)
            return
        self._check_open()
        if size < self.staged.contiguous:
            self._publisher.changed(self)
        self.staged.truncate(size)
        self.lacking.cut(size)
        self._touch()

    def set_mtime(self, mtime_ns: int) -> None:
        """Give it a time of its own; holds until it is written again.

        Where it is as it is stored, the facility has that time already.
        """
        self._mtime_ns = mtime_ns
        if not self.dirty:
            self._node = replace(self._node, mtime_ns=_whole_seconds(mtime_ns))

    def hear_mtime(self, mtime_ns: int) -> None:
        """The kernel says when a program has written last: what it wrote comes soon, or is here."""
        self._mtime_ns = mtime_ns

    def has_mtime(self, mtime_ns: int) -> bool:
        """Whether the facility has this time of it already."""
        return not self.dirty and self._node.mtime_ns == _whole_seconds(mtime_ns)

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
        if self.removed:
            return
        if self.lacking.error is not None and self._publisher.writes_back:
            self.failed = True
            raise self.lacking.error
        if not self.dirty or self.is_local:
            return
        async with self.lock:
            await self._publisher.publish(self)

    async def release(self) -> None:
        """One handle less; what no close published is published in the background.

        But not what a program left that was killed: it must not look whole.
        """
        self.handles -= 1
        if self.is_being_written:
            return
        if self._is_left_to_send:
            self._publisher.publish_later(self)
        elif self.handles:
            return
        elif self.published:
            self.staged.close(keep=False)
            self._publisher.forgotten(self)
        elif self.removed:
            self._publisher.changed(self)
            await self.staged.discard()
        elif not self.dirty:
            await self._publisher.withdraw(self)
        elif self.is_local:
            return  # its name will change, or it will be removed
        elif self.killed:
            await self._publisher.keep(self, KILLED)
        elif self.lacking.error is not None:
            await self._publisher.keep(self, f"incomplete: {self.lacking.error}")
        else:
            self._publisher.give_up(self)

    @property
    def _is_left_to_send(self) -> bool:
        """Whether it is whole, as far as anybody knows, and no close has said how it went."""
        is_whole = not self.killed and self.lacking.error is None
        is_wanted = not self.removed and not self.is_local
        return self.dirty and not self.failed and is_whole and is_wanted

    def move(self, node: Node, name: str) -> None:
        """It has another name now."""
        self._publisher.changed(self)
        self._node, self.name = node, name

    def is_called(self, node: Node, name: str) -> None:
        """What is stored of it has another name now, and so will its next version."""
        assert isinstance(node.entity, DatafileRow)
        self._node, self.name, self.row = node, name, node.entity

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
        self.published, self.dirty = False, True
        if not self._publisher.writes_back:
            self._mtime_ns = None

    def _touch(self) -> None:
        if not self._publisher.writes_back:
            self._mtime_ns = None
        self.dirty = True

    def _check_open(self) -> None:
        if self._is_being_sent:
            raise Busy(f"{self._node.name} is being sent to the facility; write to it before")
        if self.published:
            raise NotPermitted(
                f"{self._node.name} is stored at the facility already and what is stored is not "
                "changed; write to a new name"
            )


def _whole_seconds(time_ns: int) -> int:
    return time_ns // 10**9 * 10**9


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
