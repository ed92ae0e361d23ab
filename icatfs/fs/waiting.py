"""Requests that wait, and the two things that end a wait early: a signal, and the end of the mount.

FUSE tells nobody that a waiting program got a signal, and a program whose request has been taken
up by us sleeps until we answer, SIGKILL or not. So whoever waits for the facility does it inside
`Waits.waiting`, and one task looks every 200 ms whether the programs that wait have a signal to
handle. Where they have, the wait ends with `Interrupted`. When the mount ends, all waits end with
`ShuttingDown`: the kernel's loop returns only when every request has been answered.

Invariant: ``_waits`` holds exactly the waits that are inside their ``with`` block.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from icatfs.errors import IcatfsError, Interrupted, OpenerGone, ShuttingDown, ToldToEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.fs.ports import CallerProbe

_AT_ONCE = 32


class _Wait:
    """One wait; ``pid`` 0 stands for one that no signal ends."""

    __slots__ = ("is_mortal", "pid", "reason", "scope")

    def __init__(self, pid: int, *, is_mortal: bool) -> None:
        self.pid = pid
        self.is_mortal = is_mortal
        self.scope = trio.CancelScope()
        self.reason: IcatfsError | None = None

    def end(self, reason: IcatfsError) -> None:
        if self.reason is None:
            self.reason = reason
            self.scope.cancel()


class Waits:
    """All waits of one mount."""

    def __init__(self, probe: CallerProbe, interval_s: float = 0.2) -> None:
        # given
        self._probe = probe
        self._interval_s = interval_s
        # mutable
        self._waits: set[_Wait] = set()
        self._somebody = trio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waits)

    @property
    def closed(self) -> bool:
        """Whether the mount is ending."""
        return self._closed

    @contextmanager
    def waiting(self, pid: int = 0, *, is_mortal: bool = False) -> Iterator[None]:
        """Wait in this block on behalf of a thread or process; 0 where signals must not end it.

        A wait that ``is_mortal`` ends with `OpenerGone` when the process has ended: a killed
        program leaves at once, but its request stays, and the kernel tells us nothing of it.
        Raises `Interrupted` or `ShuttingDown` when the block was ended early; what it awaited was
        then cancelled. A block that finished nevertheless counts as finished.
        """
        if self._closed:
            raise _shutting_down()
        wait = _Wait(pid, is_mortal=is_mortal)
        self._waits.add(wait)
        self._somebody.set()
        try:
            with wait.scope:
                yield
        finally:
            self._waits.discard(wait)
        if wait.scope.cancelled_caught and wait.reason is not None:
            raise wait.reason

    def check(self, pid: int) -> None:
        """Raises `Interrupted` when the process has a signal to handle right now."""
        reason = self._reason(pid)
        if reason is not None:
            raise reason

    def end_all(self) -> None:
        """End every wait, now and from now on, with `ShuttingDown`."""
        self._closed = True
        for wait in self._waits:
            wait.end(_shutting_down())

    async def watch(self) -> None:
        """Look after those who wait, for ever."""
        while True:
            await self._somebody.wait()
            await trio.sleep(self._interval_s)
            await self._look()
            if not self._waits:
                self._somebody = trio.Event()

    async def _look(self) -> None:
        """A look at each process, a few at a time: those who do not wait must not notice."""
        pids = {wait.pid for wait in self._waits}
        mortals = {wait.pid for wait in self._waits if wait.is_mortal}
        stopped = dict[int, Interrupted]()
        for number, pid in enumerate(pids):
            if number % _AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            reason = self._reason(pid)
            if reason is None and pid in mortals and pid > 0 and self._probe.is_gone(pid):
                reason = OpenerGone("the program that opened the file has ended")
            if reason is not None:
                stopped[pid] = reason
        for wait in self._waits:
            if wait.pid in stopped and (
                wait.is_mortal or not isinstance(stopped[wait.pid], OpenerGone)
            ):
                wait.end(copy.copy(stopped[wait.pid]))

    def _reason(self, pid: int) -> Interrupted | None:
        """Why a program is not to wait any longer."""
        if pid <= 0 or not self._probe.must_stop(pid):
            return None
        if self._probe.must_end(pid):
            return ToldToEnd("the program that waited was told to end")
        return Interrupted("the program that waited has a signal to handle")


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the mount is being taken down; mount it again to go on")
