"""One task that looks after all units of a mount, and asks for their restores.

The server answers for a selection with the *worst* status in it, and has no other way to tell an
ordinary user (ids.server 2.1.1). So a question about many units says much when all are online, or
when none is; which of them is online, only questions about fewer can say. At most about one
question a second is asked, however many units there are: who waits for tape waits for minutes, and
a thousand people's mounts share one server.

* Units that were never looked at are looked at together, and asked for together: prepareData
  queues a restore of exactly those that are not on the disk.
* After that, those that are due are looked at in the order in which they fell due, ``_width`` at a
  time. While the answer is ONLINE the width doubles; any other halves it, down to single units:
  that finds what has come wherever tapes come in about the order in which they were asked for, and
  costs no more than looking at each where they do not.
* One unit that falls back from RESTORING to ARCHIVED is the sign of a server that has forgotten its
  queue: then the width is large again, and many are asked for together.

Faults of the network and of a restarting server do not end anything, unless nothing else comes for
ten minutes: then reads are told; who ordered stays.

Invariants: a unit is in ``_units`` from its first interest until it is over, or for a minute after
the last one; it is looked at only while somebody is interested. ``run`` is the only task that looks
and asks, so no unit is asked for twice at once.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from icatfs.crashing import crash_point
from icatfs.errors import (
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
    RecallFailed,
)
from icatfs.ids.selection import Selection
from icatfs.recall.state import Ask, Phase, Seen, next_pause
from icatfs.recall.units import Interest, Key, Unit

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from icatfs.values import OnlineStatus

T = TypeVar("T")

log = logging.getLogger(__name__)

_SILENT_S = 600.0
_LINGER_S = 60.0
_TIDY_S = 10.0
_LOOK_AT = 50
"""Units in one question: their ids travel in a URL."""
_ASK_FOR = 20
"""Units in one request: the server resolves all their files before it answers."""
_REMEMBERED = 300
_SILENCE = (FacilityUnreachable, FacilityTimeout, ProtocolError)


class Ids(Protocol):
    """What of `icatfs.ids.client.IdsClient` is used here."""

    async def status(self, session: str | None, selection: Selection) -> OnlineStatus: ...
    async def prepare(self, session: str, selection: Selection) -> str: ...
    async def restore(self, session: str, selection: Selection) -> None: ...


class Keeper(Protocol):
    """What of `icatfs.icat.session.SessionKeeper` is used here."""

    async def run(
        self, fn: Callable[[str, Selection], Awaitable[T]], selection: Selection, /
    ) -> T: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often one unit is looked at, and all of them; the first questions need not wait."""

    low_s: float = 2.0
    high_s: float = 30.0
    per_s: float = 1.0
    burst: int = 10


class Budget:
    """So many a second, a few of them at once. Invariant: 0 <= ``_left`` <= burst."""

    def __init__(self, per_s: float, burst: int) -> None:
        # given
        self._per_s = per_s
        self._burst = burst
        # mutable: what was left at a time
        self._left = float(burst)
        self._at = trio.current_time()

    async def spend(self) -> None:
        """Return when one more is allowed."""
        while True:
            now = trio.current_time()
            self._left = min(self._left + (now - self._at) * self._per_s, self._burst)
            self._at = now
            if self._left >= 1:
                self._left -= 1
                await trio.lowlevel.checkpoint()
                return
            await trio.sleep((1 - self._left) / self._per_s + 1e-3)


class Poller:
    """``concluded`` is told of each unit that is over, its phase, and why it failed; what it
    returns is what those who are interested are told.

    ``is_unit`` tells whether a key is known to move as a whole: only such a unit is asked for by
    name, for of one that is partly online that would take the rest away.
    """

    def __init__(
        self,
        ids: Ids,
        keeper: Keeper,
        pace: Pace,
        dice: random.Random,
        *,
        is_unit: Callable[[Key], bool],
        concluded: Callable[[Unit, Phase, IcatfsError | None], IcatfsError | None],
    ) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._pace = pace
        self._dice = dice
        self._is_unit = is_unit
        self._concluded = concluded
        # mutable: see the invariants above
        self._units: dict[Key, Unit] = {}
        self._width = 1
        self._news = trio.Event()
        self._tidied = trio.current_time()
        self._budget = Budget(pace.per_s, pace.burst)
        # mutable: how long restores took that ended here, the latest last; a count that only grows
        self.durations: deque[float] = deque(maxlen=_REMEMBERED)
        self.asked = 0

    def join(self, key: Key, *, is_order: bool) -> Interest:
        """One interest more, in a unit that is looked at from now on."""
        self._forget_old()
        unit = self._units.get(key)
        if unit is None:
            unit = self._units[key] = Unit(key, self._pace.low_s)
        if not unit.interests:
            unit.due = trio.current_time()
            self._news.set()
        interest = Interest(key, unit, is_order=is_order)
        unit.interests[interest] = None
        return interest

    def units(self) -> Collection[Unit]:
        """Those in which somebody is interested."""
        return [unit for unit in self._units.values() if unit.interests]

    def is_under_way(self, key: Key) -> bool:
        """Whether somebody is interested in a unit that has been asked for."""
        unit = self._units.get(key)
        if unit is None or not unit.interests:
            return False
        return unit.watch.phase in (Phase.REQUESTED, Phase.RESTORING)

    @property
    def expected_s(self) -> float | None:
        """How long a restore takes by what was seen; None: nothing was."""
        return median(self.durations) if self.durations else None

    def end_all(self, error: IcatfsError) -> None:
        """Let everybody go."""
        for unit in self._units.values():
            unit.end(Phase.FAILED, error)
        self._units.clear()

    def _forget_old(self) -> None:
        now = trio.current_time()
        if now < self._tidied + _TIDY_S:
            return
        self._tidied = now
        for key, unit in list(self._units.items()):
            if not unit.interests and now - unit.last_wanted >= _LINGER_S:
                del self._units[key]

    # The task.

    async def run(self) -> None:
        """Look and ask, for ever."""
        while True:
            self._news = trio.Event()
            group = self._next_group()
            if not group:
                due = min((unit.due for unit in self.units()), default=math.inf)
                with trio.move_on_at(due):
                    await self._news.wait()
                continue
            await self._budget.spend()
            group = [unit for unit in group if unit.interests]
            if group:
                await self._turn(group)

    def _next_group(self) -> list[Unit]:
        """What to look at now: all that is new, else what has been due for longest."""
        now = trio.current_time()
        due = sorted((u for u in self.units() if u.due <= now), key=lambda unit: unit.due)
        new = [unit for unit in due if unit.is_new]
        return new[:_LOOK_AT] if new else due[: self._width]

    async def _turn(self, group: list[Unit]) -> None:
        """One look at a group, and what follows from it."""
        for unit in group:
            unit.is_new = False
        try:
            seen = await self._look(group)
        except IcatfsError as error:  # an answer, but not about all of them
            if len(group) > 1:
                self._split(group)
            else:
                self._conclude(group[0], Phase.FAILED, error)
            return
        if seen is Seen.NOTHING:
            self._be_patient(group)
        elif len(group) == 1 or seen is Seen.ONLINE:
            self._width = min(2 * self._width, _LOOK_AT) if seen is Seen.ONLINE else self._width
            for unit in group:
                self._advance(unit, seen)
            await self._ask(group)
        else:
            await self._share(group, seen)

    async def _look(self, group: Sequence[Unit]) -> Seen:
        """What the server says of the whole group; raises what it says of a part of it."""
        try:
            status = await self._keeper.run(self._ids.status, _selection(group))
        except RecallFailed as error:
            if len(group) > 1:
                raise
            group[0].words = str(error)
            seen = Seen.FAILED
        except _SILENCE as error:
            log.info("the facility does not say whether data are online: %s", error)
            return Seen.NOTHING
        else:
            seen = Seen.of(status)
        for unit in group:
            unit.silent_since = None
        return seen

    def _advance(self, unit: Unit, seen: Seen) -> None:
        """What one look at this very unit makes of it."""
        was = unit.watch.phase
        unit.become(unit.watch.after(seen))
        if not unit.watch.is_over:
            if was is Phase.RESTORING and unit.watch.phase is Phase.ARCHIVED:
                self._width = _LOOK_AT  # has the server forgotten the others too?
            self._put_off(unit)
        elif unit.watch.phase is Phase.ONLINE:
            if unit.requested is not None:
                self.durations.append(trio.current_time() - unit.requested)
            self._conclude(unit, Phase.ONLINE)
        else:
            words = unit.words or (
                "the facility began to restore the data"
                f" {unit.watch.relapses} times and did not finish"
            )
            self._conclude(unit, Phase.FAILED, RecallFailed(words))

    async def _share(self, group: list[Unit], seen: Seen) -> None:
        """What an answer that is the worst of several says of each of them."""
        if seen is Seen.RESTORING:  # so none of them has to be asked for
            for unit in group:
                unit.become(unit.watch.after(seen))
            self._split(group)
            return
        new = [unit for unit in group if unit.watch.phase in (Phase.ASSUMED, Phase.ARCHIVED)]
        for unit in new:
            self._advance(unit, seen)
        lately = trio.current_time() - _LINGER_S
        if new:
            await self._ask(new)
        elif all(unit.asked < lately for unit in group):
            await self._request(Ask.GENTLY, group)
            for unit in group:
                self._put_off(unit)
        else:
            self._split(group)

    def _split(self, group: Sequence[Unit]) -> None:
        """Look at fewer the next time; they stay due."""
        self._width = max(1, len(group) // 2)

    def _be_patient(self, group: Sequence[Unit]) -> None:
        """There was no answer: later; but a read does not wait for ever for a silent facility.

        What answers after that may be a server that has just started, and has forgotten everything.
        """
        self._width = _LOOK_AT
        for unit in group:
            if unit.is_silent_for(_SILENT_S):
                for interest in list(unit.interests):
                    if not interest.is_order:
                        interest.end(Phase.FAILED, _silence())
            self._put_off(unit)

    def _put_off(self, unit: Unit) -> None:
        now = trio.current_time()
        known = unit.requested is not None
        unit.pause_s = next_pause(
            unit.pause_s,
            elapsed_s=now - unit.requested if unit.requested is not None else 0.0,
            expected_s=self.expected_s if known else None,
            low_s=self._pace.low_s,
            high_s=self._pace.high_s,
        )
        unit.due = now + unit.pause_s * self._dice.uniform(0.8, 1.2)

    def _conclude(self, unit: Unit, phase: Phase, error: IcatfsError | None = None) -> None:
        if self._units.get(unit.key) is unit:
            del self._units[unit.key]
        unit.end(phase, self._concluded(unit, phase, error))

    # Asking.

    async def _ask(self, units: Sequence[Unit]) -> None:
        """Ask for those of the units that are to be asked for; a fault leaves them for later."""
        gently = [unit for unit in units if unit.watch.ask is Ask.GENTLY and unit.interests]
        by_name = [unit for unit in units if unit.watch.ask is Ask.BY_NAME and unit.interests]
        for start in range(0, len(gently), _ASK_FOR):
            await self._request(Ask.GENTLY, gently[start : start + _ASK_FOR])
        for unit in by_name:
            how = Ask.BY_NAME if self._is_unit(unit.key) else Ask.GENTLY
            await self._request(how, [unit])

    async def _request(self, how: Ask, units: Sequence[Unit]) -> None:
        call = self._ids.prepare if how is Ask.GENTLY else self._ids.restore
        await self._budget.spend()
        units = [unit for unit in units if unit.interests]
        if not units:
            return
        try:
            await self._keeper.run(call, _selection(units))
            crash_point("requested")
        except _SILENCE as error:
            log.info("a restore could not be asked for: %s", error)
            return
        except IcatfsError as error:
            if len(units) == 1:
                self._conclude(units[0], Phase.FAILED, error)
                return
            for unit in units:
                await self._request(how, [unit])
            return
        self.asked += 1
        for unit in units:
            unit.asked = trio.current_time()
            if unit.watch.ask is not None:
                unit.become(unit.watch.asked())


def _selection(units: Sequence[Unit]) -> Selection:
    keys = [unit.key for unit in units]
    return Selection(
        datafiles=tuple(key.datafile for key in keys if key.datafile is not None),
        datasets=tuple(key.dataset for key in keys if key.datafile is None),
    )


def _silence() -> FacilityUnreachable:
    return FacilityUnreachable(
        f"the facility has not said for {_SILENT_S / 60:.0f} minutes whether the data are online"
    )
