"""How one request misbehaves: what ``faults`` has chosen for it is done to its answer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from icatfs.facility.exchange import Disconnected, compact_json
from icatfs.facility.wire import wire_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icatfs.facility.asked import Asked
    from icatfs.facility.clock import Clock
    from icatfs.facility.exchange import Receive, Scope, Send
    from icatfs.facility.faults import Fault

_PAGES = {
    404: "HTTP Status 404 - Not Found",
    500: "HTTP Status 500 - Internal Server Error",
    502: "502 Bad Gateway",
    503: "503 Service Unavailable",
    504: "504 Gateway Time-out",
}
_OF_BODY = ("reset", "stall", "truncate", "truncate_hidden", "corrupt")
_OFF = "This operation has been configured to be unavailable"
_FULL = "class java.io.IOException No space left on device"


class Misbehaviour:
    """The faults of one request."""

    def __init__(
        self,
        faults: Sequence[Fault],
        asked: Asked,
        scope: Scope,
        receive: Receive,
        send: Send,
        clock: Clock,
    ) -> None:
        # given
        self._faults = faults
        self._asked = asked
        self._receive = receive
        self._send = send
        self._clock = clock
        self._wire = wire_of(scope)
        # mutable: bytes of the body sent so far, and what is still to befall it, in order
        self._sent = 0
        self._to_come = sorted(
            (fault for fault in faults if fault.kind in _OF_BODY and not self._is_early(fault)),
            key=lambda fault: fault.after_bytes or 0,
        )

    def _is_early(self, fault: Fault) -> bool:
        """Whether not even a head is sent."""
        return fault.kind in {"reset", "stall"} and (
            fault.after_bytes is None or self._asked.method == "PUT"
        )

    # Before the application is asked.

    async def instead(self) -> bool:
        """Wait, and answer in place of the application if a fault wants that."""
        for fault in self._faults:
            if fault.kind == "latency":
                await self._pause(fault.seconds or 0.0)
        for fault in self._faults:
            if self._is_early(fault):
                await self._say_nothing(fault)
            elif fault.kind not in {"latency", *_OF_BODY}:
                await self._refuse(fault)
                return True
        return False

    async def _say_nothing(self, fault: Fault) -> None:
        if fault.after_bytes is not None:
            await self._swallow(fault.after_bytes)
        if fault.kind == "reset":
            await self._wire.reset()
            raise Disconnected
        await self._pause(fault.seconds)
        if fault.after_bytes is not None:  # what was swallowed cannot be stored
            await self._wire.close()
            raise Disconnected

    async def _refuse(self, fault: Fault) -> None:
        status, content_type, body = self._refusal(fault)
        full = fault.kind == "disk_full" and fault.after_bytes is None
        await self._swallow(0 if full else fault.after_bytes)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        if status not in {200, 403, 404}:
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _refusal(self, fault: Fault) -> tuple[int, str, bytes]:
        """Status, content type and body of an answer in place of the true one."""
        if fault.kind == "html":
            status = fault.status or 404
            return status, "text/html;charset=utf-8", _page(status)
        if fault.kind == "read_only" and self._asked.endpoint == "ids/isReadOnly":
            return 200, "text/plain", b"true"
        if fault.kind == "error" and fault.body is not None:
            return fault.status or 500, "text/plain", fault.body.encode()
        status, code, message = self._words(fault)
        body: dict[str, object] = {"code": code, "message": message}
        return status, "application/json", compact_json(body)

    def _words(self, fault: Fault) -> tuple[int, str, str]:
        """Status, code and message."""
        of_ids = self._asked.endpoint.startswith("ids/")
        if fault.kind == "session":
            code = "InsufficientPrivilegesException" if of_ids else "SESSION"
            return 403, code, f"Unable to find user by sessionid: {self._asked.session}"
        if fault.kind == "read_only":
            return 501, "NotImplementedException", _OFF
        if fault.kind == "disk_full":
            return 500, "InternalException", _FULL
        code = fault.code or ("InternalException" if of_ids else "INTERNAL")
        return fault.status or 500, code, fault.message or "this fault was asked for"

    async def _swallow(self, limit: int | None) -> None:
        """Read so much of the request's body; None: all of it."""
        received = 0
        while limit is None or received < limit:
            message = await self._receive()
            if message["type"] != "http.request":
                raise Disconnected
            received += len(message.get("body", b""))
            if not message.get("more_body", False):
                return

    # While the application answers.

    async def send(self, message: Scope) -> None:
        """Send what the application sends, damaged; raises Disconnected when nothing more goes."""
        if message["type"] == "http.response.start":
            await self._send(self._head(message))
        elif not self._to_come:
            await self._send(message)
        else:
            await self._send_damaged(message.get("body", b""), more=message.get("more_body", False))

    def _head(self, message: Scope) -> Scope:
        if not any(fault.kind == "truncate_hidden" for fault in self._to_come):
            return message
        headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
        return {**message, "headers": headers}

    async def _send_damaged(self, data: bytes, *, more: bool) -> None:
        while self._to_come:
            fault = self._to_come[0]
            at = (fault.after_bytes or 0) - self._sent
            if at > len(data) or (at == len(data) and fault.kind == "corrupt"):
                break
            self._to_come.pop(0)
            if fault.kind == "corrupt":
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                continue
            await self._give(data[:at], more=True)
            data = data[at:]
            await self._strike(fault)
        await self._give(data, more=more)

    async def _strike(self, fault: Fault) -> None:
        if fault.kind == "stall":
            await self._pause(fault.seconds)
            return
        if fault.kind == "truncate_hidden":
            await self._give(b"", more=False)
        elif fault.kind == "reset":
            await self._wire.reset()
        else:
            await self._wire.close()
        raise Disconnected

    async def _give(self, data: bytes, *, more: bool) -> None:
        self._sent += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _pause(self, seconds: float | None) -> None:
        """Let time pass (None: for ever); raises Disconnected when the client leaves."""
        gone = asyncio.ensure_future(self._wire.wait_gone())
        rest = asyncio.ensure_future(self._clock.sleep(math.inf if seconds is None else seconds))
        try:
            await asyncio.wait({gone, rest}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            rest.cancel()
        if self._wire.is_gone:
            raise Disconnected


def _page(status: int) -> bytes:
    title = _PAGES.get(status, f"HTTP Status {status}")
    return (
        f"<!DOCTYPE html><html><head><title>{title}</title></head>"
        f"<body><h1>{title}</h1></body></html>\n"
    ).encode()
