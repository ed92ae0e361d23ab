"""The body of an upload that watches for an answer which comes before its end.

The data service checks rights and locks before it reads the body, answers, and then swallows the
rest: without looking, gigabytes are sent in vain (ids.server 2.1.1, put). HTTP client libraries
look at the answer only after the last byte. So before each piece this body looks whether the
connection has something to read; if it is an answer, ``EarlyAnswer`` ends the upload.

On TLS the connection also becomes readable by what belongs to TLS alone; then a read brings nothing
and the upload goes on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import h11
import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
    from typing import Self

_GLANCE_S = 0.05
_REST_OF_ANSWER_S = 5.0
_CHUNK = 65536


class Connection(Protocol):
    """The part of httpcore's network stream that is used here."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes: ...

    def get_extra_info(self, info: str) -> Any: ...


class EarlyAnswer(Exception):
    """The server answered before it had the whole body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"answered early with HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body


class WatchedBody(httpx.AsyncByteStream):
    """An async iterator over ``body``; not a generator, so that nothing is left to finalise."""

    def __init__(
        self,
        body: AsyncIterable[bytes],
        connection: Callable[[], Connection | None],
        sent: Callable[[int], None],
    ) -> None:
        # given
        self._pieces: AsyncIterator[bytes] = aiter(body)
        self._connection = connection
        self._sent = sent

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        connection = self._connection()
        if connection is not None and connection.get_extra_info("is_readable"):
            await self._look(connection)
        self._sent(len(piece))
        return piece

    async def _look(self, connection: Connection) -> None:
        try:
            data = await connection.read(_CHUNK, timeout=_GLANCE_S)
        except httpcore.ReadTimeout:
            return
        if data:
            raise await self._answer(connection, data)

    async def _answer(self, connection: Connection, data: bytes) -> EarlyAnswer:
        """The answer that begins with ``data``, as far as it comes within seconds."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(data)
        status, headers, body = 0, dict[str, str](), b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                try:
                    parser.receive_data(await connection.read(_CHUNK, timeout=_REST_OF_ANSWER_S))
                except httpcore.ReadTimeout:
                    break
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {key.decode(): value.decode("latin-1") for key, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
                break
        return EarlyAnswer(status, headers, body)


class Watch:
    """Remembers the connection of one request, by httpcore's trace extension."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    async def saw(self, event: str, facts: Mapping[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._connection = facts["return_value"]

    def connection(self) -> Connection | None:
        return self._connection


@asynccontextmanager
async def ended(body: AsyncIterable[bytes]) -> AsyncIterator[None]:
    """A generator that is left half-way is ended here, not by the garbage collector."""
    try:
        yield
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()
