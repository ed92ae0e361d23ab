"""The body of an answer while it comes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import httpcore
import httpx
import trio

from icatfs.errors import FacilityUnreachable, ProtocolError
from icatfs.transport.faults import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from icatfs.transport.admission import Slot

SILENCE_S = 20.0
"""Inside a body; a server whose stored file is too short goes silent for 30 s, then closes."""
LARGEST_ERROR = 2**20


httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = 1 << 20
"""Large bodies come in pieces of up to 1 MiB instead of 64 KiB, which takes 0.6 of the time."""


class ByteStream:
    """The body of one answer, as it comes. Holds its place at the facility until closed.

    Use it as ``async with stream: async for piece in stream``. Raises FacilityTimeout after
    ``SILENCE_S`` without a byte, FacilityUnreachable when the connection breaks. A body without a
    length that ends is "complete" however short it is: compare with what the catalogue says.
    """

    def __init__(
        self,
        response: httpx.Response,
        slot: Slot | None,
        received: Callable[[int], None],
        asked_at: float,
    ) -> None:
        # given
        self._response = response
        self._slot = slot
        self._received = received
        self.asked_at = asked_at
        self._host = response.request.url.netloc.decode("ascii")
        # constant
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        length = self.headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        # mutable: the body once it was read whole; whether any of it was handed out
        self._pieces = response.aiter_raw()
        self._body: bytes | None = None
        self._has_begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> ByteStream:
        return self

    async def __anext__(self) -> bytes:
        if self._slot is not None and self._has_begun and self._slot.should_give_way():
            await self.aclose()
            raise FacilityUnreachable(f"The transfer from {self._host} gave way to another.")
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._release()
            raise
        except httpx.TransportError as error:
            self._release()
            raise explained(error, self._host)[1] from error
        self._has_begun = True
        self._received(len(piece))
        return piece

    async def body(self, most: int = LARGEST_ERROR) -> bytes:
        """The whole body; ProtocolError if it is larger than ``most`` bytes."""
        if self._body is None:
            pieces, size = [], 0
            async for piece in self:
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    await self.aclose()
                    raise ProtocolError(f"{self._host} sends an answer beyond all measure.")
            self._body = b"".join(pieces)
        return self._body

    async def aclose(self) -> None:
        """Break off, if it has not ended, and give the place back even if cancelled."""
        try:
            # A generator left half-way would be finalised by the garbage collector, with a warning.
            # Cancelled at its next read it ends itself and closes the connection.
            with trio.CancelScope() as scope, suppress(StopAsyncIteration, httpx.TransportError):
                scope.cancel()
                while True:
                    await anext(self._pieces)
            await self._response.aclose()
        finally:
            self._release()

    def _release(self) -> None:
        if self._slot is not None:
            self._slot.release()
