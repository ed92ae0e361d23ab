"""The program that moves large bodies: HTTP and TLS here, so that the mount only answers reads.

``python -m icatfs.mover.worker`` with the mount's socket as its standard input. It receives open
descriptors of cache files, writes into them what the facility sends, and says which bytes are there
now, with their CRC-32s (`icatfs.mover.wire`). It decides nothing: the mount tells it what to ask,
where the bytes belong, and when to stop; whoever kills it costs the mount a reconnection.

Why a process: one Python thread that both decodes HTTP and answers the kernel reaches a fifth to a
third of curl. Why sockets: of 1 GiB into a file in memory, CPU seconds with CRC-32 and writing, on
two busy cores (curl to /dev/null: 0.19-0.33 plain, 0.5-0.6 TLS); the CRC-32 by zlib took 0.14 of
them, by isal, as it is now, it takes 0.02:

======================================  ======  ======
by                                      plain   TLS
======================================  ======  ======
``recv_into`` one buffer                0.65    1.21
the same, TLS over buffers in memory            1.09
``http.client``, ``readinto``           0.71    1.25
pycurl, which calls back for 16 KiB     0.85    1.10
======================================  ======  ======

Threads: the main one hears the mount, each stream has one of its own. Receiving, checksums, TLS and
writing let go of the interpreter's lock, so streams do not wait for each other.

When bytes are told: at first as soon as they come, for somebody waits for them; then in portions
that grow to 1 MiB, for each costs the mount some work; and always when nothing more comes for a
moment. A worker lives as long as its mount: it ends with the socket. Signals that mean the mount
(Ctrl-C, a service that is stopped) it ignores, for the mount may have reads to answer still.

The other way, from files to the facility, is `icatfs.mover.upload`; what both share, with its
invariants, is `icatfs.mover.exchange`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from isal.isal_zlib import crc32

from icatfs.mover import wire
from icatfs.mover.answer import Answer, Buffered
from icatfs.mover.exchange import Exchange, Work
from icatfs.mover.line import Failed, trusting
from icatfs.mover.upload import Upload
from icatfs.mover.wire import CHUNK, LARGEST, Bytes, Trouble

if TYPE_CHECKING:
    import ssl

_BUFFER = 2**18
_FIRST_PORTION = 2**16
_LINGER_S = 0.005


class Stream(Exchange[wire.Order]):
    """One request, and its answer on its way into files."""

    def __init__(self, asked: wire.Open, mount: Mount) -> None:
        super().__init__(asked, mount)
        # mutable: bytes that were written and not told yet, consecutive, in one order
        self._untold: list[Bytes] = []
        self._portion = _FIRST_PORTION
        self._ended = False

    def _finish(self) -> None:
        self._tell()

    def _converse(self) -> None:
        asked = self._asked
        line = self._connect()
        if self._closed:
            return
        line.send(asked.head)
        answer = self._answer(Buffered(line), time.monotonic() + asked.first_byte_s)
        if answer.status not in (200, 206):
            self._tell_whole(answer, asked.silence_s, must_be_whole=False)
            return
        self._mount.say(wire.Head(asked.stream, answer.status, answer.headers))
        view = memoryview(bytearray(_BUFFER))
        while not (self._ended or self._closed) and (work := self._works.get()) is not None:
            try:
                self._fulfil(work, answer, view)
            finally:
                work.close()

    def _fulfil(self, work: Work[wire.Order], answer: Answer, view: memoryview) -> None:
        position, stop = work.order.start, work.order.stop
        while position < stop and not self._closed:
            border = (position // CHUNK + 1) * CHUNK
            wanted = min(_BUFFER, stop - position, border - position)
            count = self._fill(answer, view[:wanted])
            if not count:
                return
            self._keep(work.fd, view[:count], position)
            position += count
            if position == stop and work.order.is_last:
                self._see_the_end(answer, view[:1])
            told = self._untold[-1].stop - self._untold[0].start
            if count < wanted or position == stop or told >= self._portion:
                self._tell()

    def _fill(self, answer: Answer, view: memoryview) -> int:
        """Bytes into the view until it is full, or no more come for a moment; 0: the body ended.

        A fault behind bytes that came is that of the next call: it will be there still.
        """
        have, until = 0, 0.0
        while have < len(view):
            try:
                count = answer.read(view[have:])
            except Failed:
                if not have:
                    raise
                break
            if count:
                have += count
            elif count == 0:
                self._ended = True
                break
            elif not have:
                self._tell()
                self._wait(self._asked.silence_s)
            else:
                now = time.monotonic()
                until = until or now + (_LINGER_S if self._portion > _FIRST_PORTION else 0)
                if not self._line_has_more(until - now):
                    break
        return have

    def _keep(self, fd: int, data: memoryview, position: int) -> None:
        crc = 0
        if fd >= 0:
            last = self._untold[-1] if self._untold else None
            joins = last is not None and last.stop == position and position % CHUNK
            start, crc = (last.start, last.crc32) if last is not None and joins else (position, 0)
            crc = crc32(data, crc)
            _write(fd, data, position)
            if joins:
                self._untold.pop()
            self._untold.append(Bytes(start, position + len(data), crc))
        else:
            self._untold.append(Bytes(position, position + len(data), 0))

    def _see_the_end(self, answer: Answer, view: memoryview) -> None:
        """These must have been the last bytes; where the length was said, they were."""
        self._ended = True
        if answer.says_length:
            return
        while (count := answer.read(view)) is None:
            self._wait(self._asked.silence_s)
        if count:
            self._untold.clear()
            raise Failed(Trouble.SURPLUS)

    def _tell(self) -> None:
        """Say what is there, and say the next later than this."""
        if self._untold:
            self._mount.say(wire.Arrived(self._asked.stream, tuple(self._untold)))
            self._untold.clear()
            self._portion = min(2 * self._portion, CHUNK)


def _write(fd: int, data: memoryview, position: int) -> None:
    while data:
        try:
            count = os.pwrite(fd, data, position)
        except OSError as error:
            raise Failed(Trouble.DISK) from error
        data = data[count:]
        position += count


class Mount:
    """Who is served: the process at the other end of the socket."""

    def __init__(self, control: socket.socket) -> None:
        # given
        self._control = control
        # mutable: streams that are not over; they are removed by their own threads
        self._streams: dict[int, Exchange[Any]] = {}
        self._lock = threading.Lock()
        self._trust = wire.Trust(None, False)
        self._context: ssl.SSLContext | None = None

    def serve(self) -> None:
        """Do what is said, until the mount has gone, or a descriptor is lost that was to come.

        Without it an order reads as if the bytes belonged nowhere, and they were told to be there.
        """
        while True:
            try:
                data, fds, flags, _ = socket.recv_fds(self._control, LARGEST, 1)
            except ConnectionResetError:  # it was killed, and had not heard all that was said
                return
            if not data or flags & socket.MSG_CTRUNC:
                return
            self._hear(wire.to_worker(data), fds[0] if fds else -1)

    def say(self, message: wire.FromWorker) -> None:
        """Say this to the mount; a mount that has gone hears nothing."""
        try:
            self._control.send(wire.encode(message))
        except OSError:
            os._exit(0)

    def forget(self, stream: int) -> None:
        """A stream gets no orders any more."""
        with self._lock:
            del self._streams[stream]

    def context(self) -> ssl.SSLContext:
        """Made once: reading the authorities takes a while."""
        with self._lock:
            if self._context is None:
                try:
                    self._context = trusting(self._trust.ca_file, insecure=self._trust.insecure)
                except OSError as error:  # ssl.SSLError is one
                    raise Failed(Trouble.CERTIFICATE) from error
            return self._context

    def _prepare(self) -> None:
        """Read the authorities before the first stream, which would wait for that."""
        with suppress(Failed):
            self.context()

    def _hear(self, message: wire.ToWorker, fd: int) -> None:
        if isinstance(message, wire.Trust):
            self._trust = message
            threading.Thread(target=self._prepare, daemon=True).start()
        elif isinstance(message, wire.Open):
            kind = Stream if message.body is None else Upload
            stream: Exchange[Any] = kind(message, self)
            with self._lock:
                self._streams[message.stream] = stream
            stream.start()
        else:
            with self._lock:
                known = self._streams.get(message.stream)
                if known is not None and isinstance(message, wire.Order | wire.Feed):
                    known.add(message, fd)
                    return
            if known is not None:
                known.close()
            elif fd >= 0:
                os.close(fd)


def main() -> None:
    """Serve the mount at the other end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Mount(socket.socket(fileno=os.dup(sys.stdin.fileno()))).serve()
    os._exit(0)  # threads may be in the middle of something that nobody wants any more


if __name__ == "__main__":
    main()
