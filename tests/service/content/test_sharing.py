"""Several mounts of one user in one cache folder. Locks tell descriptors apart, not processes."""

from __future__ import annotations

import sqlite3
import sys
from typing import TYPE_CHECKING

import trio
from support.cachefolders import on_disk
from support.contents import content_of, fill, version_of
from support.disks import flip
from support.sizes import MIB, PLENTY

from icatfs.content.ownership import Tenancy, share_folder
from icatfs.content.store import ContentStore, open_store
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def holds(store: ContentStore, version: ContentVersion, data: bytes) -> bool:
    """Whether all of it is there; what is there must be right."""
    file = store.open(version)
    whole = file.missing(0, len(data)) is None
    if whole:
        assert file.pread(0, len(data)) == data
    file.close()
    return whole


async def test_what_one_mount_fetched_the_other_reads(tmp_path: Path) -> None:
    data = content_of(300_000)
    async with (
        open_store(tmp_path / "cache", max_bytes=PLENTY) as first,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as second,
    ):
        assert first.folder == second.folder
        fill(first, version_of(data), data)
        await first.save()
        assert second.holds(version_of(data))
        assert holds(second, version_of(data), data)
        assert first.status().used_bytes == second.status().used_bytes == 300_000 + 4096


async def test_a_complete_file_is_read_by_several_at_once(tmp_path: Path) -> None:
    data = content_of(300_000)
    async with (
        open_store(tmp_path / "cache", max_bytes=PLENTY) as first,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as second,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as third,
    ):
        file = first.open(version_of(data))
        file.pwrite(0, data)
        file.settle()
        await first.save()
        assert holds(second, version_of(data), data)
        other = second.open(version_of(data))
        assert holds(third, version_of(data), data)
        assert file.pread(0, 10) == other.pread(0, 10) == data[:10]


async def test_a_file_that_somebody_writes_is_begun_again_by_others(tmp_path: Path) -> None:
    data = content_of(3 * MIB)
    async with (
        open_store(tmp_path / "cache", max_bytes=PLENTY) as first,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as second,
    ):
        file = first.open(version_of(data))
        file.pwrite(0, data[:MIB])
        await first.save()
        other = second.open(version_of(data))
        assert other.missing(0, MIB) == (0, MIB)
        other.pwrite(0, data[: 2 * MIB])
        other.close()
        await second.save()
        file.close()
        await first.save()
        # both are free now: the fuller one is taken up
        assert first.open(version_of(data)).missing(0, PLENTY) == (2 * MIB, 3 * MIB)
        assert second.open(version_of(data)).missing(0, PLENTY) == (MIB, 3 * MIB)


async def test_what_is_taken_over_goes_on_where_it_was(tmp_path: Path) -> None:
    data = content_of(3 * MIB + 5)
    async with (
        open_store(tmp_path / "cache", max_bytes=PLENTY) as first,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as second,
    ):
        file = first.open(version_of(data))
        file.pwrite(MIB, data[MIB : 2 * MIB])
        await first.save()
        file.pwrite(2 * MIB, data[2 * MIB :])
        file.close()  # and what came last is not recorded yet
        other = second.open(version_of(data))
        assert other.missing(0, PLENTY) == (0, MIB)
        assert other.missing(MIB, PLENTY) == (2 * MIB, 3 * MIB + 5)
        other.pwrite(0, data[:MIB])
        await first.save()  # its file has gone
        other.pwrite(2 * MIB, data[2 * MIB :])
        assert other.crc == version_of(data).crc32
        other.settle()
        other.close()
        await second.save()
        assert holds(first, version_of(data), data)
        assert len(list((tmp_path / "cache/data").iterdir())) == 1


async def test_the_budget_is_that_of_all_together(tmp_path: Path) -> None:
    budget = 8 * MIB
    async with (
        open_store(tmp_path / "cache", max_bytes=budget) as first,
        open_store(tmp_path / "cache", max_bytes=budget) as second,
    ):
        for number in range(30):
            store = (first, second)[number % 2]
            data = content_of(700_000, number)
            file = store.open(version_of(data, number))
            for offset in range(0, len(data), 65536):
                file.pwrite(offset, data[offset : offset + 65536])
                assert on_disk(tmp_path / "cache") <= budget
                assert store.status().used_bytes <= budget
            file.settle()
            assert file.pread(0, len(data)) == data
            file.close()
            if number % 5 == 4:
                await store.save()
        assert first.status().evicted_files + second.status().evicted_files > 0


async def test_what_somebody_has_open_is_evicted_by_nobody(tmp_path: Path) -> None:
    kept = content_of(900_000)
    async with (
        open_store(tmp_path / "cache", max_bytes=2 * MIB) as first,
        open_store(tmp_path / "cache", max_bytes=2 * MIB) as second,
    ):
        fill(first, version_of(kept), kept)
        await first.save()
        file = first.open(version_of(kept))
        for number in range(10, 15):
            data = content_of(600_000, number)
            fill(second, version_of(data, number), data)
            await second.save()
        assert second.status().evicted_files >= 3
        assert second.holds(version_of(kept))
        assert file.pread(0, 900_000) == kept


async def test_what_others_used_last_is_kept(tmp_path: Path) -> None:
    datas = [content_of(500_000, number) for number in range(5)]
    versions = [version_of(data, number) for number, data in enumerate(datas)]
    async with (
        open_store(tmp_path / "cache", max_bytes=2 * MIB + 100_000) as first,
        open_store(tmp_path / "cache", max_bytes=2 * MIB + 100_000) as second,
    ):
        for number in range(4):
            fill(first, versions[number], datas[number])
        await first.save()
        assert holds(second, versions[0], datas[0])
        await second.save()
        fill(first, versions[4], datas[4])
        await first.save()
        assert second.holds(versions[0])
        assert not second.holds(versions[1])
        assert second.holds(versions[3])


async def test_dropping_a_file_that_others_read_harms_nobody(tmp_path: Path) -> None:
    data = content_of(3 * MIB)
    async with (
        open_store(tmp_path / "cache", max_bytes=PLENTY) as first,
        open_store(tmp_path / "cache", max_bytes=PLENTY) as second,
    ):
        fill(first, version_of(data), data)
        await first.save()
        file, other = first.open(version_of(data)), second.open(version_of(data))
        other.reset()
        assert file.pread(0, len(data)) == data
        other.pwrite(0, data)
        other.settle()
        file.close()
        other.close()
        await first.save()
        await second.save()
        assert holds(first, version_of(data), data)
        assert first.status().used_bytes == len(data) + 4096


# Those who die.

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
        recorded.pwrite(500_000, b"b" * 400_000)
        late = store.open(ContentVersion(DatafileId(2), 10**6, 0, None))
        late.pwrite(0, b"c" * 10**6)
        late.close()
        grown = store.open(ContentVersion(DatafileId(3), 10**6, 0, None))
        grown.pwrite(0, b"d" * 700_000)
        os.kill(os.getpid(), 9)

trio.run(main, sys.argv[1])
"""


async def test_the_dead_harm_nobody_and_their_room_is_free(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    data = content_of(300_000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        await store.save()
        done = await trio.run_process([sys.executable, "-c", KILLED, str(folder)], check=False)
        assert done.returncode == -9
        assert store.status().used_bytes > 1_000_000
        fill(store, version_of(b"x" * 1000, 9), b"x" * 1000)
        await store.save()  # looks who is dead
        used = 300_000 + 1000 + 500_000 + 3 * 4096
        assert store.status().used_bytes == used
        assert on_disk(folder) <= used
        assert holds(store, version_of(data), data)
        file = store.open(ContentVersion(DatafileId(1), 10**6, 0, None))
        assert file.missing(0, 10**6) == (500_000, 10**6)
        assert file.pread(0, 500_000) == b"a" * 500_000
        assert len(list((folder / "mounts").iterdir())) == 1


# The folder.


async def test_the_folder_of_another_host_is_left_to_it(tmp_path: Path) -> None:
    data = content_of(100_000)
    folder = tmp_path / "cache"
    async with open_store(folder, max_bytes=PLENTY) as first:
        (folder / "lock").write_text("another boot")
        async with open_store(folder, max_bytes=PLENTY) as second:
            assert second.folder == tmp_path / "cache-2" / "data"
            fill(first, version_of(data), data)
            await first.save()
            assert not second.holds(version_of(data))
    async with open_store(folder, max_bytes=PLENTY) as store:  # nobody is there any more
        assert store.folder == folder / "data"
        assert store.holds(version_of(data))


async def test_an_index_of_another_format_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    data = content_of(100_000)
    folder = tmp_path / "cache"
    async with open_store(folder, max_bytes=PLENTY) as first:
        with sqlite3.connect(folder / "index.sqlite") as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
        async with open_store(folder, max_bytes=PLENTY) as second:
            assert second.folder == tmp_path / "cache-2" / "data"
        fill(first, version_of(data), data)
        await first.save()
        assert first.holds(version_of(data))


def test_a_process_is_dead_when_its_lock_is_free(tmp_path: Path) -> None:
    first = entered(tmp_path / "cache")
    assert first.alone
    first.admit_others()
    second = entered(tmp_path / "cache")
    assert not second.alone
    assert not second.is_dead(first.mark)
    assert not first.is_dead(first.mark)
    mark = second.mark
    second.close()
    assert first.is_dead(mark)
    assert first.is_dead("ffff")
    first.close()


def entered(folder: Path) -> Tenancy:
    tenancy = share_folder(folder)
    assert tenancy is not None
    return tenancy


# Bytes that the disk altered.


async def test_a_flipped_bit_is_found_when_it_is_first_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = content_of(3 * MIB + 100)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
    (path,) = (tmp_path / "cache/data").iterdir()
    flip(path, 2 * MIB + 77)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.missing(0, MIB) is None
        assert file.pread(0, 2 * MIB) == data[: 2 * MIB]
        assert file.missing(2 * MIB + 500, 2 * MIB + 600) is not None
        assert file.missing(0, MIB) == (0, MIB)
        assert file.withdrawals == 0  # nobody was given the wrong byte
        file.pwrite(0, data)
        file.settle()
        assert file.pread(0, len(data)) == data
        file.close()
        await store.save()
        assert store.status().used_bytes == len(data) + 4096
        assert "altered" in caplog.text
        caplog.clear()
