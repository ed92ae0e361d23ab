"""Data files that were altered while nobody had them: found when read, and fetched again."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import COST, alter, data_file, on_disk, version
from support.contents import content_of, fill, settle, version_of
from support.disks import flip
from support.sizes import MIB, PLENTY

from icatfs.content import disk, upkeep
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.store import ContentStore
    from icatfs.values import ContentVersion

SIZE = 3 * MIB + 5000


def read_all(store: ContentStore, version: ContentVersion, data: bytes) -> int:
    """How many bytes had to be fetched again; every byte that is read is right."""
    file, fetched = store.open(version), 0
    for start in range(0, len(data), 65536):
        stop = min(len(data), start + 65536)
        while (gap := file.missing(start, stop)) is not None:
            first, last = gap
            fetched += last - first
            file.pwrite(first, data[first:last])
            settle(file)
        assert file.pread(start, stop - start) == data[start:stop]
    assert file.withdrawals == 0, "nobody was given a wrong byte"
    file.close()
    return fetched


@pytest.mark.parametrize("place", [0, 1, MIB - 1, MIB, 2 * MIB - 1, 3 * MIB - 1, 3 * MIB, SIZE - 1])
async def test_whichever_byte_was_altered_the_right_one_is_read(
    folder: Path, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    flip(data_file(folder, 5), place)
    async with open_store(folder, max_bytes=PLENTY) as store:
        before = place // MIB * MIB
        assert read_all(store, version_of(data), data) == SIZE - before
        assert "the disk altered bytes of datafile 5" in caplog.text
        caplog.clear()
        await store.save()
        assert on_disk(folder) <= store.status().used_bytes == SIZE - before + COST
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.missing(before, SIZE) is None, "what came again is kept"
        assert file.pread(before, SIZE - before) == data[before:]
        file.close()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, 3 * MIB, SIZE - 1])
async def test_a_file_that_was_cut_is_fetched_again_as_a_whole(folder: Path, size: int) -> None:
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    os.truncate(data_file(folder, 5), size)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert read_all(store, version_of(data), data) == SIZE
        await store.save()
        assert store.status().used_bytes == SIZE + COST
        assert len(list((folder / "data").iterdir())) == 1


async def test_what_follows_the_end_of_a_file_is_of_no_importance(folder: Path) -> None:
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    with data_file(folder, 5).open("ab") as file:
        file.write(b"more" * 1000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert read_all(store, version_of(data), data) == 0
        kept = store.open(version_of(data))
        assert kept.pread(SIZE - 10, 100)[:10] == data[-10:]
        kept.close()


@pytest.mark.parametrize("number", [0, 1, 3])
async def test_a_chunk_that_the_disk_lost_is_no_zeros(
    folder: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power cut, a file may have its size and not its bytes."""
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    with data_file(folder, 5).open("r+b") as file:
        assert disk.punch(file.fileno(), number * MIB, (number + 1) * MIB)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert read_all(store, version_of(data), data) == SIZE - number * MIB
    caplog.clear()


async def test_files_that_were_exchanged_are_not_taken_for_each_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = content_of(SIZE, 1), content_of(SIZE, 2)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(one, 1), one)
        fill(store, version_of(other, 2), other)
    first, second = data_file(folder, 1), data_file(folder, 2)
    first.rename(folder / "data/aside")
    second.rename(first)
    (folder / "data/aside").rename(second)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert read_all(store, version_of(one, 1), one) == SIZE
        assert read_all(store, version_of(other, 2), other) == SIZE
    caplog.clear()


async def test_a_file_of_another_cache_is_not_taken_for_ours(folder: Path, tmp_path: Path) -> None:
    """A copy, put there with its name: there is no record of it."""
    data = content_of(SIZE)
    async with open_store(tmp_path / "other", max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    async with open_store(folder, max_bytes=PLENTY):
        pass
    shutil.copy(data_file(tmp_path / "other", 5), folder / "data")
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert not store.holds(version_of(data))
        assert list((folder / "data").iterdir()) == []


async def test_a_whole_cache_that_was_copied_serves_where_it_is(
    folder: Path, tmp_path: Path
) -> None:
    data = content_of(SIZE)
    async with open_store(tmp_path / "other", max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        part = store.open(version_of(data, 6))
        part.pwrite(MIB, data[MIB : 2 * MIB])
        part.close()
    shutil.copytree(tmp_path / "other", folder)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert read_all(store, version_of(data), data) == 0
        assert read_all(store, version_of(data, 6), data) == SIZE - MIB


async def test_a_folder_in_place_of_a_file_is_an_empty_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for size in (10, SIZE):
        data = content_of(size)
        async with open_store(folder, max_bytes=PLENTY) as store:
            fill(store, version_of(data, size), data)
        path = data_file(folder, size)
        path.unlink()
        path.mkdir()
        async with open_store(folder, max_bytes=PLENTY) as store:
            assert read_all(store, version_of(data, size), data) == size
    caplog.clear()


async def test_a_part_that_was_altered_is_fetched_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(MIB + 100, data[MIB + 100 : 2 * MIB + 300])
        file.close()
    flip(data_file(folder, 5), MIB + 100)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.missing(2 * MIB, 2 * MIB + 300) is None, "that chunk is right"
        assert file.missing(MIB + 200, MIB + 300) is not None
        assert file.missing(2 * MIB, 2 * MIB + 300) is not None, "the disk is not to be trusted"
        file.close()
        assert read_all(store, version_of(data), data) == SIZE
    caplog.clear()


async def test_a_chunk_that_was_compared_once_is_not_compared_again(folder: Path) -> None:
    """Not in this mount, also when the file was closed in between; it is in the next one."""
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.pread(0, 10) == data[:10]
        file.close()
        flip(data_file(folder, 5), MIB - 1)
        file = store.open(version_of(data))
        assert file.missing(0, 10) is None
        assert file.missing(MIB, MIB + 10) is None
        file.close()
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert upkeep.verify(folder, lambda _: None).wrong != []
        assert not store.holds(version_of(data))


async def test_what_this_mount_wrote_itself_is_not_compared(folder: Path) -> None:
    data = content_of(SIZE)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        file = store.open(version_of(data))
        assert file.missing(0, SIZE) is None
        assert file.pread(0, SIZE) == data
        file.close()
        await store.save()
        assert read_all(store, version_of(data), data) == 0


async def test_a_record_that_says_complete_of_too_short_a_file_is_none(folder: Path) -> None:
    """Of two files of a version, the one that is right is used."""
    one = version(1, 1000)
    async with (
        open_store(folder, max_bytes=PLENTY) as first,
        open_store(folder, max_bytes=PLENTY) as second,
    ):
        mine, theirs = first.open(one), second.open(one)
        for file in (mine, theirs):
            file.pwrite(0, b"x" * 1000)
            file.close()
        await first.save()
        await second.save()
    (broken, _) = sorted((folder / "data").iterdir())
    os.truncate(broken, 10)
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.status().files == 2
        file = store.open(one)
        assert file.missing(0, 1000) is None
        assert file.pread(0, 1000) == b"x" * 1000
        file.close()
        again = store.open(one)
        assert again.complete
        again.close()


async def test_records_of_nothing_do_not_hide_the_file_that_is_there(folder: Path) -> None:
    one = version(1, 1000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, one, b"x" * 1000)
    alter(
        folder,
        "INSERT INTO content SELECT '1-0000000000000000-1', datafile, catalogued_size, mtime_ns,"
        " checksum, size, pieces, held, precious, proof, used + 1 FROM content",
    )
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.holds(one)
        file = store.open(one)
        assert file.complete
        file.close()
