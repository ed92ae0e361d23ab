"""The catalogue: what it asks, how often, and what one answer is good for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from support.lookups import dataset, missing, names
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue import shelf as shelf_module
from icatfs.catalogue.node import NodeKey, content_version
from icatfs.errors import FacilityUnreachable
from icatfs.values import Kind

if TYPE_CHECKING:
    from icatfs.catalogue.tree import Catalogue


async def test_walking_down_costs_one_query_for_each_level(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a/b")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, "F/A/v1/ds/a/b")
        assert node.key == NodeKey(Kind.DATAFILE, 5)
        assert dict(world.icat.queries) == {
            "facilities": 1,
            "investigations_named": 1,
            "dataset_named": 1,
            "first": 1,
        }
        await world.walk(catalogue, "F/A/v1/ds/a/b")
        assert world.icat.asked == 4


async def test_listing_everything_costs_one_query_for_each_folder(world: Any) -> None:
    for i in range(10):
        world.icat.datafile_in(1, i, f"sub{i % 3}/deep/{i}")
    async with world.catalogue() as catalogue:
        pending, seen = [catalogue.root], []
        while pending:
            folder = pending.pop()
            for node in await catalogue.listing(folder):
                seen.append(node)
                pending += [node] if node.is_folder else []
        assert sum(node.kind is Kind.DATAFILE for node in seen) == 10
        assert dict(world.icat.queries) == {
            "facilities": 1,
            "investigations": 1,
            "datasets": 3,
            "datafiles": 1,
        }


async def test_the_datafiles_of_a_listed_dataset_are_told_without_asking(world: Any) -> None:
    for i in (9, 5, 7):
        world.icat.datafile_in(1, i, f"sub{i}/f")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        assert catalogue.datafiles(node.key.id) is None
        assert catalogue.datafiles(99) is None
        await names(catalogue, node)
        world.icat.queries.clear()
        assert [row.id for row in catalogue.datafiles(node.key.id)] == [5, 7, 9]
        assert (
            content_version(catalogue.datafiles(node.key.id)[1])
            == (await catalogue.node(NodeKey(Kind.DATAFILE, 7))).version
        )
        assert not world.icat.queries


async def test_the_visits_of_one_name_are_listed_without_the_facility(world: Any) -> None:
    async with world.catalogue() as catalogue:
        investigation = await world.walk(catalogue, "F/A")
        assert await names(catalogue, investigation) == ["v1", "v2"]
        assert world.icat.queries["investigations"] == 0
        assert world.icat.queries["investigations_named"] == 1


async def test_investigations_are_grouped_by_name(world: Any) -> None:
    async with world.catalogue() as catalogue:
        facility = await world.walk(catalogue, "F")
        listing = await catalogue.listing(facility)
        assert list(listing.names()) == ["A", "B"]
        assert listing[0].key == NodeKey(Kind.INVESTIGATION, 1, "A")


async def test_misses_in_a_listed_folder_are_free(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        await catalogue.listing(node)
        for i in range(1000):
            await missing(catalogue, node, f"candidate{i}")
        assert world.icat.asked == 1


async def test_a_miss_in_a_folder_not_listed_is_asked_for_once(world: Any) -> None:
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        world.icat.queries.clear()
        for _ in range(5):
            await missing(catalogue, visit, "nothing")
        assert dict(world.icat.queries) == {"dataset_named": 1}
        world.now += 61
        await missing(catalogue, visit, "nothing")
        assert world.icat.queries["dataset_named"] == 2


async def test_after_many_single_questions_the_folder_is_listed(world: Any) -> None:
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        world.icat.queries.clear()
        for i in range(500):
            await missing(catalogue, visit, f"nothing{i}")
        assert dict(world.icat.queries) == {
            "dataset_named": shelf_module.PATIENCE,
            "datasets": 1,
        }


async def test_single_questions_over_a_long_time_do_not_add_up(world: Any) -> None:
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        for i in range(100):
            world.now += 10
            await missing(catalogue, visit, f"nothing{i}")
        assert world.icat.queries["datasets"] == 0


@pytest.mark.parametrize("name", ["%41", "%2e%2E", "x" * 256, "%~", "\udcff", "."])
async def test_names_that_nothing_is_shown_as_are_not_asked_for(world: Any, name: str) -> None:
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        node = await dataset(catalogue, world)
        await missing(catalogue, visit, name)
        await missing(catalogue, node, name)
        assert world.icat.asked == 0


async def test_a_name_with_an_id_is_found_by_listing(world: Any) -> None:
    long = "試" * 200
    world.icat.dataset_in(1, 8, long)
    world.icat.datafile_in(1, 5, "a")
    world.icat.datafile_in(1, 6, "/a")
    async with world.catalogue() as catalogue:
        assert (await world.walk(catalogue, "F/A/v1/" + "試" * 84 + "%~8")).key.id == 8
        assert world.icat.queries["datasets"] == 1
        assert (await world.walk(catalogue, "F/A/v1/ds/a%~6")).key.id == 6
        visit = await world.walk(catalogue, "F/A/v1")
        await missing(catalogue, visit, "ds%~1")
        assert world.icat.queries["datasets"] == 1


async def test_odd_names_are_found_on_every_level(world: Any) -> None:
    world.icat.facility(2, "@2nd/facility")
    world.icat.visit(2, 20, "CAL_ALF_15/03/2019 11:49:44", "..")
    world.icat.dataset_in(20, 30, "50%2F")
    world.icat.datafile_in(30, 40, "/%/.")
    path = "%402nd%2Ffacility/CAL_ALF_15%2F03%2F2019 11:49:44/%2E%2E/50%252F/%25/%2E"
    async with world.catalogue() as catalogue:
        assert (await world.walk(catalogue, path)).key.id == 40


async def test_only_the_answer_that_is_equal_byte_for_byte_counts(world: Any) -> None:
    world.icat.fold = str.casefold
    world.icat.max_entities = 3
    for i, name in enumerate(["Case", "case", "CASE/x", "z1", "z2"], 1):
        world.icat.datafile_in(1, i, name)
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        assert (await catalogue.lookup(node, "case")).key.id == 2
        assert (await catalogue.lookup(node, "CASE")).kind is Kind.FOLDER
        await missing(catalogue, node, "cASE")
        assert dict(world.icat.queries) == {"first": 1, "near": 3}


async def test_in_a_large_dataset_a_path_is_asked_for_alone(large: Any) -> None:
    async with large.catalogue() as catalogue:
        node = await dataset(catalogue, large)
        assert (await catalogue.lookup(node, "top")).key.id == 2000
        scan = await catalogue.lookup(node, "scan")
        assert scan.kind is Kind.FOLDER
        assert (await catalogue.lookup(scan, "77.h5")).key.id == 1077
        await missing(catalogue, scan, "none.h5")
        assert dict(large.icat.queries) == {"first": 1, "near": 4}
        assert (await catalogue.lookup(scan, "77.h5")).key.id == 1077
        await missing(catalogue, scan, "none.h5")
        assert large.icat.asked == 5


async def test_a_single_answer_agrees_with_the_listing(large: Any) -> None:
    paths = ["top", "both", "both/inner", "both%~2001", "twice", "twice%~2004", "scan/5.h5"]

    async def ids(catalogue: Catalogue) -> list[NodeKey]:
        return [(await large.walk(catalogue, f"F/A/v1/ds/{path}")).key for path in paths]

    async with large.catalogue() as catalogue:
        alone = await ids(catalogue)
    async with large.catalogue() as catalogue:
        node = await dataset(catalogue, large)
        await catalogue.listing(node)
        assert await ids(catalogue) == alone


async def test_names_with_doubled_slashes_make_a_large_dataset_listed(large: Any) -> None:
    large.icat.datafile_in(1, 1, "odd//name")
    async with large.catalogue() as catalogue:
        node = await dataset(catalogue, large)
        assert (await catalogue.lookup(node, "top")).key.id == 2000
        odd = await catalogue.lookup(node, "odd")
        assert (await catalogue.lookup(odd, "name")).key.id == 1
        assert large.icat.queries["first"] == large.icat.queries["datafiles"] == 1
        assert large.icat.queries["near"] <= 1


async def test_many_paths_in_a_large_dataset_make_it_listed(large: Any) -> None:
    for i in range(400):
        large.icat.datafile_in(1, 5000 + i, f"scan/{i}.h5")
    large.icat.datafile_rows[1] = large.icat.datafile_rows[1][100:]
    async with large.catalogue() as catalogue:
        scan = await large.walk(catalogue, "F/A/v1/ds/scan")
        large.icat.queries.clear()
        for i in range(400):
            assert (await catalogue.lookup(scan, f"{i}.h5")).key.id == 5000 + i
        assert large.icat.queries["near"] == shelf_module.PATIENCE_IF_LARGE - 1
        assert large.icat.queries["datafiles"] == 1


async def test_what_many_want_at_once_is_asked_once(world: Any, nursery: trio.Nursery) -> None:
    for i in range(5):
        world.icat.datafile_in(1, i, f"{i}")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        world.icat.gate = trio.Event()
        for _ in range(5):
            nursery.start_soon(catalogue.listing, node)
            nursery.start_soon(catalogue.lookup, node, "3")
        await wait_all_tasks_blocked()
        assert world.icat.asked == 1
        world.icat.gate.set()
        await wait_all_tasks_blocked()
        assert world.icat.asked == 1


async def test_a_cancelled_caller_harms_nobody(world: Any, nursery: trio.Nursery) -> None:
    results: list[int] = []
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        world.icat.gate = trio.Event()

        async def wait() -> None:
            results.append(len(await catalogue.listing(node)))

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as impatient:
                impatient.start_soon(wait)
                await wait_all_tasks_blocked()
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                scope.cancel()
        world.icat.gate.set()
        await wait_all_tasks_blocked()
        assert results == [0]
        assert world.icat.asked == 1


async def test_a_failure_is_not_remembered(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        world.icat.error = FacilityUnreachable("No connection.")
        with pytest.raises(FacilityUnreachable):
            await catalogue.listing(node)
        with pytest.raises(FacilityUnreachable):
            await catalogue.lookup(node, "a")
        world.icat.error = None
        assert await names(catalogue, node) == []


async def test_the_catalogue_closes_while_it_asks(world: Any) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as outer, world.catalogue() as catalogue:
            world.icat.gate = trio.Event()

            async def wait() -> None:
                with pytest.raises(Exception, match="taken down"):
                    await catalogue.listing(catalogue.root)

            outer.start_soon(wait)
            await wait_all_tasks_blocked()


async def test_an_error_of_the_user_comes_out_as_it_is(world: Any) -> None:
    with pytest.raises(KeyError):
        async with world.catalogue():
            raise KeyError("x")


async def test_what_is_remembered_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "MAX_FOLDERS", 10)
    for i in range(100):
        world.icat.dataset_in(1, 1000 + i, f"d{i}")
        world.icat.datafile_in(1000 + i, i, "f")
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        keys = []
        for node in await catalogue.listing(visit):
            keys += [entry.key for entry in await catalogue.listing(node)]
        assert catalogue.status().folders <= 11
        assert catalogue.status().asking == 0
        for key in keys:
            assert (await catalogue.node(key)).key == key


async def test_a_dataset_of_100_000_files_costs_one_query_a_page(world: Any) -> None:
    rows = world.icat.datafile_rows[1]
    rows += [world.icat.row(i, f"/scan{i % 10:04}/frame{i:06}.h5") for i in range(100_000)]
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        scan = (await catalogue.listing(node))[3]
        assert len(await catalogue.listing(scan)) == 10_000
        assert (await catalogue.lookup(scan, "frame012343.h5")).key.id == 12_343
        assert catalogue.status().entries >= 100_000
        assert dict(world.icat.queries) == {"datafiles": 1, "more": 10}
