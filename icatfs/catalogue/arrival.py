"""A folder that is being listed: readers get what is there while the rest still arrives."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING
from weakref import WeakMethod

import trio

from icatfs.errors import ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Callable

    from icatfs.catalogue.dataset import DatasetSnapshot
    from icatfs.catalogue.shelf import Snapshot


class Arrival:
    """How far one listing has come. Whoever lists tells; whoever reads waits, and owns nothing.

    Invariant: a `snapshot` that was shown only grows at its end until `has_ended`.
    """

    def __init__(self) -> None:
        # mutable: what is there, from the moment that there is more than one page of it; what
        # the folder is to be taken for at the end, which may have other names
        self.snapshot: DatasetSnapshot | None = None
        self.result: Snapshot | None = None
        self.has_ended = False
        self._failure: Exception | None = None
        self._news = trio.Event()
        self._at_end: list[WeakMethod[Callable[[], None]]] = []

    def tell(self) -> None:
        """There is more."""
        news, self._news = self._news, trio.Event()
        news.set()

    def end(self, failure: Exception | None) -> None:
        """All is there, or no more will come, and why."""
        if self.has_ended:
            return
        for reference in self._at_end:
            freeze = reference()
            if freeze is not None:
                freeze()
        self._at_end.clear()
        self.has_ended, self._failure = True, failure
        self.tell()

    def abandon(self) -> None:
        """Nobody lists any more: the mount is being taken down."""
        self.end(ShuttingDown("The mount is being taken down."))

    def at_the_end(self, method: Callable[[], None]) -> None:
        """Call this bound method when all is there, if its object still lives."""
        if not self.has_ended:
            self._at_end.append(WeakMethod(method))

    async def goes_on(self) -> bool:
        """Wait for news: True for more, False when all is there; raises why it is not."""
        if not self.has_ended:
            await self._news.wait()
        if self._failure is not None:
            raise copy.copy(self._failure) from self._failure
        return not self.has_ended
