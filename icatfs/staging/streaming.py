"""Send a file while it is still written, so that ``close`` waits for the tail only.

**The forces.** An upload is one request from the first byte to the last: IDS has no ranges and no
resumption, fails a ``put`` that stands still for 30 s, and catalogues it when its body ends
(ids.server 2.1.1). The name must be known before the first byte, size and CRC-32 are not. A mount
has few requests, and a slow writer may hold one for hours.

**The decision.** A stream follows the end of what was written from front to back. It is a guess
that the writer goes on like that: where it does not - it changes what was sent, pauses, takes
another name - the stream is given up, and the file is sent when it is closed, like any other. To
give up is to break the connection off: then the server catalogues nothing (recorded). One stream
at a time, and only where a request is free just now, so that nobody's ``close`` waits for it.

The bytes go from the staged file to the connection by the mover; they are not looked at here. What
that gains over sending at ``close``, which costs the processors as much, is time where the network
or the facility is the slower one: a stock server takes 0.22 GB/s (recorded), a mount 0.5 and more.
Where the facility is faster, and shares two busy processors with the mount, the total is a fifth
less or the same, and ``close`` is the shorter in any case.

**Nothing depends on it.** The bytes are in the staged file all the same, and the journal says
*begun* until they are final. Only when it has their size and CRC-32 on record may the body end: so
whatever dies before that, the facility has nothing; after that, the catalogue is asked, as after
any other upload. The time of a file is known only then, too: it is corrected afterwards.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from icatfs.crashing import crash_point
from icatfs.errors import IcatfsError, Interrupted
from icatfs.transport import FileBody, Ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from icatfs.icat.client import IcatClient
    from icatfs.icat.session import SessionKeeper
    from icatfs.ids.client import IdsClient, Stored
    from icatfs.staging.formats import Formats
    from icatfs.staging.journal import Sealed
    from icatfs.staging.staged import StagedFile
    from icatfs.staging.uploader import Target
    from icatfs.values import DatafileId

log = logging.getLogger(__name__)

PAUSE_S = 15.0
"""A writer that adds nothing for so long is not waited for: the server would fail after 30 s."""
_CHUNK = 1 << 20


class Stream:
    """One file on its way out while it is written.

    Invariants: what was sent are the first bytes of the file, as they are; ``_sealed`` is set once,
    when the journal has the size and CRC-32 of the whole.
    """

    def __init__(self, staged: StagedFile, target: Target, pause_s: float = PAUSE_S) -> None:
        # given
        self.target = target
        """As it was when the stream began."""
        self._staged = staged
        self._pause_s = pause_s
        # constant
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        # mutable
        self._more = trio.Event()
        self._sealed: Sealed | None = None
        self._stored: Stored | None = None
        self._failure: IcatfsError | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is no upload any more."""
        return self._ended.is_set()

    async def run(self, put: Callable[[AsyncIterable[bytes]], Awaitable[Stored]]) -> None:
        """Send until the facility has answered, or the stream is given up. Raises nothing."""
        try:
            with self._staged.in_use(), self._scope:
                self._stored = await put(_Body(self, self._staged))
        except IcatfsError as error:
            self._failure = error
            log.info("%s is sent when it is closed: %s", self.target.name, error)
        finally:
            self._ended.set()

    def wake(self) -> None:
        """Bytes were added."""
        self._more.set()

    def give_up(self) -> None:
        """Break the upload off."""
        self._scope.cancel()

    async def finish(self, sealed: Sealed) -> Stored:
        """Send the rest of a file that is final, and on record as such.

        Raises what the upload raises; after `Interrupted` the facility has nothing.
        """
        self._sealed = sealed
        self._more.set()
        await self._ended.wait()
        if self._stored is not None:
            return self._stored
        raise self._failure or Interrupted(f"{self.target.name}: its upload was given up")

    async def ready(self, offset: int) -> Ready:
        """How far it may be sent: whole chunks behind ``offset``, or all of it."""
        while True:
            if self._sealed is not None:
                if offset:
                    crash_point("tail")
                return Ready(self._sealed.size, True)
            chunks = (self._staged.contiguous - offset) // _CHUNK
            if chunks > 0:
                return Ready(offset + chunks * _CHUNK, False)
            self._more = trio.Event()
            with trio.move_on_after(self._pause_s) as scope:
                await self._more.wait()
            if scope.cancelled_caught and self._sealed is None:
                log.info("%s is written with pauses: sent when it is closed", self.target.name)
                self._scope.cancel()
                await trio.lowlevel.checkpoint()

    def taken(self, count: int) -> None:
        """The first ``count`` bytes are on their way."""
        if count and self._sealed is None:
            crash_point("streamed")


class Streams:
    """The streams of one mount: one at a time.

    Whoever writes to a file that is sent says `written` when bytes were added, and `void` before
    bytes change that were there, or the name.
    """

    def __init__(
        self,
        icat: IcatClient,
        ids: IdsClient,
        keeper: SessionKeeper,
        formats: Formats,
        nursery: trio.Nursery,
    ) -> None:
        # given
        self._icat = icat
        self._ids = ids
        self._keeper = keeper
        self._formats = formats
        self._nursery = nursery
        # mutable: the stream that is under way, by the number of its staged file
        self._streams: dict[int, Stream] = {}

    def begin(self, staged: StagedFile, target: Target) -> bool:
        """Begin to send a file that is still written; whether that was possible."""
        if self._streams:
            return False
        stream = Stream(staged, target)
        try:
            self._nursery.start_soon(self._run, staged.entry, stream)
        except RuntimeError:  # trio's word for a nursery that has ended
            return False
        self._streams[staged.entry] = stream
        return True

    def of(self, staged: StagedFile) -> Stream | None:
        """The stream that is sending a file."""
        return self._streams.get(staged.entry)

    def written(self, staged: StagedFile) -> None:
        """Bytes were added to a file."""
        if stream := self._streams.get(staged.entry):
            stream.wake()

    def void(self, staged: StagedFile) -> None:
        """What was sent of a file is no longer right."""
        if stream := self._streams.pop(staged.entry, None):
            stream.give_up()

    async def _run(self, entry: int, stream: Stream) -> None:
        target = stream.target

        async def put(body: AsyncIterable[bytes]) -> Stored:
            return await self._keeper.run(
                self._ids.put,
                target.dataset,
                target.name,
                await self._formats.choose(target.dataset, target.name),
                body,
                length=None,
                mod_time_ms=target.mod_time_ms,
                at_once=True,
            )

        await stream.run(put)
        if self._streams.get(entry) is stream:
            del self._streams[entry]

    async def correct_time(self, datafile: DatafileId, target: Target) -> bool:
        """Give a stored file the time it has now; whether that was done."""
        when = datetime.fromtimestamp(target.mod_time_ms // 1000, UTC)
        try:
            await self._keeper.run(self._icat.set_datafile_time, datafile, when)
        except IcatfsError as error:
            log.info("the time of %s: %s", target.shown, error)
            return False
        return True


class _Body(FileBody):
    """The body of the upload; from the start, however often it is sent."""

    def __init__(self, stream: Stream, staged: StagedFile) -> None:
        self._stream = stream
        self._staged = staged

    def fileno(self) -> int:
        return self._staged.fileno()

    async def ready(self, offset: int) -> Ready:
        return await self._stream.ready(offset)

    def read(self, offset: int, size: int) -> bytes:
        return self._staged.pread(offset, size)

    def taken(self, count: int) -> None:
        self._stream.taken(count)
