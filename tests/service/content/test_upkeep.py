"""Cache folders looked at, emptied and compared from outside, beside those who use them."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from support.cachefolders import data_file
from support.contents import content_of, fill, version_of
from support.disks import flip
from support.sizes import MIB, PLENTY

from icatfs.content import upkeep
from icatfs.content.store import open_store
from icatfs.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.upkeep import Verified

SERVER, USER = "https://icat.example.org/icat", "db/nbour"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def verify(folder: Path) -> Verified:
    seen: list[int] = []
    verified = upkeep.verify(folder, seen.append)
    assert sum(seen) >= verified.bytes
    return verified


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "0123456789abcdef"


async def test_a_folder_says_whose_it_is_and_how_much_is_in_it(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY, server=SERVER, user=USER) as store:
        fill(store, version_of(content_of(100_000)), content_of(100_000))
        await store.save()
        assert upkeep.account(folder).mounts == 1
        async with open_store(folder, max_bytes=MIB, server=SERVER, user=USER):
            assert upkeep.account(folder).mounts == 2
    account = upkeep.account(folder)
    assert account.home is not None
    assert (account.home.server, account.home.user) == (SERVER, USER)
    assert account.home.max_bytes == MIB
    assert (account.files, account.mounts) == (1, 0)
    assert 100_000 <= account.held <= 100_000 + 4096
    assert upkeep.folders(folder.parent) == [folder]


async def test_looking_changes_nothing(folder: Path) -> None:
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(content_of(100_000)), content_of(100_000))
    before = times(folder)
    upkeep.account(folder)
    assert times(folder) == before


async def test_a_cache_nobody_uses_is_emptied(folder: Path) -> None:
    data = content_of(100_000)
    async with open_store(folder, max_bytes=PLENTY, server=SERVER, user=USER) as store:
        for number in range(120):
            fill(store, version_of(data, number), data)
        store.open(version_of(content_of(MIB), 500)).pwrite(0, content_of(MIB)[:10])
    (folder / "data" / "7-0123456789abcdef-1").write_bytes(b"left by a crash")
    cleared = upkeep.clear(folder)
    assert cleared.before.files == 122
    assert (cleared.after.files, cleared.after.held) == (0, 0)
    assert cleared.after.home == cleared.before.home
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert store.status().used_bytes == 0
        fill(store, version_of(data), data)
        assert store.holds(version_of(data))


async def test_what_a_mount_has_open_stays_and_it_goes_on(folder: Path) -> None:
    data = content_of(3 * MIB)
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in range(5):
            fill(store, version_of(data, number), data)
        await store.save()
        reading = store.open(version_of(data, 0))
        writing = store.open(version_of(data, 9))
        writing.pwrite(0, data[:MIB])
        await store.save()
        cleared = upkeep.clear(folder)
        assert cleared.after.files == 2
        assert reading.pread(0, len(data)) == data
        writing.pwrite(MIB, data[MIB:])
        writing.settle()
        assert writing.pread(0, len(data)) == data
        assert not store.holds(version_of(data, 1))
        fill(store, version_of(data, 1), data)
        reading.close()
        writing.close()
        await store.save()
        assert store.status().used_bytes == 3 * (len(data) + 4096)
        assert upkeep.clear(folder).after.files == 0


async def test_what_was_cleared_before_it_was_recorded_is_no_room_that_is_lost(
    folder: Path,
) -> None:
    data = content_of(3 * MIB)
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:MIB])
        file.close()
        await store.save()
        file = store.open(version_of(data))
        file.pwrite(MIB, data[MIB : 2 * MIB])
        file.close()
        assert upkeep.clear(folder).after.files == 0
        await store.save()
        assert store.status().used_bytes == 0
        file = store.open(version_of(data))
        file.pwrite(0, data[:MIB])
        file.close()
        await store.save()
        file = store.open(version_of(data))
        file.pwrite(MIB, data[MIB : 2 * MIB])
        await store.save()
        file.pwrite(2 * MIB, data[2 * MIB : 2 * MIB + 10])
        file.close()
        data_file(folder, 5).unlink()
        await store.save()
        assert store.status().used_bytes == 0
        assert store.status().files == 0


async def test_what_is_right_is_found_right(folder: Path) -> None:
    data = content_of(3 * MIB + 7)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        part = store.open(version_of(data, 6))
        part.pwrite(MIB, data[MIB : 2 * MIB + 5])
        part.close()
        adopted = folder.parent / "staged"
        adopted.write_bytes(data)
        store.adopt(version_of(data, 7), adopted)
    verified = verify(folder)
    assert (verified.files, verified.in_use, verified.wrong) == (3, 0, [])
    assert verified.bytes == 2 * len(data) + MIB + 5


async def test_altered_bytes_are_found_in_whole_files_and_in_parts(folder: Path) -> None:
    data = content_of(3 * MIB + 7)
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in (5, 6):
            fill(store, version_of(data, number), data)
        for number in (7, 8):
            part = store.open(version_of(data, number))
            part.pwrite(MIB, data[MIB : 2 * MIB + 5])
            part.close()
    flip(data_file(folder, 5), 3 * MIB + 6)
    flip(data_file(folder, 7), 2 * MIB + 4)
    flip(data_file(folder, 8), 10)  # where nothing is kept
    verified = verify(folder)
    assert [one.datafile for one in verified.wrong] == [5, 7]
    assert all("the disk altered" in one.reason for one in verified.wrong)
    assert verified.files == 2
    async with open_store(folder, max_bytes=PLENTY) as store:
        assert not store.holds(version_of(data, 5))
        assert store.holds(version_of(data, 6))
        assert store.open(version_of(data, 7)).missing(0, PLENTY) == (0, len(data))
        assert store.status().used_bytes == verified.bytes + 2 * 4096
    assert verify(folder).wrong == []


async def test_a_file_cut_short_a_torn_record_and_a_wrong_whole_are_found(folder: Path) -> None:
    data = content_of(100_000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        for number in (5, 6, 7):
            fill(store, version_of(data, number), data)
        unlike = store.open(version_of(data, 8, checksum="0badcafe"))
        unlike.pwrite(0, data)
        unlike.settle()  # whoever did that was wrong
        unlike.close()
    os.truncate(data_file(folder, 5), 99_999)
    with sqlite3.connect(folder / "index.sqlite") as connection:
        connection.execute("UPDATE content SET proof = proof + 1 WHERE datafile = 6")
    connection.close()
    verified = verify(folder)
    reasons = {one.datafile: one.reason for one in verified.wrong}
    assert "altered" in reasons[5]
    assert reasons[None] == "its record is damaged"
    assert "catalogue" in reasons[8]
    assert (verified.files, len(verified.wrong)) == (1, 3)
    assert len(list((folder / "data").iterdir())) == 1


async def test_what_a_mount_reads_is_compared_and_what_it_writes_is_left_to_it(
    folder: Path,
) -> None:
    data = content_of(3 * MIB)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        writing = store.open(version_of(data, 6))
        writing.pwrite(0, data[:MIB])
        await store.save()
        reading = store.open(version_of(data))
        flip(data_file(folder, 5), 17)
        flip(data_file(folder, 6), 17)
        verified = verify(folder)
        assert [one.datafile for one in verified.wrong] == [5]
        assert (verified.files, verified.in_use) == (0, 1)
        assert reading.size == len(data)
        writing.pwrite(MIB, data[MIB:])
        reading.close()
        writing.close()


async def test_a_cache_of_another_version_is_counted_and_left_alone_while_it_is_in_use(
    folder: Path,
) -> None:
    data = content_of(100_000)
    async with open_store(folder, max_bytes=PLENTY) as store:
        fill(store, version_of(data), data)
        await store.save()
        with sqlite3.connect(folder / "index.sqlite") as connection:
            connection.execute("PRAGMA user_version=99")
        connection.close()
        account = upkeep.account(folder)
        assert (account.home, account.files, account.mounts) == (None, 1, 1)
        with pytest.raises(ConfigError, match="another version"):
            upkeep.clear(folder)
        assert store.holds(version_of(data))
    assert upkeep.clear(folder).after.files == 0
