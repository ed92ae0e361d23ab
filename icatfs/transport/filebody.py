"""The body of an upload that is a file, complete or still growing.

The mover sends it from its descriptor: no byte comes into this process (`carry`). Where there is no
mover it is iterated like any other body, which reads it piece by piece.

The file is asked how far it may be sent only when little of what it said is left to be sent: so a
body that stands still does so because its writer does, and not for want of looking.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.errors import IcatfsError
from icatfs.sharing import service_nursery
from icatfs.transport.attempt import Answer
from icatfs.transport.uploading import EarlyAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from icatfs.mover.mover import Mover, Question
    from icatfs.mover.sending import Sending
    from icatfs.mover.wire import Framing

_PIECE = 1 << 20
_AHEAD = 4 << 20


@dataclass(frozen=True, slots=True)
class Ready:
    """The first ``stop`` bytes of a file may be sent, and are all of it if ``is_all``."""

    stop: int
    is_all: bool


class FileBody(ABC):
    """Bytes of a file from its first on, which do not change; sent again from the start."""

    @abstractmethod
    def fileno(self) -> int:
        """Its descriptor, open as long as it is sent."""

    @abstractmethod
    async def ready(self, offset: int) -> Ready:
        """How far it may be sent: wait until that is behind ``offset``, or all."""

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Bytes that are ready."""

    @abstractmethod
    def taken(self, count: int) -> None:
        """The first ``count`` bytes are on their way. Raises nothing."""

    def __aiter__(self) -> _Pieces:
        return _Pieces(self)


class _Pieces:
    """One iteration; not a generator, which an upload that breaks off would leave unfinished."""

    def __init__(self, body: FileBody) -> None:
        # given
        self._body = body
        # mutable
        self._offset = 0
        self._ready = Ready(0, False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self._offset >= self._ready.stop:
            if self._ready.is_all:
                raise StopAsyncIteration
            self._ready = await self._body.ready(self._offset)
        if self._offset:
            self._body.taken(self._offset)
        piece = self._body.read(self._offset, min(_PIECE, self._ready.stop - self._offset))
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        return piece


async def carry(
    mover: Mover,
    question: Question,
    framing: Framing,
    body: FileBody,
    sent: Callable[[int], None],
) -> Answer:
    """Have it sent by the mover; ``sent`` is told of more bytes.

    Raises EarlyAnswer, Stopped, Unusable, what ``body`` raises. Cancelled, it breaks off.
    """
    before = 0

    def taken(count: int) -> None:
        nonlocal before
        sent(count - before)
        before = count
        body.taken(count)

    sending = await mover.send(question, framing, taken)
    failure: IcatfsError | None = None
    try:
        async with service_nursery() as nursery:

            async def feed() -> None:
                nonlocal failure
                try:
                    await _feed(sending, body)
                except IcatfsError as error:
                    failure = error
                    nursery.cancel_scope.cancel()

            nursery.start_soon(feed)
            head = await sending.answered()
            nursery.cancel_scope.cancel()
    finally:
        sending.close()
    if failure is not None:
        raise failure
    if not sending.is_complete:
        raise EarlyAnswer(head.status, head.headers, head.body)
    return Answer(head.status, head.headers, head.body)


async def _feed(sending: Sending, body: FileBody) -> None:
    """Say what may be sent, until that is all."""
    ready = Ready(0, False)
    while not ready.is_all:
        await sending.left(_AHEAD)
        ready = await body.ready(ready.stop)
        sending.feed(ready.stop, body.fileno(), is_last=ready.is_all)
