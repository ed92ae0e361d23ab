"""The facility's time: real time, which tests may push ahead.

Everything that lets time pass (sessions, the queue of the archive, faults that stall) reads this
clock, so that hours of a real facility fit in a test.
"""

from __future__ import annotations

import asyncio
import contextlib
import time


class Clock:
    """Wall-clock time plus what it was advanced by. ``advance`` may be called from any thread.

    A clock that is not ``running`` stands still between two calls of ``advance``.
    """

    def __init__(self, *, running: bool = True) -> None:
        # given
        self._stands_at = None if running else time.time()
        # mutable
        self._ahead_s = 0.0
        self._sleepers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return (time.time() if self._stands_at is None else self._stands_at) + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Jump ahead, at once and for good; whoever sleeps to a time now past wakes up."""
        if seconds < 0:
            raise ValueError("the clock of the facility only goes forward")
        self._ahead_s += seconds
        for loop, jumped in tuple(self._sleepers):
            loop.call_soon_threadsafe(jumped.set)

    async def sleep(self, seconds: float) -> None:
        """Return when that much time has passed on this clock; seconds may be infinite."""
        until = self.now() + seconds
        sleeper = (asyncio.get_running_loop(), asyncio.Event())
        self._sleepers.add(sleeper)
        try:
            while (left := until - self.now()) > 0:
                sleeper[1].clear()
                await _wait_up_to(sleeper[1], left if self._stands_at is None else float("inf"))
        finally:
            self._sleepers.discard(sleeper)


async def _wait_up_to(event: asyncio.Event, seconds: float) -> None:
    limit = None if seconds == float("inf") else seconds
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), limit)
