"""Storage units under observation, and who is interested in them.

An `Interest` is one party that wants a unit on the disk: a read that waits, or somebody who ordered
it. It sees the unit's phase change, and may leave at any time. The unit is looked at as long as
somebody is interested; what the server was asked for goes on without us.

Invariants: an interest is in its unit's ``interests`` from its making until it is dropped or the
unit is over; ``phase`` of an interest that is not in there any more is final or as last seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.recall.state import FINAL, Phase, Watch
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
    """A unit that somebody is interested in; ``datafile`` None: the whole dataset.

    ``waiting`` counts reads, ``ordered`` those who asked deliberately. ``for_s`` is for how long,
    ``requested_s`` how long ago a restore was asked for or first seen (None: not yet), ``eta_s``
    how much longer it should take by what others took (None: nothing to judge by).
    """

    dataset: DatasetId
    datafile: DatafileId | None
    phase: Phase
    waiting: int
    ordered: int
    for_s: float
    requests: int
    requested_s: float | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class RecallStatus:
    """What is being waited for, and counts that only grow."""

    units: tuple[UnitStatus, ...]
    by_dataset: bool | None
    """Whether datasets move as a whole; None: not known yet."""
    restores_asked: int
    failures: int
    refused: int
    """Reads that the policy refused."""


class Interest:
    """One party's interest in a unit; made by `icatfs.recall.coordinator.RecallCoordinator.hold`.

    ``error`` is set when the phase is FAILED: what to tell whoever reads.
    """

    __slots__ = ("_changed", "_final", "_unit", "error", "is_order", "key", "since")

    def __init__(self, key: Key, unit: Unit | None, *, is_order: bool) -> None:
        # given
        self.key = key
        self.is_order = is_order
        # mutable: None once there is nothing to observe for this party
        self._unit = unit
        self._final = Phase.ASSUMED
        self._changed = trio.Event()
        self.error: IcatfsError | None = None
        self.since = trio.current_time()

    @property
    def phase(self) -> Phase:
        """Where the unit is in its life."""
        return self._final if self._unit is None else self._unit.watch.phase

    @property
    def is_over(self) -> bool:
        """Whether the phase is final."""
        return self.phase in FINAL

    @property
    def words(self) -> str | None:
        """The server's words of a failure; None unless the phase is FAILED."""
        return None if self.error is None else str(self.error)

    @property
    def since_s(self) -> float:
        """For how many seconds this interest has existed."""
        return trio.current_time() - self.since

    @property
    def requested_s(self) -> float | None:
        """How many seconds ago a restore was asked for, or first seen to run; None: not yet."""
        requested = None if self._unit is None else self._unit.requested
        return None if requested is None else trio.current_time() - requested

    async def changed(self) -> None:
        """Return at the next change of phase; at once when the phase is final, or it was dropped.

        Look at the phase first, then call this without an await in between: no change is missed.
        """
        if self._unit is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._changed.wait()

    def drop(self) -> None:
        """Not interested any more. The restore goes on at the server."""
        unit = self._unit
        if unit is not None:
            self._leave(unit.watch.phase)

    def end(self, phase: Phase, error: IcatfsError | None = None) -> None:
        """The outcome; used by whoever observes the unit."""
        self.error = error
        self._leave(phase)

    def tell(self) -> None:
        """The phase has changed."""
        self._changed.set()
        self._changed = trio.Event()

    def _leave(self, phase: Phase) -> None:
        unit, self._unit, self._final = self._unit, None, phase
        if unit is not None:
            unit.interests.pop(self, None)
            unit.last_wanted = trio.current_time()
        self._changed.set()


class Unit:
    """A unit while it is looked at."""

    __slots__ = (
        "asked",
        "due",
        "interests",
        "is_new",
        "key",
        "last_wanted",
        "pause_s",
        "requested",
        "silent_since",
        "since",
        "watch",
        "words",
    )

    def __init__(self, key: Key, pause_s: float) -> None:
        # given
        self.key = key
        # mutable; times are trio's. ``due`` is the next look, ``asked`` the last request of ours,
        # ``silent_since`` when answers stopped
        self.watch = Watch()
        self.interests: dict[Interest, None] = {}
        self.words = ""
        self.pause_s = pause_s
        self.since = self.last_wanted = self.due = trio.current_time()
        self.asked = -math.inf
        self.is_new = True
        self.requested: float | None = None
        self.silent_since: float | None = None

    @property
    def waiting(self) -> int:
        """How many reads wait."""
        return sum(not one.is_order for one in self.interests)

    def become(self, watch: Watch) -> None:
        """The next state; tells those who are interested if the phase is another."""
        changed, self.watch = watch.phase is not self.watch.phase, watch
        if self.requested is None and watch.phase in (Phase.REQUESTED, Phase.RESTORING):
            self.requested = trio.current_time()
        if changed:
            for interest in list(self.interests):
                interest.tell()

    def end(self, phase: Phase, error: IcatfsError | None = None) -> None:
        """Let everybody go."""
        for interest in list(self.interests):
            interest.end(phase, error)

    def is_silent_for(self, seconds: float) -> bool:
        """Note that there was no answer; whether there was none for so long."""
        now = trio.current_time()
        if self.silent_since is None:
            self.silent_since = now
        return now - self.silent_since >= seconds
