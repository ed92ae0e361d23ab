"""The REST face of the data service: endpoints, parameters, content types, errors.

Everything is as ids.server 2.1.1 in its container answers: wrong methods and media types are 500,
an error has the content type of its endpoint, and 400, 500, 501 and 503 close the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.exchange import FORM, Answer, Disconnected, Exchange, compact_json
from icatfs.facility.getdata import BINARY
from icatfs.facility.icaterror import IcatError
from icatfs.facility.idserrors import IdsError, internal, of_container, of_icat, unavailable
from icatfs.facility.storageunit import Request, StorageUnit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from icatfs.facility.exchange import App, Receive, Scope, Send
    from icatfs.facility.idscore import IdsCore

    Call = Callable[["IdsCore", Exchange], Awaitable[Answer | None]]

VERSION = "2.1.1"

_TEXT = "text/plain"
_JSON = "application/json"
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, DELETE, PUT"),
    (b"access-control-allow-headers", b"Content-Type"),
]
_NO_LINKS = "Sorry getLink is not available on this IDS installation"
_NOT_A_FORM = (
    "class java.lang.IllegalStateException The @FormParam is utilized when the content type of the"
    " request entity is not application/x-www-form-urlencoded"
)
_WADL = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    '<application xmlns="http://wadl.dev.java.net/2009/02"><resources base="{base}/">'
    '<resource path="{name}"><method id="{name}" name="{method}"/></resource>'
    "</resources></application>"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One call: its method, the content type of its answers, and what answers."""

    method: str
    content_type: str
    call: Call


def ids_app(core: IdsCore, prefix: str = "/ids") -> App:
    """The service as an ASGI application; paths begin with ``prefix``."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_cors(message: Scope) -> None:
            if message["type"] == "http.response.start" and not _is_page(message):
                message = message | {"headers": [*message["headers"], *_CORS]}  # type: ignore[operator]
            await send(message)

        exchange = Exchange(scope, receive, send_with_cors)
        name = str(scope["path"]).removeprefix(prefix).strip("/")
        try:
            await _serve(core, exchange, name)
        except Disconnected:
            return

    return app


def _is_page(message: Scope) -> bool:
    """The container's own pages lack what the application adds."""
    return (b"content-type", b"text/html") in message["headers"]


async def _serve(core: IdsCore, exchange: Exchange, name: str) -> None:
    content_type: str | None = None
    try:
        endpoint = _find(name, exchange.method)
        if exchange.method == "OPTIONS":
            await exchange.answer(_options(exchange, name, endpoint))
            return
        content_type = endpoint.content_type
        await _read_parameters(exchange, endpoint)
        answer = await endpoint.call(core, exchange)
    except IdsError as error:
        answer = _refusal(error, content_type)
    except IcatError as error:
        answer = _refusal(of_icat(error), content_type)
    if answer is not None:
        core.counters.sent(len(answer.body))
        await exchange.answer(answer)


def _find(name: str, method: str) -> Endpoint:
    if name not in ENDPOINTS:
        text = "Operation not implemented by this IDS server."
        raise IdsError("NOT_IMPLEMENTED", text, typed=False)
    endpoint = ENDPOINTS[name]
    allowed = {endpoint.method, "OPTIONS"}
    if endpoint.method == "GET":
        allowed.add("HEAD")
    if name == "put" and method == "POST":
        return POST_OF_PUT
    if method not in allowed:
        raise of_container("NotAllowedException", "HTTP 405 Method Not Allowed")
    return endpoint


async def _read_parameters(exchange: Exchange, endpoint: Endpoint) -> None:
    if not _accepts(exchange.header("accept"), endpoint.content_type):
        raise of_container("NotAcceptableException", "HTTP 406 Not Acceptable")
    media_type = _media_type(exchange)
    if endpoint.method in {"GET", "DELETE"}:
        exchange.read_query()
    elif endpoint.method == "PUT":
        exchange.read_query()
        if media_type not in {None, BINARY}:
            await exchange.swallow()
            raise _unsupported()
    elif endpoint is POST_OF_PUT:
        if media_type != "multipart/form-data":
            await exchange.swallow()
            raise _unsupported()
    else:
        if media_type not in {None, FORM}:
            await exchange.swallow()
            raise _unsupported()
        await exchange.read_form()
        if media_type is None:
            raise internal(_NOT_A_FORM)


def _unsupported() -> IdsError:
    return of_container("NotSupportedException", "HTTP 415 Unsupported Media Type")


def _media_type(exchange: Exchange) -> str | None:
    header = exchange.header("content-type")
    return None if header is None else header.partition(";")[0].strip().lower()


def _accepts(header: str | None, content_type: str) -> bool:
    if header is None:
        return True
    wanted = {part.partition(";")[0].strip() for part in header.split(",")}
    return bool(wanted & {"*/*", "*", content_type, content_type.partition("/")[0] + "/*"})


def _refusal(error: IdsError, content_type: str | None) -> Answer:
    headers = (("connection", "close"),) if error.closes else ()
    body = compact_json({"code": error.code, "message": error.message})
    return Answer(error.status, body, content_type if error.typed else None, headers)


def _options(exchange: Exchange, name: str, endpoint: Endpoint) -> Answer:
    methods = "HEAD,GET,OPTIONS" if endpoint.method == "GET" else f"{endpoint.method},OPTIONS"
    base = f"{exchange.scope['scheme']}://{exchange.header('host')}/ids"
    page = _WADL.format(base=base, name=name, method=endpoint.method).encode()
    headers = (("allow", methods), ("last-modified", "Thu, 01 Jan 1970 00:00:00 UTC"))
    return Answer(200, page, "application/vnd.sun.wadl+xml", headers)


def _text(value: str | bool | int) -> Answer:
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return Answer(200, shown.encode(), _TEXT)


_NOTHING = Answer(204)


async def _ping(core: IdsCore, exchange: Exchange) -> Answer:
    return _text("IdsOK")


async def _version(core: IdsCore, exchange: Exchange) -> Answer:
    return Answer(200, compact_json({"version": VERSION}), _JSON)


async def _icat_url(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.icat_url(exchange))


async def _is_read_only(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.config.read_only)


async def _is_two_level(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.config.unit is not StorageUnit.SINGLE)


async def _service_status(core: IdsCore, exchange: Exchange) -> Answer:
    return Answer(200, core.service_status(exchange.parameters.get("sessionId")), _JSON)


async def _size(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.size(exchange.parameters))


async def _status(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.status(exchange.parameters))


async def _datafile_ids(core: IdsCore, exchange: Exchange) -> Answer:
    return Answer(200, core.datafile_ids(exchange.parameters), _JSON)


async def _get_data(core: IdsCore, exchange: Exchange) -> None:
    await core.data.get(exchange)


async def _prepare(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.prepare(exchange.parameters))


async def _is_prepared(core: IdsCore, exchange: Exchange) -> Answer:
    return _text(core.is_prepared(exchange.parameters))


async def _put(core: IdsCore, exchange: Exchange) -> Answer:
    return Answer(201, await core.data.put(exchange), _JSON)


async def _put_form(core: IdsCore, exchange: Exchange) -> Answer:
    stored = await core.data.put_form(exchange)
    return _NOTHING if stored is None else Answer(201, stored, _JSON)


async def _delete(core: IdsCore, exchange: Exchange) -> Answer:
    core.data.delete(exchange.parameters)
    return _NOTHING


async def _archive(core: IdsCore, exchange: Exchange) -> Answer:
    core.archive_or_restore(exchange.parameters, Request.ARCHIVE)
    return _NOTHING


async def _restore(core: IdsCore, exchange: Exchange) -> Answer:
    core.archive_or_restore(exchange.parameters, Request.RESTORE)
    return _NOTHING


async def _write(core: IdsCore, exchange: Exchange) -> Answer:
    core.write(exchange.parameters)
    return _NOTHING


async def _reset(core: IdsCore, exchange: Exchange) -> Answer:
    core.reset(exchange.parameters)
    return _NOTHING


async def _get_link(core: IdsCore, exchange: Exchange) -> Answer:
    raise unavailable(_NO_LINKS)


POST_OF_PUT = Endpoint("POST", _JSON, _put_form)
ENDPOINTS = {
    "ping": Endpoint("GET", _TEXT, _ping),
    "version": Endpoint("GET", _JSON, _version),
    "getIcatUrl": Endpoint("GET", _TEXT, _icat_url),
    "isReadOnly": Endpoint("GET", _TEXT, _is_read_only),
    "isTwoLevel": Endpoint("GET", _TEXT, _is_two_level),
    "getServiceStatus": Endpoint("GET", _JSON, _service_status),
    "getSize": Endpoint("GET", _TEXT, _size),
    "getStatus": Endpoint("GET", _TEXT, _status),
    "getDatafileIds": Endpoint("GET", _JSON, _datafile_ids),
    "getData": Endpoint("GET", BINARY, _get_data),
    "prepareData": Endpoint("POST", _TEXT, _prepare),
    "isPrepared": Endpoint("GET", _TEXT, _is_prepared),
    "put": Endpoint("PUT", _JSON, _put),
    "delete": Endpoint("DELETE", _TEXT, _delete),
    "archive": Endpoint("POST", _TEXT, _archive),
    "restore": Endpoint("POST", _TEXT, _restore),
    "write": Endpoint("POST", _TEXT, _write),
    "reset": Endpoint("POST", _TEXT, _reset),
    "getLink": Endpoint("POST", _TEXT, _get_link),
}
