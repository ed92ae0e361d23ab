"""Waits for archived data, once for everybody.

A read that the facility refused for archived or locked data comes here, and so does whoever orders
data in advance. All who are interested in the same storage unit share its observation
(`icatfs.recall.poller`), one request, and its outcome. The restore itself is the server's and
outlives those who wanted it.

**What a unit is** the server does not say: it moves whole datasets or single datafiles. The words
of its refusal tell (`learn`). Until they were heard each datafile is looked at by itself: that is
right on every server, for a restore is asked for in a way that joins one that runs already.

A failed restore is remembered for five minutes, for every unit by itself: asking the facility for
the data of such a unit would queue one restore after the other.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from icatfs.errors import DataArchived, IcatfsError, RecallFailed, RecallTimeout, ShuttingDown
from icatfs.ids.selection import Selection
from icatfs.recall.policy import WAIT, Policy
from icatfs.recall.poller import Ids, Keeper, Pace, Poller
from icatfs.recall.state import Phase
from icatfs.recall.units import Interest, Key, RecallStatus, Unit, UnitStatus
from icatfs.sharing import SingleFlight
from icatfs.values import DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ["Interest", "Key", "Phase", "RecallCoordinator", "open_recall"]

log = logging.getLogger(__name__)

_FAILURE_S = 300.0
_STATUS_S = 5.0
_REMEMBERED = 10_000


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
        pace: Pace,
        dice: random.Random,
    ) -> None:
        # given
        self._ids = ids
        self._keeper = keeper
        self._two_level = two_level
        self._policy = policy
        # constant
        self.poller = Poller(
            ids, keeper, pace, dice, is_unit=self._is_unit, concluded=self._conclude
        )
        # mutable
        self._by_dataset: bool | None = None
        self._closed = False
        # mutable: until when a failure is the answer; answers for `status_of`
        self._failures: dict[Key, tuple[float, str]] = {}
        self._answers: dict[Key, tuple[float, OnlineStatus]] = {}
        self._questions: SingleFlight[Key, OnlineStatus] = SingleFlight(nursery)
        # mutable: counts
        self._failed = self._refused = 0

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
        if self._two_level and not self._closed and self.failure_of(key) is None:
            return None
        interest = Interest(key, None, is_order=True)
        error: IcatfsError | None = _shutting_down() if self._closed else self.failure_of(key)
        interest.end(Phase.FAILED if error else Phase.ONLINE, error)
        return interest

    def forget_failure(self, key: Key) -> None:
        """Forget that a restore of these data failed: the next interest asks again.

        The server has a mark of its own, which ``IdsClient.reset`` clears; do that before.
        """
        for one in list(self._failures):
            if one.dataset == key.dataset and key.datafile in (None, one.datafile):
                del self._failures[one]
        self._failures.pop(Key(key.dataset), None)

    def failure_of(self, key: Key) -> RecallFailed | None:
        """The failed restore of the unit, while it is remembered."""
        for one in (Key(key.dataset), key):
            until_s, words = self._failures.get(one, (0.0, ""))
            if trio.current_time() < until_s:
                return RecallFailed(words)
        return None

    def durations(self) -> Sequence[float]:
        """How many seconds restores took, of the last some hundred that ended here."""
        return tuple(self.poller.durations)

    # Reads.

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
            await self._wait(Key(dataset, None if self._by_dataset else datafile))
            return
        raise RecallTimeout(
            f"the data are still in the archive after {min(patiences):.0f} s; the restore goes on:"
            " read again later"
        )

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

    def check(self, dataset: DatasetId, datafile: DatafileId) -> None:
        """Raises RecallFailed while a failed restore of the unit is remembered."""
        failure = self.failure_of(Key(dataset, datafile))
        if failure is not None:
            raise failure

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
        return RecallStatus(
            units=tuple(self._unit_status(unit) for unit in self.poller.units()),
            by_dataset=self._by_dataset,
            restores_asked=self.poller.asked,
            failures=self._failed,
            refused=self._refused,
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

    async def _ask_status(self, key: Key, datafile: DatafileId) -> OnlineStatus:
        try:
            status = await self._keeper.run(self._ids.status, _selection(key, datafile))
        except RecallFailed:
            status = OnlineStatus.ARCHIVED
        if len(self._answers) >= _REMEMBERED:
            self._answers.clear()
        self._answers[key] = (trio.current_time() + _STATUS_S, status)
        return status

    # What the poller tells and asks.

    def _is_unit(self, key: Key) -> bool:
        return key.datafile is not None or self._by_dataset is True

    def _conclude(self, unit: Unit, phase: Phase, error: IcatfsError | None) -> IcatfsError | None:
        """A unit is over: remember it; what to tell those who wait."""
        key, now = unit.key, trio.current_time()
        if phase is Phase.ONLINE:
            self._answers[key] = (now + _STATUS_S, OnlineStatus.ONLINE)
        if not isinstance(error, RecallFailed):
            return error
        self._failed += 1
        if len(self._failures) >= _REMEMBERED:
            self._failures.clear()
        words = f"{error} (remembered for {_FAILURE_S / 60:.0f} minutes; tell the facility)"
        self._failures[key] = (now + _FAILURE_S, words)
        log.warning("dataset %d: %s", key.dataset, error)
        return RecallFailed(words)

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
    policy: Policy = WAIT,
    pace: Pace | None = None,
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
                pace=pace or Pace(),
                dice=dice or random.Random(),
            )
            nursery.start_soon(recall.poller.run)
            try:
                yield recall
            finally:
                recall.close()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # the poller ends without any: it is the caller's
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
