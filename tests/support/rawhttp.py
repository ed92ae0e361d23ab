"""A client that sees HTTP/1.1 as it is on the wire."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

_SILENCE_S = 1.0  # a server that says nothing for so long, with nothing to wait for, is silent
_PATIENCE_S = 30.0
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Received:
    """One answer: lower-case header names; ``end`` says how the body ended.

    ``length`` (as declared), ``final chunk``, ``closed`` or ``silent``; after a body of declared
    length also ``closed`` when the server closed although it had not said it would end there.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    end: str = "length"

    def json(self) -> Any:
        """The body as JSON; ValueError if it is none."""
        return json.loads(self.body)

    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def shown(self) -> str:
        """A short form for messages."""
        return f"answer: {self.status} {self.headers} {self.body[:600]!r} (end: {self.end})"


class Connection:
    """One TCP connection for one request."""

    def __init__(self, peer: socket.socket) -> None:
        self._socket = peer
        self._buffer = bytearray()
        self._body = bytearray()
        self._head: Received | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close at once, whatever is unread."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send; a server that has closed already may still have answered."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def read_head(self) -> Received:
        """Status and headers of the answer."""
        if self._head is None:
            while b"\r\n\r\n" not in self._buffer:
                self._more()
            head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            self._buffer[:] = rest
            line, *fields = head.decode("latin-1").split("\r\n")
            if line.split(" ")[1] == "100":
                return self.read_head()
            pairs = (field.partition(":") for field in fields)
            headers = {name.lower(): value.strip(" ") for name, _, value in pairs}
            self._head = Received(int(line.split(" ")[1]), headers)
        return self._head

    def read_body(self, at_least: int) -> None:
        """Receive some of a body whose framing is by length."""
        while len(self._buffer) < at_least:
            self._more()

    def is_readable(self, within_s: float) -> bool:
        """Whether something more arrives, be it the end."""
        return bool(select.select([self._socket], [], [], within_s)[0])

    def read_raw_to_end(self) -> None:
        """Receive until the server ends the connection; raises what the socket raises."""
        while self._socket.recv(_BLOCK):
            pass

    def receive(self, method: str, *, until_silent: bool = False, already: bytes = b"") -> Received:
        """The whole answer; ``until_silent``: whatever comes until nothing comes for a while."""
        head = self.read_head()
        self._body += already
        if until_silent:
            end = self._rest()
        elif method == "HEAD" or head.status in {204, 304}:
            end = "length"
        elif head.headers.get("transfer-encoding") == "chunked":
            end = self._chunks()
        elif "content-length" in head.headers:
            end = self._exactly(int(head.headers["content-length"]))
        else:
            end = self._rest()
        if end == "length" and head.headers.get("connection") == "close":
            end = self._rest()
        return Received(head.status, head.headers, bytes(self._body), end)

    def _exactly(self, size: int) -> str:
        while len(self._buffer) < size:
            if not self._more():
                break
        self._body += self._buffer[:size]
        del self._buffer[:size]
        return "length" if len(self._body) == size else "closed"

    def _chunks(self) -> str:
        while True:
            while b"\r\n" not in self._buffer:
                if not self._more():
                    return "closed"
            line, _, rest = bytes(self._buffer).partition(b"\r\n")
            size = int(line, 16)
            self._buffer[:] = rest
            while len(self._buffer) < size + 2:
                if not self._more():
                    return "closed"
            self._body += self._buffer[:size]
            del self._buffer[: size + 2]
            if size == 0:
                return "final chunk"

    def _rest(self) -> str:
        """Everything until the server closes or falls silent."""
        self._socket.settimeout(_SILENCE_S)
        try:
            while self._more():
                pass
            end = "closed"
        except TimeoutError:
            end = "silent"
        finally:
            self._socket.settimeout(_PATIENCE_S)
        self._body += self._buffer
        self._buffer.clear()
        return end

    def _more(self) -> bool:
        try:
            data = self._socket.recv(_BLOCK)
        except ConnectionResetError:
            data = b""
        if not data and self._head is None:
            raise ConnectionError("the server closed the connection without an answer")
        self._buffer += data
        return bool(data)


def connect(url: str, *, receive_buffer: int | None = None) -> Connection:
    """A new connection to the server of that URL, optionally with a small receive buffer."""
    address = urlsplit(url)
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_buffer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(_PATIENCE_S)
    try:
        peer.connect((address.hostname, address.port))
    except OSError:
        peer.close()
        raise
    return Connection(peer)
