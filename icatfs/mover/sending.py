"""A file on its way to a server by the worker, as the mount sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from icatfs.mover import wire
from icatfs.mover.process import Stopped
from icatfs.mover.wire import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.mover.process import Worker


class Sending:
    """One upload. Close it when it has ended, too."""

    def __init__(self, worker: Worker, number: int, taken: Callable[[int], None]) -> None:
        """``taken`` is told synchronously how much of the file the connection has."""
        # given
        self._worker = worker
        self._number = number
        self._taken = taken
        # mutable: what may be sent, and what was
        self._fed = self._sent = 0
        self._is_last = self._is_over = self._closed = False
        self._head: wire.Head | None = None
        self._trouble: Trouble | None = None
        self._news = trio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether the body was sent to its end."""
        return self._is_last and self._sent == self._fed

    def feed(self, stop: int, fd: int, *, is_last: bool) -> None:
        """The first ``stop`` bytes may be sent, and are all if ``is_last``.

        ``fd`` is the caller's again when this returns.
        """
        if not self._is_over:
            self._worker.say(wire.Feed(self._number, stop, is_last), None if self._fed else fd)
        self._fed, self._is_last = stop, is_last

    async def left(self, most: int) -> None:
        """Wait until at most so many bytes that may be sent are not, or all is over."""
        while self._fed - self._sent > most and not self._is_over:
            await self._news.wait()

    async def answered(self) -> wire.Head:
        """The answer, whether or not all was sent; Stopped."""
        while self._head is None:
            if self._is_over:
                raise Stopped(self._trouble or Trouble.BROKEN)
            await self._news.wait()
        return self._head

    def close(self) -> None:
        """Break off, if it has not ended."""
        if not self._is_over and not self._closed:
            self._closed = True
            self._worker.say(wire.Close(self._number))

    # Called by the worker's task.

    def hear(self, message: wire.FromWorker) -> None:
        """Take note of what the worker says of this upload."""
        if isinstance(message, wire.Sent):
            self._sent = message.stop
            if not self._closed:
                self._taken(message.stop)
        elif isinstance(message, wire.Head):
            self._head = message
        elif isinstance(message, wire.Over):
            self._is_over, self._trouble = True, message.trouble
        self._news.set()
        self._news = trio.Event()
