"""The cache on a real disk: kept, bounded, distrustful of its own records."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from support.cachefolders import on_disk
from support.contents import content_of, fill, settle, version_of, write
from support.sizes import MIB, PLENTY

from icatfs.content.store import CacheFile, ContentStore, open_store
from icatfs.errors import ConfigError
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from pathlib import Path


def holds(store: ContentStore, version: ContentVersion) -> bool:
    """Whether the cache has all of it."""
    told = store.holds(version)
    file = store.open(version)
    complete = file.complete
    assert told is complete or not told  # what is on the disk no more is found when it is opened
    assert store.holds(version) is complete
    file.close()
    return complete


async def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    data = content_of(300_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.missing(0, PLENTY) == (0, 300_000)
        file.pwrite(100_000, data[100_000:200_000])
        assert file.missing(0, PLENTY) == (0, 100_000)
        assert file.missing(100_000, 200_000) is None
        assert file.missing(150_000, 250_000) == (200_000, 250_000)
        assert file.pread(100_000, 100_000) == data[100_000:200_000]
        assert not file.complete
        file.close()


async def test_a_cache_survives_a_restart(tmp_path: Path) -> None:
    whole, part = content_of(200_000, 1), content_of(500_000, 2)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        fill(store, version_of(whole, 1), whole)
        file = store.open(version_of(part, 2))
        file.pwrite(100_000, part[100_000:150_000])
        file.pwrite(300_000, part[300_000:400_000])
        file.close()
        used = store.status().used_bytes
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert store.status().used_bytes == used
        assert store.status().files == 2
        assert holds(store, version_of(whole, 1))
        file = store.open(version_of(part, 2))
        assert file.missing(0, PLENTY) == (0, 100_000)
        assert file.missing(100_000, PLENTY) == (150_000, 300_000)
        assert file.pread(300_000, 100_000) == part[300_000:400_000]
        file.close()


async def test_a_file_open_at_the_end_is_kept_too(tmp_path: Path) -> None:
    data = content_of(200_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:100_000])
    file.close()
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert store.open(version_of(data)).missing(0, PLENTY) == (100_000, 200_000)


async def test_versions_of_a_datafile_do_not_mix(tmp_path: Path) -> None:
    old, new = content_of(100_000, 1), content_of(100_000, 2)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        fill(store, version_of(old), old)
        file = store.open(version_of(new))
        assert file.missing(0, PLENTY) == (0, 100_000)
        write(file, new)
        assert store.open(version_of(old)).pread(0, 100_000) == old
        assert file.pread(0, 100_000) == new


async def test_two_openers_share_one_content(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        first, second = store.open(version_of(data)), store.open(version_of(data))
        assert first.shared
        write(first, data)
        first.close()
        first.close()
        assert second.pread(0, 100_000) == data
        third = second.pin()
        second.close()
        assert third.pread(5, 10) == data[5:15]


async def test_an_empty_file_is_complete_at_once(tmp_path: Path) -> None:
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(b""))
        assert file.complete
        assert file.missing(0, 4096) is None
        assert file.pread(0, 0) == b""
        file.close()
        assert store.status().files == 0


async def test_the_last_piece_is_withheld_until_the_content_is_proved(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:90_000])
        file.pwrite(90_000, data[90_000:])
        assert file.unproved
        assert not file.complete
        assert file.missing(0, PLENTY) == (90_000, 100_000)
        assert file.crc == version_of(data).crc32
        file.settle()
        assert file.missing(0, PLENTY) is None
        assert file.pread(0, 100_000) == data


async def test_wrong_bytes_are_withdrawn_only_where_somebody_may_have_read_them(
    tmp_path: Path,
) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:90_000])
        file.reset()
        assert file.withdrawals == 0
        file.pwrite(0, data[:90_000])
        file.pread(0, 10)
        file.reset()
        assert file.withdrawals == 1
        file.pwrite(0, data[:90_000])
        file.close()
        file = store.open(version_of(data))
        file.reset()  # what was kept may have been read when it was open before
        assert file.withdrawals == 2


async def test_pieces_in_any_order_are_proved_without_reading_them(tmp_path: Path) -> None:
    data = content_of(3 * MIB + 5)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        for start, stop in ((2 * MIB, len(data)), (0, MIB), (MIB, 2 * MIB)):
            file.pwrite(start, data[start:stop])
        assert file.unproved
        assert file.crc == version_of(data).crc32
        file.settle()
        assert file.complete


async def test_an_unproved_content_is_not_complete_after_a_restart(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:90_000])
        file.pwrite(90_000, data[90_000:])
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert store.open(version_of(data)).missing(0, PLENTY) == (0, 100_000)


async def test_without_a_usable_checksum_nothing_is_withheld(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data, checksum="md5:0123"))
        file.pwrite(0, data)
        assert file.complete


async def test_the_size_of_a_file_is_learnt_at_its_end(tmp_path: Path) -> None:
    data = content_of(100_000)
    version = version_of(data, size=None, checksum=None)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version)
        assert file.missing(0, 200_000) == (0, 200_000)
        file.pwrite(0, data)
        assert file.missing(0, 200_000) == (100_000, 200_000)
        file.finish(100_000)
        assert file.size == 100_000
        assert file.missing(0, 200_000) is None
        file.close()
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert store.open(version).size == 100_000


async def test_a_size_learnt_is_shown_when_the_content_is_proved(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data, size=None))
        file.pwrite(0, data)
        file.finish(100_000)
        assert file.missing(0, 200_000) == (100_000, 200_000)
        assert file.unproved
        file.settle()
        assert file.size == 100_000
        assert file.complete


async def test_dropping_leaves_nothing_also_for_those_who_have_it_open(tmp_path: Path) -> None:
    one, two = content_of(100_000, 1), content_of(100_000, 2)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        fill(store, version_of(one, 1), one)
        fill(store, version_of(two, 2), two)
        file = store.open(version_of(one, 1))
        store.drop(version_of(one, 1))
        store.drop(version_of(two, 2))
        assert file.missing(0, PLENTY) == (0, 100_000)
        assert store.status().used_bytes == 0
        write(file, one)
        assert file.pread(0, 100_000) == one
        file.close()
        assert holds(store, version_of(one, 1))
        assert not holds(store, version_of(two, 2))


# The budget.


async def test_the_budget_holds_at_every_write(tmp_path: Path) -> None:
    async with open_store(tmp_path / "cache", max_bytes=2 * MIB) as store:
        for number in range(20):
            data = content_of(300_000, number)
            file = store.open(version_of(data, number))
            for offset in range(0, len(data), 65536):
                file.pwrite(offset, data[offset : offset + 65536])
                assert store.status().used_bytes <= 2 * MIB
                assert on_disk(tmp_path / "cache") <= 2 * MIB
            file.settle()
            assert file.pread(0, len(data)) == data
            file.close()
        assert store.status().evicted_files > 0


async def test_what_was_used_least_recently_goes_first(tmp_path: Path) -> None:
    datas = [content_of(500_000, number) for number in range(5)]
    versions = [version_of(data, number) for number, data in enumerate(datas)]
    async with open_store(tmp_path / "cache", max_bytes=2 * MIB) as store:
        for number in range(4):
            fill(store, versions[number], datas[number])
        assert holds(store, versions[0])  # used again
        fill(store, versions[4], datas[4])
        assert holds(store, versions[0])
        assert not holds(store, versions[1])
        assert holds(store, versions[3])


async def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    datas = [content_of(500_000, number) for number in range(3)]
    versions = [version_of(data, number) for number, data in enumerate(datas)]
    async with open_store(tmp_path / "cache", max_bytes=2 * MIB) as store:
        for number in (2, 0, 1):
            fill(store, versions[number], datas[number])
    async with open_store(tmp_path / "cache", max_bytes=MIB + 20_000) as store:
        assert not holds(store, versions[2])
        assert holds(store, versions[0])
        assert holds(store, versions[1])


async def test_what_is_open_is_not_evicted(tmp_path: Path) -> None:
    first, second = content_of(900_000, 1), content_of(600_000, 2)
    async with open_store(tmp_path / "cache", max_bytes=2 * MIB) as store:
        file = store.open(version_of(first, 1))
        write(file, first)
        fill(store, version_of(second, 2), second)
        fill(store, version_of(content_of(600_000, 3), 3), content_of(600_000, 3))
        assert file.complete
        assert file.pread(0, 900_000) == first
        assert not holds(store, version_of(second, 2))


async def test_a_file_larger_than_the_cache_passes_through_it(tmp_path: Path) -> None:
    data = content_of(20 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=8 * MIB) as store:
        file = store.open(version_of(data))
        for offset in range(0, len(data), 65536):
            file.pwrite(offset, data[offset : offset + 65536])
            settle(file)
            assert file.missing(offset, offset + 65536) is None
            assert file.pread(offset, 65536) == data[offset : offset + 65536]
            assert store.status().used_bytes <= 8 * MIB
            assert on_disk(tmp_path / "cache") <= 8 * MIB
        assert file.missing(0, MIB) is not None
        assert file.missing(18 * MIB, 20 * MIB) is None
        file.close()
    async with open_store(tmp_path / "cache", max_bytes=8 * MIB) as store:
        file = store.open(version_of(data))
        assert file.missing(18 * MIB, 20 * MIB) is None
        assert file.pread(18 * MIB, 2 * MIB) == data[18 * MIB :]


async def test_what_was_dropped_is_not_held_any_more(tmp_path: Path) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        await store.save()
        assert store.holds(version_of(data))
        store.drop(version_of(data))
        assert not store.holds(version_of(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.save)
            await trio.testing.wait_all_tasks_blocked()
            assert not store.holds(version_of(data))
        assert not store.holds(version_of(data))
        fill(store, version_of(data), data)
        await store.save()
        assert store.holds(version_of(data))


def write_chunk(file: CacheFile, data: bytes, number: int) -> None:
    start = number * MIB
    file.pwrite(start, data[start : start + MIB])


def chunks_of(file: CacheFile, count: int) -> set[int]:
    """Which chunks are there."""
    starts = {number: number * MIB for number in range(count)}
    return {number for number, at in starts.items() if file.missing(at, at + MIB) is None}


async def test_what_is_read_now_and_then_is_given_back_after_what_is_not(tmp_path: Path) -> None:
    data = content_of(60 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=16 * MIB) as store:
        file = store.open(version_of(data))
        write_chunk(file, data, 5)
        for number in range(10, 40):
            write_chunk(file, data, number)
            assert 5 in chunks_of(file, 60)
            assert file.pread(5 * MIB + 70, 100) == data[5 * MIB + 70 : 5 * MIB + 170]
            file.pread(number * MIB, 100)
        assert chunks_of(file, 60) >= {5, 38, 39}
        assert store.status().used_bytes <= 16 * MIB
        for number in range(40, 58):
            write_chunk(file, data, number)
        assert 5 not in chunks_of(file, 60)
        file.close()


async def test_the_head_and_the_tail_of_a_file_are_given_back_last(tmp_path: Path) -> None:
    data = content_of(40 * MIB - 1000)
    async with open_store(tmp_path / "cache", max_bytes=16 * MIB) as store:
        file = store.open(version_of(data))
        for number in (0, 39, 38, *range(5, 36)):
            write_chunk(file, data, number)
        assert chunks_of(file, 40) >= {0, 38, 39, 34, 35}
        assert store.status().used_bytes <= 16 * MIB
        file.close()


async def test_a_cache_that_has_room_for_head_and_tail_alone_gives_them_back(
    tmp_path: Path,
) -> None:
    data = content_of(40 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=3 * MIB) as store:
        file = store.open(version_of(data))
        for number in (0, 38, 39, *range(5, 20)):
            write_chunk(file, data, number)
            assert number in chunks_of(file, 40)
            assert file.pread(number * MIB, MIB) == data[number * MIB : (number + 1) * MIB]
            assert store.status().used_bytes <= 3 * MIB
        assert on_disk(tmp_path / "cache") > MIB
        file.close()


async def test_without_any_room_the_newest_bytes_are_still_there(tmp_path: Path) -> None:
    data = content_of(10 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY, min_free_bytes=2**60) as store:
        file = store.open(version_of(data))
        for offset in range(0, len(data), 65536):
            file.pwrite(offset, data[offset : offset + 65536])
            assert file.missing(max(0, offset - 2 * MIB), offset + 1) is None or file.unproved
            assert file.pread(offset, 100) == data[offset : offset + 100]
        assert file.unproved
        assert file.crc == version_of(data).crc32
        file.settle()
        assert file.pread(8 * MIB, 2 * MIB) == data[8 * MIB :]
        assert file.pread(8 * MIB + 5, 77) == data[8 * MIB + 5 : 8 * MIB + 82]
        assert file.missing(0, MIB) == (0, MIB)
        assert file.room <= MIB
        assert on_disk(tmp_path / "cache") == 0
        file.close()
        assert not holds(store, version_of(data))


async def test_a_full_disk_is_no_error(small_disk: Path) -> None:
    data = content_of(20 * MIB)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        for offset in range(0, len(data), 65536):
            file.pwrite(offset, data[offset : offset + 65536])
            settle(file)
            assert file.missing(offset, offset + 65536) is None
            assert file.pread(offset, 65536) == data[offset : offset + 65536]
        file.close()


async def test_a_disk_filled_by_somebody_else_is_no_error(small_disk: Path) -> None:
    data = content_of(6 * MIB)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        (small_disk / "other").write_bytes(bytes(6 * MIB))
        for number in range(3):
            file = store.open(version_of(data, number))
            for offset in range(0, len(data), 65536):
                file.pwrite(offset, data[offset : offset + 65536])
                settle(file)
                assert file.missing(offset, offset + 65536) is None
                assert file.pread(offset, 65536) == data[offset : offset + 65536]
            file.close()


async def test_what_is_in_memory_alone_has_nothing_to_give_back_to_the_disk(
    small_disk: Path,
) -> None:
    data = content_of(4 * MIB)
    async with open_store(small_disk / "cache", max_bytes=1_500_000, min_free_bytes=2**30) as store:
        file = store.open(version_of(data))
        write(file, data)
        assert file.pread(2 * MIB, 2 * MIB) == data[2 * MIB :]
        assert on_disk(small_disk / "cache") == 0


def fill_up(disk: Path) -> Path:
    """Let the disk have no room at all; returns what takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return ballast


async def test_a_mount_begins_on_a_full_disk_and_what_was_kept_stays(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, other = content_of(100_000), content_of(100_000, 6)
    await one_file(small_disk / "cache", version_of(kept), kept)
    ballast = fill_up(small_disk)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(other, 6))
        write(file, other)
        assert file.pread(0, 100_000) == other
        file.close()
        assert "is full: what is read is not kept" in caplog.text
        assert store.status().max_bytes == 0
    caplog.clear()
    ballast.unlink()
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        assert holds(store, version_of(kept))


async def test_a_cache_that_has_no_room_to_begin_is_no_error(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(100_000)
    fill_up(small_disk)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        write(file, data)
        assert file.pread(0, 100_000) == data
        await store.save()
        file.close()
        assert store.status().used_bytes == 0
    assert "is full" in caplog.text
    caplog.clear()


# Records that cannot be trusted.


async def one_file(folder: Path, version: ContentVersion, data: bytes) -> Path:
    """A cache with one complete file; where its bytes are."""
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version, data)
    (path,) = (folder / "data").iterdir()
    return path


async def is_empty(folder: Path, version: ContentVersion) -> bool:
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version)
        assert version.size is not None
        empty = file.missing(0, version.size) == (0, version.size)
        write_again = b"x" * 10
        file.pwrite(0, write_again)
        assert file.pread(0, 10) == write_again
        file.close()
        return empty


def alter(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "index.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE content SET pieces = x'0000'",
        "UPDATE content SET pieces = x'00000000000000000000010000000000'",
        "UPDATE content SET datafile = 6",
        "UPDATE content SET mtime_ns = mtime_ns + 1",
        "UPDATE content SET checksum = NULL",
        "UPDATE content SET held = held + 1",
        "UPDATE content SET proof = proof + 1",
        "UPDATE content SET size = NULL",
        "UPDATE content SET name = '../../etc/passwd'",
        "UPDATE content SET held = 'much'",
        "DELETE FROM content",
    ],
)
async def test_a_torn_or_foreign_record_is_an_empty_file(tmp_path: Path, statement: str) -> None:
    data = content_of(100_000)
    await one_file(tmp_path / "cache", version_of(data), data)
    alter(tmp_path / "cache", statement)
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_a_data_file_that_is_too_short_is_an_empty_file(tmp_path: Path) -> None:
    data = content_of(100_000)
    path = await one_file(tmp_path / "cache", version_of(data), data)
    os.truncate(path, 99_999)
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_a_data_file_that_has_gone_is_an_empty_file(tmp_path: Path) -> None:
    data = content_of(100_000)
    path = await one_file(tmp_path / "cache", version_of(data), data)
    path.unlink()
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_a_data_file_replaced_by_a_link_is_an_empty_file(tmp_path: Path) -> None:
    data = content_of(100_000)
    path = await one_file(tmp_path / "cache", version_of(data), data)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_files_without_a_record_are_removed(tmp_path: Path) -> None:
    data = content_of(100_000)
    await one_file(tmp_path / "cache", version_of(data), data)
    (tmp_path / "cache/data/5-0123").write_bytes(b"left over")
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert holds(store, version_of(data))
        assert not (tmp_path / "cache/data/5-0123").exists()


@pytest.mark.parametrize("garbage", [b"", b"no database at all" * 500])
async def test_an_index_that_is_no_database_is_an_empty_cache(
    tmp_path: Path, garbage: bytes
) -> None:
    data = content_of(100_000)
    await one_file(tmp_path / "cache", version_of(data), data)
    (tmp_path / "cache/index.sqlite").write_bytes(garbage)
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_an_index_that_is_damaged_inside_is_an_empty_cache(tmp_path: Path) -> None:
    def version(number: int) -> ContentVersion:
        return ContentVersion(DatafileId(number), 10, 0, None)

    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        for number in range(500):
            fill(store, version(number), b"0123456789")
    path = tmp_path / "cache/index.sqlite"
    with path.open("r+b") as index:
        for place in range(3 * 4096, path.stat().st_size, 3 * 4096):
            index.seek(place)
            index.write(b"\xa5" * 4096)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert not store.holds(version(1))
        fill(store, version(1), b"0123456789")
        await store.save()
        assert holds(store, version(1))
        assert len(list((tmp_path / "cache/data").iterdir())) == 1


async def test_an_index_of_another_format_is_an_empty_cache(tmp_path: Path) -> None:
    data = content_of(100_000)
    await one_file(tmp_path / "cache", version_of(data), data)
    alter(tmp_path / "cache", "PRAGMA user_version=99")
    assert await is_empty(tmp_path / "cache", version_of(data))


async def test_a_record_does_not_outlive_bytes_that_were_given_back(tmp_path: Path) -> None:
    """The machine dies after a hole was punched and before that was recorded."""
    data = content_of(20 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=8 * MIB) as store:
        file = store.open(version_of(data))
        for offset in range(0, 7 * MIB, MIB):
            file.pwrite(offset, data[offset : offset + MIB])
        await store.save()
        for offset in range(7 * MIB, 12 * MIB, MIB):
            file.pwrite(offset, data[offset : offset + MIB])
        shutil.copytree(tmp_path / "cache", tmp_path / "after", copy_function=shutil.copy2)
        file.close()
    async with open_store(tmp_path / "after", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        for offset in range(0, 20 * MIB, MIB):
            if file.missing(offset, offset + MIB) is None:
                assert file.pread(offset, MIB) == data[offset : offset + MIB]


KILLED = """
import os, sys, trio
from pathlib import Path
from icatfs.content.store import open_store
from icatfs.values import ContentVersion, DatafileId

async def main(folder):
    async with open_store(Path(folder), max_bytes=2**40) as store:
        recorded = store.open(ContentVersion(DatafileId(1), 10**6, 0, None))
        recorded.pwrite(0, b"a" * 500_000)
        await store.save()
        recorded.pwrite(500_000, b"b" * 500_000)
        late = store.open(ContentVersion(DatafileId(2), 10**6, 0, None))
        late.pwrite(0, b"c" * 10**6)
        late.close()
        os.kill(os.getpid(), 9)

trio.run(main, sys.argv[1])
"""


async def test_after_a_kill_the_cache_has_what_was_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    done = await trio.run_process([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -9
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(ContentVersion(DatafileId(1), 10**6, 0, None))
        assert file.missing(0, 10**6) == (500_000, 10**6)
        assert file.pread(0, 500_000) == b"a" * 500_000
        assert store.status().files == 1


# Files that come from elsewhere.


async def test_a_staged_file_becomes_cached_content(tmp_path: Path) -> None:
    data = content_of(100_000)
    staged = tmp_path / "staged"
    staged.write_bytes(data)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        store.adopt(version_of(data), staged)
        file = store.open(version_of(data))
        assert file.complete
        assert file.pread(0, 100_000) == data
        file.close()
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        assert holds(store, version_of(data))


async def test_a_staged_file_of_another_size_is_not_adopted(tmp_path: Path) -> None:
    data = content_of(100_000)
    staged = tmp_path / "staged"
    staged.write_bytes(data[:-1])
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        store.adopt(version_of(data), staged)
        assert not holds(store, version_of(data))
        store.adopt(version_of(data), tmp_path / "nothing")
        assert store.status().used_bytes == 0


async def test_a_staged_file_on_another_disk_is_copied(tmp_path: Path, small_disk: Path) -> None:
    data = content_of(100_000)
    staged = small_disk / "staged"
    staged.write_bytes(data)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        store.adopt(version_of(data), staged)
        assert store.open(version_of(data)).pread(0, 100_000) == data


async def test_a_staged_file_that_has_no_room_is_not_adopted(tmp_path: Path) -> None:
    data = content_of(2 * MIB)
    staged = tmp_path / "staged"
    staged.write_bytes(data)
    async with open_store(tmp_path / "cache", max_bytes=MIB) as store:
        store.adopt(version_of(data), staged)
        assert store.status().used_bytes == 0
        assert staged.read_bytes() == data


# The folder.


async def test_nobody_else_can_look_into_the_cache(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        path = await one_file(tmp_path / "cache", version_of(b"abc"), b"abc")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (tmp_path / "cache", tmp_path / "cache/data"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cache/index.sqlite").stat().st_mode) == 0o600


async def test_a_folder_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ConfigError, match="choose another"):
        async with open_store(tmp_path / "cache", max_bytes=PLENTY):
            pass


async def test_a_disk_that_takes_no_records_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(100_000)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        blocker = sqlite3.connect(tmp_path / "cache/index.sqlite", isolation_level=None)
        blocker.execute("DROP TABLE content")
        fill(store, version_of(data), data)
        await store.save()
        assert "cannot be recorded" in caplog.text
        assert holds(store, version_of(data))
        file = store.open(version_of(data))
        assert file.pread(0, 100_000) == data
        blocker.close()
        caplog.clear()
