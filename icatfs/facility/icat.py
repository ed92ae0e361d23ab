"""The REST face of the catalogue: paths, parameters, content types, refusals.

As icat.server 6.2.1 in its container answers: void calls give 204 without a body, unknown paths
501, wrong methods and media types 500, and 400, 500 and 501 close the connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from icatfs.facility.core import VERSION
from icatfs.facility.exchange import FORM, Answer, Disconnected, Exchange, compact_json
from icatfs.facility.icaterror import IcatError

if TYPE_CHECKING:
    from icatfs.facility.core import IcatCore
    from icatfs.facility.counters import Counters
    from icatfs.facility.exchange import App, Receive, Scope, Send

Call = Callable[["Icat", Exchange, tuple[str, ...]], Awaitable[Answer]]

_JSON = "application/json"
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, DELETE, PUT"),
]
_CLOSING = frozenset({400, 500, 501})
_NO_CONTENT = Answer(204)


class Icat:
    """What the calls work on."""

    def __init__(self, core: IcatCore, counters: Counters) -> None:
        self.core = core
        self.counters = counters


def icat_app(core: IcatCore, counters: Counters, prefix: str = "/icat") -> App:
    """The service as an ASGI application; paths begin with ``prefix``."""
    icat = Icat(core, counters)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_cors(message: Scope) -> None:
            if message["type"] == "http.response.start":
                message = message | {"headers": [*message["headers"], *_CORS]}  # type: ignore[operator]
            await send(message)

        exchange = Exchange(scope, receive, send_with_cors)
        path = str(scope["path"]).removeprefix(prefix).strip("/")
        counters.request(f"icat/{path.partition('/')[0]}")
        try:
            await exchange.answer(await _answer(icat, exchange, path))
        except Disconnected:
            return

    return app


async def _answer(icat: Icat, exchange: Exchange, path: str) -> Answer:
    try:
        return await _call(icat, exchange, path)
    except IcatError as error:
        plain = path.startswith("session/") and exchange.method in {"PUT", "DELETE"}
        typed = error.code != "NOT_IMPLEMENTED" and "jakarta.ws.rs.Not" not in error.message
        return _refusal(error, ("text/plain" if plain else _JSON) if typed else None)


def _refusal(error: IcatError, content_type: str | None) -> Answer:
    told: dict[str, object] = {"code": error.code, "message": error.message}
    if error.offset is not None:
        told["offset"] = error.offset
    closing = (("connection", "close"),) if error.http in _CLOSING else ()
    return Answer(error.http, compact_json(told), content_type, closing)


async def _call(icat: Icat, exchange: Exchange, path: str) -> Answer:
    for pattern, calls in ROUTES:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        method = "GET" if exchange.method == "HEAD" else exchange.method
        call = calls.get(method)
        if call is None:
            raise _internal("jakarta.ws.rs.NotAllowedException HTTP 405 Method Not Allowed")
        await _read_parameters(exchange)
        return await call(icat, exchange, found.groups())
    text = "Operation not implemented by this ICAT server."
    raise IcatError("NOT_IMPLEMENTED", 501, text)


async def _read_parameters(exchange: Exchange) -> None:
    accept = exchange.header("accept")
    if accept is not None and not re.search(r"\*/\*|application/(\*|json)", accept):
        raise _internal("jakarta.ws.rs.NotAcceptableException HTTP 406 Not Acceptable")
    if exchange.method != "POST":
        exchange.read_query()
        return
    media_type = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type != FORM:
        await exchange.swallow()
        raise _internal("jakarta.ws.rs.NotSupportedException HTTP 415 Unsupported Media Type")
    await exchange.read_form()


async def _version(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    return _json({"version": VERSION})


async def _properties(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    return _json(icat.core.properties())


async def _log_in(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    text = exchange.parameters.get("json")
    if text is None:
        raise IcatError("BAD_PARAMETER", 400, "json must not be null")
    told = _parsed(text)
    if not isinstance(told, dict):
        raise _internal("java.lang.ClassCastException")
    session = icat.core.sessions.log_in(told.get("plugin"), _credentials(told.get("credentials")))
    icat.counters.login()
    return _json({"sessionId": session})


def _parsed(text: str) -> Any:
    if len(text) < 2:
        raise _internal("jakarta.json.JsonException Cannot auto-detect encoding, not enough chars")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        code = ord(text[error.pos]) if error.pos < len(text) else -1
        place = f"(line no={error.lineno}, column no={error.colno}, offset={error.pos})"
        raise _internal(
            f"jakarta.json.stream.JsonParsingException Unexpected char {code} at {place}"
        ) from error


def _credentials(told: object) -> dict[str, str]:
    """Only a list of objects counts, and only strings in it."""
    pairs = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return {key: text for one in pairs for key, text in one.items() if isinstance(text, str)}


async def _session(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    sessions = icat.core.sessions
    user = sessions.user(path[0])
    return _json({"userName": user, "remainingMinutes": sessions.remaining_minutes(path[0])})


async def _refresh(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    icat.core.sessions.refresh(path[0])
    return _NO_CONTENT


async def _log_out(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    icat.core.sessions.log_out(path[0])
    return _NO_CONTENT


async def _is_logged_in(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    return _json({"loggedIn": icat.core.sessions.is_logged_in(path[0])})


async def _search(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    query = exchange.parameters.get("query")
    if query is None:
        raise IcatError("BAD_PARAMETER", 400, "query is not set")
    user = icat.core.user(exchange.parameters.get("sessionId"))
    row_id = exchange.parameters.get("id")
    if row_id:
        if not re.fullmatch(r"[+-]?[0-9]+", row_id):
            text = "org.glassfish.jersey.server.ParamException$QueryParamException"
            raise _internal(f"{text} HTTP 404 Not Found")
        return _json(icat.core.get(user, query, int(row_id)))
    rows = icat.core.search(user, query)
    icat.counters.query(len(rows))
    return _json(rows)


async def _write(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    user = icat.core.user(exchange.parameters.get("sessionId"))
    return _json(icat.core.write(user, _entities(exchange, write=True)))


async def _delete(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    entities = _entities(exchange, write=False)
    icat.core.delete(icat.core.user(exchange.parameters.get("sessionId")), entities)
    return _NO_CONTENT


def _entities(exchange: Exchange, *, write: bool) -> Any:
    text = exchange.parameters.get("entities")
    if text is None:
        raise IcatError("BAD_PARAMETER", 400, "entities is not set")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        code = ord(text[error.pos]) if error.pos < len(text) else -1
        place = f"(line no={error.lineno}, column no={error.colno}, offset={error.pos})"
        message = f"Unexpected char {code} at {place} in json {text}"
        raise IcatError("BAD_PARAMETER", 400, message, 0 if write else None) from error


def _json(value: object) -> Answer:
    return Answer(200, compact_json(value), _JSON)


def _internal(text: str) -> IcatError:
    return IcatError("INTERNAL", 500, f"class {text}")


ROUTES: tuple[tuple[re.Pattern[str], dict[str, Call]], ...] = (
    (re.compile("version"), {"GET": _version}),
    (re.compile("properties"), {"GET": _properties}),
    (re.compile("session"), {"POST": _log_in}),
    (re.compile("session/([^/]+)"), {"GET": _session, "PUT": _refresh, "DELETE": _log_out}),
    (re.compile("user/([^/]+(?:/[^/]+)?)"), {"GET": _is_logged_in}),
    (re.compile("entityManager"), {"GET": _search, "POST": _write, "DELETE": _delete}),
)
