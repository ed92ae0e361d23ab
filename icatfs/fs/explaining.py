"""Why something waits: what a mount knows of a path, put together for ``icatfs why``.

Facts only; what to make of them is for the command line to say. Nothing here restores anything,
and the facility is asked one question at most: where the data are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.errors import NotFound
from icatfs.fs.readers import Reader
from icatfs.recall.orders import PENDING
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from icatfs.catalogue.node import Node
    from icatfs.fs.readers import Readers
    from icatfs.fs.recalls import Survey
    from icatfs.recall.coordinator import RecallCoordinator
    from icatfs.recall.ordering import Orders
    from icatfs.recall.orders import Ordered
    from icatfs.recall.units import UnitStatus

_MOST_READERS = 100
_INSIDE = frozenset({Kind.DATASET, Kind.FOLDER, Kind.DATAFILE})


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A storage unit that is being waited for; times in seconds."""

    dataset: int
    datafile: int | None
    phase: str
    for_s: float
    """How long it has been waited for."""
    requested_s: float | None
    """How long ago a restore was asked for, or first seen; None: not yet."""
    requests: int
    """How often this mount asked for it."""
    eta_s: float | None
    """How long it may take still, by what others took."""


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """What the list of deliberate orders says of a path."""

    units: int
    pending: int
    state: str | None
    """Of a single unit."""
    words: str | None
    asked_s: float | None
    """When, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one path; ``path`` is from the root of the mount."""

    path: str
    kind: str
    status: str | None
    """Where the data are, of a dataset or what is in one."""
    size: int | None
    units: list[UnitFacts]
    readers: list[Reader]
    """Who waits for them; at most a hundred."""
    waiting: int
    """How many reads wait, whoever's."""
    order: OrderFacts | None
    last_error: str | None
    typical_s: float | None
    """How long restores took lately, the middle one."""
    restores: int
    """How many that is known of."""


class Explainer:
    """Explains the paths of one mount; ``top`` is the folder of the facility that is mounted."""

    def __init__(
        self, survey: Survey, recall: RecallCoordinator, orders: Orders, readers: Readers, top: str
    ) -> None:
        self._survey = survey
        self._recall = recall
        self._orders = orders
        self._readers = readers
        self._top = top

    def paths_of(self, process: int) -> list[str]:
        """The files that a process opened in this mount, those it waits for first."""
        own = [one for one in self._readers.all() if one.process == process and one.path[0] == "/"]
        return [reader.path for reader in sorted(own, key=lambda reader: not reader.waiting)]

    async def explain(self, path: str) -> Explanation:
        """What is known of a path; raises `NotFound` and what the catalogue raises."""
        node = await self._survey.resolve(path)
        below = path.rstrip("/") + "/"
        orders = await self._ordered(path)
        readers = [
            reader
            for reader in self._readers.all()
            if reader.waiting and _concerns(reader, node, below)
        ]
        datasets = {reader.dataset for reader in readers} | {one.key.dataset for one in orders}
        units = [
            unit
            for unit in self._recall.status().units
            if (_is_of(node, unit) if node.kind in _INSIDE else unit.dataset in datasets)
        ]
        durations = sorted(self._recall.durations())
        return Explanation(
            path=path,
            kind=node.kind,
            status=await self._status(node),
            size=None if node.is_folder else node.size,
            units=[_facts(unit) for unit in units],
            readers=readers[:_MOST_READERS],
            waiting=sum(reader.waiting for reader in readers),
            order=_order(orders),
            last_error=self._readers.last_error(node),
            typical_s=durations[len(durations) // 2] if durations else None,
            restores=len(durations),
        )

    async def _status(self, node: Node) -> str | None:
        dataset = node.dataset_id
        if dataset is None:
            return None
        datafile = DatafileId(node.key.id) if node.kind is Kind.DATAFILE else None
        try:
            return await self._recall.word_of(dataset, datafile)
        except NotFound:
            return None  # the catalogue knows it, the data service does not

    async def _ordered(self, path: str) -> list[Ordered]:
        book = self._orders.book
        return await self._orders.in_thread(lambda: list(book.at(self._top + path)))


def _concerns(reader: Reader, node: Node, below: str) -> bool:
    """Whether what somebody reads comes back with an entry, or is below it."""
    if node.kind in _INSIDE:
        return reader.dataset == node.dataset_id
    return reader.path.startswith(below)


def _is_of(node: Node, unit: UnitStatus) -> bool:
    """Whether the unit is what has the data of an entry, or a part of them."""
    alone = node.kind is Kind.DATAFILE and unit.datafile is not None
    return unit.dataset == node.dataset_id and (not alone or unit.datafile == node.key.id)


def _facts(unit: UnitStatus) -> UnitFacts:
    return UnitFacts(
        dataset=unit.dataset,
        datafile=unit.datafile,
        phase=unit.phase,
        for_s=unit.for_s,
        requested_s=unit.requested_s,
        requests=unit.requests,
        eta_s=unit.eta_s,
    )


def _order(orders: list[Ordered]) -> OrderFacts | None:
    if not orders:
        return None
    one = orders[0] if len(orders) == 1 else None
    return OrderFacts(
        units=len(orders),
        pending=sum(order.state in PENDING for order in orders),
        state=one.state if one else None,
        words=one.words if one else None,
        asked_s=min(order.asked_s for order in orders),
    )
