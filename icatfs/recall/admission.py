"""At the door of the archive: whether a read may have data that are not online."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.errors import NotOnline
from icatfs.recall.memory import bounded
from icatfs.recall.policy import (
    WAIT,
    Ledger,
    Limits,
    Manner,
    Policy,
    parse_programs,
    parse_rules,
)
from icatfs.values import DatasetId, OnlineStatus

if TYPE_CHECKING:
    from icatfs.config import Config
    from icatfs.recall.policy import Asker
    from icatfs.recall.units import Key

DatasetBytes = Callable[[DatasetId], Awaitable[int]]

_SIZE_S = 600.0


def policy_of(config: Config) -> Policy:
    """Who may recall by reading, as configured."""
    limits = Limits(config.recall_process_units, config.recall_mount_units, config.recall_unit_size)
    return Policy(parse_rules(config.recall), parse_programs(config.recall_refuse), limits)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a read may do: wait like this; and ask for the bytes now, for they are online, or
    because the facility's refusal will tell what a unit is."""

    manner: Manner = WAIT
    fetch: bool = True


FREE = Admission()


class Door:
    """Knows the policy, and what was recalled lately. ``dataset_bytes`` tells the size of a
    dataset; it is asked only about data that are about to be recalled."""

    def __init__(self, policy: Policy, dataset_bytes: DatasetBytes | None) -> None:
        # given
        self._policy = policy
        self._dataset_bytes = dataset_bytes
        # mutable: how large datasets were; a count that only grows
        self._sizes: dict[DatasetId, tuple[float, int]] = {}
        self._ledger = Ledger()
        self.refused = 0

    async def judge(self, key: Key, status: OnlineStatus, asker: Asker, size: int | None) -> Manner:
        """How the read may wait; ``size`` where that is all a restore brings back, else None.

        Raises NotOnline with the reason why it may not, and what keeps the size from being known.
        """
        reason = self._policy.refusal(asker, status)
        if reason is None and status is OnlineStatus.ARCHIVED:
            reason = await self._excess(key, asker, size)
        if reason is not None:
            self.refused += 1
            raise NotOnline(reason)
        if status is OnlineStatus.ARCHIVED:
            self._ledger.note(trio.current_time(), asker.program.process, key)
        return self._policy.manner(asker.path)

    async def _excess(self, key: Key, asker: Asker, size: int | None) -> str | None:
        unit_bytes = await self._unit_bytes(key.dataset, size)
        now, process = trio.current_time(), asker.program.process
        of_process, of_mount = self._ledger.counts(now, process, key)
        return self._policy.excess(of_process=of_process, of_mount=of_mount, unit_bytes=unit_bytes)

    async def _unit_bytes(self, dataset: DatasetId, size: int | None) -> int:
        """How much a restore may bring back; 0 where that does not matter or is not known."""
        if self._policy.limits.unit_bytes is None or self._dataset_bytes is None:
            return 0
        if size is not None:
            return size
        until_s, known = self._sizes.get(dataset, (0.0, 0))
        if trio.current_time() < until_s:
            return known
        known = await self._dataset_bytes(dataset)
        self._sizes = bounded(self._sizes)
        self._sizes[dataset] = (trio.current_time() + _SIZE_S, known)
        return known
