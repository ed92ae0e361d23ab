"""HTTP as a Jakarta container speaks it, down to the transport.

``WireProtocol`` is uvicorn's protocol (httptools) plus what ASGI does not offer and the imitation
needs: bodies that are shorter or longer than declared, silence, connection resets, and knowing at
once that the client is gone. An application finds it as ``scope["extensions"][WIRE]``.

It answers itself, as the container does, what is refused before any application: more than 8192
bytes of request line and headers, more than 100 headers, and DELETE with a body: 400, no body,
closed. The 250th answer of a connection is its last.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from collections.abc import Mapping

WIRE = "icatfs.wire"

_LONGEST_HEAD = 8192
_MOST_HEADERS = 100
_MOST_REQUESTS = 250
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Wire:
    """The connection below one request."""

    def __init__(self, protocol: WireProtocol) -> None:
        # given
        self._protocol = protocol
        # mutable: set before the application runs
        self.cycle: RequestResponseCycle | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection."""
        return self._protocol.gone.is_set()

    @property
    def is_stuck(self) -> bool:
        """Whether the client does not take what was sent so far."""
        return self._protocol.flow.write_paused

    async def wait_gone(self) -> None:
        """Return when the client has closed the connection, or we have."""
        await self._protocol.gone.wait()

    def send_in_spite_of_length(self, size: int) -> None:
        """After the response started: ``size`` bytes will be sent whatever Content-Length says."""
        assert self.cycle is not None
        if not self.cycle.chunked_encoding:
            self.cycle.expected_content_length = size

    async def close(self) -> None:
        """End the connection (FIN) after what is in the buffers, complete answer or not."""
        self._protocol.transport.close()
        if self.cycle is not None:  # so that nobody complains about an unfinished answer
            self.cycle.disconnected = True
        await asyncio.sleep(0)

    async def reset(self) -> None:
        """End the connection with a reset (RST); what is in the buffers is lost."""
        peer = self._protocol.transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(peer.fileno())) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._protocol.transport.abort()
        await self.wait_gone()


class WireProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a ``Wire`` in the scope of each request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch for the end."""
        self.gone = asyncio.Event()
        self.requests = 0
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the end."""
        self.gone.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Put the wire in the scope."""
        super().on_message_begin()
        extensions = cast("dict[str, Any]", self.scope.setdefault("extensions", {}))
        extensions[WIRE] = Wire(self)

    def on_headers_complete(self) -> None:
        """Refuse what a container refuses; otherwise start the application."""
        if self.transport.is_closing():
            return
        if self._is_refused():
            self.transport.write(_REFUSED)
            self.transport.close()
            return
        super().on_headers_complete()
        wire_of(self.scope).cycle = self.cycle
        self.requests += 1
        if self.requests == _MOST_REQUESTS:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Drop the body of a request that was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Likewise."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def _is_refused(self) -> bool:
        method = self.parser.get_method()
        head = len(method) + len(self.url) + len("  HTTP/1.1\r\n\r\n")
        head += sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if head > _LONGEST_HEAD or len(self.headers) > _MOST_HEADERS:
            return True
        headers = dict(self.headers)
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        return method == b"DELETE" and bool(has_body)


def wire_of(scope: Mapping[str, Any]) -> Wire:
    """The wire of a request that a ``WireProtocol`` received."""
    return cast("Wire", scope["extensions"][WIRE])
