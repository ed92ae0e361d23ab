"""Changes of our own, and invalidation: what holds against which answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from support.lookups import dataset, missing, names
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue.node import NodeKey
from icatfs.errors import NotFound
from icatfs.values import DatafileId, DatasetId, Kind


@pytest.mark.parametrize("is_listed", [True, False])
async def test_an_adopted_datafile_is_there_at_once(world: Any, is_listed: bool) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        if is_listed:
            await catalogue.listing(node)
        await missing(catalogue, node, "new")
        await missing(catalogue, node, "sub")
        asked = world.icat.asked
        stored = catalogue.adopt(node, world.icat.datafile_in(1, 9, "new"))
        inner = catalogue.adopt(node, world.icat.datafile_in(1, 10, "sub/inner"))
        assert (stored.name, inner.path_in_dataset) == ("new", "sub/inner")
        assert await catalogue.lookup(node, "new") == stored
        assert await catalogue.lookup(await catalogue.lookup(node, "sub"), "inner") == inner
        assert await catalogue.node(stored.key) == stored
        assert sorted(await names(catalogue, node)) == ["new", "sub"]
        assert world.icat.asked == asked


async def test_a_datafile_adopted_before_any_question_is_there_at_once(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        stored = catalogue.adopt(node, world.icat.datafile_in(1, 9, "new"))
        assert await catalogue.lookup(node, "new") == stored
        assert world.icat.asked == 0
        assert await names(catalogue, node) == ["new"]


async def test_a_thousand_adopted_datafiles_cost_no_query(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        listing = await catalogue.listing(node)
        world.icat.queries.clear()
        for i in range(1000):
            await missing(catalogue, node, f"f{i}")
            catalogue.adopt(node, world.icat.datafile_in(1, 100 + i, f"f{i}"))
        assert len(await catalogue.listing(node)) == 1000
        assert len(listing) == 0
        assert world.icat.asked == 0


async def test_adopting_the_same_datafile_again_renews_its_facts(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        await catalogue.listing(node)
        catalogue.adopt(node, world.icat.row(9, "new"))
        renewed = catalogue.adopt(node, world.icat.row(9, "renamed", size=99))
        assert await names(catalogue, node) == ["renamed"]
        assert (await catalogue.lookup(node, "renamed")).size == renewed.size == 99
        await missing(catalogue, node, "new")


async def test_an_adopted_datafile_survives_an_answer_begun_before_it(
    world: Any, nursery: trio.Nursery
) -> None:
    world.icat.datafile_in(1, 5, "old")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        world.icat.gate = trio.Event()
        nursery.start_soon(catalogue.listing, node)
        await wait_all_tasks_blocked()
        catalogue.adopt(node, world.icat.row(9, "new"))
        catalogue.forget_datafile(node, DatafileId(5))
        world.icat.gate.set()
        await wait_all_tasks_blocked()
        assert await names(catalogue, node) == ["new"]


async def test_a_name_asked_for_before_it_was_adopted_is_asked_for_again(
    large: Any, nursery: trio.Nursery
) -> None:
    async with large.catalogue() as catalogue:
        node = await dataset(catalogue, large)
        await catalogue.lookup(node, "top")
        large.icat.gate = trio.Event()
        nursery.start_soon(catalogue.lookup, node, "new")
        await wait_all_tasks_blocked()
        catalogue.adopt(node, large.icat.datafile_in(1, 9000, "new"))
        large.icat.gate.set()
        await wait_all_tasks_blocked()
        assert (await catalogue.lookup(node, "new")).key.id == 9000


async def test_a_forgotten_datafile_is_gone_at_once(world: Any) -> None:
    for i, name in enumerate(["a", "sub/b", "/a", "c"], 5):
        world.icat.datafile_in(1, i, name)
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        assert await names(catalogue, node) == ["a", "sub", "a%~7", "c"]
        catalogue.forget_datafile(node, DatafileId(6))
        catalogue.forget_datafile(node, DatafileId(5))
        assert (await catalogue.lookup(node, "c")).key.id == 8
        await missing(catalogue, node, "sub")
        assert (await catalogue.lookup(node, "a")).key.id == 7
        with pytest.raises(NotFound):
            await catalogue.node(NodeKey(Kind.DATAFILE, 5))
        assert await names(catalogue, node) == ["a", "c"]
        assert dict(world.icat.queries) == {"datafiles": 1, "home": 1}


async def test_an_adopted_dataset_is_there_at_once_and_can_be_forgotten(world: Any) -> None:
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        await catalogue.listing(visit)
        made = catalogue.adopt_dataset(visit, world.icat.dataset_in(1, 50, "greet/ings"))
        assert made.name == "greet%2Fings"
        assert await catalogue.lookup(visit, made.name) == made
        assert await names(catalogue, visit) == ["ds", "greet%2Fings"]
        assert await names(catalogue, made) == []
        catalogue.forget_dataset(visit, DatasetId(50))
        assert await names(catalogue, visit) == ["ds"]


async def test_invalidating_a_dataset_or_a_folder_in_it_forgets_both(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a/b")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        folder = await catalogue.lookup(node, "a")
        for key in (node.key, folder.key):
            await missing(catalogue, node, f"new{key.kind}")
            world.icat.datafile_in(1, len(world.icat.datafile_rows[1]) + 10, f"new{key.kind}")
            await missing(catalogue, node, f"new{key.kind}")
            catalogue.invalidate(key)
            await catalogue.lookup(node, f"new{key.kind}")


@pytest.mark.parametrize("which", ["F", "F/A"])
async def test_invalidating_investigations_forgets_their_visits(world: Any, which: str) -> None:
    async with world.catalogue() as catalogue:
        facility, investigation = [await world.walk(catalogue, path) for path in ("F", "F/A")]
        await catalogue.listing(facility)
        await catalogue.listing(investigation)
        world.icat.visit(1, 4, "A", "v3")
        assert await names(catalogue, investigation) == ["v1", "v2"]
        catalogue.invalidate((await world.walk(catalogue, which)).key)
        assert await names(catalogue, investigation) == ["v1", "v2", "v3"]


async def test_an_answer_begun_before_invalidation_is_not_kept(
    world: Any, nursery: trio.Nursery
) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        world.icat.gate = trio.Event()
        nursery.start_soon(catalogue.listing, node)
        await wait_all_tasks_blocked()
        world.icat.datafile_in(1, 5, "new")
        catalogue.invalidate(node.key)
        world.icat.gate.set()
        assert await names(catalogue, node) == ["new"]
        await wait_all_tasks_blocked()
        assert await names(catalogue, node) == ["new"]


async def test_facts_are_asked_for_once(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    async with world.catalogue() as catalogue:
        for _ in range(3):
            facts = await catalogue.datafile_facts(DatafileId(5))
            assert facts is not None
            assert facts.doi == "doi:5"
        assert world.icat.queries["datafile_facts"] == 1
