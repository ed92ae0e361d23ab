"""The store where it says no: what is not adopted, not taken over, not opened, not kept."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import (
    COST,
    EACH,
    SIZE,
    fill,
    index_locked,
    on_disk,
    until,
    version,
)
from support.sizes import MIB, PLENTY

from icatfs.content.books import Books
from icatfs.content.record import mark_of
from icatfs.content.store import ContentStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    path = tmp_path / "staged"
    path.write_bytes(b"x" * SIZE)
    return path


async def keep(store: ContentStore, number: int, size: int = SIZE) -> None:
    """Until it is kept: while others have the index for long, what comes is in memory only."""

    def kept() -> bool:
        fill(store, number, size)
        return store.holds(version(number, size))

    await until(kept)


def is_there(path: Path) -> bool:
    return path.exists()


def data_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "data").iterdir())


@contextmanager
def no_more_files() -> Iterator[None]:
    """This process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Adopting.


async def test_what_is_open_or_there_is_not_adopted(folder: Path, staged: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, SIZE))
        store.adopt(version(1, SIZE), staged)
        assert is_there(staged), "somebody has begun to fetch it"
        file.close()
        fill(store, 2)
        store.adopt(version(2, SIZE), staged)
        assert is_there(staged), "it is there already"
        await store.save()
        store.adopt(version(2, SIZE), staged)
        assert is_there(staged)
        assert store.status().used_bytes == EACH
        store.adopt(version(1, SIZE), staged)
        assert not is_there(staged)
        assert store.holds(version(1, SIZE))


async def test_an_empty_file_is_not_adopted(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.adopt(version(1, 0), empty)
        assert is_there(empty)
        assert store.status().used_bytes == 0


async def test_a_file_that_cannot_be_moved_costs_nothing(folder: Path, small_disk: Path) -> None:
    """It is on another disk, and too large to be copied."""
    large = small_disk / "large"
    large.touch()
    os.truncate(large, 17 * MIB)
    async with open_store(folder, max_bytes=64 * MIB) as store:
        spare = store.room.spare
        store.adopt(version(1, 17 * MIB), large)
        assert is_there(large)
        assert not store.holds(version(1, 17 * MIB))
        assert data_names(folder) == []
        assert store.status().used_bytes == 0
        assert store.room.spare >= spare


async def test_what_is_adopted_counts_as_it_will_when_it_is_recorded(
    folder: Path, staged: Path
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.adopt(version(1, SIZE), staged)
        assert store.status().used_bytes == EACH
        assert store.status().unsaved == 1
        await store.save()
        assert store.status().used_bytes == EACH
        assert store.status().files == 1
        file = store.open(version(1, SIZE))
        file.close()
        store.drop(version(1, SIZE))
        await store.save()
        assert store.status().used_bytes == 0


async def test_an_adopted_file_is_read_and_evicted_as_any(folder: Path, tmp_path: Path) -> None:
    async with open_store(folder, max_bytes=10 * EACH) as store:
        for number in range(30):
            path = tmp_path / f"staged-{number}"
            path.write_bytes(b"x" * SIZE)
            store.adopt(version(number, SIZE), path)
            assert on_disk(folder) <= store.status().used_bytes <= 10 * EACH
        assert not store.holds(version(0, SIZE))
        assert store.status().evicted_files > 0
        assert store.status().unsaved <= 10


async def test_who_has_an_adopted_file_open_keeps_all_of_it(folder: Path, tmp_path: Path) -> None:
    size = 4 * MIB
    path = tmp_path / "large"
    path.write_bytes(b"x" * size)
    async with open_store(folder, max_bytes=6 * MIB) as store:
        store.adopt(version(1, size), path)
        with path.open("wb"):
            pass
        file = store.open(version(1, size))
        other = store.open(version(2, 9 * MIB))
        for start in range(0, 9 * MIB, MIB):
            other.pwrite(start, b"y" * MIB)
        assert file.complete
        assert file.pread(0, size) == b"x" * size
        assert store.status().used_bytes <= 6 * MIB
        other.close()
        file.close()


# Opening.


async def test_where_no_file_can_be_opened_the_cache_is_not_used_and_not_lost(
    folder: Path,
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        await store.save()
        with no_more_files():
            file = store.open(version(1, SIZE))
            assert file.missing(0, SIZE) == (0, SIZE)
            file.pwrite(0, b"x" * 10)
            assert file.pread(0, 10) == b"x" * 10, "from memory"
            file.close()
        file = store.open(version(1, SIZE))
        assert file.missing(0, SIZE) is None
        file.close()


async def test_a_part_that_cannot_be_taken_over_now_is_begun_again(folder: Path) -> None:
    """The index is in somebody's hands; the part stays where it is, for the next time."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.open(version(1, MIB)).pwrite(0, b"x" * 5000)
    before = data_names(folder)
    async with open_store(folder, max_bytes=PLENTY) as store:
        with index_locked(folder):
            file = store.open(version(1, MIB))
            assert file.missing(0, 5000) == (0, 5000)
            file.close()
            assert data_names(folder) == before
        file = store.open(version(1, MIB))
        assert file.missing(0, MIB) == (5000, MIB)
        assert data_names(folder) != before
        file.close()


async def test_what_its_mount_records_in_this_moment_is_not_taken_over_as_it_was_before(
    folder: Path,
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as first:
        file = first.open(version(1, MIB))
        file.pwrite(0, b"x" * 5000)
        file.close()
        await first.save()
        file = first.open(version(1, MIB))
        file.pwrite(5000, b"x" * 1000)
        file.close()
        record = first.recorder.find(version(1, MIB))
        assert record is not None
        async with open_store(folder, max_bytes=PLENTY) as second:
            with closing(
                sqlite3.connect(
                    folder / "index.sqlite", isolation_level=None, check_same_thread=False
                )
            ) as index:
                index.execute("BEGIN IMMEDIATE")
                Books(index, str(mark_of(record.name)), PLENTY).record(record)
                end = threading.Timer(0.03, index.execute, ("COMMIT",))
                end.start()
                second.open(version(1, MIB)).close()
                end.join()
            file = second.open(version(1, MIB))
            assert file.missing(0, MIB) == (6000, MIB)
            file.close()


async def test_what_is_taken_over_counts_as_ours_from_then_on(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.open(version(1, MIB)).pwrite(0, b"x" * 5000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, MIB))
        assert store.status().used_bytes == 5000 + COST
        file.pwrite(5000, b"x" * 1000)
        file.close()
        await store.save()
        assert store.status().used_bytes == 6000 + COST
        store.drop(version(1, MIB))
        await store.save()
        assert store.status().used_bytes == 0
        assert data_names(folder) == []


async def test_a_complete_file_of_others_costs_us_nothing_when_it_goes(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as first:
        fill(first, 1)
        await first.save()
        async with open_store(folder, max_bytes=PLENTY) as second:
            file = second.open(version(1, SIZE))
            file.reset()
            file.close()
            await second.save()
            assert second.status().used_bytes == 0
            fill(second, 1)
            await second.save()
            assert second.status().used_bytes == EACH
        first.drop(version(1, SIZE))
        await first.save()
        assert first.status().used_bytes == 0
        assert data_names(folder) == []


async def test_names_are_used_once(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        made = {store.new_name(version(number % 3, SIZE)) for number in range(100)}
        assert len(made) == 100
        async with open_store(folder, max_bytes=PLENTY) as other:
            assert not made & {other.new_name(version(0, SIZE)) for _ in range(100)}


# Room that is needed.


async def test_what_was_not_recorded_yet_goes_where_nothing_else_can(folder: Path) -> None:
    async with open_store(folder, max_bytes=10 * EACH) as store:
        for number in range(10):
            await keep(store, number)
        kept = store.open(version(0, SIZE))
        await keep(store, 10)
        assert store.holds(version(0, SIZE)), "it is open"
        assert not store.holds(version(1, SIZE)), "the oldest of the others"
        assert store.holds(version(9, SIZE))
        assert store.status().evicted_files == 1
        assert on_disk(folder) <= store.status().used_bytes <= 10 * EACH
        kept.close()


async def test_of_open_files_the_largest_gives_way_and_keeps_its_newest(folder: Path) -> None:
    async with open_store(folder, max_bytes=16 * MIB) as store:
        large, small = store.open(version(1, 40 * MIB)), store.open(version(2, 40 * MIB))
        for start in range(10):
            large.pwrite(start * MIB, b"x" * MIB)
        for start in range(8):
            small.pwrite(start * MIB, b"y" * MIB)
        assert all(small.missing(at * MIB, (at + 1) * MIB) is None for at in range(5, 8))
        assert all(large.missing(at * MIB, (at + 1) * MIB) is None for at in range(7, 10))
        assert any(large.missing(at * MIB, (at + 1) * MIB) is not None for at in range(6))
        assert store.status().used_bytes <= 16 * MIB
        large.close()
        small.close()


async def test_precious_content_outlasts_what_is_used_after_it(folder: Path) -> None:
    size = 200_000 - COST
    budget = 20 * 200_000
    async with open_store(folder, max_bytes=budget) as store:
        file = store.open(version(0, size))
        file.treasure()
        file.pwrite(0, b"x" * size)
        file.close()
        await store.save()
        used = 0
        while store.holds(version(0, size)):
            used += 1
            await keep(store, used, size)
            await store.save()
            assert used < 100, "not for ever"
        assert used > 36, "but while nearly twice of what the cache may hold is used"
        assert not store.holds(version(1, size))


# The end.


async def test_who_closes_a_file_after_the_store_has_ended_harms_nothing(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file, other = store.open(version(1, SIZE)), store.open(version(1, SIZE))
        file.pwrite(0, b"x" * 10)
    file.close()
    other.close()
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, SIZE))
        assert file.missing(0, SIZE) == (10, SIZE)
        file.close()


async def test_a_store_leaves_no_descriptor(folder: Path) -> None:
    async def use() -> None:
        async with open_store(folder, max_bytes=PLENTY) as store:
            file = store.open(version(1, MIB))
            file.pwrite(0, b"x" * 1000)
            fill(store, 2)
            store.open(version(2, SIZE)).reset()
            store.drop(version(1, MIB))
        file.close()

    await use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await use()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_cache_whose_index_is_gone_says_nothing_and_reads_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every question to it fails then."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        await store.save()
        with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
            connection.execute("ALTER TABLE content RENAME TO away")
        assert not store.holds(version(1, SIZE))
        assert store.status().files == 0
        file = store.open(version(1, SIZE))
        assert file.missing(0, SIZE) == (0, SIZE)
        file.pwrite(0, b"x" * SIZE)
        assert file.pread(0, SIZE) == b"x" * SIZE
        store.drop(version(1, SIZE))
        assert file.missing(0, SIZE) == (0, SIZE)
        file.close()
        with closing(sqlite3.connect(folder / "index.sqlite")) as connection, connection:
            connection.execute("ALTER TABLE away RENAME TO content")
        assert store.holds(version(1, SIZE))
    caplog.clear()
