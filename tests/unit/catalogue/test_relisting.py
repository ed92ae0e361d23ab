"""Listings of more than a page: shown while they arrive, asked about when they are known."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue import kept, relisting
from icatfs.catalogue import shelf as shelf_module
from icatfs.catalogue.node import NodeKey
from icatfs.errors import BadRequest, FacilityUnreachable, NotFound
from icatfs.values import DatafileId, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.catalogue.listing import Listing
    from icatfs.catalogue.node import Node
    from icatfs.catalogue.tree import Catalogue

COUNT = 100


@pytest.fixture
def long(world: Any) -> Any:
    """Dataset 1 has ten pages of ten files."""
    world.icat.max_entities = 10
    for i in range(COUNT):
        world.icat.datafile_in(1, i, f"{i:03}.h5")
    return world


async def dataset(catalogue: Catalogue, world: Any) -> Node:
    node: Node = await world.walk(catalogue, "F/A/v1/ds")
    world.icat.queries.clear()
    return node


async def read(listing: Listing) -> list[str]:
    """The names, as a reader gets them one after the other."""
    names: list[str] = []
    while await listing.has_more(len(names)):
        names += [entry.name for entry in listing.glimpses(len(names), len(names) + 7)]
    return names


def expected(*ids: int) -> list[str]:
    return [f"{i:03}.h5" for i in ids]


# -- while it arrives


async def test_the_first_entries_are_there_before_the_other_pages(
    long: Any, nursery: trio.Nursery
) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        long.icat.gate_after(1)
        listing = await catalogue.arriving(node)
        assert list(listing.names()) == expected(*range(10))
        assert (await catalogue.lookup(node, "005.h5")).key.id == 5
        assert await catalogue.node(listing[3].key) == listing[3]
        names: list[str] = []

        async def go_on() -> None:
            names.extend(await read(listing))

        nursery.start_soon(go_on)
        await wait_all_tasks_blocked()
        assert not names
        long.icat.open_gate()
        await wait_all_tasks_blocked()
        assert names == expected(*range(COUNT))
        assert long.icat.queries["datafiles"] == 1
        assert long.icat.queries["more"] == COUNT // 10


async def test_all_readers_share_what_arrives_and_none_is_missed(
    long: Any, nursery: trio.Nursery
) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        long.icat.gate_after(3)
        first = await catalogue.arriving(node)
        scope = trio.CancelScope()

        async def leave() -> None:
            with scope:
                await read(first)

        nursery.start_soon(leave)
        await wait_all_tasks_blocked()
        second = await catalogue.arriving(node)
        scope.cancel()
        await wait_all_tasks_blocked()
        long.icat.open_gate()
        assert await read(second) == expected(*range(COUNT))
        assert len(await catalogue.listing(node)) == COUNT
        assert long.icat.queries["datafiles"] == 1


async def test_a_page_that_fails_fails_the_readers_and_nothing_is_short(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        long.icat.gate_after(4)
        listing = await catalogue.arriving(node)
        long.icat.error = FacilityUnreachable("gone")
        long.icat.open_gate()
        with pytest.raises(FacilityUnreachable):
            await read(listing)
        with pytest.raises(FacilityUnreachable):
            await catalogue.listing(node)
        long.icat.error = None
        assert await read(await catalogue.arriving(node)) == expected(*range(COUNT))


async def test_a_folder_whose_first_file_is_on_a_later_page_is_waited_for(long: Any) -> None:
    long.icat.datafile_in(1, 95_000, "late/x")
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        folder = await catalogue.lookup(node, "late")
        long.icat.queries.clear()
        assert await read(await catalogue.arriving(folder)) == ["x"]
        assert long.icat.queries["datafiles"] == 1


async def test_a_file_removed_while_its_listing_arrives_is_not_found(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        long.icat.gate_after(1)
        await catalogue.arriving(node)
        catalogue.forget_datafile(node, DatafileId(5))
        long.icat.remove_datafile(1, 5)
        long.icat.open_gate()
        with pytest.raises(NotFound):
            await catalogue.lookup(node, "005.h5")
        assert len(await catalogue.listing(node)) == COUNT - 1


async def test_what_this_mount_stores_meanwhile_is_in_the_next_listing(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        long.icat.gate_after(2)
        before = await catalogue.arriving(node)
        catalogue.adopt(node, long.icat.row(7_000, "new"))
        long.icat.open_gate()
        assert await read(before) == expected(*range(COUNT))
        assert [*expected(*range(COUNT)), "new"] == await read(await catalogue.arriving(node))
        assert await read(before) == expected(*range(COUNT))


# -- when it is known


async def test_an_unchanged_listing_is_confirmed_by_one_question(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        before = await catalogue.listing(node)
        for _ in range(3):
            long.now += 61
            long.icat.queries.clear()
            again = await catalogue.listing(node)
            assert again.identity is before.identity
            assert dict(long.icat.queries) == {"mark": 1}


async def test_new_files_cost_the_pages_that_they_fill(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        before = await catalogue.listing(node)
        for i in range(500, 512):
            long.icat.datafile_in(1, i, f"{i}.h5")
        long.now += 61
        long.icat.queries.clear()
        after = await catalogue.listing(node)
        assert after.names()[-12:] == [f"{i}.h5" for i in range(500, 512)]
        assert dict(long.icat.queries) == {"mark": 2, "changed": 1, "more": 3}
        assert after.identity is before.identity
        assert len(before) == COUNT


async def test_what_others_did_is_not_hidden_by_a_file_of_our_own(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        long.icat.remove_datafile(1, 50)
        long.icat.datafile_in(1, 300, "theirs")
        catalogue.adopt(node, long.icat.datafile_in(1, 301, "ours"))
        long.now += 61
        ids = [entry.key.id for entry in await catalogue.listing(node)]
        assert ids == [i for i in [*range(COUNT), 300, 301] if i != 50]


async def test_nor_by_one_that_is_stored_while_the_facility_is_asked(
    long: Any, nursery: trio.Nursery
) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        long.icat.remove_datafile(1, 50)
        long.icat.datafile_in(1, 300, "theirs")
        ours = long.icat.datafile_in(1, 301, "ours")
        long.now += 61
        long.icat.gate_after(0)
        nursery.start_soon(catalogue.listing, node)
        await wait_all_tasks_blocked()
        assert long.icat.queries["mark"] == 1
        catalogue.adopt(node, ours)
        long.icat.open_gate()
        await wait_all_tasks_blocked()
        ids = [entry.key.id for entry in await catalogue.listing(node)]
        assert ids == [i for i in [*range(COUNT), 300, 301] if i != 50]


async def test_a_change_is_not_hidden_by_new_files(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        change(long, 50, checksum="1", modified=long.wall)
        long.icat.datafile_in(1, 300, "new", modified=long.wall + timedelta(hours=3))
        long.now += 61
        listing = await catalogue.listing(node)
        assert listing[50].version.checksum == "1"
        assert len(listing) == COUNT + 1


async def test_changed_files_are_asked_for_alone(long: Any) -> None:
    newer = long.icat.datafile_rows[1][0].modified + timedelta(days=1)
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        change(long, 40, modified=newer, size=77)
        for row in long.icat.datafile_rows[1]:
            if row.id != 40:
                change(long, row.id, modified=row.modified - timedelta(days=1))
        catalogue.invalidate(node.key)
        await catalogue.listing(node)
        change(long, 41, modified=newer + timedelta(days=1), size=78)
        long.now += 61
        long.icat.queries.clear()
        listing = await catalogue.listing(node)
        assert [entry.size for entry in listing if entry.size != 10] == [77, 78]
        assert dict(long.icat.queries) == {"mark": 1, "changed": 1}


def change(world: Any, datafile: int, **values: Any) -> None:
    rows = world.icat.datafile_rows[1]
    index = [row.id for row in rows].index(datafile)
    rows[index] = msgspec.structs.replace(rows[index], **values)


@pytest.mark.parametrize("added", [(), (300,), (300, 301)])
async def test_after_removals_everything_is_asked_for(long: Any, added: tuple[int, ...]) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        long.icat.remove_datafile(1, 50)
        for i in added:
            long.icat.datafile_in(1, i, f"{i}.h5")
        long.now += 61
        names = (await catalogue.listing(node)).names()
        assert names == expected(*(i for i in [*range(COUNT), *added] if i != 50))
        assert long.icat.queries["datafiles"] == 2


async def test_what_a_mark_cannot_tell_is_seen_after_a_while(long: Any) -> None:
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        change(long, 40, checksum="1")  # and neither its size nor the latest change is another
        long.now += 61
        assert (await catalogue.listing(node))[40].version.checksum is None
        long.now += 61
        long.wall += timedelta(seconds=relisting.TRUSTED_AT_REST_S)
        assert (await catalogue.listing(node))[40].version.checksum == "1"


async def test_while_changes_are_going_on_marks_are_believed_for_half_an_hour(long: Any) -> None:
    change(long, 99, modified=long.wall)
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        long.now += 61
        long.wall += timedelta(seconds=relisting.TRUSTED_S - 1)
        await catalogue.listing(node)
        assert long.icat.queries["datafiles"] == 1
        long.now += 61
        long.wall += timedelta(seconds=1)
        await catalogue.listing(node)
        assert long.icat.queries["datafiles"] == 2


async def test_own_changes_in_a_very_large_dataset_are_worked_in_when_it_is_listed(
    long: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "_MANY", 20)
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        await catalogue.listing(node)
        catalogue.forget_datafile(node, DatafileId(5))
        long.icat.remove_datafile(1, 5)
        long.icat.datafile_in(1, 700, "005.h5")
        catalogue.adopt(node, long.icat.row(700, "005.h5"))
        assert (await catalogue.lookup(node, "005.h5")).key.id == 700
        assert (await catalogue.lookup(node, "006.h5")).key.id == 6
        ids = [entry.key.id for entry in await catalogue.listing(node)]
        assert ids == [*(i for i in range(COUNT) if i != 5), 700]
        assert long.icat.queries["datafiles"] == 1
        rows = catalogue.datafiles(node.key.id)
        assert rows is not None
        assert [row.id for row in rows] == ids


async def test_a_server_that_tells_no_mark_is_asked_for_everything(
    long: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(session: str, contents: object, upto: int | None) -> None:
        raise BadRequest("no such function")

    monkeypatch.setattr(long.icat, "mark", refuse)
    async with long.catalogue() as catalogue:
        node = await dataset(catalogue, long)
        for _ in range(2):
            long.now += 61
            assert len(await catalogue.listing(node)) == COUNT
        assert long.icat.queries["datafiles"] == 2


async def test_a_page_that_is_the_same_as_before_leaves_the_listing_as_it_is(world: Any) -> None:
    for i in range(50):
        world.icat.datafile_in(1, i, f"{i:03}.h5")
    async with world.catalogue() as catalogue:
        node = await dataset(catalogue, world)
        before = await catalogue.listing(node)
        world.now += 61
        assert (await catalogue.listing(node)).identity is before.identity
        change(world, 40, checksum="1")
        world.now += 61
        after = await catalogue.listing(node)
        assert after.identity is not before.identity
        assert after[40].version.checksum == "1"
        assert dict(world.icat.queries) == {"datafiles": 3}


# -- between mounts


async def kept_listing(world: Any, folder: Path) -> None:
    """What one mount leaves behind that has listed the dataset."""
    async with world.catalogue(kept_in=folder) as catalogue:
        await catalogue.listing(await dataset(catalogue, world))
        await wait_all_tasks_blocked()
    world.icat.queries.clear()


async def test_the_next_mount_asks_one_question_about_what_was_listed(
    long: Any, tmp_path: Path
) -> None:
    await kept_listing(long, tmp_path / "kept")
    async with long.catalogue(kept_in=tmp_path / "kept") as catalogue:
        node = await dataset(catalogue, long)
        assert await read(await catalogue.arriving(node)) == expected(*range(COUNT))
        assert dict(long.icat.queries) == {"mark": 1}
        assert (await catalogue.lookup(node, "042.h5")).key.id == 42


async def test_the_next_mount_shows_what_has_changed_meanwhile(long: Any, tmp_path: Path) -> None:
    await kept_listing(long, tmp_path / "kept")
    long.icat.datafile_in(1, 500, "500.h5", modified=long.wall)
    async with long.catalogue(kept_in=tmp_path / "kept") as catalogue:
        node = await dataset(catalogue, long)
        assert await read(await catalogue.arriving(node)) == expected(*range(COUNT), 500)
        assert dict(long.icat.queries) == {"mark": 2, "changed": 1, "more": 1}


async def test_after_refresh_nothing_that_was_kept_is_used(long: Any, tmp_path: Path) -> None:
    await kept_listing(long, tmp_path / "kept")
    async with long.catalogue(kept_in=tmp_path / "kept") as catalogue:
        node = await dataset(catalogue, long)
        catalogue.invalidate(node.key)
        await catalogue.listing(node)
        assert long.icat.queries["mark"] == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "foreign", "empty", "longer"])
async def test_a_kept_listing_that_is_damaged_or_foreign_is_as_good_as_none(
    long: Any, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "kept"
    await kept_listing(long, folder)
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 1
        case "cut":
            del content[-20:]
        case "foreign":
            content[7:] = b"something else"
        case "empty":
            content.clear()
        case "longer":
            content[17:25] = b"\xff" * 8
    path.write_bytes(content)
    async with long.catalogue(kept_in=folder) as catalogue:
        node = await dataset(catalogue, long)
        assert len(await catalogue.listing(node)) == COUNT
        assert dict(long.icat.queries)["datafiles"] == 1


async def test_the_listing_of_one_dataset_is_not_taken_for_that_of_another(
    long: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    await kept_listing(long, folder)
    (path,) = folder.iterdir()
    path.rename(folder / "dataset-2.rows")
    assert kept.KeptListings(folder).load(NodeKey(Kind.DATASET, 2)) is None


async def test_kept_listings_are_private_and_bounded(long: Any, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    await kept_listing(long, folder)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    listing = kept.KeptListings(folder).load(NodeKey(Kind.DATASET, 1))
    assert listing is not None
    room = kept.KeptListings(folder, most_bytes=3 * path.stat().st_size)
    for number in range(2, 7):
        room.save(NodeKey(Kind.DATASET, number), listing)
        os.utime(folder / f"dataset-{number}.rows", (number, number))
        if number == 3:
            assert room.load(NodeKey(Kind.DATASET, 2)) is not None
    left = {found.name for found in folder.iterdir()}
    assert left == {f"dataset-{number}.rows" for number in (1, 2, 6)}


async def test_where_nothing_can_be_kept_listing_works_all_the_same(
    long: Any, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_text("a file where the folder should be", encoding="utf-8")
    async with long.catalogue(kept_in=tmp_path / "kept") as catalogue:
        assert len(await catalogue.listing(await dataset(catalogue, long))) == COUNT
