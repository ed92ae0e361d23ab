"""Servers that say on the wire what a test wants them to say."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Serve = Callable[[trio.abc.Stream], Awaitable[None]]


async def head(stream: trio.abc.Stream) -> bytes:
    """The head of one request, and what came with it of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = await stream.receive_some()
        if not piece:
            return b""
        data += bytes(piece)
    return data


@asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on a port of its own; ``serve`` deals with one connection."""

    async def handle(stream: trio.abc.Stream) -> None:
        try:
            async with stream:
                await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    host, listeners = "127.0.0.1", await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    if tls is None:
        serve_all = partial(trio.serve_listeners, handle, listeners)
    else:
        secure = [trio.SSLListener(one, tls, https_compatible=True) for one in listeners]
        serve_all = partial(trio.serve_listeners, handle, secure)
        host = "localhost"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_all)
        yield f"{'http' if tls is None else 'https'}://{host}:{port}"
        nursery.cancel_scope.cancel()
