"""Servers inside the test process, and the replay of recorded exchanges against them."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from support.replay import Replay

from icatfs.facility.serving import Service, listen

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_S = 20.0


class ServeApp(Protocol):
    """The fixture ``serve_app``."""

    def __call__(self, app: Any) -> str:
        """Serve an ASGI application until the test ends; returns its URL without a final slash."""


@pytest.fixture(scope="session")
def serve_app_for_session() -> Iterator[ServeApp]:
    """``serve_app`` for fixtures that live longer than a test."""
    with ExitStack() as stack:
        yield _server_starter(stack)


@pytest.fixture
def serve_app() -> Iterator[ServeApp]:
    """Serves ASGI applications on threads of their own."""
    with ExitStack() as stack:
        yield _server_starter(stack)


@pytest.fixture
def replay() -> type[Replay]:
    """The replay engine: ``replay(url, advance=clock.advance, ...).run(steps)``."""
    return Replay


def _server_starter(stack: ExitStack) -> ServeApp:
    def start(app: Any) -> str:
        listener = listen(0)
        service = Service(app, listener)
        ready = threading.Event()
        thread = threading.Thread(target=service.run, args=(ready.set,), daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(service.stop)
        assert ready.wait(_START_S), "the server did not start"
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    return start
