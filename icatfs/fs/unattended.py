"""Actions that are carried out to their end, also when whoever asked for them has gone.

What changes names in several places at once cannot stop half-way because the program that asked
for it got a signal: so the program is told that it was interrupted, and the action goes on.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from icatfs.sharing import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

T = TypeVar("T")


class Unattended:
    """The actions of one service, in its nursery.

    Invariant: ``_left`` are those under way that nobody waits for any more.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        # constant
        self._flights: SingleFlight[int, object] = SingleFlight(nursery)
        self._numbers = itertools.count()
        # mutable
        self._left: set[int] = set()

    async def run(self, fn: Callable[[], Awaitable[T]], alone: Callable[[T | None], None]) -> T:
        """The result of ``fn``, or what it raises.

        Cancelled, it goes on, and ``alone`` is called with its result at the end; None: it failed.
        """
        number = next(self._numbers)
        results: list[T] = []

        async def action() -> None:
            try:
                results.append(await fn())
            finally:
                if number in self._left:
                    self._left.discard(number)
                    alone(results[0] if results else None)

        try:
            await self._flights.run(number, action)
        except BaseException:  # not swallowed: only who waits is leaving
            if number in self._flights:
                self._left.add(number)
            raise
        return results[0]
