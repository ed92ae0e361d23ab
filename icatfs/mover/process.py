"""One worker process as we know it: its socket, and the streams it brings.

Each stream has a `Sink`, which is told synchronously, as it is heard, what arrived and, as the very
last, that nobody writes for it any more; whoever waits for the stream is woken after that. A sink
is told so exactly once, in any case: by the worker, by its death, or when all ends.

Invariants: a stream is in ``Worker.streams`` from the message that opens it to its `Over`; the
process of a worker that is not ``alive`` was reaped, or is about to be by the task that keeps it.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.mover import wire
from icatfs.mover.wire import Trouble

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence


class Stopped(Exception):
    """A stream ended before its body."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


class Sink(Protocol):
    """Whom a stream tells; both methods raise nothing."""

    def arrived(self, pieces: Sequence[wire.Bytes]) -> None:
        """These bytes, the next of what was ordered, are where they belong."""
        ...

    def over(self, *, disk_refused: bool) -> None:
        """Nobody writes for this stream any more; ``disk_refused``: for want of room."""
        ...


class Heard(Protocol):
    """A stream, whichever way its bytes go."""

    def hear(self, message: wire.FromWorker) -> None:
        """Take note of what the worker says of it."""
        ...


class Moved:
    """One stream, as its only reader sees it."""

    def __init__(self, worker: Worker, number: int) -> None:
        # given
        self._worker = worker
        self._number = number
        # mutable: the answer, once it is there
        self.head: wire.Head | None = None
        # mutable: how it ended, if it has; what arrived and was not asked for yet
        self.is_over = self._closed = False
        self._trouble: Trouble | None = None
        self._sink: Sink | None = None
        self._count = 0
        self._news = trio.Event()

    async def answered(self) -> wire.Head:
        """The head of the answer; Stopped."""
        while self.head is None:
            if self.is_over:
                raise Stopped(self._trouble or Trouble.BROKEN)
            await self._news.wait()
            self._news = trio.Event()
        return self.head

    def into(self, sink: Sink) -> None:
        """Tell this from now on; before the first order."""
        self._sink = sink
        if self.is_over:
            sink.over(disk_refused=False)

    def order(self, start: int, stop: int, fd: int | None, *, is_last: bool) -> None:
        """The next bytes are [start, stop) and go to the same place of ``fd``, or nowhere.

        ``fd`` is the caller's again when this returns.
        """
        if not self.is_over:
            self._worker.say(wire.Order(self._number, start, stop, is_last), fd)

    async def progress(self) -> int:
        """How many bytes arrived since it was asked last, at least one; 0: the body ended.

        Stopped when it ended otherwise.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._count and not self.is_over:
            await self._news.wait()
            self._news = trio.Event()
        if not self._count and self._trouble is not None:
            raise Stopped(self._trouble)
        count, self._count = self._count, 0
        return count

    def close(self) -> None:
        """Nothing more is wanted. What is under way still arrives, and is told to the sink."""
        if not self.is_over and not self._closed:
            self._closed = True
            self._worker.say(wire.Close(self._number))

    # Called by the worker's task.

    def hear(self, message: wire.FromWorker) -> None:
        """Take note of what the worker says of this stream."""
        if isinstance(message, wire.Head):
            self.head = message
        elif isinstance(message, wire.Arrived):
            if self._sink is not None:
                self._sink.arrived(message.pieces)
            self._count += message.pieces[-1].stop - message.pieces[0].start
        elif isinstance(message, wire.Over):
            self.is_over = True
            self._trouble = message.trouble
            if self._sink is not None:
                self._sink.over(disk_refused=message.trouble is Trouble.DISK)
        self._news.set()


class Worker:
    """One process, and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        # given
        self.process = process
        # mutable
        self.streams: dict[int, Heard] = {}
        self.alive = True
        self.has_answered = False
        self.bytes_moved = self.bytes_sent = 0
        # mutable: what the socket did not take yet; descriptors in it are ours to close
        self._control = control
        self._unsaid: deque[tuple[bytes, int]] = deque()
        self._more = trio.Event()

    def say(self, message: wire.ToWorker, fd: int | None = None) -> None:
        """Say this as soon as the socket takes it; to a dead worker in vain."""
        data = wire.encode(message)
        if not self.alive:
            return
        if not self._unsaid:
            with suppress(BlockingIOError):
                self._send(data, -1 if fd is None else fd)
                return
        self._unsaid.append((data, -1 if fd is None else os.dup(fd)))
        self._more.set()

    def _send(self, data: bytes, fd: int) -> None:
        beside = []
        if fd >= 0:
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        with suppress(BrokenPipeError, ConnectionError):  # who listens will notice
            self._control.sendmsg([data], beside)

    async def say_rest(self) -> None:
        """Say what the socket did not take at once; for ever."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._unsaid:
                await trio.lowlevel.wait_writable(self._control)
                data, fd = self._unsaid[0]
                with suppress(BlockingIOError):
                    self._send(data, fd)
                    self._unsaid.popleft()
                    _close(fd)

    async def listen(self) -> None:
        """Hear what it says, until it has gone."""
        control = trio.socket.from_stdlib_socket(self._control)
        while True:
            try:
                data = await control.recv(wire.LARGEST)
                if not data:
                    return
                message = wire.from_worker(data)
            except (OSError, wire.Garbled):
                return
            stream = self.streams.get(message.stream)
            if stream is None:
                continue
            if isinstance(message, wire.Arrived):
                self.bytes_moved += message.pieces[-1].stop - message.pieces[0].start
            elif isinstance(message, wire.Sent):
                self.bytes_sent += message.stop - message.start
            elif isinstance(message, wire.Over):
                del self.streams[message.stream]
            self.has_answered = True
            stream.hear(message)

    def end(self) -> None:
        """Let it be no more; synchronous, and harmless for one that has gone."""
        self.alive = False
        self.process.kill()
        self._control.close()
        while self._unsaid:
            _close(self._unsaid.popleft()[1])

    def mourn(self) -> None:
        """It writes no more: all its streams are over."""
        streams = list(self.streams.items())
        self.streams.clear()
        for number, stream in streams:
            stream.hear(wire.Over(number, Trouble.GONE))


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)
