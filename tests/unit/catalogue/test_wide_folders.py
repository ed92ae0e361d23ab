"""Visits of many datasets, and facilities of many visits: asked about when they are known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from trio.testing import wait_all_tasks_blocked

from icatfs.catalogue import relisting
from icatfs.catalogue import shelf as shelf_module
from icatfs.icat.records import DatasetRow, InvestigationRow
from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 45


class Wide:
    """A folder of a given kind with entries of ids 100 to 144, in pages of ten."""

    def __init__(self, world: Any, kind: str) -> None:
        world.icat.max_entities = 10
        self.world = world
        self.queries = world.icat.queries
        self.path, self.what = {
            "visit": ("F/A/v2", "datasets"),
            "facility": ("G", "investigations"),
        }[kind]
        if kind == "facility":
            world.icat.facility(2, "G")
        self._rows: Callable[[], list[Any]] = lambda: (
            world.icat.dataset_rows[2] if kind == "visit" else world.icat.investigation_rows[2]
        )
        self._add: Callable[..., Any] = (
            (lambda one, name, **v: world.icat.dataset_in(2, one, name, **v))
            if kind == "visit"
            else (lambda one, name, **v: world.icat.visit(2, one, name, "v", **v))
        )
        for i in range(COUNT):
            self.add(100 + i)

    def add(self, one: int, **values: Any) -> None:
        self._add(one, f"n{one}", **values)

    def remove(self, one: int) -> None:
        rows = self._rows()
        rows[:] = [row for row in rows if row.id != one]

    def change(self, one: int, **values: Any) -> None:
        rows = self._rows()
        index = [row.id for row in rows].index(one)
        rows[index] = msgspec.structs.replace(rows[index], **values)

    def later(self) -> None:
        """The TTL ends."""
        self.world.now += 61
        self.queries.clear()

    async def node(self, catalogue: Any) -> Any:
        node = await self.world.walk(catalogue, self.path)
        self.queries.clear()
        return node


@pytest.fixture(params=["visit", "facility"])
def wide(world: Any, request: pytest.FixtureRequest) -> Wide:
    return Wide(world, request.param)


@pytest.fixture
def visit(world: Any) -> Wide:
    return Wide(world, "visit")


def names(*ids: int) -> list[str]:
    return [f"n{one}" for one in ids]


ALL = tuple(range(100, 100 + COUNT))


async def test_an_unchanged_folder_is_confirmed_by_one_question(wide: Wide) -> None:
    async with wide.world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        before = await catalogue.listing(node)
        assert list(before.names()) == names(*ALL)
        for _ in range(3):
            wide.later()
            assert (await catalogue.listing(node)).identity is before.identity
            assert dict(wide.queries) == {"mark": 1}


async def test_a_folder_of_less_than_a_page_is_asked_for(world: Any) -> None:
    async with world.catalogue() as catalogue:
        node = await world.walk(catalogue, "F/A/v1")
        for _ in range(2):
            world.icat.queries.clear()
            assert list((await catalogue.listing(node)).names()) == ["ds"]
            assert dict(world.icat.queries) == {"datasets": 1}
            world.now += 61


async def test_only_what_is_new_or_changed_is_asked_for(wide: Wide) -> None:
    recent = wide.world.wall
    wide.change(100, modified=recent)
    async with wide.world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        wide.add(300, modified=recent + timedelta(seconds=1))
        ended = recent - timedelta(days=7)
        wide.change(110, modified=recent + timedelta(seconds=2), end=ended)
        wide.later()
        listing = await catalogue.listing(node)
        assert list(listing.names()) == names(*ALL, 300)
        assert listing[10].mtime_ns == ended.timestamp() * 1e9
        assert dict(wide.queries) == {"mark": 1, "changed": 1}


async def test_many_new_entries_cost_the_pages_that_they_fill(wide: Wide) -> None:
    async with wide.world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        for one in range(300, 315):
            wide.add(one, modified=wide.world.wall)
        wide.later()
        assert list((await catalogue.listing(node)).names()) == names(*ALL, *range(300, 315))
        assert dict(wide.queries) == {"mark": 2, "changed": 1, "more": 3}


@pytest.mark.parametrize("added", [(), (300,)])
async def test_after_removals_everything_is_asked_for(wide: Wide, added: tuple[int, ...]) -> None:
    async with wide.world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        wide.remove(120)
        for one in added:
            wide.add(one)
        wide.later()
        expected = names(*(one for one in (*ALL, *added) if one != 120))
        assert list((await catalogue.listing(node)).names()) == expected
        assert wide.queries[wide.what] == 1


async def test_one_that_takes_the_place_of_another_is_seen(wide: Wide) -> None:
    """Neither is new: who may see which has changed."""
    async with wide.world.catalogue() as catalogue:
        wide.remove(110)
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        wide.remove(120)
        wide.add(110)
        wide.later()
        listed = set((await catalogue.listing(node)).names())
        assert listed == set(names(*(one for one in ALL if one != 120)))


async def test_what_a_mark_cannot_tell_is_seen_after_a_while(wide: Wide) -> None:
    async with wide.world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        wide.change(110, name="other")  # and the latest change is the same as before
        wide.later()
        assert "other" not in (await catalogue.listing(node)).names()
        wide.later()
        wide.world.wall += timedelta(seconds=relisting.TRUSTED_AT_REST_S)
        assert "other" in (await catalogue.listing(node)).names()


async def test_another_visit_of_a_known_name_is_in_its_folder(world: Any) -> None:
    wide = Wide(world, "facility")
    wide.change(100, modified=world.wall)
    async with world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        before = await catalogue.listing(node)
        world.icat.visit(2, 300, "n110", "w", modified=world.wall)
        wide.later()
        after = await catalogue.listing(node)
        assert list(after.names()) == list(before.names())
        below = await catalogue.listing(after[10])
        assert list(below.names()) == ["v", "w"]
        assert dict(wide.queries) == {"mark": 1, "changed": 1}


async def test_a_visit_of_a_confirmed_facility_that_begins_is_listed_more_often(
    world: Any,
) -> None:
    wide = Wide(world, "facility")
    wide.change(110, start=world.wall + timedelta(hours=1))
    async with world.catalogue() as catalogue:
        node = await wide.node(catalogue)
        await catalogue.listing(node)
        visit = await world.walk(catalogue, "G/n110/v")
        await catalogue.listing(visit)
        world.wall += timedelta(hours=2)
        wide.later()
        await catalogue.listing(node)
        assert dict(wide.queries) == {"mark": 1}
        await catalogue.listing(visit)
        wide.queries.clear()
        world.now += 16
        await catalogue.listing(visit)
        assert dict(wide.queries) == {"datasets": 1}


async def test_own_datasets_are_shown_and_hide_nothing_of_others(visit: Wide) -> None:
    async with visit.world.catalogue() as catalogue:
        node = await visit.node(catalogue)
        await catalogue.listing(node)
        visit.add(299, modified=visit.world.wall)
        ours = visit.world.icat.dataset_in(2, 300, "n300", modified=visit.world.wall)
        catalogue.adopt_dataset(node, ours)
        assert list((await catalogue.listing(node)).names()) == names(*ALL, 300)
        visit.later()
        assert list((await catalogue.listing(node)).names()) == names(*ALL, 299, 300)
        assert visit.queries["datasets"] == 0


async def test_a_removed_dataset_of_very_many_hides_no_other(
    visit: Wide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "_MANY", 20)
    async with visit.world.catalogue() as catalogue:
        node = await visit.node(catalogue)
        await catalogue.listing(node)
        catalogue.forget_dataset(node, DatasetId(120))
        visit.remove(120)
        visit.queries.clear()
        assert (await catalogue.lookup(node, "n121")).key.id == 121
        assert not visit.queries
        left = [one for one in ALL if one != 120]
        assert list((await catalogue.listing(node)).names()) == names(*left)


# -- between mounts


async def kept(wide: Wide, folder: Path) -> None:
    """What one mount leaves behind that has listed the folder."""
    async with wide.world.catalogue(kept_in=folder) as catalogue:
        await catalogue.listing(await wide.node(catalogue))
        await wait_all_tasks_blocked()


def empty(folder: Path) -> int:
    """Remove all files of a folder, and tell how many there were."""
    paths = list(folder.iterdir())
    for path in paths:
        path.unlink()
    return len(paths)


async def test_the_next_mount_asks_one_question_about_what_was_listed(
    wide: Wide, tmp_path: Path
) -> None:
    await kept(wide, tmp_path)
    async with wide.world.catalogue(kept_in=tmp_path) as catalogue:
        node = await wide.node(catalogue)
        listing = await catalogue.listing(node)
        assert list(listing.names()) == names(*ALL)
        assert dict(wide.queries) == {"mark": 1}
        entity = listing[10].entity
        assert isinstance(entity, DatasetRow) or entity is None


async def test_the_next_mount_shows_what_has_changed_meanwhile(wide: Wide, tmp_path: Path) -> None:
    await kept(wide, tmp_path)
    wide.add(300, modified=wide.world.wall)
    async with wide.world.catalogue(kept_in=tmp_path) as catalogue:
        listing = await catalogue.listing(await wide.node(catalogue))
        assert list(listing.names()) == names(*ALL, 300)
        assert wide.queries[wide.what] == 0


async def test_after_refresh_nothing_that_was_kept_is_used(wide: Wide, tmp_path: Path) -> None:
    await kept(wide, tmp_path)
    async with wide.world.catalogue(kept_in=tmp_path) as catalogue:
        node = await wide.node(catalogue)
        catalogue.invalidate(node.key)
        await catalogue.listing(node)
        assert wide.queries["mark"] == 0


async def test_a_listing_that_is_removed_meanwhile_is_asked_for_and_kept_again(
    wide: Wide, tmp_path: Path
) -> None:
    await kept(wide, tmp_path)
    async with wide.world.catalogue(kept_in=tmp_path) as catalogue:
        node = await wide.node(catalogue)
        empty(tmp_path)
        assert len(await catalogue.listing(node)) == COUNT
        assert wide.queries[wide.what] == 1
        await wait_all_tasks_blocked()
    assert empty(tmp_path) == 1


def test_the_rows_of_both_have_what_a_mark_needs() -> None:
    for kind in (DatasetRow, InvestigationRow):
        assert "modTime" in kind.columns
        assert kind.summed == "id"
