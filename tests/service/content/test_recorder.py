"""What is recorded of the cache and when: after the bytes, once, and again where that failed."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.cachefolders import (
    COST,
    EACH,
    SIZE,
    alter,
    fill,
    index_locked,
    leases,
    on_disk,
    saving,
    share,
    total,
    until,
    version,
)
from support.contents import content_of, version_of
from support.disks import is_delayed
from support.sizes import MIB, PLENTY

from icatfs.content import upkeep
from icatfs.content.eviction import Removed, remove_oldest
from icatfs.content.recorder import checksums_of
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from icatfs.content.store import CacheFile, ContentStore


def write(store: ContentStore, number: int, start: int, stop: int, size: int) -> CacheFile:
    file = store.open(version(number, size))
    file.pwrite(start, b"x" * (stop - start))
    return file


def rows(folder: Path) -> list[tuple[int, int]]:
    """Datafile and bytes of each record, in the order of use."""
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
        statement = "SELECT datafile, held FROM content ORDER BY used"
        return connection.execute(statement).fetchall()


@contextmanager
def refusing(folder: Path, what: str = "INSERT ON content") -> Iterator[None]:
    """The index takes no more of something."""
    alter(
        folder,
        f"CREATE TRIGGER refused BEFORE {what} BEGIN SELECT RAISE(ABORT, 'not now'); END",
    )
    yield
    alter(folder, "DROP TRIGGER refused")


# Bytes before records.


def need_to_see_delays(folder: Path) -> None:
    probe = folder / "probe"
    probe.write_bytes(b"x" * MIB)
    try:
        told = is_delayed(probe)
    except OSError:
        told = False
    probe.unlink()
    if not told:
        pytest.skip("this file system does not say what it has in memory only")


@pytest.mark.parametrize("count", [1, 16, 17, 40])
async def test_bytes_are_on_the_disk_before_the_record_is_written(
    tmp_path: Path, folder: Path, count: int
) -> None:
    need_to_see_delays(tmp_path)
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in range(count):
            fill(store, number, 100_000)
        paths = sorted((folder / "data").iterdir())
        assert any(map(is_delayed, paths))
        async with trio.open_nursery() as nursery:
            with index_locked(folder):  # no record can be written
                nursery.start_soon(store.save)
                await until(lambda: not any(map(is_delayed, paths)))
        assert len(rows(folder)) == count


async def test_what_others_remove_before_its_record_is_written_costs_nobody_room(
    tmp_path: Path, folder: Path
) -> None:
    need_to_see_delays(tmp_path)
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 500_000, MIB).close()
        await store.save()
        write(store, 1, 500_000, 600_000, MIB).close()
        (path,) = (folder / "data").iterdir()
        with share(folder) as (index, tenancy):
            async with trio.open_nursery() as nursery:
                with index.changing() as books:
                    nursery.start_soon(store.save)
                    await until(lambda: not is_delayed(path))
                    removed = Removed()
                    remove_oldest(books, tenancy, 1, set(), removed)
                    books.lease(removed.cost)
            assert rows(folder) == []
            await store.save()
            assert leases(index)[tenancy.mark] == total(index) == 500_000 + COST
    with share(folder) as (index, _):
        assert total(index) == 0


async def test_a_file_that_is_open_is_synced_before_its_record_too(
    tmp_path: Path, folder: Path
) -> None:
    need_to_see_delays(tmp_path)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = write(store, 1, 0, 500_000, MIB)
        (path,) = (folder / "data").iterdir()
        await store.save()
        assert not is_delayed(path)
        assert rows(folder) == [(1, 500_000)]
        file.pwrite(500_000, b"x" * 100_000)
        assert is_delayed(path)
        await store.save()
        assert not is_delayed(path)
        assert rows(folder) == [(1, 600_000)]
        file.close()


# When.


async def test_what_changes_is_recorded_some_seconds_later(
    folder: Path, mock_clock: MockClock
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = write(store, 1, 0, 10, SIZE)
        await trio.testing.wait_all_tasks_blocked()
        assert rows(folder) == []
        mock_clock.jump(2.9)
        await trio.testing.wait_all_tasks_blocked()
        assert rows(folder) == [], "more of it may come"
        mock_clock.rate = 10
        await until(lambda: rows(folder) == [(1, 10)])
        file.pwrite(10, b"x" * 20)
        await until(lambda: rows(folder) == [(1, 30)])
        file.close()
        fill(store, 2)
        await until(lambda: len(rows(folder)) == 2)
        store.drop(version(2, SIZE))
        await until(lambda: rows(folder) == [(1, 30)])


async def test_what_is_adopted_is_recorded_without_being_opened(
    folder: Path, mock_clock: MockClock
) -> None:
    mock_clock.rate = 10
    async with open_store(folder, max_bytes=PLENTY) as store:
        staged = folder / "staged"
        staged.write_bytes(b"x" * SIZE)
        store.adopt(version(1, SIZE), staged)
        await until(lambda: rows(folder) == [(1, SIZE)])


async def test_a_use_is_recorded_though_nothing_came(folder: Path, mock_clock: MockClock) -> None:
    mock_clock.rate = 10
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in (1, 2):
            fill(store, number)
        await store.save()
        store.open(version(1, SIZE)).close()
        await until(lambda: rows(folder) == [(2, SIZE), (1, SIZE)])


async def test_how_many_files_would_be_lost_is_said(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.status().unsaved == 0
        file = write(store, 1, 0, 10, SIZE)
        fill(store, 2)
        assert store.status().unsaved == 2
        async with saving(store):
            assert store.status().unsaved == 2
            fill(store, 3)
            assert store.status().unsaved == 3
        assert store.status().unsaved == 1
        await store.save()
        assert store.status().unsaved == 0
        store.open(version(2, SIZE)).close()
        assert store.status().unsaved == 0, "it is only used"
        file.close()


async def test_what_is_closed_unchanged_is_not_written_again(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        await store.save()
        with refusing(folder):
            store.open(version(1, SIZE)).close()
            await store.save()
            assert store.status().unsaved == 0


async def test_the_order_of_use_is_the_order_of_closing(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in range(5):
            fill(store, number)
        await store.save()
        for number in (3, 0, 3, 2):
            store.open(version(number, SIZE)).close()
        await store.save()
        assert [number for number, _ in rows(folder)] == [1, 4, 3, 0, 2]


# While it is being recorded.


async def test_what_is_being_recorded_is_there(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        async with saving(store):
            assert store.holds(version(1, SIZE))
            file = store.open(version(1, SIZE))
            assert file.pread(0, SIZE) == b"x" * SIZE
            file.close()
        assert store.holds(version(1, SIZE))
        assert store.status().used_bytes == EACH


async def test_what_comes_while_it_is_being_recorded_is_recorded_next(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 10, SIZE).close()
        open_file = write(store, 2, 0, 10, SIZE)
        async with saving(store):
            write(store, 1, 10, 30, SIZE).close()
            open_file.pwrite(10, b"x" * 30)
        assert sorted(rows(folder)) == [(1, 10), (2, 10)]
        assert store.status().unsaved == 2
        await store.save()
        assert sorted(rows(folder)) == [(1, 30), (2, 40)]
        assert store.status().used_bytes == 70 + 2 * COST
        open_file.close()


async def test_what_is_dropped_while_it_is_being_recorded_stays_dropped(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        async with saving(store):
            store.drop(version(1, SIZE))
            assert not store.holds(version(1, SIZE))
        assert not store.holds(version(1, SIZE))
        await store.save()
        assert rows(folder) == []
        assert store.status().used_bytes == 0


async def test_what_others_clear_after_a_part_was_recorded_is_counted_right(folder: Path) -> None:
    """Of a file that grew while it was recorded, the index counts one part, our lease the rest."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 10_000, MIB).close()
        async with saving(store):
            write(store, 1, 10_000, 30_000, MIB).close()
        upkeep.clear(folder)
        assert list((folder / "data").iterdir()) == []
        await store.save()
        assert store.status().used_bytes == 0
        assert rows(folder) == []


async def test_what_others_clear_of_an_open_file_is_counted_right(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = write(store, 1, 0, 10_000, MIB)
        async with saving(store):
            assert rows(folder) == []
        file.pwrite(10_000, b"x" * 20_000)
        file.close()
        upkeep.clear(folder)
        await store.save()
        assert store.status().used_bytes == 0


async def test_a_file_that_was_removed_by_hand_is_counted_right(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        fill(store, 2)
        await store.save()
        write(store, 3, 0, 10, SIZE).close()
        for path in (folder / "data").iterdir():
            path.unlink()
        await store.save()
        assert store.status().used_bytes == 2 * EACH, "while we live, we might have renamed them"
        assert not store.holds(version(3, SIZE))
        for number in (1, 2):
            file = store.open(version(number, SIZE))
            assert file.missing(0, SIZE) == (0, SIZE)
            file.close()
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.status().used_bytes == 0
        assert rows(folder) == []


async def test_what_is_dropped_while_a_save_fails_stays_dropped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        fill(store, 2)
        with refusing(folder):
            async with saving(store):
                store.drop(version(1, SIZE))
        assert not store.holds(version(1, SIZE))
        assert store.holds(version(2, SIZE))
        assert store.status().unsaved == 1
        await store.save()
        assert rows(folder) == [(2, SIZE)]
        assert store.status().used_bytes == EACH
        caplog.clear()


async def test_what_proves_wrong_when_it_is_opened_again_is_counted_once(folder: Path) -> None:
    """Some of it is still to be recorded then."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 500_000, MIB).close()
        file = store.open(version(1, MIB))
        file.reset()
        await store.save()
        assert store.status().used_bytes == 0
        file.pwrite(0, b"x" * 100_000)
        await store.save()
        file.close()
        await store.save()
        assert store.status().used_bytes == 100_000 + COST
        assert on_disk(folder) <= 100_000 + COST


async def test_what_proves_wrong_while_it_is_recorded_is_counted_once(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 500_000, MIB).close()
        other = write(store, 2, 0, 500_000, MIB)
        async with saving(store):
            file = store.open(version(1, MIB))
            file.reset()
            other.reset()
        assert store.status().used_bytes == 0
        other.close()
        file.close()
        await store.save()
        assert store.status().used_bytes == 0
        assert rows(folder) == []


async def test_what_is_opened_and_closed_while_it_is_recorded_and_removed_is_counted_once(
    folder: Path,
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 500_000, MIB).close()
        async with saving(store):
            write(store, 1, 500_000, 600_000, MIB).close()
            (path,) = (folder / "data").iterdir()
            path.unlink()
        await store.save()
        assert store.status().used_bytes == 0


async def test_a_part_that_makes_room_while_it_is_recorded_is_counted_right(folder: Path) -> None:
    """It gets another name, and its chunks are given back one by one."""
    budget = 8 * MIB
    async with open_store(folder, max_bytes=budget) as store:
        file = write(store, 1, 0, 4 * MIB, 40 * MIB)
        async with saving(store):
            for start in range(4 * MIB, 20 * MIB, MIB):
                file.pwrite(start, b"x" * MIB)
                assert on_disk(folder) <= store.status().used_bytes <= budget
        await store.save()
        assert on_disk(folder) <= store.status().used_bytes <= budget
        file.close()
        await store.save()
        assert on_disk(folder) <= store.status().used_bytes <= on_disk(folder) + COST


# Where it fails.


async def test_what_could_not_be_recorded_is_recorded_when_it_can_be(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in (1, 2, 3):
            fill(store, number)
        await store.save()
        store.drop(version(2, SIZE))
        store.open(version(1, SIZE)).close()
        fill(store, 4)
        file = write(store, 5, 0, 10, SIZE)
        used, spare = store.status().used_bytes, store.room.spare
        with refusing(folder):
            await store.save()
            await store.save()
            assert store.status().unsaved == 2
            assert store.room.spare == spare
            assert store.status().used_bytes == used
            assert store.holds(version(4, SIZE))
            assert not store.holds(version(2, SIZE))
        assert caplog.text.count("cannot be recorded, and may be lost") == 1
        caplog.clear()
        await store.save()
        assert sorted(rows(folder)) == [(1, SIZE), (3, SIZE), (4, SIZE), (5, 10)]
        assert [one for one, _ in rows(folder)].index(3) == 0, "uses are remembered as well"
        assert store.status().unsaved == 0
        assert store.status().used_bytes == 3 * EACH + 10 + COST
        file.close()


async def test_the_newer_of_two_records_is_kept_where_the_first_could_not_be_written(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        write(store, 1, 0, 10, SIZE).close()
        with refusing(folder):
            async with saving(store):
                write(store, 1, 10, 30, SIZE).close()
        await store.save()
        assert rows(folder) == [(1, 30)]
        caplog.clear()


async def test_a_file_closed_while_its_record_fails_is_recorded_as_it_was_left(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = write(store, 1, 0, 10, SIZE)
        with refusing(folder):
            async with saving(store):
                file.pwrite(10, b"x" * 20)
                file.close()
        assert store.status().unsaved == 1
        await store.save()
        assert rows(folder) == [(1, 30)]
        assert store.status().unsaved == 0
        caplog.clear()


async def test_the_room_that_was_to_be_given_back_is_there_where_that_failed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        spare = store.room.spare
        with refusing(folder, "UPDATE ON lease"):
            await store.save()
            assert store.room.spare == spare
            assert store.status().used_bytes >= on_disk(folder)
        await store.save()
        assert store.room.spare == 0
        assert store.status().used_bytes == EACH
        caplog.clear()


async def test_a_save_that_is_cancelled_before_it_begins_changes_nothing(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        fill(store, 2)
        store.drop(version(2, SIZE))
        file = write(store, 3, 0, 10, SIZE)
        spare = store.room.spare
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.save()
        assert scope.cancelled_caught
        assert store.room.spare == spare
        assert store.status().unsaved == 2
        assert rows(folder) == []
        await store.save()
        assert sorted(rows(folder)) == [(1, SIZE), (3, 10)]
        assert store.status().used_bytes == EACH + 10 + COST
        file.close()


async def test_what_was_never_recorded_is_swept_up_by_the_next(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
        alter(
            folder,
            "CREATE TRIGGER refused BEFORE INSERT ON content"
            " BEGIN SELECT RAISE(ABORT, 'not now'); END",
        )
    alter(folder, "DROP TRIGGER refused")
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
        (lease,) = connection.execute("SELECT bytes FROM lease").fetchone()
    assert lease >= on_disk(folder) > 0, "it is in the books until somebody looks"
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert on_disk(folder) == store.status().used_bytes == 0
        assert not store.holds(version(1, SIZE))
    caplog.clear()


async def test_who_recorded_everything_leaves_no_lease(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, 1)
    with closing(sqlite3.connect(folder / "index.sqlite")) as connection:
        assert connection.execute("SELECT * FROM lease").fetchall() == []
    assert list((folder / "mounts").iterdir()) == []


# Files that came from elsewhere.


@pytest.mark.parametrize("is_open", [False, True])
async def test_an_adopted_file_that_is_not_what_it_should_be_goes_when_it_is_recorded(
    folder: Path, *, is_open: bool
) -> None:
    data = content_of(2 * MIB)
    staged = folder.parent / "staged"
    staged.write_bytes(data[:-1] + b"?")
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.adopt(version_of(data), staged)
        file = store.open(version_of(data)) if is_open else None
        if file is not None:
            assert file.pread(0, 10) == data[:10]
        assert store.status().used_bytes >= len(data)
        await store.save()
        assert not store.holds(version_of(data))
        if file is not None:
            assert file.missing(0, len(data)) == (0, len(data))
            assert file.withdrawals == 1, "somebody may have read it"
            file.close()
        await store.save()
        assert store.status().used_bytes == 0
        assert list((folder / "data").iterdir()) == []
        assert rows(folder) == []


async def test_an_adopted_file_that_is_right_is_recorded_with_its_checksums(folder: Path) -> None:
    data = content_of(2 * MIB + 77)
    staged = folder.parent / "staged"
    staged.write_bytes(data)
    async with open_store(folder, max_bytes=PLENTY) as store:
        store.adopt(version_of(data), staged)
        await store.save()
        assert store.status().used_bytes == len(data) + COST
        async with open_store(folder, max_bytes=PLENTY) as other:
            assert other.holds(version_of(data))
            file = other.open(version_of(data))
            assert file.missing(0, len(data)) is None
            assert file.pread(0, len(data)) == data
            file.close()
    (path,) = (folder / "data").iterdir()
    with path.open("r+b") as damaged:
        damaged.seek(MIB + 5)
        damaged.write(bytes([data[MIB + 5] ^ 1]))
    assert len(upkeep.verify(folder, lambda _: None).wrong) == 1


def test_checksums_are_those_of_the_bytes_as_far_as_they_go(tmp_path: Path) -> None:
    data = content_of(2 * MIB + 77)
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        whole = checksums_of(file.fileno(), len(data))
        assert [(run.start, run.stop) for run in whole] == [
            (0, MIB),
            (MIB, 2 * MIB),
            (2 * MIB, len(data)),
        ]
        assert checksums_of(file.fileno(), MIB).extents().total == MIB
        short = checksums_of(file.fileno(), 3 * MIB)
        assert short.extents().total == 2 * MIB, "no piece is half of one"
        assert checksums_of(file.fileno(), 0).chunks() == []
