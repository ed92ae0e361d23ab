"""The side of the facility that no real one has: counters, names, tape, faults, time, content.

==============================  ===============================================================
``GET counters``                one JSON object: see ``icatfs.facility.counters``
``POST counters/reset``         begin from zero
``GET names?datasetId=N``       every name that a datafile of it was given: a JSON list
``POST archive``, ``restore``   form ``datasetIds``, ``datafileIds``: at once and uncounted
``POST faults``                 JSON ``{"add": [...], "clear": false}``: see ``faults``
``POST clock``                  JSON ``{"advance": seconds}``
``GET content?datafileId=N``    the true bytes, wherever they are
==============================  ===============================================================

All below ``/_facility``. A request that makes no sense is answered with 400 and a sentence.
"""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from icatfs.facility.chronicle import Chronicle
from icatfs.facility.clock import Clock
from icatfs.facility.counters import Counters
from icatfs.facility.storage import Missing, Storage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request


PREFIX = "/_facility"


class Tape(Protocol):
    """What moves data between disk and tape."""

    def put_on_tape(self, datasets: Sequence[int], datafiles: Sequence[int]) -> None:
        """Archive these now."""

    def bring_online(self, datasets: Sequence[int], datafiles: Sequence[int]) -> None:
        """Restore these now."""

    def settle(self) -> None:
        """Let happen what would have happened by now."""


class FaultSwitch(Protocol):
    """What misbehaves on request."""

    def change(self, add: Sequence[Mapping[str, Any]], *, clear: bool) -> None:
        """Switch faults on, after clearing the old ones if asked; ValueError says what is wrong."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the control side controls."""

    counters: Counters
    chronicle: Chronicle
    tape: Tape
    faults: FaultSwitch
    clock: Clock
    storage: Storage


def control_app(parts: Parts) -> Starlette:
    """The control side as an application that is served below ``PREFIX``."""
    side = _Control(parts)
    handlers: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
        "/counters": ("GET", side.counters),
        "/counters/reset": ("POST", side.reset_counters),
        "/names": ("GET", side.names),
        "/archive": ("POST", side.archive),
        "/restore": ("POST", side.restore),
        "/faults": ("POST", side.faults),
        "/clock": ("POST", side.clock),
        "/content": ("GET", side.content),
    }
    return Starlette(
        routes=[
            Route(PREFIX + path, handler, methods=[method])
            for path, (method, handler) in handlers.items()
        ],
        exception_handlers={ValueError: _bad_request, Missing: _bad_request},
    )


async def _bad_request(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), status_code=400)


class _Control:
    """The handlers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def counters(self, request: Request) -> Response:
        self._parts.tape.settle()
        return JSONResponse(self._parts.counters.as_json())

    async def reset_counters(self, request: Request) -> Response:
        self._parts.counters.reset()
        return Response(status_code=204)

    async def names(self, request: Request) -> Response:
        (dataset,) = _ids(request.query_params.get("datasetId", "")) or (0,)
        return JSONResponse(self._parts.chronicle.names(dataset))

    async def archive(self, request: Request) -> Response:
        self._parts.tape.put_on_tape(*await _selection(request))
        return Response(status_code=204)

    async def restore(self, request: Request) -> Response:
        self._parts.tape.bring_online(*await _selection(request))
        return Response(status_code=204)

    async def faults(self, request: Request) -> Response:
        told = await _json_object(request)
        self._parts.faults.change(told.get("add", []), clear=bool(told.get("clear", False)))
        return Response(status_code=204)

    async def clock(self, request: Request) -> Response:
        seconds = (await _json_object(request)).get("advance")
        if not isinstance(seconds, int | float):
            raise ValueError('the clock wants {"advance": seconds}')
        self._parts.clock.advance(seconds)
        return Response(status_code=204)

    async def content(self, request: Request) -> Response:
        (datafile,) = _ids(request.query_params.get("datafileId", "")) or (0,)
        return Response(
            self._parts.storage.content(datafile), media_type="application/octet-stream"
        )


async def _json_object(request: Request) -> dict[str, Any]:
    told = json.loads(await request.body())
    if not isinstance(told, dict):
        raise ValueError("a JSON object was expected")
    return told


async def _selection(request: Request) -> tuple[list[int], list[int]]:
    form = urllib.parse.parse_qs((await request.body()).decode())
    return _ids(form.get("datasetIds", [""])[0]), _ids(form.get("datafileIds", [""])[0])


def _ids(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip()]
