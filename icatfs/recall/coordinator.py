"""Waits for archived data, once for everybody.

A read that the facility refused for archived or locked data comes here, and so does whoever orders
data in advance. All who are interested in the same storage unit share its observation
(`icatfs.recall.poller`), one request, and its outcome. The restore itself is the server's and
outlives those who wanted it.

**What a unit is** the server does not say: it moves whole datasets or single datafiles. The words
of its refusal tell (`icatfs.recall.grain`). Until this mount has heard them each datafile is looked
at by itself: that is right on every server, for a restore is asked for in a way that joins one that
runs already.

**Before** a read asks for bytes it asks here whether it may (`admit`), for the facility's refusal
is at the same time an order: it queues a restore. What is known to be online, from an answer less
than a minute old, needs no question.

A failed restore is remembered for five minutes, for every unit by itself: asking the facility for
the data of such a unit would queue one restore after the other. To ask where they are queues
nothing: what has come back after all, by whomever, is read at once.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from icatfs.errors import (
    DataArchived,
    IcatfsError,
    RecallFailed,
    RecallTimeout,
    ShuttingDown,
)
from icatfs.ids.selection import Selection
from icatfs.recall.admission import FREE, Admission, DatasetBytes, Door
from icatfs.recall.grain import Grain
from icatfs.recall.memory import Memory
from icatfs.recall.policy import Policy
from icatfs.recall.poller import Ids, Keeper, Pace, Poller
from icatfs.recall.state import Phase
from icatfs.recall.units import Interest, Key, RecallStatus, Unit, UnitStatus
from icatfs.sharing import SingleFlight, service_nursery
from icatfs.values import DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from icatfs.recall.policy import Asker

__all__ = ["Interest", "Key", "Phase", "RecallCoordinator", "open_recall"]

log = logging.getLogger(__name__)

FAILED = "FAILED"
"""Where data are whose restore failed, beside the words of `icatfs.values.OnlineStatus`."""


class RecallCoordinator:
    """Made by ``open_recall``."""

    def __init__(
        self,
        nursery: trio.Nursery,
        ids: Ids,
        keeper: Keeper,
        *,
        two_level: bool,
        door: Door,
        grain: Grain,
        pace: Pace,
        dice: random.Random,
    ) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level
        self._door = door
        self._grain = grain
        # constant
        self.poller = Poller(
            ids, keeper, pace, dice, is_unit=self._is_unit, concluded=self._conclude
        )
        # mutable
        self._closed = False
        self._memory = Memory()
        self._questions: SingleFlight[Key, OnlineStatus] = SingleFlight(nursery)
        # mutable: a count that only grows
        self._failed = 0

    # Interests.

    def hold(self, key: Key) -> Interest:
        """An interest in a unit, registered without waiting: somebody ordered these data.

        The shared poller looks whether they are archived, asks for a restore if so, and looks until
        they are ONLINE or FAILED. At once FAILED while a failed restore is remembered (see
        `forget_failure`) or when the mount is being taken down, and ONLINE where there is no
        archive. The program list and the limits of the policy do not apply. Drop it when done.
        """
        interest = self._settled(key)
        return interest or self.poller.join(key, is_order=True)

    def _settled(self, key: Key) -> Interest | None:
        """An interest that has its outcome already, where there is nothing to observe."""
        if self._two_level and not self._closed and self._memory.failure(key) is None:
            return None
        interest = Interest(key, None, is_order=True)
        error: IcatfsError | None = _shutting_down() if self._closed else self._memory.failure(key)
        interest.end(Phase.FAILED if error else Phase.ONLINE, error)
        return interest

    def forget_failure(self, key: Key) -> None:
        """Forget that a restore of these data failed: the next interest asks again.

        The server has a mark of its own, which ``IdsClient.reset`` clears; do that before.
        """
        self._memory.forget_failure(key)

    def durations(self) -> Sequence[float]:
        """How many seconds restores took, of the last some hundred that ended here."""
        return tuple(self.poller.durations)

    # Reads.

    async def admit(
        self,
        dataset: DatasetId,
        datafile: DatafileId,
        who: Callable[[], Asker],
        size: int | None,
    ) -> Admission:
        """Whether a read may have the datafile, of ``size`` bytes, if it has to be restored.

        Triggers nothing. ``who`` is called only when the data are not online. Raises NotOnline
        with the reason, RecallFailed while that is remembered and the data are not back, facility
        errors.
        """
        key = self._key(dataset, datafile)
        if not self._two_level or self._memory.is_online(Key(dataset, datafile)):
            return FREE
        is_under_way = self.poller.is_under_way(key)
        status = OnlineStatus.RESTORING
        if not is_under_way:
            status = await self._where(dataset, datafile)
        if status is OnlineStatus.ONLINE:
            return FREE
        self._check(dataset, datafile)
        alone = size or 0 if self.by_dataset is False else None
        manner = await self._door.judge(key, status, who(), alone)
        return Admission(manner, fetch=self.by_dataset is None and not is_under_way)

    async def _where(self, dataset: DatasetId, datafile: DatafileId) -> OnlineStatus:
        """As `status_of`; a dataset that is online costs one question for all its files."""
        if await self.status_of_dataset(dataset) is OnlineStatus.ONLINE:
            return OnlineStatus.ONLINE
        return await self.status_of(dataset, datafile)

    async def wait_online(
        self, dataset: DatasetId, datafile: DatafileId, *, patience_s: float | None
    ) -> None:
        """Return when the datafile is online, or may be: the facility's next answer decides.

        For data that the facility has just refused as archived or locked, and that `admit` has let
        pass. Raises RecallFailed (also from memory), RecallTimeout after ``patience_s``, NotFound,
        AccessDenied, facility errors that last. Cancelled: the restore goes on.
        """
        await trio.lowlevel.checkpoint()
        if not self._two_level:
            return
        self._check(dataset, datafile)
        with trio.move_on_after(math.inf if patience_s is None else max(0.0, patience_s)):
            await self._wait(self._key(dataset, datafile))
            return
        raise RecallTimeout(
            f"the data are still in the archive after {patience_s:.0f} s; the restore goes on:"
            " read again later"
        )

    def _key(self, dataset: DatasetId, datafile: DatafileId) -> Key:
        """What to look at to know where a datafile is."""
        return Key(dataset, None if self.by_dataset else datafile)

    async def _wait(self, key: Key) -> None:
        if self._closed:
            raise _shutting_down()
        interest = self.poller.join(key, is_order=False)
        try:
            while not interest.is_over:
                await interest.changed()
        finally:
            interest.drop()
        if interest.error is not None:
            error = interest.error
            raise type(error)(*error.args) from error

    def _check(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """Raises RecallFailed while a failed restore of the unit is remembered."""
        failure = self._memory.failure(Key(dataset, datafile))
        if failure is not None:
            raise failure

    def learn(self, dataset: DatasetId, datafile: DatafileId, refusal: DataArchived) -> None:
        """The facility has refused a datafile: what its words tell of its storage units, and that
        this one is not online."""
        self._memory.doubt(Key(dataset, datafile))
        self._grain.hear(str(refusal))

    async def status_of(self, dataset: DatasetId, datafile: DatafileId) -> OnlineStatus:
        """Where the data are, as of some seconds ago; triggers nothing.

        Data whose restore failed are ARCHIVED.
        """
        if not self._two_level:
            return OnlineStatus.ONLINE
        return await self._status(self._key(dataset, datafile))

    async def status_of_dataset(self, dataset: DatasetId) -> OnlineStatus:
        """The worst status of its files, as `status_of`."""
        return await self._status(Key(dataset)) if self._two_level else OnlineStatus.ONLINE

    async def word_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> str:
        """Where the data are, for people: as `status_of`, or FAILED where their restore failed.

        Of a whole dataset without ``datafile``.
        """
        if datafile is None:
            status = await self.status_of_dataset(dataset)
        else:
            status = await self.status_of(dataset, datafile)
        failure = self._memory.failure(Key(dataset, datafile))
        return FAILED if failure is not None and status is OnlineStatus.ARCHIVED else str(status)

    def unit_of(self, dataset: DatasetId, datafile: DatafileId | None = None) -> UnitStatus | None:
        """The unit that these data are, or are in, while somebody is interested in it."""
        keys = Key(dataset, datafile), Key(dataset)
        for unit in self.poller.units():
            if unit.key in keys:
                return self._unit_status(unit)
        return None

    @property
    def by_dataset(self) -> bool | None:
        """Whether datasets are restored as a whole; None while the server has not shown it."""
        return self._grain.seen

    def status(self) -> RecallStatus:
        """What is being waited for now."""
        return RecallStatus(
            units=tuple(self._unit_status(unit) for unit in self.poller.units()),
            by_dataset=self.by_dataset,
            restores_asked=self.poller.asked,
            failures=self._failed,
            refused=self._door.refused,
        )

    def _unit_status(self, unit: Unit) -> UnitStatus:
        now, expected_s = trio.current_time(), self.poller.expected_s
        requested_s = None if unit.requested is None else now - unit.requested
        known = expected_s is not None and requested_s is not None
        return UnitStatus(
            dataset=unit.key.dataset,
            datafile=unit.key.datafile,
            phase=unit.watch.phase,
            waiting=unit.waiting,
            ordered=len(unit.interests) - unit.waiting,
            for_s=now - unit.since,
            requests=unit.watch.requests,
            requested_s=requested_s,
            eta_s=max((expected_s or 0.0) - (requested_s or 0.0), 0.0) if known else None,
        )

    async def _status(self, key: Key) -> OnlineStatus:
        known = self._memory.answer(key)
        if known is not None:
            return known
        return await self._questions.run(key, lambda: self._ask_status(key))

    async def _ask_status(self, key: Key) -> OnlineStatus:
        selection = Selection(datasets=(key.dataset,))
        if key.datafile is not None:
            selection = Selection(datafiles=(key.datafile,))
        try:
            status = await self._keeper.run(self._ids.status, selection)
        except RecallFailed as error:
            if self._is_unit(key):  # else it is one of its files that failed
                self._memory.note_failure(key, error)
            status = OnlineStatus.ARCHIVED
        self._memory.note(key, status)
        return status

    # What the poller tells and asks.

    def _is_unit(self, key: Key) -> bool:
        return key.datafile is not None or self.by_dataset is True

    def _conclude(self, unit: Unit, phase: Phase, error: IcatfsError | None) -> IcatfsError | None:
        """A unit is over: remember it; what to tell those who wait."""
        if phase is Phase.ONLINE:
            self._memory.note(unit.key, OnlineStatus.ONLINE)
        if not isinstance(error, RecallFailed):
            return error
        self._failed += 1
        log.warning("dataset %d: %s", unit.key.dataset, error)
        return self._memory.note_failure(unit.key, error)

    def close(self) -> None:
        """From now on everybody gets ShuttingDown."""
        self._closed = True
        self.poller.end_all(_shutting_down())


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
    policy: Policy | None = None,
    pace: Pace | None = None,
    dice: random.Random | None = None,
    dataset_bytes: DatasetBytes | None = None,
    grain: Grain | None = None,
) -> AsyncIterator[RecallCoordinator]:
    """The coordinator of one mount; ``dataset_bytes`` tells how large a dataset is.

    At the end, who waits gets ShuttingDown.
    """
    async with service_nursery() as nursery:
        recall = RecallCoordinator(
            nursery,
            ids,
            keeper,
            two_level=two_level,
            door=Door(policy or Policy(), dataset_bytes),
            grain=grain or Grain(),
            pace=pace or Pace(),
            dice=dice or random.Random(),
        )
        nursery.start_soon(recall.poller.run)
        try:
            yield recall
        finally:
            recall.close()
        nursery.cancel_scope.cancel()
