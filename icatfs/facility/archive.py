"""The archive of the data service: a queue of requests, locks, and work that takes time.

No task runs in the background. ``settle`` lets everything happen that would have happened up to the
present of the clock: the ticks of the server's timer, and the ends of restores. Whatever looks at
the archive or changes a lock settles it first, so nobody can tell the difference, and tests that
advance the clock see each step.

Dataset units: a write waits until ``write_delay_s`` after the last change, all else for the next
tick only. Datafile units: everything waits until ``write_delay_s`` after the first request and then
runs as one batch, which holds its locks to its end; requests left over from a batch make the next
ones run at once. (ids.server 2.1.1: DsProcessQueue, DfProcessQueue.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from icatfs.facility.locks import Busy, Hold, Locks
from icatfs.facility.storageunit import (
    Pending,
    Request,
    Status,
    StorageUnit,
    delay_restarts,
    merge,
    visible,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.tape import Tape


_SLACK_S = 1e-6  # times are sums of floating-point numbers


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the archive: a dataset or a datafile, its dataset, and how status calls it."""

    id: int
    dataset: int
    label: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class RestoreOutcome:
    """What becomes of a restore: how long it takes (for ever: infinite), and whether it fails."""

    seconds: float = 0.0
    fails: bool = False


class RestoreOutcomes(Protocol):
    """Decides what becomes of the restore of a unit."""

    def __call__(self, unit: Unit) -> RestoreOutcome: ...


@dataclass(frozen=True, slots=True)
class Delays:
    """The timers of the service, in seconds."""

    tick_s: float = 1.0
    write_s: float = 3.0


@dataclass(slots=True)
class _Work:
    """Operations of one kind that run together."""

    kind: Pending
    units: list[Unit]
    outcomes: dict[Unit, RestoreOutcome]  # of restores
    hold: Hold
    ends_at: float


class Archive:
    """The units of one data service; on a single level nothing is ever requested."""

    def __init__(
        self,
        unit: StorageUnit,
        tape: Tape,
        clock: Clock,
        counters: Counters,
        delays: Delays,
        outcome: RestoreOutcomes,
        has_dataset: Callable[[int], bool],
    ) -> None:
        # given
        self.unit = unit
        self._tape = tape
        self._clock = clock
        self._counters = counters
        self._delays = delays
        self._outcome = outcome
        self._has_dataset = has_dataset
        # mutable
        self._locks = Locks()
        self._queue: dict[Unit, Pending] = {}
        self._due: dict[Unit, float] = {}  # dataset units: when a write may begin
        self._batch_due: float | None = None  # datafile units: when the queue is worked off
        self._running: list[_Work] = []
        self._failed: set[int] = set()
        self._ticked_at = clock.now()  # the last tick

    # What there is.

    def is_present(self, unit: Unit) -> bool:
        """Whether main storage has it."""
        return self._tape.is_present(unit.id)

    def status(self, unit: Unit) -> Status:
        """What getStatus says, if no failure is flagged."""
        return visible(pending=self._pending(unit), is_present=self.is_present(unit))

    def has_failed(self, unit: Unit) -> bool:
        """Whether its last restore failed."""
        return unit.id in self._failed

    def report(self) -> dict[str, object]:
        """As getServiceStatus shows it."""
        entries = [(unit, pending) for unit, pending in self._queue.items()]
        entries += [(unit, work.kind) for work in self._running for unit in work.units]
        return {
            "opsQueue": [
                {"data": unit.label, "request": pending.value}
                for unit, pending in dict.fromkeys(entries)
            ],
            "lockCount": len(self._locks),
            "locks": self._locks.as_json(),
            "failures": sorted(self._failed),
        }

    def lock_count(self) -> int:
        """How many datasets are locked."""
        return len(self._locks)

    def _pending(self, unit: Unit) -> frozenset[Pending]:
        running = {work.kind for work in self._running if unit in work.units}
        queued = {self._queue[unit]} if unit in self._queue else set()
        return frozenset(running | queued)

    # What is asked for.

    def hold(self, datasets: Iterable[int], *, exclusive: bool) -> Hold:
        """Lock datasets; raises Busy. Releasing lets waiting work begin at the next tick."""
        self.settle()
        inner = self._locks.acquire(datasets, exclusive=exclusive)

        def release() -> None:
            self.settle()
            inner.release()

        return Hold(release)

    def request(self, units: Iterable[Unit], request: Request) -> None:
        """Queue a request for each of these units."""
        self.settle()
        for unit in units:
            self._request(unit, request)

    def _request(self, unit: Unit, request: Request) -> None:
        if request is Request.RESTORE:
            if Pending.RESTORE in self._pending(unit) and unit not in self._queue:
                return  # one is running
            if self.status(unit) is Status.ARCHIVED and not self.is_present(unit):
                self._counters.restore(1)
        if request is Request.WRITE:
            self._tape.change(unit.id)
        if request is Request.DELETE:
            self._tape.forget(unit.id)
        now, queued = self._clock.now(), self._queue.get(unit)
        if delay_restarts(self.unit, request) or unit not in self._due:
            self._due[unit] = now + self._delays.write_s
        if self.unit is StorageUnit.DATAFILE and self._batch_due is None:
            self._batch_due = now + self._delays.write_s
        merged = merge(self.unit, queued, request)
        if merged is None:
            self._queue.pop(unit, None)
        else:
            self._queue[unit] = merged

    def require(self, units: Iterable[Unit]) -> bool:
        """Whether all these may be read; if not, restores are queued for those that are away."""
        self.settle()
        refused = False
        for unit in units:
            if self.status(unit) is not Status.ONLINE:
                refused = True
                if not self._pending(unit) & {
                    Pending.RESTORE,
                    Pending.ARCHIVE,
                    Pending.WRITE_THEN_ARCHIVE,
                }:
                    self._request(unit, Request.RESTORE)
        return not refused

    def clear_failures(self, units: Iterable[Unit]) -> None:
        """Forget that restores of these failed."""
        self._failed -= {unit.id for unit in units}

    def resume(self, units: Iterable[Unit]) -> None:
        """After a start: what was not yet written is queued again."""
        self.request(units, Request.WRITE)

    # What happens by itself.

    def reconsider(self) -> None:
        """Restores that would never end are told anew how long they take."""
        for work in self._running:
            if work.ends_at == math.inf:
                work.outcomes = {unit: self._outcome(unit) for unit in work.units}
                work.ends_at = self._clock.now() + _duration(work.outcomes)

    def settle(self) -> None:
        """Let happen what would have happened by now."""
        now = self._clock.now()
        while True:
            ends_at = min((work.ends_at for work in self._running), default=math.inf)
            tick_at = self._next_tick() if self._queue else math.inf
            if min(ends_at, tick_at) > now + _SLACK_S:
                break
            if ends_at <= tick_at:
                self._finish(ends_at)
            else:
                self._ticked_at = tick_at
                if not self._tick(tick_at):
                    self._skip_ticks(now)
        if not self._queue:
            self._skip_ticks(now)

    def _next_tick(self) -> float:
        return self._ticked_at + self._delays.tick_s

    def _skip_ticks(self, now: float) -> None:
        """Leave out ticks up to ``now`` at which nothing can begin."""
        ticks = math.floor((now + _SLACK_S - self._ticked_at) / self._delays.tick_s)
        changes = [work.ends_at for work in self._running]
        changes += [due for due in (*self._due.values(), self._batch_due) if due is not None]
        for change in changes:
            if self._ticked_at < change < math.inf:
                before = (change - _SLACK_S - self._ticked_at) / self._delays.tick_s
                ticks = min(ticks, math.floor(before))
        self._ticked_at += max(0, ticks) * self._delays.tick_s

    def _tick(self, now: float) -> bool:
        """Begin what is due; returns whether anything began."""
        if self.unit is StorageUnit.DATAFILE:
            return self._begin_batch(now)
        began = False
        for unit, pending in list(self._queue.items()):
            if pending.is_write and self._due[unit] > now + _SLACK_S:
                continue
            began |= self._begin(pending, [unit], now)
        return began

    def _begin_batch(self, now: float) -> bool:
        if self._batch_due is None or self._batch_due > now + _SLACK_S:
            return False
        groups: dict[tuple[Pending, int], list[Unit]] = {}
        for unit, pending in self._queue.items():
            if self._has_dataset(unit.dataset):
                groups.setdefault((pending, unit.dataset), []).append(unit)
        began = [self._begin(kind, units, now) for (kind, _), units in groups.items()]
        if not self._queue:
            self._batch_due = None
        return any(began)

    def _begin(self, kind: Pending, units: list[Unit], now: float) -> bool:
        try:
            hold = self._locks.acquire(
                {unit.dataset for unit in units}, exclusive=not kind.is_write
            )
        except Busy:
            return False
        outcomes = {}
        if kind is Pending.RESTORE:
            outcomes = {unit: self._outcome(unit) for unit in units if not self.is_present(unit)}
        for unit in units:
            del self._queue[unit]
            self._due.pop(unit, None)
            if kind is Pending.WRITE_THEN_ARCHIVE:
                self._queue[unit] = Pending.ARCHIVE
        self._running.append(_Work(kind, units, outcomes, hold, now + _duration(outcomes)))
        self._finish(now)
        return True

    def _finish(self, now: float) -> None:
        for work in [work for work in self._running if work.ends_at <= now]:
            self._running.remove(work)
            for unit in work.units:
                self._complete(work, unit)
            work.hold.release()

    def _complete(self, work: _Work, unit: Unit) -> None:
        kind = work.kind
        if kind.is_write:
            self._tape.write(unit.id)
        elif kind is Pending.ARCHIVE:
            if self._tape.archive(unit.id):
                self._counters.archive(1)
        elif kind is Pending.RESTORE:
            fails = unit in work.outcomes and work.outcomes[unit].fails
            is_back = self.is_present(unit)  # meanwhile, off the books
            if is_back or (not fails and self._tape.restore(unit.id)):
                self._failed.discard(unit.id)
            else:
                self._failed.add(unit.id)


def _duration(outcomes: dict[Unit, RestoreOutcome]) -> float:
    return max((outcome.seconds for outcome in outcomes.values()), default=0.0)
