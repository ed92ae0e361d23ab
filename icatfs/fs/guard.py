"""A brake for ``rm -r``: so many stored files a minute, and then no more.

In mode ``rw`` whatever ICAT's rules allow can be removed, and people who own a visit own all of it.
A command that was meant for another folder must not take years of data along: who means it says so
when mounting. What this mount made itself is not counted.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

from icatfs.errors import NotPermitted

if TYPE_CHECKING:
    from collections.abc import Callable

_MINUTE_S = 60.0
OF_A_PROCESS = 10
"""Deletions of one process in a minute."""
OF_ALL = 100
"""And of all processes: ``xargs`` and ``find -exec`` start many."""


class DeletionGuard:
    """Counts the deletions of one mount; ``unlimited`` counts none.

    Invariant: ``_times`` has the latest attempts of each process, refused ones included, so that
    a process that goes on trying is not let through later.
    """

    def __init__(self, *, unlimited: bool, clock: Callable[[], float] = trio.current_time) -> None:
        # given
        self._unlimited = unlimited
        self._clock = clock
        # mutable
        self._times: dict[int, deque[float]] = {}
        self._allowed: deque[float] = deque(maxlen=OF_ALL)

    def check(self, process: int, name: str) -> None:
        """NotPermitted where a process has removed as much as it may for now."""
        if self._unlimited:
            return
        now = self._clock()
        self._forget(now)
        mine = self._times.setdefault(process, deque(maxlen=OF_A_PROCESS))
        too_many = len(mine) == OF_A_PROCESS or (
            len(self._allowed) == OF_ALL and now - self._allowed[0] < _MINUTE_S
        )
        mine.append(now)
        if too_many:
            raise NotPermitted(
                f"cannot remove {name!r}: more than {OF_A_PROCESS} stored files a minute are not "
                "removed by one program (nor more than "
                f"{OF_ALL} by all); mount with --allow-recursive-delete if you mean it"
            )
        self._allowed.append(now)

    def _forget(self, now: float) -> None:
        for process, times in list(self._times.items()):
            while times and now - times[0] >= _MINUTE_S:
                times.popleft()
            if not times:
                del self._times[process]
