"""One request of an ASGI server and its answer, as the data service needs them."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from icatfs.facility.wire import wire_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from icatfs.facility.wire import Wire

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

FORM = "application/x-www-form-urlencoded"


class Disconnected(Exception):
    """The client is gone; nobody is left to be answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Exchange:
    """A request, and the way to answer it. ``parameters`` are those of query or form."""

    scope: Scope
    receive: Receive
    send: Send
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])

    @property
    def wire(self) -> Wire:
        """The connection."""
        return wire_of(self.scope)

    def header(self, name: str) -> str | None:
        """The first header of that (lower-case) name."""
        for key, value in self.scope["headers"]:
            if key == name.encode():
                return str(value.decode("latin-1"))
        return None

    def read_query(self) -> None:
        """Take the parameters from the query string; of one given twice the first counts."""
        self.parameters = parse_parameters(self.scope["query_string"])

    async def read_form(self) -> None:
        """Take the parameters from the body."""
        self.parameters = parse_parameters(b"".join([part async for part in self.body()]))

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it arrives; raises Disconnected when it breaks off."""
        while True:
            message = await self.receive()
            if message["type"] != "http.request":
                raise Disconnected
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def swallow(self) -> None:
        """Read and drop what is left of the body."""
        async for _ in self.body():
            pass

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the head of an answer."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})

    async def give(self, data: bytes, *, more: bool) -> None:
        """Send some of the body; raises Disconnected."""
        if self.wire.is_gone:
            raise Disconnected
        await self.send({"type": "http.response.body", "body": data, "more_body": more})
        await asyncio.sleep(0)  # else nobody hears of a client who takes all at once, and leaves

    async def answer(self, answer: Answer) -> None:
        """Send a whole answer."""
        headers = list(answer.headers)
        if answer.content_type is not None:
            headers.append(("content-type", answer.content_type))
        if answer.status != 204:
            headers.append(("content-length", str(len(answer.body))))
        await self.start(answer.status, headers)
        await self.send({"type": "http.response.body", "body": answer.body, "more_body": False})


def compact_json(value: object) -> bytes:
    """JSON without blanks, as the servers write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def parse_parameters(text: bytes) -> dict[str, str]:
    """Form-urlencoded parameters; of one given twice the first counts."""
    pairs = urllib.parse.parse_qsl(
        text.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace"
    )
    return dict(reversed(pairs))
