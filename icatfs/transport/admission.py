"""Who may ask the facility now: a few requests at a time, catalogue never behind data.

A stock server has five worker threads. Each request to the data service needs a second one for its
own question to the catalogue, so five requests at once block each other for a minute and then all
fail (ids.server 2.1.1, recorded). A client cannot see the size of the pool. Therefore:

* at most ``Limits.in_flight`` requests at a time, at most ``Limits.data`` of them to the data
  service: the catalogue always has a place of its own, and never waits for bytes;
* of long transfers ``bulk_while_others_wait`` at a time. One more only if no short call of the data
  service waits, and only if it can *give way*: be broken off and resumed later from where it was;
* waiting callers are admitted in the order in which they came, skipping those whose lane is full;
* when the server shows that it has too much to do, the number is halved, and raised again by one
  after a while of good answers, never above the given limits.

Pure but for ``acquire``, which waits. Releasing is synchronous. Invariants: the slots in flight per
lane are those acquired and not released; a waiter is in the queue if and only if it has no slot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from icatfs.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_LEAST = 2
_SHORT = 2**20
_GOOD_BEFORE_MORE = 30
_CALM_BEFORE_MORE_S = 30.0
_TURN_S = 20.0


class Lane(Enum):
    """What a request is, for the sake of admission."""

    CATALOGUE = "catalogue"
    DATA = "data"
    """A short call of the data service."""
    BULK = "bulk"
    """A long transfer: a stream of bytes in or out."""

    @classmethod
    def of_upload(cls, length: int | None) -> Lane:
        """A small upload is a short call: it does not wait for long transfers to end."""
        return cls.DATA if length is not None and length <= _SHORT else cls.BULK


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one mount asks of a facility at a time, at most."""

    in_flight: int = 4
    data: int = 3
    bulk_while_others_wait: int = 2


@dataclass(frozen=True, slots=True)
class AdmissionStatus:
    """How many are under way and how many wait; ``limit`` is what the server takes at present."""

    limit: int
    catalogue: int
    data: int
    bulk: int
    waiting: int


class Slot:
    """The right to have one request in flight; ``release`` gives it back, once or twice alike."""

    __slots__ = ("_admission", "_open", "gives_way", "lane", "since")

    def __init__(self, admission: Admission, lane: Lane, gives_way: bool, since: float) -> None:
        # constant
        self._admission = admission
        self.lane = lane
        self.gives_way = gives_way
        self.since = since
        # mutable: True until the first release
        self._open = True

    def release(self) -> None:
        """Let somebody else in."""
        if self._open:
            self._open = False
            self._admission.left(self)

    def should_give_way(self) -> bool:
        """Whether somebody who waits has a better right to this slot."""
        return self.gives_way and self._open and self._admission.is_wanted(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class _Waiter:
    __slots__ = ("gives_way", "lane", "slot", "task")

    def __init__(self, lane: Lane, gives_way: bool) -> None:
        self.lane = lane
        self.gives_way = gives_way
        self.task = trio.lowlevel.current_task()
        self.slot: Slot | None = None


class Admission:
    """The door to one facility."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = trio.current_time) -> None:
        # given
        self._limits = limits
        self._clock = clock
        # mutable: what the server takes now, _LEAST .. limits.in_flight
        self._limit = limits.in_flight
        self._in_flight = dict.fromkeys(Lane, 0)
        self._queue: deque[_Waiter] = deque()
        self._good = 0
        self._lowered_at = -_CALM_BEFORE_MORE_S

    async def acquire(self, lane: Lane, *, gives_way: bool = False) -> Slot:
        """Wait for a slot. Cancelled while waiting: no slot was taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._admits(lane, gives_way):
            slot = self._enter(lane, gives_way)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return slot
        waiter = _Waiter(lane, gives_way)
        self._queue.append(waiter)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._queue.remove(waiter)
            self._admit_waiters()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        assert waiter.slot is not None
        return waiter.slot

    def acquire_nowait(self, lane: Lane) -> Slot | None:
        """A slot if one is free and nobody waits."""
        if self._queue or not self._admits(lane, gives_way=False):
            return None
        return self._enter(lane, gives_way=False)

    async def place(self, lane: Lane, *, at_once: bool) -> Slot:
        """A slot; `Busy` where one is wanted at once and none is free."""
        if not at_once:
            return await self.acquire(lane)
        slot = self.acquire_nowait(lane)
        if slot is None:
            raise Busy("No request to the facility is free just now.")
        return slot

    def left(self, slot: Slot) -> None:
        """Called by ``Slot.release``."""
        self._in_flight[slot.lane] -= 1
        self._admit_waiters()

    def went_well(self) -> None:
        """A request was answered in good time."""
        self._good += 1
        calm = self._clock() - self._lowered_at >= _CALM_BEFORE_MORE_S
        if self._limit < self._limits.in_flight and self._good >= _GOOD_BEFORE_MORE and calm:
            self._good = 0
            self._limit += 1
            self._admit_waiters()

    def was_too_much(self, begun: float) -> None:
        """A request that began at ``begun`` failed in a way that shows an overloaded server.

        Requests that were under way together count as one sign.
        """
        self._good = 0
        if begun >= self._lowered_at:
            self._limit = max(min(_LEAST, self._limits.in_flight), self._limit // 2)
            self._lowered_at = self._clock()

    def is_wanted(self, slot: Slot) -> bool:
        """Whether a long transfer should end early for the sake of somebody who waits."""
        if not self._queue:
            return False
        if any(waiter.lane is Lane.DATA for waiter in self._queue):
            return self._in_flight[Lane.BULK] > self._bulk_while_others_wait()
        is_old = self._clock() - slot.since >= _TURN_S
        return is_old and any(waiter.lane is Lane.BULK for waiter in self._queue)

    def status(self) -> AdmissionStatus:
        """Counts as they are now."""
        counts = self._in_flight
        return AdmissionStatus(
            limit=self._limit,
            catalogue=counts[Lane.CATALOGUE],
            data=counts[Lane.DATA],
            bulk=counts[Lane.BULK],
            waiting=len(self._queue),
        )

    def _admits(self, lane: Lane, gives_way: bool) -> bool:
        counts = self._in_flight
        if sum(counts.values()) >= self._limit:
            return False
        if lane is Lane.CATALOGUE:
            return True
        if counts[Lane.DATA] + counts[Lane.BULK] >= self._data_limit():
            return False
        if lane is Lane.DATA:
            return True
        if counts[Lane.BULK] < self._bulk_while_others_wait():
            return True
        if any(waiter.lane is Lane.DATA for waiter in self._queue):
            return False
        return gives_way or counts[Lane.BULK] == 0

    def _data_limit(self) -> int:
        return max(1, min(self._limits.data, self._limit - 1))

    def _bulk_while_others_wait(self) -> int:
        return min(self._limits.bulk_while_others_wait, self._data_limit() - 1)

    def _enter(self, lane: Lane, gives_way: bool) -> Slot:
        self._in_flight[lane] += 1
        return Slot(self, lane, gives_way, self._clock())

    def _admit_waiters(self) -> None:
        """Let in, in the order of their coming, all who may."""
        still_waiting: deque[_Waiter] = deque()
        while self._queue:
            waiter = self._queue.popleft()
            if self._admits(waiter.lane, waiter.gives_way):
                waiter.slot = self._enter(waiter.lane, waiter.gives_way)
                trio.lowlevel.reschedule(waiter.task)
            else:
                still_waiting.append(waiter)
        self._queue = still_waiting
