"""The REST face of the catalogue: paths, parameters, content types, refusals.

As icat.server 6.2.1 in its container answers: void calls give 204 without a body, unknown paths
501, wrong methods and media types 500, and 400, 500 and 501 close the connection.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from icatfs.facility.core import VERSION
from icatfs.facility.entityjson import Target, targets
from icatfs.facility.exchange import (
    FORM,
    Answer,
    Disconnected,
    Exchange,
    compact_json,
    parse_parameters,
)
from icatfs.facility.icaterror import IcatError, Stumbled, bad
from icatfs.facility.javajson import JsonProblem, read
from icatfs.facility.model import ENTITIES

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
_HTML = "text/html;charset=ISO-8859-1"
_SERVER_ERROR = b"<html><head><title>500</title></head><body><h1>Server Error</h1></body></html>"
_STRANGE = re.compile(rb"%2[fF]|%(?![0-9a-fA-F]{2})")
_NO_FORM = "jakarta.ws.rs.NotSupportedException HTTP 415 Unsupported Media Type"
_NO_MEDIA_TYPE = (
    "java.lang.IllegalStateException The @FormParam is utilized when the content type of the"
    " request entity is not application/x-www-form-urlencoded"
)
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

        page = _container_page(scope, prefix)
        exchange = Exchange(scope, receive, send if page else send_with_cors)
        path = str(scope["path"]).removeprefix(prefix).strip("/")
        try:
            await exchange.answer(page or await _answer(icat, exchange, path))
        except Disconnected:
            return

    return app


def _container_page(scope: Scope, prefix: str) -> Answer | None:
    """What the container answers by itself."""
    if scope["path"] == prefix:
        return _moved(dict(scope["headers"]).get(b"host", b"").decode("latin-1"), prefix)
    if _STRANGE.search(scope.get("raw_path") or b""):
        return Answer(500, _SERVER_ERROR, _HTML, (("connection", "close"),))
    return None


def _moved(host: str, prefix: str) -> Answer:
    where = f"http://{host}{prefix}/"
    lines = (
        "<html>",
        "<head><title>Document moved</title></head>",
        "<body><h1>Document moved</h1>",
        f'This document has moved <a href="{where}">here</a>.<p>',
        "</body>",
        "</html>",
        "",
    )
    headers = (("location", where), ("content-language", "en"))
    return Answer(301, "\r\n".join(lines).encode(), _HTML, headers)


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
            raise Stumbled("jakarta.ws.rs.NotAllowedException HTTP 405 Method Not Allowed")
        await _read_parameters(exchange)
        return await call(icat, exchange, found.groups())
    text = "Operation not implemented by this ICAT server."
    raise IcatError("NOT_IMPLEMENTED", 501, text)


async def _read_parameters(exchange: Exchange) -> None:
    accept = exchange.header("accept")
    if accept is not None and not re.search(r"\*/\*|application/(\*|json)", accept):
        raise Stumbled("jakarta.ws.rs.NotAcceptableException HTTP 406 Not Acceptable")
    if exchange.method != "POST":
        exchange.read_query()
        return
    media_type = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type != FORM:
        await exchange.swallow()
        raise Stumbled(_NO_FORM if media_type else _NO_MEDIA_TYPE)
    await exchange.read_form()
    exchange.parameters = parse_parameters(exchange.scope["query_string"]) | exchange.parameters


async def _version(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    return _json({"version": VERSION})


async def _properties(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    return _json(icat.core.properties())


async def _log_in(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    text = exchange.parameters.get("json")
    if text is None:
        raise bad("json must not be null")
    try:
        told = read(text)
    except JsonProblem as problem:
        raise Stumbled(f"{problem.java} {problem.message}") from problem
    if isinstance(told, list | str):
        cause = 'Cannot invoke "String.equals(Object)" because "key" is null'
        raise Stumbled(f"java.lang.NullPointerException {cause}")
    wish = told if isinstance(told, dict) else {}
    session = icat.core.sessions.log_in(wish.get("plugin"), _credentials(wish.get("credentials")))
    icat.counters.login()
    return _json({"sessionId": session})


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
        raise bad("query is not set")
    user = icat.core.user(exchange.parameters.get("sessionId"))
    row_id = exchange.parameters.get("id")
    if row_id:
        return _json(icat.core.get(user, query, _long(row_id, "Query", "404 Not Found")))
    rows = icat.core.search(user, query)
    icat.counters.query(len(rows))
    return _json(rows)


async def _write(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    user = icat.core.user(exchange.parameters.get("sessionId"))
    return _json(icat.core.write(user, _read_json(exchange, "entities", offset=0)))


async def _delete(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    wanted = targets(_read_json(exchange, "entities", offset=None))
    icat.core.delete(icat.core.user(exchange.parameters.get("sessionId")), wanted)
    return _NO_CONTENT


async def _clone(icat: Icat, exchange: Exchange, path: tuple[str, ...]) -> Answer:
    row_id = _long(exchange.parameters.get("id", "0"), "Form", "400 Bad Request")
    user = icat.core.user(exchange.parameters.get("sessionId"))
    name = exchange.parameters.get("name")
    if name is None:
        raise bad("name is not set")
    if name not in ENTITIES:
        raise bad(f"{name} is not an ICAT entity")
    keys = _read_json(exchange, "keys", offset=None)
    if not isinstance(keys, dict):
        raise Stumbled("java.lang.ClassCastException keys are no object")
    return _json({"id": icat.core.clone(user, Target(name, row_id), keys)})


def _read_json(exchange: Exchange, name: str, offset: int | None) -> Any:
    text = exchange.parameters.get(name)
    if text is None:
        raise bad(f"{name} is not set")
    try:
        return read(text)
    except JsonProblem as problem:
        raise bad(f"{problem.message} in json {text}", offset) from problem


def _long(text: str, kind: str, told: str) -> int:
    """A parameter that must be a 64-bit number."""
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) and -(1 << 63) <= int(text) < 1 << 63:
        return int(text)
    java = f"org.glassfish.jersey.server.ParamException${kind}ParamException"
    raise Stumbled(f"{java} HTTP {told}")


def _json(value: object) -> Answer:
    return Answer(200, compact_json(value), _JSON)


ROUTES: tuple[tuple[re.Pattern[str], dict[str, Call]], ...] = (
    (re.compile("version"), {"GET": _version}),
    (re.compile("properties"), {"GET": _properties}),
    (re.compile("session"), {"POST": _log_in}),
    (re.compile("session/([^/]+)"), {"GET": _session, "PUT": _refresh, "DELETE": _log_out}),
    (re.compile("user/([^/]+(?:/[^/]+)?)"), {"GET": _is_logged_in}),
    (re.compile("entityManager"), {"GET": _search, "POST": _write, "DELETE": _delete}),
    (re.compile("cloner"), {"POST": _clone}),
)
