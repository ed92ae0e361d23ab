"""How a transport is made, and its connections closed."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from icatfs import __version__
from icatfs.mover.mover import open_mover
from icatfs.transport.admission import Limits
from icatfs.transport.client import Transport
from icatfs.transport.stream import SILENCE_S
from icatfs.transport.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

_CLOSE_S = 2.0


@asynccontextmanager
async def open_transport(
    *,
    user_agent: str | None = None,
    ca_file: Path | None = None,
    insecure: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    unreachable_s: float = 10.0,
    silence_s: float = SILENCE_S,
    answer_s: float | None = None,
    http: httpx.AsyncBaseTransport | None = None,
    moves: bool = True,
) -> AsyncIterator[Transport]:
    """A transport whose connections are closed at the end.

    ``unreachable_s`` is the patience with a server that does not answer at all, ``silence_s`` with
    one that stops in the middle of a body, ``answer_s`` with one that takes a request and does not
    answer (None: what each may need of a stock server); ``http`` stands in for the network. Without
    ``moves`` no process of its own brings bodies. ConfigError.
    """
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    tls = tls_context(ca_file, insecure=insecure)
    async with AsyncExitStack() as stack:
        mover = None
        if http is None and moves:
            mover = await stack.enter_async_context(open_mover(ca_file=ca_file, insecure=insecure))
        transport = Transport(
            limits=limits,
            unreachable_s=unreachable_s,
            user_agent=user_agent or f"icatfs/{__version__} (+ICAT as a file system)",
            tls=tls,
            silence_s=silence_s,
            answer_s=answer_s,
            http=http,
            mover=mover,
        )
        try:
            yield transport
        finally:
            with trio.move_on_after(_CLOSE_S) as scope:
                scope.shield = True
                await transport.aclose()
