"""Making room: for everybody, ahead of need, and without anybody waiting for the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.cachefolders import COST, fill, until, version
from support.sizes import MIB

from icatfs.content.eviction import LARGE, Removed, remove_oldest
from icatfs.content.index import Index
from icatfs.content.ownership import share_folder
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


async def test_one_transaction_removes_a_few_files_only(tmp_path: Path) -> None:
    async with open_store(tmp_path / "cache", max_bytes=2**40) as store:
        for number in range(300):
            fill(store, number, 10)
    tenancy = share_folder(tmp_path / "cache")
    assert tenancy is not None
    index = Index.open(tenancy.folder, tenancy.mark, 2**40, alone=True)
    sizes = []
    is_over = False
    while not is_over:
        removed = Removed()
        with index.changing() as books:
            remove_oldest(books, tenancy, 2**40, set(), removed)
        assert sum(file.give_back_now() for file in removed.files) == removed.cost
        sizes.append(len(removed.files))
        is_over = removed.is_over
    assert sum(sizes) == 300
    assert max(sizes) <= 50
    assert list((tmp_path / "cache/data").iterdir()) == []
    index.close()
    tenancy.close()


async def test_what_is_in_use_is_passed_over_however_much_it_is(tmp_path: Path) -> None:
    budget = 200 * (COST + 1000)
    async with open_store(tmp_path / "cache", max_bytes=budget) as store:
        for number in range(120):
            fill(store, number, 1000)
        await store.save()
        for number in range(120):
            store.open(version(number, 1000))
        for number in range(120, 260):
            fill(store, number, 1000)
        assert all(store.holds(version(number, 1000)) for number in range(120))
        assert store.status().used_bytes <= budget


async def test_room_is_made_ahead_of_need(tmp_path: Path) -> None:
    budget = 64 * MIB
    async with open_store(tmp_path / "cache", max_bytes=budget) as store:
        for number in range(63):
            fill(store, number, MIB - COST)
        await store.save()
        assert store.status().evicted_files == 0
        fill(store, 100, MIB // 2)
        await until(lambda: store.status().used_bytes <= budget - store.room.reserve)
        assert 0 < store.status().evicted_files <= 3
        assert store.holds(version(100, MIB // 2))
        assert store.holds(version(62, MIB - COST))


async def test_nobody_waits_until_the_disk_has_a_large_file_back(tmp_path: Path) -> None:
    size = LARGE + 8 * MIB
    async with open_store(tmp_path / "cache", max_bytes=size + COST) as store:
        fill(store, 1, size)
        await store.save()
        file = store.open(version(2, MIB))
        file.pwrite(0, bytes(MIB))
        assert file.pread(0, MIB) == bytes(MIB)  # from memory
        assert store.status().evicted_files == 1
        assert [path.name for path in (tmp_path / "cache/data").iterdir()] == []
        await until(lambda: store.room.spare >= size)
        fill(store, 3, MIB)
        assert store.holds(version(3, MIB))
        assert store.status().used_bytes == MIB + COST


async def test_a_cache_that_became_smaller_is_made_smaller_at_the_start(tmp_path: Path) -> None:
    async with open_store(tmp_path / "cache", max_bytes=2**40) as store:
        for number in range(200):
            fill(store, number, 1000)
    budget = 20 * (COST + 1000)
    async with open_store(tmp_path / "cache", max_bytes=budget) as store:
        assert store.status().used_bytes == budget
        assert store.holds(version(199, 1000))
        assert not store.holds(version(179, 1000))
        fill(store, 1000, 1000)
        assert store.status().used_bytes <= budget


async def test_a_large_file_that_proves_wrong_is_not_cut_under_those_who_read_it(
    tmp_path: Path,
) -> None:
    size = LARGE + 8 * MIB
    async with (
        open_store(tmp_path / "cache", max_bytes=2**40) as first,
        open_store(tmp_path / "cache", max_bytes=2**40) as second,
    ):
        fill(first, 1, size)
        await first.save()
        file, other = first.open(version(1, size)), second.open(version(1, size))
        assert other.missing(0, size) is None
        file.reset()
        assert file.missing(0, size) == (0, size)
        await until(lambda: first.room.spare >= size)
        assert len(other.pread(size - MIB, MIB)) == MIB
        await first.save()
        assert first.status().used_bytes == 0
        other.close()
        file.close()


async def test_dropping_a_large_file_is_not_waited_for_but_counted(tmp_path: Path) -> None:
    size = LARGE + 8 * MIB
    async with open_store(tmp_path / "cache", max_bytes=2**40) as store:
        fill(store, 1, size)
        await store.save()
        store.drop(version(1, size))
        assert store.status().used_bytes == size + COST
        await store.save()
        assert not store.holds(version(1, size))
        await until(lambda: store.status().used_bytes == 0)
        assert list((tmp_path / "cache/data").iterdir()) == []
