"""The catalogue over HTTP: the tree of the embedded facility, and what it costs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue.node import nanoseconds
from icatfs.catalogue.tree import Ttl, open_catalogue
from icatfs.errors import NotFound, ServerError
from icatfs.facility.handle import running_facility
from icatfs.icat import query as q
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.transport import open_transport
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from icatfs.catalogue.listing import Listing
    from icatfs.catalogue.node import Node
    from icatfs.catalogue.tree import Catalogue
    from icatfs.facility.testing import FacilityHandle, StartFacility


@asynccontextmanager
async def opened(
    handle: FacilityHandle,
    user: str = "simple/root",
    *,
    ttl: Ttl | None = None,
    kept_in: Path | None = None,
) -> AsyncIterator[Catalogue]:
    auth, _, name = user.partition("/")
    credentials = Credentials(auth, {"username": name, "password": handle.users[user]})
    async with open_transport() as transport:
        icat = IcatClient(transport, handle.icat)
        async with (
            open_session(icat, credentials) as keeper,
            open_catalogue(icat, keeper, ttl=ttl or Ttl(), kept_in=kept_in) as catalogue,
        ):
            yield catalogue


@asynccontextmanager
async def writer(handle: FacilityHandle) -> AsyncIterator[tuple[IcatClient, str]]:
    """Somebody else who changes the catalogue."""
    async with open_transport() as transport:
        session = await trio.to_thread.run_sync(handle.login)
        yield IcatClient(transport, handle.icat), session


async def walk(catalogue: Catalogue, path: str) -> Node:
    node = catalogue.root
    for name in path.split("/"):
        node = await catalogue.lookup(node, name)
    return node


async def everything(catalogue: Catalogue) -> dict[str, Node]:
    """All nodes by path, found by listing every folder."""
    found: dict[str, Node] = {}
    pending = [("", catalogue.root)]
    while pending:
        path, folder = pending.pop()
        for node in await catalogue.listing(folder):
            below = f"{path}/{node.name}" if path else node.name
            assert below not in found
            found[below] = node
            if node.is_folder:
                pending.append((below, node))
    return found


async def queries(handle: FacilityHandle) -> int:
    counters = await trio.to_thread.run_sync(handle.counters)
    return int(counters["queries"])


async def ids(handle: FacilityHandle, entity: str) -> list[int]:
    rows = await trio.to_thread.run_sync(
        handle.search, f"SELECT x.id FROM {entity} x ORDER BY x.id"
    )
    return [int(row) for row in rows]


async def test_the_tree_of_the_sample(facility: FacilityHandle) -> None:
    async with opened(facility) as catalogue:
        found = await everything(catalogue)
        files = [path for path, node in found.items() if node.kind is Kind.DATAFILE]
        assert len(files) == 11
        node = found["ESNF/12100409-ST/1.1-P/e208945/e208945.nxs"]
        assert node.size == 396430
        assert node.version.crc32 == 0x1DB15F18
        visit = found["ESNF/12100409-ST/1.1-P"]
        assert visit.mtime_ns == nanoseconds(datetime(2012, 8, 6, 1, 10, 8, tzinfo=UTC))
        assert found["ESNF/12100409-ST"].mtime_ns == visit.mtime_ns


async def test_each_folder_of_the_sample_is_asked_for_once(facility: FacilityHandle) -> None:
    async with opened(facility) as catalogue:
        before = await queries(facility)
        found = await everything(catalogue)
        visits = sum(node.kind is Kind.VISIT for node in found.values())
        datasets = sum(node.kind is Kind.DATASET for node in found.values())
        assert await queries(facility) - before == 2 + visits + datasets
        await everything(catalogue)
        for path in found:
            await walk(catalogue, path)
            await walk(catalogue, path)
        assert await queries(facility) - before == 2 + visits + datasets


async def test_a_path_costs_one_query_for_each_level(facility: FacilityHandle) -> None:
    async with opened(facility) as catalogue:
        before = await queries(facility)
        node = await walk(catalogue, "ESNF/12100409-ST/1.1-P/e208945/e208945.nxs")
        assert await queries(facility) - before == 4
        assert await catalogue.node(node.key) == node
        assert await queries(facility) - before == 4


async def test_a_key_alone_is_enough(facility: FacilityHandle) -> None:
    async with opened(facility) as catalogue:
        found = await everything(catalogue)
    for node in list(found.values())[::5]:
        async with opened(facility) as catalogue:
            assert await catalogue.node(node.key) == node


async def test_what_a_user_may_not_see_is_not_there(facility: FacilityHandle) -> None:
    async with opened(facility, "db/ahau") as catalogue:
        found = await everything(catalogue)
        # Five files are visible, but the investigation of one of them is not: it has no path.
        assert sum(node.kind is Kind.DATAFILE for node in found.values()) == 4
        with pytest.raises(NotFound):
            await walk(catalogue, "ESNF/12100409-ST")


async def test_facts_that_listings_leave_out(facility: FacilityHandle) -> None:
    async with opened(facility) as catalogue:
        node = await walk(catalogue, "ESNF/12100409-ST/1.1-P/e208945/e208945.nxs")
        facts = await catalogue.datafile_facts(DatafileId(node.key.id))
        assert facts is not None


async def test_everything_hostile_is_reachable_by_its_path(start_facility: StartFacility) -> None:
    handle = start_facility("--holdings", "hostile")
    async with opened(handle) as catalogue:
        found = await everything(catalogue)
        for kind, entity in (
            (Kind.FACILITY, "Facility"),
            (Kind.VISIT, "Investigation"),
            (Kind.DATASET, "Dataset"),
            (Kind.DATAFILE, "Datafile"),
        ):
            shown = sorted(node.key.id for node in found.values() if node.kind is kind)
            assert shown == await ids(handle, entity)
        assert all(0 < len(node.name.encode()) <= 255 for node in found.values())
    async with opened(handle) as catalogue:  # by name, before anything is listed
        for path, node in found.items():
            assert (await walk(catalogue, path)).key == node.key


async def test_a_large_dataset_costs_one_query_for_each_page(
    start_facility: StartFacility,
) -> None:
    handle = start_facility("--holdings", "large", "--size", "25000")
    async with opened(handle) as catalogue:
        dataset = await walk(catalogue, "LARGE/BIG-1/1/many")
        before = await queries(handle)
        listing = await catalogue.listing(dataset)
        assert len(listing) == 25_000
        assert await queries(handle) - before <= 1 + 3
        name = listing[12_345].name
        assert (await catalogue.lookup(dataset, name)).key == listing[12_345].key
        assert await queries(handle) - before <= 1 + 3
    async with opened(handle) as catalogue:
        dataset = await walk(catalogue, "LARGE/BIG-1/1/many")
        before = await queries(handle)
        assert (await catalogue.lookup(dataset, name)).name == name
        with pytest.raises(NotFound):
            await catalogue.lookup(dataset, "nothing")
        assert await queries(handle) - before == 3


@pytest.fixture(scope="module")
def many() -> Iterator[FacilityHandle]:
    """A dataset of 25,000 files, in three pages."""
    with running_facility("--holdings", "large", "--size", "25000") as handle:
        yield handle


@pytest.fixture
async def faults(many: FacilityHandle) -> AsyncIterator[Callable[..., Awaitable[None]]]:
    """Switches faults of that facility on; off again at the end."""

    async def add(*faults: dict[str, Any]) -> None:
        await trio.to_thread.run_sync(partial(many.faults, *faults, clear=True))

    yield add
    await add()


async def rest_of(listing: Listing) -> None:
    while await listing.has_more(len(listing)):
        pass


BIG = "LARGE/BIG-1/1/many"
LATER_PAGES = {"endpoint": "icat/entityManager", "entity": "x.id > 10000"}


async def test_the_first_page_is_read_while_the_others_are_awaited(
    many: FacilityHandle, faults: Callable[..., Awaitable[None]]
) -> None:
    async with opened(many) as catalogue:
        dataset = await walk(catalogue, BIG)
        await faults({"kind": "latency", "seconds": 1.0, **LATER_PAGES})
        before = await queries(many)
        listing = await catalogue.arriving(dataset)
        assert len(listing) == 10_000
        assert await queries(many) - before <= 2
        assert await catalogue.lookup(dataset, listing[5_000].name) == listing[5_000]
        assert await queries(many) - before <= 2
        await rest_of(listing)
        assert len(listing) == 25_000
        assert await queries(many) - before == 4


async def test_a_page_that_fails_makes_no_listing_short(
    many: FacilityHandle, faults: Callable[..., Awaitable[None]]
) -> None:
    async with opened(many) as catalogue:
        dataset = await walk(catalogue, BIG)
        await faults({"kind": "error", "status": 500, **LATER_PAGES})
        listing = await catalogue.arriving(dataset)
        with pytest.raises(ServerError):
            await rest_of(listing)
        await faults()
        assert len(await catalogue.listing(dataset)) == 25_000


async def test_a_known_listing_costs_one_query_and_sees_every_change(
    many: FacilityHandle, tmp_path: Path
) -> None:
    async with opened(many, ttl=Ttl(0.0, 0.0), kept_in=tmp_path) as catalogue:
        dataset = await walk(catalogue, BIG)
        listing = await catalogue.listing(dataset)
        before = await queries(many)
        assert (await catalogue.listing(dataset)).identity is listing.identity
        assert await queries(many) - before == 1
        await wait_all_tasks_blocked()
    async with opened(many, ttl=Ttl(0.0, 0.0), kept_in=tmp_path) as catalogue:
        dataset = await walk(catalogue, BIG)
        before = await queries(many)
        listing = await catalogue.listing(dataset)
        assert len(listing) == 25_000
        assert await queries(many) - before == 1
        async with writer(many) as (icat, session):
            made = {"name": "zz-new", "dataset": {"id": 1}, "fileSize": 5}
            (new,) = await icat.write(session, [{"Datafile": made}])
            assert (await catalogue.listing(dataset)).find("zz-new") is not None
            await icat.write(session, [{"Datafile": {"id": new, "fileSize": 7}}])
            found = (await catalogue.listing(dataset)).find("zz-new")
            assert found is not None
            assert found.size == 7
            await icat.delete(session, "Datafile", [new])
            assert len(await catalogue.listing(dataset)) == 25_000


WIDE = "LARGE/WIDE-1/1"


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a thousand rows: the visit `WIDE` has three."""
    monkeypatch.setattr(q, "MAX_PAGE", 1000)


@pytest.mark.usefixtures("small_pages")
async def test_a_visit_of_many_datasets_costs_one_query_when_it_is_known(
    many: FacilityHandle, tmp_path: Path
) -> None:
    ttl = Ttl(0.0, 0.0)
    async with opened(many, ttl=ttl, kept_in=tmp_path) as catalogue:
        visit = await walk(catalogue, WIDE)
        before = await queries(many)
        listing = await catalogue.listing(visit)
        assert len(listing) == 2_500
        assert await queries(many) - before == 4
        assert (await catalogue.listing(visit)).identity is listing.identity
        assert await queries(many) - before == 5
        await wait_all_tasks_blocked()
    async with opened(many, ttl=ttl, kept_in=tmp_path) as catalogue:
        visit = await walk(catalogue, WIDE)
        before = await queries(many)
        again = await catalogue.listing(visit)
        assert [node.entity for node in again] == [node.entity for node in listing]
        assert await queries(many) - before == 1
        async with writer(many) as (icat, session):
            (kind,) = await icat.values(session, "SELECT MIN(x.id) FROM DatasetType x")
            made = {"name": "zz-new", "investigation": {"id": 2}, "type": {"id": kind}}
            (new,) = await icat.write(session, [{"Dataset": {**made, "complete": False}}])
            assert (await catalogue.listing(visit)).find("zz-new") is not None
            await icat.delete(session, "Dataset", [new])
            assert len(await catalogue.listing(visit)) == 2_500


async def test_a_facility_of_many_visits_costs_one_query_when_it_is_known(
    many: FacilityHandle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(q, "MAX_PAGE", 20)
    ttl = Ttl(0.0, 0.0)
    async with opened(many, ttl=ttl, kept_in=tmp_path) as catalogue:
        listing = await catalogue.listing(await walk(catalogue, "LARGE"))
        assert len(listing) > 20
        await wait_all_tasks_blocked()
    async with opened(many, ttl=ttl, kept_in=tmp_path) as catalogue:
        facility = await walk(catalogue, "LARGE")
        before = await queries(many)
        again = await catalogue.listing(facility)
        assert [node.key for node in again] == [node.key for node in listing]
        assert await queries(many) - before == 1
        assert (await catalogue.listing(facility)).identity is again.identity
        assert await queries(many) - before == 2
