"""Waits for archived data, once for everybody.

A read that the facility refused for archived or locked data comes here. Whoever waits for the same
storage unit shares one poller; it looks at the unit, from every 2 s to every 30 s, asks for a
restore where the rules of `icatfs.recall.state` say so, and wakes all at the end. The restore
itself is the server's and outlives its waiters; the poller goes on for a while without any.

**What a unit is** the server does not say: it moves whole datasets or single datafiles. The words
of its refusal tell (`learn`). Until they were heard, readers of one dataset wait together for the
datafile that came first; when that is online all of them try, and one that is refused again shows
that files move alone: it is then looked at in its own right, beside an online one.

Faults of the network and of a restarting server do not end a wait, unless nothing else comes for
ten minutes. A failed restore does, and is remembered for five, for every unit by itself.

Invariants: a unit is in ``_units`` exactly as long as its poller runs; a waiter is in exactly one
unit's ``waiters``, from before its first wait until it returns.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from icatfs.errors import (
    DataArchived,
    FacilityTimeout,
    FacilityUnreachable,
    IcatfsError,
    ProtocolError,
    RecallFailed,
    RecallTimeout,
    ShuttingDown,
)
from icatfs.ids.selection import Selection
from icatfs.recall.policy import WAIT, Policy
from icatfs.recall.state import Phase, Seen
from icatfs.recall.units import Key, RecallStatus, Unit, UnitStatus, Waiter
from icatfs.sharing import SingleFlight
from icatfs.values import DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

log = logging.getLogger(__name__)

T = TypeVar("T")

_FAILURE_S = 300.0
_SILENT_S = 600.0
_LINGER_S = 60.0
_STATUS_S = 5.0
_TRYING_S = 30.0
_REMEMBERED = 10_000


class Ids(Protocol):
    """What of `icatfs.ids.client.IdsClient` is used here."""

    async def status(self, session: str | None, selection: Selection) -> OnlineStatus: ...
    async def restore(self, session: str, selection: Selection) -> None: ...


class Keeper(Protocol):
    """What of `icatfs.icat.session.SessionKeeper` is used here."""

    async def run(
        self, fn: Callable[[str, Selection], Awaitable[T]], selection: Selection, /
    ) -> T: ...


class RecallCoordinator:
    """Made by ``open_recall``."""

    def __init__(
        self,
        nursery: trio.Nursery,
        ids: Ids,
        keeper: Keeper,
        *,
        two_level: bool,
        policy: Policy,
        poll_min_s: float,
        poll_max_s: float,
        dice: random.Random,
    ) -> None:
        # given
        self._nursery = nursery
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level
        self._policy = policy
        self._poll_min_s = poll_min_s
        self._poll_max_s = poll_max_s
        self._dice = dice
        # mutable: see the invariants above
        self._units: dict[Key, Unit] = {}
        self._by_dataset: bool | None = None
        self._closed = False
        # mutable: which datafile of a dataset was seen online a moment ago, and until when that is
        # a moment; only while units are not known
        self._online: dict[DatasetId, tuple[float, DatafileId]] = {}
        # mutable: until when a failure is the answer; answers for `status_of`
        self._failures: dict[Key, tuple[float, str]] = {}
        self._answers: dict[Key, tuple[float, OnlineStatus]] = {}
        self._questions: SingleFlight[Key, OnlineStatus] = SingleFlight(nursery)
        # mutable: counts
        self._asked = self._failed = 0

    async def wait_online(
        self, dataset: DatasetId, datafile: DatafileId, *, patience_s: float | None
    ) -> None:
        """Return when the datafile is online, or may be: the facility's next answer decides.

        For data that the facility has just refused as archived or locked. Raises RecallFailed (also
        from memory), RecallTimeout after ``patience_s``, NotOnline by policy, NotFound,
        AccessDenied, facility errors that last. Cancelled: the restore goes on.
        """
        await trio.lowlevel.checkpoint()
        if not self._two_level:
            return
        self._policy.check()
        self.check(dataset, datafile)
        patiences = [one for one in (patience_s, self._policy.patience_s) if one is not None]
        with trio.move_on_after(max(0.0, min(patiences)) if patiences else math.inf):
            await self._wait(dataset, datafile)
            return
        raise RecallTimeout(
            f"the data are still in the archive after {min(patiences):.0f} s; the restore goes on:"
            " read again later"
        )

    def check(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """Raises RecallFailed while a failed restore of the unit is remembered.

        Asking the facility for the data of such a unit would queue one restore after the other.
        """
        for key in (Key(dataset), Key(dataset, datafile)):
            until_s, words = self._failures.get(key, (0.0, ""))
            if trio.current_time() < until_s:
                raise RecallFailed(words)

    def learn(self, refusal: DataArchived) -> None:
        """What the facility's words tell of its storage units (ids.server 2.1.1)."""
        text = str(refusal)
        if "its dataset" in text:
            self._by_dataset = True
        elif "it must be restored" in text:
            self._by_dataset = False

    async def status_of(self, dataset: DatasetId, datafile: DatafileId) -> OnlineStatus:
        """Where the data are, as of some seconds ago; triggers nothing.

        Data whose restore failed are ARCHIVED.
        """
        if not self._two_level:
            return OnlineStatus.ONLINE
        key = Key(dataset) if self._by_dataset else Key(dataset, datafile)
        until_s, status = self._answers.get(key, (0.0, OnlineStatus.ARCHIVED))
        if trio.current_time() < until_s:
            return status
        return await self._questions.run(key, lambda: self._ask_status(key, datafile))

    async def status_of_dataset(self, dataset: DatasetId) -> OnlineStatus:
        """The worst status of its files, as `status_of`."""
        if not self._two_level:
            return OnlineStatus.ONLINE
        key = Key(dataset)
        until_s, status = self._answers.get(key, (0.0, OnlineStatus.ARCHIVED))
        if trio.current_time() < until_s:
            return status
        return await self._questions.run(key, lambda: self._ask_status(key, DatafileId(0)))

    @property
    def by_dataset(self) -> bool | None:
        """Whether datasets are restored as a whole; None while the server has not shown it."""
        return self._by_dataset

    def status(self) -> RecallStatus:
        """What is being waited for now."""
        now = trio.current_time()
        return RecallStatus(
            units=tuple(
                UnitStatus(
                    dataset=unit.key.dataset,
                    datafile=unit.key.datafile,
                    phase=unit.watch.phase,
                    waiting=len(unit.waiters),
                    for_s=now - unit.since,
                    requests=unit.watch.requests,
                )
                for unit in self._units.values()
            ),
            by_dataset=self._by_dataset,
            restores_asked=self._asked,
            failures=self._failed,
        )

    async def _ask_status(self, key: Key, datafile: DatafileId) -> OnlineStatus:
        try:
            status = await self._keeper.run(self._ids.status, _selection(key, datafile))
        except RecallFailed:
            status = OnlineStatus.ARCHIVED
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        self._answers[key] = (trio.current_time() + _STATUS_S, status)
        return status

    # Waiting.

    async def _wait(self, dataset: DatasetId, datafile: DatafileId) -> None:
        if self._closed:
            raise _shutting_down()
        unit = self._unit(self._key(dataset, datafile), datafile)
        waiter = Waiter(datafile)
        unit.join(waiter)
        try:
            await waiter.served.wait()
        finally:
            unit.leave(waiter)
        if waiter.error is not None:
            raise type(waiter.error)(*waiter.error.args) from waiter.error

    def _key(self, dataset: DatasetId, datafile: DatafileId) -> Key:
        """The unit to wait for; while units are not known, the dataset's first datafile is it."""
        if self._by_dataset is None:
            until_s, online = self._online.get(dataset, (0.0, datafile))
            is_other = online != datafile and trio.current_time() < until_s
            return Key(dataset, datafile if is_other else None)
        return Key(dataset, None if self._by_dataset else datafile)

    def _unit(self, key: Key, datafile: DatafileId) -> Unit:
        unit = self._units.get(key)
        if unit is None:
            unit = self._units[key] = Unit(key, datafile)
            self._nursery.start_soon(self._run, unit)
        return unit

    # Polling.

    async def _run(self, unit: Unit) -> None:
        """The poller of a unit, for as long as there is something to wait for."""
        try:
            await self._poll(unit)
        finally:
            if self._units.get(unit.key) is unit:
                del self._units[unit.key]
            unit.release(_shutting_down() if not unit.is_over else None)

    async def _poll(self, unit: Unit) -> None:
        pause_s = self._poll_min_s
        while not unit.is_over:
            seen = await self._look(unit)
            if seen is None:
                continue
            unit.watch = unit.watch.after(seen)
            if unit.watch.is_over:
                self._conclude(unit)
                return
            if seen is not Seen.NOTHING and unit.key.datafile and self._by_dataset is None:
                await self._compare(unit)
            if unit.watch.ask and unit.waiters:
                await self._ask(unit)
            await unit.pause(pause_s * self._dice.uniform(0.8, 1.2))
            pause_s = min(pause_s * 1.5, self._poll_max_s)
            unit.is_over = unit.is_forgotten(_LINGER_S)

    async def _look(self, unit: Unit) -> Seen | None:
        """One look; None when those whom it concerned were told an error, and another is due."""
        selection = _selection(unit.key if self._by_dataset else None, unit.datafile)
        try:
            status = await self._keeper.run(self._ids.status, selection)
        except RecallFailed as error:
            unit.words = str(error)
            return Seen.FAILED
        except (FacilityUnreachable, FacilityTimeout, ProtocolError) as error:
            if not unit.is_silent_for(_SILENT_S):
                log.info("the facility does not say whether data are online: %s", error)
                return Seen.NOTHING
            unit.refuse(error, everybody=True)
            return None
        except IcatfsError as error:
            unit.refuse(error, everybody=bool(selection.datasets))
            return None
        unit.silent_since = None
        return Seen.of(status)

    def _conclude(self, unit: Unit) -> None:
        """Draw what follows from a final state."""
        key = unit.key
        unit.is_over = True
        if unit.watch.phase is Phase.ONLINE:
            if self._by_dataset is None and key.datafile is None:
                self._online[key.dataset] = (trio.current_time() + _TRYING_S, unit.datafile)
            self._answers[key] = (trio.current_time() + _STATUS_S, OnlineStatus.ONLINE)
        else:
            self._failed += 1
            remembered = key if self._by_dataset else Key(key.dataset, unit.datafile)
            if len(self._failures) >= _REMEMBERED:
                self._failures.clear()
            words = (
                f"{unit.words} (remembered for {_FAILURE_S / 60:.0f} minutes; tell the facility)"
            )
            self._failures[remembered] = (trio.current_time() + _FAILURE_S, words)
            log.warning("dataset %d: %s", key.dataset, unit.words)
            unit.refuse(RecallFailed(words), everybody=True)

    async def _compare(self, unit: Unit) -> None:
        """This datafile is not online; if another one of its dataset is, files move alone."""
        _, other = self._online.get(unit.key.dataset, (0.0, unit.datafile))
        if other == unit.datafile:
            return
        with suppress(IcatfsError):
            selection = Selection(datafiles=(other,))
            if await self._keeper.run(self._ids.status, selection) is OnlineStatus.ONLINE:
                self._by_dataset = False
                return
        self._online.pop(unit.key.dataset, None)

    async def _ask(self, unit: Unit) -> None:
        """Ask for a restore of exactly this unit; a fault leaves it for later."""
        selection = _selection(unit.key if self._by_dataset else None, unit.datafile)
        try:
            await self._keeper.run(self._ids.restore, selection)
        except (FacilityUnreachable, FacilityTimeout, ProtocolError) as error:
            log.info("the restore of dataset %d was not asked for: %s", unit.key.dataset, error)
            return
        except IcatfsError as error:
            unit.refuse(error, everybody=bool(selection.datasets))
            return
        self._asked += 1
        unit.watch = unit.watch.asked()

    def close(self) -> None:
        """From now on everybody gets ShuttingDown."""
        self._closed = True


def _selection(key: Key | None, datafile: DatafileId) -> Selection:
    """What to ask the facility about: the dataset where that is the unit, else the datafile."""
    if key is not None and key.datafile is None:
        return Selection(datasets=(key.dataset,))
    return Selection(datafiles=(datafile,))


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the mount is being taken down; mount it again to go on")


@asynccontextmanager
async def open_recall(
    ids: Ids,
    keeper: Keeper,
    *,
    two_level: bool,
    policy: Policy = WAIT,
    poll_min_s: float = 2.0,
    poll_max_s: float = 30.0,
    dice: random.Random | None = None,
) -> AsyncIterator[RecallCoordinator]:
    """The coordinator of one mount. At the end, who waits gets ShuttingDown."""
    try:
        async with trio.open_nursery() as nursery:
            recall = RecallCoordinator(
                nursery,
                ids,
                keeper,
                two_level=two_level,
                policy=policy,
                poll_min_s=poll_min_s,
                poll_max_s=poll_max_s,
                dice=dice or random.Random(),
            )
            try:
                yield recall
            finally:
                recall.close()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # the pollers end without any: it is the caller's
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
