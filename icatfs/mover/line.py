"""A connection to a server, plain or TLS, that is used without waiting and waited for apart.

TLS runs over buffers in memory (``ssl.MemoryBIO``) and not over the socket: so the socket is read
in large pieces, not twice for each record of 16 KiB, and whether something is there to be read can
be asked of the socket alone.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import struct
import time
from contextlib import suppress

from icatfs.mover.wire import Trouble

_RAW = 2**18
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_AT_ONCE = struct.pack("ii", 1, 0)


class Failed(Exception):
    """A stream cannot go on."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


def trusting(ca_file: str | None, *, insecure: bool) -> ssl.SSLContext:
    """As `icatfs.transport.tls`, which has told the user if this cannot be read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Line:
    """One connection. Any method raises Failed."""

    def __init__(self, peer: socket.socket, patience_s: float) -> None:
        """``patience_s``: with what is sent, which is little, and with the handshake."""
        # given
        self._socket = peer
        self._patience_s = patience_s
        # constant
        self._poll = select.poll()
        self._poll.register(peer.fileno(), select.POLLIN)
        self._room = select.poll()
        self._room.register(peer.fileno(), select.POLLIN | select.POLLOUT)
        # mutable: what was queued and is on its way, before what is in ``_outgoing``
        self._rest = memoryview(b"")
        self._takes_files = True
        # mutable: TLS, once it speaks
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._raw = memoryview(b"")
        self._fault: Failed | None = None

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from here on."""
        deadline = time.monotonic() + self._patience_s
        self._raw = memoryview(bytearray(_RAW))
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self.wait(deadline - time.monotonic()) or self._take_in() == 0:
                    raise Failed(Trouble.UNREACHABLE) from None
            except ssl.SSLCertVerificationError as error:
                self._say_why()
                raise Failed(Trouble.CERTIFICATE) from error
            except ssl.SSLError as error:
                self._say_why()
                raise Failed(Trouble.NO_TLS) from error
            else:
                self._flush()
                return

    def send(self, data: bytes) -> None:
        """Send all of it."""
        if self._tls is None:
            self._send(data)
        else:
            self._tls.write(data)
            self._flush()

    def queue(self, data: bytes) -> None:
        """To be sent by ``push``, before all that is given later."""
        if self._tls is None:
            self._outgoing.write(data)
        else:
            self._tls.write(data)

    def push(self, *, is_all: bool = True) -> bool:
        """Send what was queued, as far as there is room; whether all of it went."""
        while self._rest or self._outgoing.pending:
            if not self._rest:
                self._rest = memoryview(self._outgoing.read())
            try:
                count = self._socket.send(self._rest, 0 if is_all else socket.MSG_MORE)
            except BlockingIOError:
                return False
            except OSError as error:
                raise Failed(Trouble.BROKEN) from error
            self._rest = self._rest[count:]
        return True

    def send_file(self, fd: int, offset: int, count: int) -> int | None:
        """Send up to so many bytes of a file that has them, after what was queued.

        How many were taken, at least one; None: there is no room for any.
        """
        takes_files = self._tls is None and self._takes_files
        if not self.push(is_all=not takes_files):
            return None
        try:
            if takes_files:
                taken = os.sendfile(self._socket.fileno(), fd, offset, count)
            else:
                data = os.pread(fd, min(count, _RAW), offset)
                taken = len(data)
                self.queue(data)
        except BlockingIOError:
            return None
        except OSError as error:
            if takes_files and error.errno in _NO_SENDFILE:
                self._takes_files = False
                return self.send_file(fd, offset, count)
            is_local = not takes_files or error.errno in (errno.EIO, errno.EBADF)
            raise Failed(Trouble.FILE if is_local else Trouble.BROKEN) from error
        if not taken:
            raise Failed(Trouble.FILE)
        if not takes_files:
            self.push()
        return taken

    def read(self, view: memoryview) -> int | None:
        """Bytes that are there, up to the length of the view; 0 at the end, None: none yet."""
        return self._receive(view) if self._tls is None else self._decrypt(self._tls, view)

    def wait(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds."""
        return bool(self._poll.poll(max(0, int(1000 * seconds))))

    def wait_for_room(self, seconds: float) -> bool:
        """Whether there is room to send, or something to read, within so many seconds."""
        return bool(self._room.poll(max(0, int(1000 * seconds))))

    def shut(self) -> None:
        """End it for who reads it in another thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back to the system, and tell the server at once that nobody reads any more.

        Otherwise a server that is in the middle of a body may wait for room to send for minutes.
        """
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._socket.close()

    def _decrypt(self, tls: ssl.SSLObject, view: memoryview) -> int | None:
        """As ``read``, of as many records as are there.

        A fault behind bytes that came is that of the calls to come: TLS would call it an end then.
        """
        if self._fault is not None:
            raise self._fault
        have, count = 0, None
        try:
            while have < len(view) and (count := self._record(tls, view[have:])):
                have += count
        except Failed as failed:
            if not have:
                raise
            self._fault = failed
        return have or count

    def _record(self, tls: ssl.SSLObject, view: memoryview) -> int | None:
        """As ``read``, of one record at most, 16 KiB."""
        while True:
            try:
                return tls.read(len(view), view)  # type: ignore[return-value]
            except ssl.SSLWantReadError:
                self.push()
                if self._take_in() is None:
                    return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            except ssl.SSLError as error:
                raise Failed(Trouble.BROKEN) from error

    def _receive(self, view: memoryview) -> int | None:
        try:
            return self._socket.recv_into(view)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Failed(Trouble.BROKEN) from error

    def _take_in(self) -> int | None:
        """Bytes from the socket into TLS; 0 at the end, None: none yet."""
        count = self._receive(self._raw)
        if count:
            self._incoming.write(self._raw[:count])
        elif count == 0:
            self._incoming.write_eof()
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._patience_s)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Failed(Trouble.BROKEN) from error
        finally:
            self._socket.setblocking(False)

    def _say_why(self) -> None:
        with suppress(Failed):
            self._flush()


def connect(host: str, port: int, patience_s: float, context: ssl.SSLContext | None) -> Line:
    """A connection to the first address of the host that takes one; Failed.

    Its receive buffer is left to the system. A stream that is closed early costs the server some 5
    MiB beyond what arrived, most of it in the server's own buffers: with 1 MiB here it is 4, with 4
    MiB it is more, since the window is open from the beginning (measured on one host). And a buffer
    of a fixed size is a limit on what a far facility can send: 1 MiB and 50 ms make 20 MB/s.
    """
    try:
        peer = socket.create_connection((host, port), patience_s)
    except socket.gaierror as error:
        raise Failed(Trouble.NO_HOST) from error
    except (UnicodeError, OverflowError) as error:
        raise Failed(Trouble.IMPOSSIBLE) from error
    except OSError as error:
        raise Failed(Trouble.UNREACHABLE) from error
    peer.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line = Line(peer, patience_s)
    if context is not None:
        try:
            line.secure(context, host)
        except Failed:
            line.close()
            raise
    return line
