"""Bytes that somebody else writes into the data files, with the store's leave."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest
from support.contents import content_of, version_of
from support.sizes import MIB, PLENTY

from icatfs.content.chunks import CHUNK, Piece, cut
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from icatfs.content.house import Grant


def carry(grant: Grant, data: bytes, start: int, stop: int) -> list[Piece]:
    """What a worker does: write [start, stop) of the data, and say so."""
    os.pwrite(grant.fd, data[start:stop], start)
    return [Piece(one, other, zlib.crc32(data[one:other])) for one, other in cut(start, stop)]


async def test_bytes_that_arrived_under_grants_are_read_and_proved_in_any_order(
    tmp_path: Path,
) -> None:
    data = content_of(3 * MIB + 777)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        for start, stop in ((2 * MIB, len(data)), (0, MIB + 5), (MIB + 5, 2 * MIB)):
            grant = file.grant(start, stop - start)
            assert grant is not None
            assert (grant.start, grant.stop) == (start, stop)
            assert file.missing(start, stop) == (start, stop)
            middle = start + 1000
            file.arrived(grant, carry(grant, data, start, middle))
            assert file.missing(start, stop) == (middle, stop)
            file.arrived(grant, carry(grant, data, middle, stop))
            file.release(grant)
        assert file.unproved
        assert file.missing(0, PLENTY) == (MIB + 1005, 2 * MIB)
        assert file.crc == version_of(data).crc32
        file.settle()
        assert file.complete
        assert file.pread(0, len(data)) == data
        file.close()
        assert store.status().used_bytes == len(data) + 4096
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        assert file.complete
        assert file.pread(0, len(data)) == data


async def test_a_grant_ends_where_bytes_are_there_or_promised(tmp_path: Path) -> None:
    data = content_of(2 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        file.pwrite(500_000, data[500_000:600_000])
        first, second = file.grant(0, PLENTY), file.grant(600_000, 100_000)
        assert first is not None
        assert (first.start, first.stop) == (0, 500_000)
        assert second is not None
        assert (second.start, second.stop) == (600_000, 700_000)
        assert first.file == second.file
        assert file.grant(550_000, 10) is None
        assert file.grant(650_000, 10) is None
        third = file.grant(700_000, PLENTY)
        assert third is not None
        assert third.stop == 2 * MIB
        assert file.grant(2 * MIB, 10) is None


async def test_what_is_promised_is_not_written_by_anybody_else(tmp_path: Path) -> None:
    data = content_of(MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        grant = file.grant(1000, 1000)
        assert grant is not None
        file.pwrite(0, bytes(1000) + b"wrong" * 200 + data[2000:3000])
        assert file.missing(0, MIB) == (1000, 2000)
        file.arrived(grant, carry(grant, data, 1000, 2000))
        assert file.pread(1000, 2000) == data[1000:3000]


async def test_what_did_not_arrive_is_given_back(tmp_path: Path) -> None:
    data = content_of(4 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        grant = file.grant(0, 4 * MIB)
        assert grant is not None
        assert store.status().used_bytes == 4 * MIB + 4096
        file.arrived(grant, carry(grant, data, 0, MIB))
        carry(grant, data, MIB, 2 * MIB)  # written, and never told
        file.release(grant)
        file.release(grant)
        assert store.status().used_bytes == MIB + 4096
        (path,) = (tmp_path / "cache/data").iterdir()
        assert path.stat().st_blocks * 512 <= MIB + 4096
        assert file.missing(0, PLENTY) == (MIB, 4 * MIB)
        again = file.grant(MIB, MIB)
        assert again is not None


async def test_a_grant_of_bytes_that_were_dropped_is_void(tmp_path: Path) -> None:
    data = content_of(2 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        old = file.grant(0, MIB)
        assert old is not None
        pieces = carry(old, data, 0, MIB)
        file.reset()
        new = file.grant(0, MIB)
        assert new is not None
        assert new.file != old.file
        file.arrived(old, pieces)
        assert file.missing(0, MIB) == (0, MIB)
        file.release(old)
        assert store.status().used_bytes == MIB + 4096
        file.arrived(new, carry(new, data, 0, MIB))
        assert file.pread(0, MIB) == data[:MIB]


async def test_without_room_there_is_no_grant(tmp_path: Path) -> None:
    data = content_of(8 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=4 * MIB) as store:
        file = store.open(version_of(data))
        assert file.grant(0, 8 * MIB) is None
        assert store.status().used_bytes == 0
        grants = [file.grant(number * MIB, MIB) for number in range(4)]
        assert [one is None for one in grants] == [False, False, False, True]
        assert store.status().used_bytes <= 4 * MIB


async def test_what_is_only_in_memory_frees_no_disk(tmp_path: Path) -> None:
    data = content_of(3 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=65_536) as store:
        file = store.open(version_of(data))
        file.pwrite(0, data[:MIB])
        file.pwrite(MIB, data[MIB : 2 * MIB])
        file.pwrite(2 * MIB, data[2 * MIB : 2 * MIB + 65_000])
        assert file.pread(MIB, MIB + 65_000) == data[MIB : 2 * MIB + 65_000]


async def test_a_large_file_passes_through_a_small_cache_under_grants(tmp_path: Path) -> None:
    data = content_of(20 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=8 * MIB) as store:
        file = store.open(version_of(data))
        for start in range(0, len(data), CHUNK):
            grant = file.grant(start, CHUNK)
            assert grant is not None
            file.arrived(grant, carry(grant, data, start, start + CHUNK))
            file.release(grant)
            assert file.unproved or file.pread(start, CHUNK) == data[start : start + CHUNK]
            assert store.status().used_bytes <= 8 * MIB
        assert file.crc == version_of(data).crc32
        file.settle()
        assert file.pread(18 * MIB, 2 * MIB) == data[18 * MIB :]


@pytest.mark.parametrize("wrong", [(1000, 2000), (0, MIB + 1)])
async def test_pieces_that_do_not_follow_or_fit_are_a_mistake(
    tmp_path: Path, wrong: tuple[int, int]
) -> None:
    data = content_of(2 * MIB)
    async with open_store(tmp_path / "cache", max_bytes=PLENTY) as store:
        file = store.open(version_of(data))
        grant = file.grant(0, MIB)
        assert grant is not None
        with pytest.raises(AssertionError):
            file.arrived(grant, [Piece(*wrong, 0)])
        file.close()
