"""What a request is about, read without consuming it: for faults and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.exchange import FORM, parse_parameters
from icatfs.facility.selection import parse_long

if TYPE_CHECKING:
    from icatfs.facility.exchange import Receive, Scope


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its endpoint is the path without the first slash, as ``ids/getData``."""

    endpoint: str
    method: str
    parameters: Mapping[str, str]

    @property
    def text(self) -> str:
        """The query to the catalogue, or the entities to be written."""
        return " ".join(self.parameters.get(name, "") for name in ("query", "entities", "json"))

    @property
    def session(self) -> str | None:
        """The session id."""
        if self.endpoint.startswith("icat/session/"):
            return self.endpoint.removeprefix("icat/session/")
        return self.parameters.get("sessionId")

    @property
    def prepared(self) -> str | None:
        """The id of a prepared selection."""
        return self.parameters.get("preparedId")

    @property
    def datafiles(self) -> list[int]:
        """The datafiles that are named."""
        return self._ids("datafileIds")

    @property
    def datasets(self) -> list[int]:
        """The datasets that are named, be it as the target of a put."""
        return self._ids("datasetIds") + self._ids("datasetId")

    @property
    def investigations(self) -> list[int]:
        """The investigations that are named."""
        return self._ids("investigationIds")

    def _ids(self, name: str) -> list[int]:
        numbers = (parse_long(part.strip()) for part in self.parameters.get(name, "").split(","))
        return [number for number in numbers if number is not None]


async def ask(scope: Scope, receive: Receive, *, with_body: bool) -> tuple[Asked, Receive]:
    """What is asked, and a ``receive`` that still gives the whole body.

    Forms are read only if ``with_body``.
    """
    parameters = parse_parameters(scope["query_string"])
    headers = dict(scope["headers"])
    if with_body and headers.get(b"content-type", b"").startswith(FORM.encode()):
        body, receive = await _peek(receive)
        parameters = parse_parameters(body) | parameters
    return Asked(str(scope["path"]).strip("/"), str(scope["method"]), parameters), receive


async def _peek(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a ``receive`` that gives it again."""
    messages = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    body = b"".join(message.get("body", b"") for message in messages)
    waiting = iter(messages)

    async def again() -> Scope:
        message = next(waiting, None)
        return await receive() if message is None else message

    return body, again
