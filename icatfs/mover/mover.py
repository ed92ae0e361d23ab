"""Our side of the worker: starts it, asks it, learns what arrived, notices when it dies.

The worker is started at the first stream and lives as long as the mount. When it dies (somebody
killed it, the system ran out of memory) each of its streams ends as by a connection that broke, so
that who reads resumes it where it was, by a new worker. One that dies again and again before it has
answered anything is given up for good: what it does can be done without it, at less speed.

Each stream has a `Sink`, which is told synchronously, as it is heard, what arrived and, as the very
last, that nobody writes for it any more; whoever waits for the stream is woken after that. A sink
is told so exactly once, in any case: by the worker, by its death, or when all ends.

Invariants: a stream is in ``_Worker.streams`` from the message that opens it to its `Over`; the
process of a worker that is not ``alive`` has been reaped, or is about to be by its own task.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

import icatfs
from icatfs.mover import wire
from icatfs.mover.wire import Trouble

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

log = logging.getLogger(__name__)

_PROGRAM = (sys.executable, "-m", "icatfs.mover.worker")
_HOPELESS = 3
_REAP_S = 2.0


class Stopped(Exception):
    """A stream ended before its body."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


class Unusable(Exception):
    """There is no worker, and there will be none."""


class Sink(Protocol):
    """Whom a stream tells; both methods raise nothing."""

    def arrived(self, pieces: Sequence[wire.Bytes]) -> None:
        """These bytes, the next of what was ordered, are where they belong."""
        ...

    def over(self, *, disk_refused: bool) -> None:
        """Nobody writes for this stream any more; ``disk_refused``: for want of room."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask whom: the whole head of a request, and how long to wait for what."""

    host: str
    port: int
    tls: bool
    head: bytes
    connect_s: float
    first_byte_s: float
    silence_s: float


@dataclass(frozen=True, slots=True)
class MoverStatus:
    """The process, None while there is none; the counts only grow."""

    pid: int | None
    started: int
    streams: int
    bytes_moved: int


class Moved:
    """One stream, as its only reader sees it."""

    def __init__(self, worker: _Worker, number: int) -> None:
        # given
        self._worker = worker
        self._number = number
        # mutable: the answer, once it is there
        self.head: wire.Head | None = None
        # mutable: how it ended, if it has; what arrived and was not asked for yet
        self.is_over = False
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
        if not self.is_over:
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
        else:
            self.is_over = True
            self._trouble = message.trouble
            if self._sink is not None:
                self._sink.over(disk_refused=message.trouble is Trouble.DISK)
        self._news.set()


class _Worker:
    """One process, and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        # given
        self.process = process
        # mutable
        self.streams: dict[int, Moved] = {}
        self.alive = True
        self.has_answered = False
        self.bytes_moved = 0
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


class Mover:
    """Made by ``open_mover``."""

    def __init__(
        self, nursery: trio.Nursery, trust: wire.Trust, command: Sequence[str] = _PROGRAM
    ) -> None:
        # given
        self._nursery = nursery
        self._trust = trust
        self._command = command
        # mutable
        self._worker: _Worker | None = None
        self._starting = trio.Lock()
        self._fruitless = 0
        """How many died one after the other without an answer."""
        # mutable: counts only grow
        self._started = self._streams = self._bytes_moved = 0

    @property
    def is_usable(self) -> bool:
        """Whether there is any point in asking."""
        return self._fruitless < _HOPELESS

    async def open(self, question: Question) -> Moved:
        """A stream whose answer has begun. Raises Stopped, Unusable.

        Close it when it is not wanted any more; cancelled, there is none.
        """
        worker = await self._running()
        self._streams += 1
        number = self._streams
        stream = worker.streams[number] = Moved(worker, number)
        worker.say(
            wire.Open(
                number,
                question.host,
                question.port,
                question.tls,
                question.head,
                question.connect_s,
                question.first_byte_s,
                question.silence_s,
            )
        )
        try:
            await stream.answered()
        except BaseException:  # not swallowed: nobody else knows of the stream yet
            stream.close()
            raise
        return stream

    def status(self) -> MoverStatus:
        """Counts as they are now."""
        worker = self._worker
        return MoverStatus(
            pid=worker.process.pid if worker is not None else None,
            started=self._started,
            streams=self._streams,
            bytes_moved=self._bytes_moved + (worker.bytes_moved if worker is not None else 0),
        )

    async def _running(self) -> _Worker:
        async with self._starting:
            if self._worker is None:
                if not self.is_usable:
                    raise Unusable
                self._worker = await self._start()
                self._nursery.start_soon(self._live, self._worker)
            return self._worker

    async def _start(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                process = await trio.to_thread.run_sync(_spawn, self._command, theirs)
            except OSError as error:
                ours.close()
                self._fruitless = _HOPELESS
                log.warning("no process for large transfers can be started: %s", error)
                raise Unusable from error
        self._started += 1
        worker = _Worker(process, ours)
        worker.say(self._trust)
        return worker

    async def _live(self, worker: _Worker) -> None:
        """From the birth of a worker to its death."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.say_rest)
                await worker.listen()
                nursery.cancel_scope.cancel()
        finally:
            self._worker = None
            self._bytes_moved += worker.bytes_moved
            worker.end()
            with trio.move_on_after(_REAP_S) as scope:
                scope.shield = True
                await trio.to_thread.run_sync(worker.process.wait, abandon_on_cancel=True)
            worker.mourn()
        self._fruitless = 0 if worker.has_answered else self._fruitless + 1
        log.warning(
            "the process for large transfers (%d) ended with %s; %s",
            worker.process.pid,
            worker.process.returncode,
            "its transfers are resumed by a new one" if self.is_usable else "large files are slow",
        )


def _spawn(command: Sequence[str], control: socket.socket) -> subprocess.Popen[bytes]:
    """The worker's process; its complaints go where ours do."""
    return subprocess.Popen(
        command,
        stdin=control.fileno(),
        stdout=subprocess.DEVNULL,
        cwd=Path(icatfs.__file__).parent.parent,
    )


def _trust(ca_file: Path | None, *, insecure: bool) -> wire.Trust:
    """In words that mean the same in another folder."""
    return wire.Trust(None if ca_file is None else str(ca_file.absolute()), insecure)


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


@asynccontextmanager
async def open_mover(
    *, ca_file: Path | None, insecure: bool, command: Sequence[str] = _PROGRAM
) -> AsyncIterator[Mover]:
    """A mover that trusts what the transport does; its worker ends with the block."""
    trust = _trust(ca_file, insecure=insecure)
    try:
        async with trio.open_nursery() as nursery:
            yield Mover(nursery, trust, command)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # the worker's task raises nothing: it is the caller's
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
