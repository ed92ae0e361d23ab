"""Take the kernel's requests without a detour where the next one is there already.

pyfuse3 (3.5) takes each request under a lock, and waits before it until there is one; both let the
event loop turn once, which takes longer than to answer a small request. Here it turns every few
requests, so that other tasks run, and whenever there is no request: a small write or read takes the
daemon three fifths of the time (docs/performance.md).

pyfuse3 looks trio up in a place of its own, where `pyfuse3.asyncio` puts something else, too.
"""

from __future__ import annotations

import select
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pyfuse3
import trio

if TYPE_CHECKING:
    from types import TracebackType

_IN_A_ROW = 8
"""Requests after which the other tasks have their turn."""


class TurnTaking:
    """A lock as `trio.Lock`, that lets the event loop turn only now and then if it is free."""

    def __init__(self) -> None:
        # constant
        self._lock = trio.Lock()
        # mutable: how often it was taken
        self._count = 0

    async def __aenter__(self) -> None:
        self._count += 1
        if self._count % _IN_A_ROW and not self._lock.locked():
            self._lock.acquire_nowait()
        else:
            await self._lock.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


async def wait_readable(descriptor: int) -> None:
    """As `trio.lowlevel.wait_readable`; the event loop does not turn if it is readable now."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(0):
        await trio.lowlevel.wait_readable(descriptor)


def hasten() -> None:
    """Have pyfuse3 take requests like this; before `pyfuse3.main`."""
    lowlevel = {**vars(trio.lowlevel), "wait_readable": wait_readable}
    ours = {"Lock": TurnTaking, "lowlevel": SimpleNamespace(**lowlevel)}
    vars(pyfuse3)["trio"] = SimpleNamespace(**{**vars(trio), **ours})
