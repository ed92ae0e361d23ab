"""Storage units under observation, and who waits for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.recall.state import Phase, Watch
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from icatfs.errors import IcatfsError


@dataclass(frozen=True, slots=True)
class Key:
    """A storage unit: a dataset, or one datafile of it."""

    dataset: DatasetId
    datafile: DatafileId | None = None


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """A unit that is being waited for; ``datafile`` None: the whole dataset."""

    dataset: DatasetId
    datafile: DatafileId | None
    phase: Phase
    waiting: int
    for_s: float
    requests: int


@dataclass(frozen=True, slots=True)
class RecallStatus:
    """What is being waited for, and counts that only grow."""

    units: tuple[UnitStatus, ...]
    by_dataset: bool | None
    """Whether datasets move as a whole; None: not known yet."""
    restores_asked: int
    failures: int


class Waiter:
    """Somebody who waits for a datafile; ``error`` None once served: it may be online."""

    __slots__ = ("datafile", "error", "served")

    def __init__(self, datafile: DatafileId) -> None:
        self.datafile = datafile
        self.served = trio.Event()
        self.error: IcatfsError | None = None

    def tell(self, error: IcatfsError | None) -> None:
        """End the wait, once."""
        if not self.served.is_set():
            self.error = error
            self.served.set()


class Unit:
    """A unit while it is looked at. ``datafile`` stands for it where the dataset cannot."""

    __slots__ = (
        "_last_wanted",
        "_nudge",
        "datafile",
        "is_over",
        "key",
        "silent_since",
        "since",
        "waiters",
        "watch",
        "words",
    )

    def __init__(self, key: Key, datafile: DatafileId) -> None:
        # given
        self.key = key
        # mutable
        self.datafile = datafile
        self.watch = Watch()
        self.waiters: dict[Waiter, None] = {}
        self.words = ""
        self.is_over = False
        self.since = self._last_wanted = trio.current_time()
        self.silent_since: float | None = None
        self._nudge = trio.Event()

    def join(self, waiter: Waiter) -> None:
        """One waiter more; the first one after a while causes a look at once."""
        if not self.waiters:
            self._nudge.set()
        self.waiters[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """One waiter less."""
        self.waiters.pop(waiter, None)
        self._last_wanted = trio.current_time()

    def release(self, error: IcatfsError | None) -> None:
        """Let everybody go."""
        for waiter in self.waiters:
            waiter.tell(error)

    def refuse(self, error: IcatfsError, *, everybody: bool) -> None:
        """Tell an error to those whom it concerns; the next waiter's datafile then stands for all.

        It is over when nobody is left.
        """
        for waiter in list(self.waiters):
            if everybody or waiter.datafile == self.datafile:
                waiter.tell(error)
                self.leave(waiter)
        self.is_over = not self.waiters
        for waiter in self.waiters:
            self.datafile = waiter.datafile
            break

    async def pause(self, seconds: float) -> None:
        """Wait for the next look."""
        self._nudge = trio.Event()
        with trio.move_on_after(seconds):
            await self._nudge.wait()

    def is_silent_for(self, seconds: float) -> bool:
        """Note that there was no answer; whether there was none for so long."""
        now = trio.current_time()
        if self.silent_since is None:
            self.silent_since = now
        return now - self.silent_since >= seconds

    def is_forgotten(self, seconds: float) -> bool:
        """Whether nobody has waited for so long."""
        return not self.waiters and trio.current_time() - self._last_wanted >= seconds
