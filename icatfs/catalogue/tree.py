"""The facility as a tree of names: `Catalogue`.

**The forces.** A folder may have a million entries; a program may look for forty names in thirty
folders, or for one name in a folder that nobody lists; each query costs the server 10 to 150 ms,
and a page costs hardly more than a name. Several callers want the same thing at the same moment.

**The decision.** The unit is the folder. Listing one is one walk through its pages, kept as a
snapshot until its TTL ends; from then on every name in it, found or not, is free. Where there are
many pages, readers get entries while the others still arrive, and a snapshot whose TTL has ended
is asked about rather than asked for (`icatfs.catalogue.relisting`). A name in a
folder not listed is asked for alone, and the answer, be it "no", is kept as long; after some of
these the folder is listed after all. A dataset is one folder for this purpose, whatever the folders
inside it, and there even the first question fetches a page, which is nearly always everything: what
a path stands for depends on its neighbours (`icatfs.catalogue.dataset`). Only in datasets of more
than a page are paths asked for one by one, by a query for all they can stand for; names with
doubled or trailing slashes make that impossible, and then the dataset is listed. *Against* caching
entities one by one (forty names in thirty folders), and against listing always (a million rows for
one known path).

**The invariants.** One thing is asked for once at a time (`SingleFlight`, in a nursery of the
catalogue's own, so that a cancelled caller harms nobody). An answer begun before `invalidate` is
not kept. Own changes (`adopt`, `forget_datafile`) hold against any answer begun before them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from cachetools import TTLCache

from icatfs.catalogue import fetching, naming
from icatfs.catalogue.kept import KeptListings
from icatfs.catalogue.library import Library
from icatfs.catalogue.lifetimes import Lifetimes
from icatfs.catalogue.listing import Listing
from icatfs.catalogue.node import (
    ROOT_KEY,
    Node,
    NodeKey,
    datafile_node,
    dataset_node,
    inside_key,
    root_node,
)
from icatfs.catalogue.questions import Questions
from icatfs.catalogue.relisting import Relisting
from icatfs.errors import NotADirectory, NotFound
from icatfs.icat.records import DatasetRow
from icatfs.sharing import service_nursery
from icatfs.values import DatasetId, InvestigationId, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from icatfs.catalogue.arrival import Arrival
    from icatfs.catalogue.rows import Rows
    from icatfs.catalogue.shelf import Shelf, Snapshot
    from icatfs.icat.client import IcatClient
    from icatfs.icat.records import (
        DatafileFacts,
        DatafileRow,
        DatasetFacts,
        InvestigationFacts,
    )
    from icatfs.icat.session import SessionKeeper
    from icatfs.values import DatafileId

_FACTS = 4_096


@dataclass(frozen=True, slots=True)
class Ttl:
    """For how long, in seconds, what the server said is taken for true.

    ``running_visit_s`` is for the visits that data are being taken in, and for their datasets.
    """

    default_s: float = 60.0
    running_visit_s: float = 15.0


@dataclass(frozen=True, slots=True)
class CatalogueStatus:
    """What is remembered: folders and entries in snapshots; questions asked so far, and now."""

    folders: int
    entries: int
    questions: int
    asking: int


class Catalogue:
    """Made by `open_catalogue`. All that asks may raise what `IcatClient` raises."""

    def __init__(
        self,
        questions: Questions,
        library: Library,
        listings: KeptListings,
        *,
        facts_s: float,
        clock: Callable[[], float],
    ) -> None:
        # given
        self._questions = questions
        self._library = library
        self._listings = listings
        # constant
        self.root = root_node()
        # mutable
        self._facts: TTLCache[NodeKey, Any] = TTLCache(_FACTS, facts_s, timer=clock)

    # -- folders and names ------------------------------------------------------------------------

    async def listing(self, folder: Node) -> Listing:
        """The entries of a folder, at most a TTL old; NotFound, NotADirectory."""
        snapshot = await self._library.fresh(self._shelf(folder))
        return _listing(folder, snapshot, None)

    async def arriving(self, folder: Node) -> Listing:
        """The same as soon as the first entries are there; ask it for the others."""
        snapshot, arrival = await self._library.begun(self._shelf(folder))
        while arrival is not None and snapshot.table(folder.path_in_dataset) is None:
            if not await arrival.goes_on():
                snapshot, arrival = arrival.result or snapshot, None
        return _listing(folder, snapshot, arrival)

    async def lookup(self, folder: Node, name: str) -> Node:
        """The entry of this shown name; NotFound, NotADirectory."""
        shelf, inside = self._shelf(folder), folder.path_in_dataset
        node = await self._library.find(shelf, f"{inside}/{name}" if inside else name)
        if node is None:
            raise NotFound(f"There is no {name!r} in {folder.name or '/'!r}.")
        return node

    async def node(self, key: NodeKey) -> Node:
        """The current facts of a known key; NotFound when it has gone."""
        match key.kind:
            case Kind.ROOT:
                return self.root
            case Kind.FACILITY:
                snapshot = await self._library.fresh(self._library.shelf(ROOT_KEY))
                node = snapshot.by_id(key.id)
            case Kind.INVESTIGATION:
                snapshot = await self._library.fresh(self._library.shelf(key))
                node = fetching.investigation_of(key, None, snapshot.rows)
            case Kind.FOLDER:
                shelf = await self._library.dataset_shelf(DatasetId(key.id))
                node = None if shelf is None else await self._library.find(shelf, key.name)
            case Kind.VISIT | Kind.DATASET | Kind.DATAFILE:
                node = await self._library.entity(key)
        if node is None or node.key != key:
            raise NotFound(f"This {key.kind.value} is no longer in the catalogue.")
        return node

    def datafiles(self, dataset: DatasetId) -> Rows[DatafileRow] | None:
        """All datafiles in ascending order of id, as last listed; None if they were not.

        Asks nobody, and may be out of date.
        """
        shelf = self._library.shelves.get(NodeKey(Kind.DATASET, dataset))
        rows: Rows[DatafileRow] | None = None if shelf is None else shelf.last_rows()
        return rows

    # -- facts that listings leave out ------------------------------------------------------------

    async def datafile_facts(self, datafile: DatafileId) -> DatafileFacts | None:
        """DOI and description of a datafile; None if it has gone."""
        key = NodeKey(Kind.DATAFILE, datafile)
        facts: DatafileFacts | None = await self._fact(key, self._questions.datafile_facts)
        return facts

    async def dataset_facts(self, dataset: DatasetId) -> DatasetFacts | None:
        """The description of a dataset; None if it has gone."""
        facts: DatasetFacts | None = await self._fact(
            NodeKey(Kind.DATASET, dataset), self._questions.dataset_facts
        )
        return facts

    async def investigation_facts(
        self, investigation: InvestigationId
    ) -> InvestigationFacts | None:
        """The summary of a visit; None if it has gone."""
        facts: InvestigationFacts | None = await self._fact(
            NodeKey(Kind.VISIT, investigation), self._questions.investigation_facts
        )
        return facts

    async def _fact(self, key: NodeKey, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        if key in self._facts:
            return self._facts[key]
        facts = await self._library.share((key, "facts"), partial(ask, key.id))
        self._facts[key] = facts
        return facts

    def forget_facts(self, node: Node) -> None:
        """What this mount has said about an entry is no longer what is remembered."""
        self._facts.pop(node.key, None)
        if node.kind is Kind.DATASET and node.parent is not None:
            self.invalidate(node.parent)

    # -- own changes, and what others may have changed --------------------------------------------

    def adopt(self, dataset: Node, row: DatafileRow) -> Node:
        """Show a datafile that this mount has just stored; its node under its shown name.

        ``dataset`` may be a folder in it, too.
        """
        shelf = self._shelf(dataset)
        *above, name = naming.components(row.name, row.id)
        node = datafile_node(inside_key(DatasetId(shelf.key.id), "/".join(above)), name, row)
        path = "/".join([*above, name])
        self._facts.pop(node.key, None)
        return shelf.adopt(row, path, node, self._library.expires(shelf))

    def adopt_dataset(self, visit: Node, row: DatasetRow) -> Node:
        """Show a dataset that this mount has just created; its node under its shown name."""
        shelf = self._shelf(visit)
        node = dataset_node(visit.key, naming.shown(row.name, row.id), row)
        return shelf.adopt(row, node.name, node, self._library.expires(shelf))

    def forget_datafile(self, dataset: Node, datafile: DatafileId) -> None:
        """No longer show a datafile that this mount has just removed."""
        self._shelf(dataset).forget(datafile)
        self._facts.pop(NodeKey(Kind.DATAFILE, datafile), None)

    def forget_dataset(self, visit: Node, dataset: DatasetId) -> None:
        """No longer show a dataset that this mount has just removed."""
        self._shelf(visit).forget(dataset)
        self._library.shelves.drop(NodeKey(Kind.DATASET, dataset))

    def invalidate(self, key: NodeKey) -> None:
        """Forget what is known of the entries of a folder; what is asked from now on is new.

        Folders that are listed together are forgotten together: those of one dataset, and the
        investigations of one facility with their visits.
        """
        shelves = self._library.shelves
        match key.kind:
            case Kind.FOLDER:
                key = NodeKey(Kind.DATASET, key.id)
            case Kind.FACILITY:
                for name in [s.key for s in shelves if s.key.kind is Kind.INVESTIGATION]:
                    if name.id == key.id:
                        shelves.drop(name)
            case Kind.INVESTIGATION:
                shelves.drop(key)
                key = NodeKey(Kind.FACILITY, key.id)
        shelves.drop(key)
        self._listings.drop(key)

    def status(self) -> CatalogueStatus:
        """How much is remembered, and what it cost."""
        return CatalogueStatus(
            folders=len(self._library.shelves),
            entries=self._library.shelves.rows,
            questions=self._questions.asked,
            asking=self._library.asking,
        )

    def _shelf(self, folder: Node) -> Shelf[Any]:
        """The shelf that a folder is listed on."""
        if not folder.is_folder:
            raise NotADirectory(f"{folder.name!r} is a file.")
        if folder.dataset_key is None:
            return self._library.shelf(folder.key)
        dataset = folder.entity
        assert isinstance(dataset, DatasetRow)
        visit = None
        if folder.kind is Kind.DATASET and folder.parent is not None:
            visit = InvestigationId(folder.parent.id)
        return self._library.shelf(folder.dataset_key, dataset=dataset, visit=visit)


def _listing(folder: Node, snapshot: Snapshot, arrival: Arrival | None) -> Listing:
    table = snapshot.table(folder.path_in_dataset)
    if table is None:
        raise NotFound(f"The folder {folder.path_in_dataset!r} is no longer in the catalogue.")
    return Listing(folder, table, arrival)


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_catalogue(
    icat: IcatClient,
    keeper: SessionKeeper,
    *,
    ttl: Ttl,
    kept_in: Path | None = None,
    clock: Callable[[], float] = trio.current_time,
    wall: Callable[[], datetime] = _now,
) -> AsyncIterator[Catalogue]:
    """The tree as this user sees it. At the end, questions under way are given up.

    ``kept_in`` is a folder, of this user and facility, for what the next mount can use.
    """
    questions, listings = Questions(icat, keeper), KeptListings(kept_in)
    async with service_nursery() as nursery:
        lifetimes = Lifetimes(ttl.default_s, ttl.running_visit_s, wall)
        library = Library(
            questions,
            nursery,
            relisting=Relisting(questions, listings, lifetimes),
            lifetimes=lifetimes,
            clock=clock,
        )
        yield Catalogue(questions, library, listings, facts_s=ttl.default_s, clock=clock)
        nursery.cancel_scope.cancel()
