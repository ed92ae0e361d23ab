"""How long an answer is good, and what a known key costs when it no longer is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.lookups import dataset, names

from icatfs.catalogue import shelf as shelf_module
from icatfs.catalogue.naming import shown
from icatfs.catalogue.node import NodeKey, nanoseconds
from icatfs.errors import NotADirectory, NotFound
from icatfs.values import Kind


async def test_a_listing_is_asked_for_again_when_its_time_is_over(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        assert await names(catalogue, node) == []
        world.icat.datafile_in(1, 5, "new")
        world.now += 59
        assert await names(catalogue, node) == []
        world.now += 2
        assert await names(catalogue, node) == ["new"]
        assert world.icat.asked == 2


async def test_a_ttl_of_zero_asks_always_and_is_right(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    async with world.catalogue(default_s=0.0) as catalogue:
        node = await world.walk(catalogue, "F/A/v1/ds/a")
        assert (await catalogue.node(node.key)).key == node.key
        assert len(await catalogue.listing(await catalogue.node(node.parent))) == 1


@pytest.mark.parametrize(
    ("start", "end", "ttl_s"),
    [
        (-1, None, 15),
        (-1, 2, 15),
        (-5, -0.5, 15),
        (-5, -2, 60),
        (1, 2, 60),
        (-400, None, 60),
        (None, None, 60),
    ],
)
async def test_the_datasets_of_a_running_visit_are_listed_more_often(
    world: Any, start: float | None, end: float | None, ttl_s: float
) -> None:
    days = [None if d is None else world.wall + timedelta(days=d) for d in (start, end)]
    world.icat.visit(1, 9, "now", "v", start=days[0], end=days[1])
    world.icat.dataset_in(9, 90, "d")
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/now/v")
        node = await world.walk(catalogue, "F/now/v/d")
        for folder, query in ((visit, "datasets"), (node, "datafiles")):
            world.icat.queries.clear()
            await catalogue.listing(folder)
            world.now += ttl_s - 1
            await catalogue.listing(folder)
            assert world.icat.queries[query] == 1
            world.now += 2
            await catalogue.listing(folder)
            assert world.icat.queries[query] == 2


PATHS = ["F", "F/A", "F/A/v1", "F/A/v1/ds", "F/A/v1/ds/a", "F/A/v1/ds/a/b"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_known_key_is_asked_for_again_only_when_it_is_stale(world: Any, path: str) -> None:
    world.icat.datafile_in(1, 5, "a/b")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, path)
        world.icat.queries.clear()
        assert await catalogue.node(node.key) == node
        assert world.icat.asked == 0
        world.now += 61
        assert await catalogue.node(node.key) == node
        assert world.icat.asked == 1
        assert await catalogue.node(node.key) == node
        assert world.icat.asked == 1


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_alone_is_enough(world: Any, path: str) -> None:
    world.icat.datafile_in(1, 5, "a/b")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, path)
    async with world.catalogue() as catalogue:
        assert await catalogue.node(node.key) == node


async def test_the_root_is_always_there(world: Any) -> None:
    async with world.catalogue() as catalogue:
        assert await catalogue.node(catalogue.root.key) is catalogue.root
        assert world.icat.asked == 0


@pytest.mark.parametrize(
    "key",
    [
        NodeKey(Kind.FACILITY, 99),
        NodeKey(Kind.INVESTIGATION, 1, "Z"),
        NodeKey(Kind.VISIT, 99),
        NodeKey(Kind.DATASET, 99),
        NodeKey(Kind.FOLDER, 99, "a"),
        NodeKey(Kind.FOLDER, 1, "nothing"),
        NodeKey(Kind.FOLDER, 1, "file"),
        NodeKey(Kind.DATAFILE, 99),
    ],
)
async def test_a_key_of_nothing_is_not_found(world: Any, key: NodeKey) -> None:
    world.icat.datafile_in(1, 5, "file")
    async with world.catalogue() as catalogue:
        with pytest.raises(NotFound):
            await catalogue.node(key)


async def test_a_datafile_that_has_gone_is_not_found_after_the_ttl(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, "F/A/v1/ds/a")
        world.icat.remove_datafile(1, 5)
        assert await catalogue.node(node.key) == node
        world.now += 61
        with pytest.raises(NotFound):
            await catalogue.node(node.key)


async def test_a_stale_node_keeps_its_shown_name_and_gets_new_facts(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    world.icat.datafile_in(1, 6, "/a")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, "F/A/v1/ds/a%~6")
        world.icat.remove_datafile(1, 6)
        world.icat.datafile_in(1, 6, "/a", size=11)
        world.now += 61
        fresh = await catalogue.node(node.key)
        assert (fresh.name, fresh.size) == ("a%~6", 11)


async def test_many_stale_keys_make_the_dataset_listed(world: Any) -> None:
    for i in range(200):
        world.icat.datafile_in(1, i, f"{i}")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        keys = [entry.key for entry in await catalogue.listing(node)]
        world.now += 61
        world.icat.queries.clear()
        for key in keys:
            await catalogue.node(key)
        assert dict(world.icat.queries) == {"DatafileRow": shelf_module.PATIENCE, "datafiles": 1}


async def test_names_that_were_looked_for_long_ago_take_no_memory(world: Any) -> None:
    """As of a program that waits for one dataset after another to appear, for months."""
    async with world.catalogue() as catalogue:
        visit = await world.walk(catalogue, "F/A/v1")
        for number in range(500):
            with pytest.raises(NotFound):
                await catalogue.lookup(visit, f"scan-{number}")
            world.now += 7
        assert (await catalogue.lookup(visit, "ds")).key.id == 1
        (shelf,) = (one for one in catalogue._library.shelves if one.key == visit.key)
        assert len(shelf.answers) < 20


async def test_a_file_has_no_entries(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a")
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, "F/A/v1/ds/a")
        with pytest.raises(NotADirectory):
            await catalogue.lookup(node, "b")
        with pytest.raises(NotADirectory):
            await catalogue.listing(node)


async def test_a_folder_that_has_gone_is_not_found(world: Any) -> None:
    world.icat.datafile_in(1, 5, "a/b")
    async with world.catalogue() as catalogue:
        folder = await world.walk(catalogue, "F/A/v1/ds/a")
        world.icat.remove_datafile(1, 5)
        world.now += 61
        with pytest.raises(NotFound):
            await catalogue.listing(folder)


async def test_folders_are_as_old_as_their_measurement(world: Any) -> None:
    start, end = world.wall - 9 * world.day, world.wall - 8 * world.day
    changed = world.wall - world.day
    world.icat.visit(1, 7, "C", "ended", start=start, end=end)
    world.icat.visit(1, 8, "C", "begun", start=start)
    world.icat.visit(1, 9, "D", "undated", modified=changed)
    world.icat.dataset_in(7, 70, "d", start=start, end=end)
    async with world.catalogue() as catalogue:
        expected = {
            "F/C": end,
            "F/C/ended": end,
            "F/C/begun": start,
            "F/D": changed,
            "F/C/ended/d": end,
        }
        for path, moment in expected.items():
            assert (await world.walk(catalogue, path)).mtime_ns == nanoseconds(moment)


@pytest.mark.parametrize("name", ["beam\U0001f4a5time", "\U0001f4a5" * 255])
async def test_names_that_cannot_be_compared_are_found_by_listing(world: Any, name: str) -> None:
    """The client does not ask for them; a database that can store them shows them in listings."""
    world.icat.visit(1, 9, name, "v")
    world.icat.dataset_in(9, 90, name)
    world.icat.datafile_in(90, 900, f"{name}/{name}")
    async with world.catalogue() as catalogue:
        parts = [shown(name, 9), "v", shown(name, 90), shown(name, 900), shown(name, 900)]
        path = "/".join(["F", *parts])
        node = await world.walk(catalogue, path)
        assert node.key == NodeKey(Kind.DATAFILE, 900)
        world.now += 61
        assert (await world.walk(catalogue, path)).key == node.key
