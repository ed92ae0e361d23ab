"""Asking and remembering: every question of the catalogue goes through the `Library`.

See `icatfs.catalogue.tree` for the policy. A shelf stands for its folder through all awaits: one
that was dropped meanwhile (`invalidate`, too many folders) still serves those who hold it, and
nobody else; what arrives for it is not kept.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from icatfs.catalogue import fetching, naming
from icatfs.catalogue.arrival import Arrival
from icatfs.catalogue.dataset import DatasetSnapshot
from icatfs.catalogue.node import Node, NodeKey, datafile_node, dataset_node, inside_key
from icatfs.catalogue.relisting import Growth, rebuilt
from icatfs.catalogue.rows import Rows
from icatfs.catalogue.shelf import Shelf, Shelves, Snapshot
from icatfs.icat import query as q
from icatfs.icat.records import DatasetRow
from icatfs.sharing import SingleFlight
from icatfs.values import DatafileId, DatasetId, FacilityId, InvestigationId, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from icatfs.catalogue.lifetimes import Lifetimes
    from icatfs.catalogue.questions import Questions
    from icatfs.catalogue.relisting import Relisting
    from icatfs.icat.records import InvestigationRow

_INLINE_ROWS = 20_000
"""Up to so many rows become a snapshot in the event loop, more in a thread."""

_HOMES = {Kind.VISIT: Kind.INVESTIGATION, Kind.DATASET: Kind.VISIT, Kind.DATAFILE: Kind.DATASET}


class Library:
    """The shelves, and how they are filled."""

    def __init__(
        self,
        questions: Questions,
        nursery: trio.Nursery,
        *,
        relisting: Relisting,
        lifetimes: Lifetimes,
        clock: Callable[[], float],
    ) -> None:
        # given
        self._questions = questions
        self._relisting = relisting
        self._lifetimes = lifetimes
        self._clock = clock
        # mutable: what is remembered
        self.shelves = Shelves()
        self._flights: SingleFlight[Hashable, Any] = SingleFlight(nursery)

    @property
    def asking(self) -> int:
        """Questions under way."""
        return len(self._flights)

    async def share(self, key: Hashable, fn: Callable[[], Awaitable[Any]]) -> Any:
        """Ask once for all who ask for the same key now."""
        return await self._flights.run(key, fn)

    # -- shelves ----------------------------------------------------------------------------------

    def shelf(
        self,
        key: NodeKey,
        *,
        dataset: DatasetRow | None = None,
        visit: InvestigationId | None = None,
    ) -> Shelf[Any]:
        """The shelf of a folder (a FOLDER has none of its own), made if there is none.

        A DATASET's is made with its row.
        """
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = Shelf(key, fetching.maker(key, dataset), dataset=dataset)
            self.shelves.add(shelf)
        elif dataset is not None and dataset is not shelf.dataset:
            shelf.renew(fetching.maker(key, dataset), dataset)
        if visit is not None:
            shelf.visit = visit
        return shelf

    def expires(self, shelf: Shelf[Any]) -> float:
        """Until when an answer of this moment is good."""
        return self._clock() + self._lifetimes.ttl_s(shelf)

    # -- whole folders ----------------------------------------------------------------------------

    async def fresh(self, shelf: Shelf[Any]) -> Snapshot:
        """A snapshot that is good, remembered or new."""
        snapshot: Snapshot | None = shelf.snapshot(self._clock())
        if snapshot is None and (shelf, "first") in self._flights:
            snapshot = await self._first(shelf)
        if snapshot is None:
            snapshot = await self._all(shelf)
        return snapshot

    async def begun(self, shelf: Shelf[Any]) -> tuple[Snapshot, Arrival | None]:
        """A snapshot that is good, or one that still grows, with what tells of it."""
        snapshot: Snapshot | None = shelf.snapshot(self._clock())
        if snapshot is None and shelf.key.kind is not Kind.DATASET:
            snapshot = await self.fresh(shelf)
        if snapshot is None and (shelf, "first") in self._flights:
            snapshot = await self._first(shelf)
        if snapshot is not None:
            return snapshot, None
        arrival = shelf.arrival = shelf.arrival or Arrival()
        self._flights.start((shelf, "all"), partial(self._list, shelf))
        while arrival.snapshot is None and await arrival.goes_on():
            pass
        if arrival.result is not None:
            return arrival.result, None
        assert arrival.snapshot is not None
        return arrival.snapshot, arrival

    async def _all(self, shelf: Shelf[Any]) -> Snapshot:
        snapshot: Snapshot = await self.share((shelf, "all"), partial(self._list, shelf))
        return snapshot

    async def _first(self, shelf: Shelf[Any]) -> Snapshot | None:
        """The whole dataset, if it has no more than a page."""
        if (shelf, "all") in self._flights:
            return await self._all(shelf)
        snapshot: Snapshot | None = await self.share(
            (shelf, "first"), partial(self._list_first, shelf)
        )
        return snapshot

    async def _list(self, shelf: Shelf[Any]) -> Snapshot:
        since = shelf.changes
        if shelf.key.kind is Kind.INVESTIGATION:
            facility = self.shelf(NodeKey(Kind.FACILITY, shelf.key.id))
            listed = facility.snapshot(self._clock())
            if listed is None and not q.can_exist(shelf.key.name):
                listed = await self.fresh(facility)  # a name that cannot be asked for
            if listed is not None:
                return self._derive(shelf, listed.rows, facility.expires)
        if shelf.key.kind in fetching.ALWAYS_LISTED:
            rows = await fetching.all_rows(self._questions, shelf.key)
            return await self._install(shelf, rows, since)
        if shelf.key.kind is Kind.DATASET:
            return await self._list_dataset(shelf, since)
        return await self._relisted(shelf, None, since)

    def _derive(
        self, shelf: Shelf[Any], visits: Sequence[InvestigationRow], expires: float
    ) -> Snapshot:
        """The visits of one name as the listing of their facility has them."""
        rows = [row for row in visits if row.name == shelf.key.name]
        snapshot: Snapshot = shelf.make(rows)
        shelf.install(snapshot, expires, shelf.changes)
        return snapshot

    async def _list_dataset(self, shelf: Shelf[Any], since: int) -> Snapshot:
        arrival = shelf.arrival = shelf.arrival or Arrival()
        try:
            snapshot = await self._relisted(shelf, arrival, since)
            arrival.result = snapshot
            arrival.end(None)
        except Exception as error:
            arrival.end(error)
            raise
        finally:
            arrival.abandon()
            shelf.arrival = None
        return snapshot

    async def _relisted(self, shelf: Shelf[Any], arrival: Arrival | None, since: int) -> Snapshot:
        found = await self._relisting.ask(shelf, arrival)
        if shelf.changes == since and found.rows is shelf.last_rows():
            self._lifetimes.note_running(shelf, found.rows)
            confirmed: Snapshot = shelf.confirm(self.expires(shelf))
            return confirmed
        return await self._install(shelf, found.rows, since, arrival, found.snapshot)

    async def _install(
        self,
        shelf: Shelf[Any],
        rows: Sequence[Any],
        since: int,
        arrival: Arrival | None = None,
        made: Snapshot | None = None,
    ) -> Snapshot:
        """A new snapshot of rows whose query began after ``since`` own changes.

        ``made`` is one of these rows as they are. What is made of many datafiles is shown by
        ``arrival`` before it is complete.
        """
        self._lifetimes.note_running(shelf, rows)
        while True:
            changes = shelf.changes
            merged = shelf.merged(rows, since)
            snapshot: Snapshot
            if made is not None and merged is rows:
                snapshot = made
            elif arrival is not None:
                shown = arrival if arrival.snapshot is None else Arrival()
                snapshot = await rebuilt(_row(shelf), Rows.of(merged), shown)
            elif len(merged) > _INLINE_ROWS:
                snapshot = await trio.to_thread.run_sync(shelf.make, merged)
            else:
                snapshot = shelf.make(merged)
            if changes == shelf.changes:
                break
        shelf.install(snapshot, self.expires(shelf), since)
        if isinstance(snapshot, DatasetSnapshot):
            shelf.is_regular = snapshot.is_regular
        if self._relisting.is_worth_keeping(shelf):
            keep = partial(self._relisting.keep, shelf, shelf.seen_rows())
            self._flights.start((shelf, "keep"), keep)
        self.shelves.shrink()
        return snapshot

    # -- one name ---------------------------------------------------------------------------------

    async def find(self, shelf: Shelf[Any], path: str) -> Node | None:
        """The entry of this shown path in a folder; None if there is none."""
        answer = shelf.find(path, self._clock())
        if answer is not None:
            return answer.node
        arrived = shelf.arrived(path)
        if arrived is not None:
            return arrived
        askable = fetching.is_askable(path, facility=shelf.key.kind is Kind.ROOT)
        if askable is None:
            return None
        if not askable or self._is_worth_listing(shelf):
            return (await self.fresh(shelf)).find(path)
        node: Node | None
        if shelf.key.kind is Kind.DATASET and not shelf.is_large:
            snapshot = await self._first(shelf)
            if snapshot is not None:
                node = snapshot.find(path)
                return node
        node = await self.share((shelf, path), partial(self._ask_name, shelf, path))
        return node

    def _is_worth_listing(self, shelf: Shelf[Any]) -> bool:
        return (
            shelf.key.kind in fetching.ALWAYS_LISTED
            or shelf.is_worth_listing
            or (shelf.is_large and not shelf.is_regular)
        )

    async def _list_first(self, shelf: Shelf[Any]) -> Snapshot | None:
        since = shelf.changes
        first = await self._questions.first_datafiles(DatasetId(shelf.key.id))
        if first.is_all:
            growth = Growth(_row(shelf), Arrival())
            await growth.take(first.rows, is_last=True)
            made = growth.snapshot
            return await self._install(shelf, made.rows, since, made=made)
        shelf.is_large = True
        shelf.is_regular = DatasetSnapshot.are_regular(first.rows)
        return None

    async def _ask_name(self, shelf: Shelf[Any], path: str) -> Node | None:
        shelf.count(self._clock(), self._lifetimes.ttl_s(shelf))
        while True:
            changes = shelf.changes
            try:
                node = await self._named(shelf, path)
            except LookupError:
                return (await self.fresh(shelf)).find(path)
            if changes == shelf.changes:
                break
        shelf.remember(path, node, self.expires(shelf))
        return node

    async def _named(self, shelf: Shelf[Any], path: str) -> Node | None:
        key = shelf.key
        match key.kind:
            case Kind.FACILITY:
                return await self._investigation_named(FacilityId(key.id), path)
            case Kind.VISIT:
                return await fetching.dataset_named(self._questions, key, path)
            case Kind.DATASET:
                found = await fetching.nearest(self._questions, DatasetId(key.id), path)
                return fetching.settled(_row(shelf), path, found)
            case _:
                raise AssertionError(key)

    async def _investigation_named(self, facility: FacilityId, name: str) -> Node | None:
        """Asks for all visits of the name, and keeps them."""
        key = NodeKey(Kind.INVESTIGATION, facility, naming.entity_name(name).name)
        rows = await self._questions.visits(facility, key.name)
        if rows:
            shelf = self.shelf(key)
            await self._install(shelf, rows, shelf.changes)
        return fetching.investigation_of(key, name, rows)

    # -- one entity -------------------------------------------------------------------------------

    async def entity(self, key: NodeKey) -> Node | None:
        """The current facts of a VISIT, DATASET or DATAFILE; None if it has gone."""
        shelf = await self._home(key)
        if shelf is None:
            return None
        answer = shelf.by_id(key.id, self._clock())
        if answer is not None:
            return answer.node
        arrived = shelf.arrived_by_id(key.id)
        if arrived is not None:
            return arrived
        node: Node | None
        if self._is_worth_listing(shelf):
            node = (await self.fresh(shelf)).by_id(key.id)
        else:
            node = await self.share((shelf, key.id), partial(self._ask_entity, shelf, key.id))
        return node

    async def dataset_shelf(self, dataset: DatasetId) -> Shelf[Any] | None:
        """The shelf of a dataset of which only the id is known; None if it has gone."""
        key = NodeKey(Kind.DATASET, dataset)
        shelf = self.shelves.get(key)
        if shelf is not None:
            return shelf
        node = await self.entity(key)
        if node is None or node.parent is None:
            return None
        assert isinstance(node.entity, DatasetRow)
        return self.shelf(key, dataset=node.entity, visit=InvestigationId(node.parent.id))

    async def _home(self, key: NodeKey) -> Shelf[Any] | None:
        """The shelf of the folder that an entity is in."""
        shelf = self.shelves.holding(_HOMES[key.kind], key.id)
        if shelf is None:
            shelf = await self.share((key, "home"), partial(self._ask_home, key))
        return shelf

    async def _ask_home(self, key: NodeKey) -> Shelf[Any] | None:
        match key.kind:
            case Kind.VISIT:
                home = await self._questions.visit_home(InvestigationId(key.id))
                return None if home is None else self.shelf(NodeKey(Kind.INVESTIGATION, *home))
            case Kind.DATASET:
                visit = await self._questions.dataset_home(DatasetId(key.id))
                return None if visit is None else self.shelf(NodeKey(Kind.VISIT, visit))
            case _:
                dataset = await self._questions.datafile_home(DatafileId(key.id))
                return None if dataset is None else await self.dataset_shelf(dataset)

    async def _ask_entity(self, shelf: Shelf[Any], entity_id: int) -> Node | None:
        shelf.count(self._clock(), self._lifetimes.ttl_s(shelf))
        while True:
            changes = shelf.changes
            if shelf.key.kind is Kind.VISIT:
                node = await self._dataset(shelf.key, DatasetId(entity_id))
            else:
                node = await self._datafile(shelf, DatafileId(entity_id))
            if changes == shelf.changes:
                break
        shelf.remember(entity_id, node, self.expires(shelf))
        return node

    async def _dataset(self, visit: NodeKey, dataset: DatasetId) -> Node | None:
        row = await self._questions.dataset(dataset)
        return None if row is None else dataset_node(visit, naming.shown(row.name, row.id), row)

    async def _datafile(self, shelf: Shelf[Any], datafile: DatafileId) -> Node | None:
        row = await self._questions.datafile(datafile)
        if row is None:
            return None
        path = "/".join(naming.components(row.name, row.id))
        known = shelf.known(datafile)
        if known is not None and getattr(known.entity, "name", None) == row.name:
            path = known.path_in_dataset
        above, _, name = path.rpartition("/")
        return datafile_node(inside_key(DatasetId(shelf.key.id), above), name, row)


def _row(shelf: Shelf[Any]) -> DatasetRow:
    assert shelf.dataset is not None
    return shelf.dataset
