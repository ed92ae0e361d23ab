"""Our side of the worker: starts it, asks it, learns what arrived, notices when it dies.

The worker is started when the first bytes are read, many or few, or many are sent, and lives as
long as the mount. When it dies (somebody killed it, the system ran out of memory) each of its
streams ends as by a connection that broke: who reads resumes it where it was, by a new worker, who
sends asks the catalogue what arrived, and sends again. One that dies
again and again before it has answered anything is given up for good: what it does can be done
without it, at less speed.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import icatfs
from icatfs.mover import wire
from icatfs.mover.process import Moved, Worker
from icatfs.mover.sending import Sending
from icatfs.sharing import service_nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

log = logging.getLogger(__name__)

_PROGRAM = (sys.executable, "-m", "icatfs.mover.worker")
_HOPELESS = 3
_REAP_S = 2.0


class Unusable(Exception):
    """There is no worker now, and mostly there will be none."""


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

    def asked(self, number: int, framing: wire.Framing | None = None) -> wire.Open:
        """The same in words to the worker, as the stream of this number."""
        return wire.Open(
            number,
            self.host,
            self.port,
            self.tls,
            self.head,
            self.connect_s,
            self.first_byte_s,
            self.silence_s,
            framing,
        )


@dataclass(frozen=True, slots=True)
class MoverStatus:
    """The process, None while there is none; the counts only grow."""

    pid: int | None
    started: int
    streams: int
    bytes_moved: int
    """From the facility."""
    bytes_sent: int
    """To the facility."""


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
        self._worker: Worker | None = None
        self._starting = trio.Lock()
        self._fruitless = 0
        """How many died one after the other without an answer."""
        # mutable: counts only grow
        self._started = self._streams = self._bytes_moved = self._bytes_sent = 0

    @property
    def is_usable(self) -> bool:
        """Whether there is any point in asking."""
        return self._fruitless < _HOPELESS

    @property
    def is_running(self) -> bool:
        """Whether there is a worker now."""
        return self._worker is not None

    def prepare(self) -> None:
        """Somebody reads, and may soon read much: start the worker, if there is none."""
        if self._worker is None and self.is_usable and not self._starting.locked():
            self._nursery.start_soon(self._prepare)

    async def open(self, question: Question) -> Moved:
        """A stream whose answer has begun. Raises Stopped, Unusable.

        Close it when it is not wanted any more; cancelled, there is none.
        """
        worker = await self._running()
        number = self._next_number()
        stream = worker.streams[number] = Moved(worker, number)
        worker.say(question.asked(number))
        try:
            await stream.answered()
        except BaseException:  # not swallowed: nobody else knows of the stream yet
            stream.close()
            raise
        return stream

    async def send(
        self, question: Question, framing: wire.Framing, taken: Callable[[int], None]
    ) -> Sending:
        """An upload that has begun; ``taken`` as of `Sending`. Raises Unusable. Close it."""
        worker = await self._running()
        number = self._next_number()
        sending = worker.streams[number] = Sending(worker, number, taken)
        worker.say(question.asked(number, framing))
        return sending

    def status(self) -> MoverStatus:
        """Counts as they are now."""
        worker = self._worker
        return MoverStatus(
            pid=worker.process.pid if worker is not None else None,
            started=self._started,
            streams=self._streams,
            bytes_moved=self._bytes_moved + (worker.bytes_moved if worker is not None else 0),
            bytes_sent=self._bytes_sent + (worker.bytes_sent if worker is not None else 0),
        )

    def _next_number(self) -> int:
        self._streams += 1
        return self._streams

    async def _prepare(self) -> None:
        with suppress(Unusable):
            await self._running()

    async def _running(self) -> Worker:
        async with self._starting:
            if self._worker is None:
                if not self.is_usable:
                    raise Unusable
                self._worker = await self._start()
                self._nursery.start_soon(self._live, self._worker)
            return self._worker

    async def _start(self) -> Worker:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:  # we can have no more files open; later there may be one
            raise Unusable from error
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
        worker = Worker(process, ours)
        worker.say(self._trust)
        return worker

    async def _live(self, worker: Worker) -> None:
        """From the birth of a worker to its death."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.say_rest)
                await worker.listen()
                nursery.cancel_scope.cancel()
        finally:
            self._worker = None
            self._bytes_moved += worker.bytes_moved
            self._bytes_sent += worker.bytes_sent
            worker.end()
            # No sink may be told that nobody writes before that is so. It was killed: no wait.
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


@asynccontextmanager
async def open_mover(
    *, ca_file: Path | None, insecure: bool, command: Sequence[str] = _PROGRAM
) -> AsyncIterator[Mover]:
    """A mover that trusts what the transport does; its worker ends with the block."""
    trust = _trust(ca_file, insecure=insecure)
    async with service_nursery() as nursery:
        yield Mover(nursery, trust, command)
        nursery.cancel_scope.cancel()
