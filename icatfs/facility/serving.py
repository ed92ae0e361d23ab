"""One ASGI application over HTTP: uvicorn with httptools and uvloop, ended by SIGTERM.

Differs from ``uvicorn.run``: the address is known before anything is served, readiness is reported
to a callback, and a signal ends ``serve`` normally, so that temporary files are removed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from icatfs.facility.wire import WireProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IDLE_S = 30
"""How long a connection may be idle (icat.server 6.2.1: 30 s)."""

_GRACE_STEP_S = 0.02
_GRACE_STEPS = 25
"""How often to look whether the answers being sent are complete, once the end has begun."""
_CANCEL_S = 5
"""After that, how long the tasks of cut connections may take."""
_BACKLOG = 1024


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in tuple(self.server_state.connections):
            connection.shutdown()
        for _ in range(_GRACE_STEPS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(_GRACE_STEP_S)
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)


def listen(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


class Service:
    """An application to be served on one socket; ``stop`` may be called from any thread."""

    def __init__(self, app: Any, listener: socket.socket, **options: Any) -> None:
        self._listener = listener
        self._ready: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        settings: dict[str, Any] = {
            "http": WireProtocol,
            "ws": "none",
            "lifespan": "off",
            "backlog": _BACKLOG,
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "timeout_keep_alive": IDLE_S,
            "proxy_headers": False,
            "timeout_graceful_shutdown": _CANCEL_S,
        }
        self._server = _Server(uvicorn.Config(app, **settings | options), lambda: self._ready())

    def run(self, on_ready: Callable[[], None], *, until_eof: bool = False) -> None:
        """Serve until ``stop`` or, in the main thread, until SIGTERM or SIGINT.

        With ``until_eof``, also until standard input ends.
        """
        self._ready = on_ready
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(self._serve(until_eof))

    def stop(self) -> None:
        """Make ``run`` return soon; streams that are still open are cut."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._server.should_exit = True

    async def _serve(self, until_eof: bool) -> None:
        loop = self._loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._end)
        if until_eof:
            loop.add_reader(sys.stdin.fileno(), self._read_input)
        await self._server.serve(sockets=[self._listener])

    def _read_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            assert self._loop is not None
            self._loop.remove_reader(sys.stdin.fileno())
            self._end()


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
