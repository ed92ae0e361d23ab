"""A disk that is full, or becomes so at any moment: a smaller cache, and the right bytes."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from support.cachefolders import COST, names, on_disk, share, total, until, version
from support.contents import content_of, settle, version_of, write
from support.disks import promising_disk
from support.sizes import KIB, MIB, PLENTY

from icatfs.content.chunks import Piece, cut
from icatfs.content.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.store import CacheFile


def free(disk: Path) -> int:
    counts = os.statvfs(disk)
    return counts.f_bavail * counts.f_frsize


@contextmanager
def full(disk: Path, left: int = 0) -> Iterator[None]:
    """Something else takes all of it but this."""
    ballast = disk / "ballast"
    ballast.touch()
    with suppress(OSError):
        while (more := free(disk) - left) > 0:
            with ballast.open("ab", buffering=0) as file:
                file.write(bytes(min(more, MIB)))
    yield
    ballast.unlink()


def stream(file: CacheFile, data: bytes, start: int = 0, piece: int = 64 * KIB) -> None:
    """Write and read as a reader does, who waits for each piece."""
    for offset in range(start, len(data), piece):
        part = data[offset : offset + piece]
        file.pwrite(offset, part)
        settle(file)
        assert file.missing(offset, offset + len(part)) is None
        assert file.pread(offset, len(part)) == part


@pytest.mark.parametrize("min_free", [0, MIB, 3 * MIB])
async def test_what_is_to_stay_free_stays_free_whatever_is_read(
    small_disk: Path, min_free: int
) -> None:
    """But for the index, which has no budget: it is some pages large."""
    async with open_store(small_disk / "cache", max_bytes=PLENTY, min_free_bytes=min_free) as store:
        index = free(small_disk)
        for number in range(12):
            data = content_of(MIB + 1000 * number, number)
            file = store.open(version_of(data, number))
            for offset in range(0, len(data), 100_000):
                file.pwrite(offset, data[offset : offset + 100_000])
                assert free(small_disk) >= min_free - 64 * KIB
            file.settle()
            assert file.pread(0, len(data)) == data
            file.close()
            await store.save()
        assert index > free(small_disk), "and of the rest some was used"


async def test_a_disk_that_is_filled_at_any_moment_is_no_error_and_serves_again_when_it_is_not(
    small_disk: Path,
) -> None:
    dice = random.Random(3)
    datas = [content_of(300_000 * (number + 1), number) for number in range(5)]
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        for _ in range(12):
            number = dice.randrange(5)
            data = datas[number]
            file = store.open(version_of(data, number))
            half = len(data) // 2
            if file.missing(0, half) is not None:
                stream(file, data[:half])
            with full(small_disk, dice.choice([0, 0, 4096, 200_000])):
                if file.missing(0, len(data)) is not None:
                    stream(file, data)
                if dice.random() < 0.5:
                    await store.save()
            assert file.pread(half, len(data) - half) == data[half:]
            file.close()
            assert on_disk(small_disk / "cache") <= store.status().used_bytes
        await store.save()
        file = store.open(version_of(datas[0], 0))
        if file.missing(0, len(datas[0])) is not None:
            stream(file, datas[0])
        file.close()
        assert store.holds(version_of(datas[0], 0)), "it is kept now that there is room"
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        for number, data in enumerate(datas):
            file = store.open(version_of(data, number))
            if file.missing(0, len(data)) is None:
                assert file.pread(0, len(data)) == data
            file.close()


async def test_a_worker_whose_disk_is_full_gives_back_what_it_could_not_write(
    small_disk: Path,
) -> None:
    data = content_of(2 * MIB)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        for number in range(3):
            other = store.open(version_of(data, number))
            stream(other, data)
            other.close()
        await store.save()
        file = store.open(version_of(data, 9))
        grant = file.grant(0, MIB)
        assert grant is not None
        with full(small_disk):
            written = 0
            with suppress(OSError):
                written = os.pwrite(grant.fd, data[:MIB], 0)
            assert written < MIB
            pieces = [Piece(0, written, crc32(data[:written]))] if written else []
            file.arrived(grant, pieces)
            assert free(small_disk) == 0
            file.release(grant, disk_refused=True)
            assert free(small_disk) > MIB, "the oldest made room"
            again = file.grant(written, MIB - written)
            assert again is not None, "and it can go on"
            assert os.pwrite(again.fd, data[written:MIB], written) == MIB - written
            ranges = cut(written, MIB)
            file.arrived(again, [Piece(a, b, crc32(data[a:b])) for a, b in ranges])
            file.release(again)
            assert file.pread(0, MIB) == data[:MIB]
        file.close()
        assert on_disk(small_disk / "cache") <= store.status().used_bytes


async def test_what_cannot_be_taken_over_for_want_of_room_keeps_its_name_and_its_record(
    small_disk: Path,
) -> None:
    folder = small_disk / "cache"
    async with open_store(folder, max_bytes=PLENTY) as store:
        file = store.open(version(1, MIB))
        file.pwrite(0, b"x" * 1000)
    file.close()
    (path,) = (folder / "data").iterdir()
    async with open_store(folder, max_bytes=PLENTY) as store:
        with full(small_disk):
            file = store.open(version(1, MIB))
            assert file.missing(0, 1000) == (0, 1000), "the index has no room for its new name"
            file.close()
            assert list((folder / "data").iterdir()) == [path]
        assert store.status().used_bytes == 1000 + COST
        file = store.open(version(1, MIB))
        assert file.missing(0, 1000) is None
        assert file.pread(0, 1000) == b"x" * 1000
        file.close()
        assert list((folder / "data").iterdir()) != [path]


async def test_a_file_from_elsewhere_that_has_no_room_on_the_disk_stays_where_it_is(
    small_disk: Path, tmp_path: Path
) -> None:
    data = content_of(100_000)
    staged = tmp_path / "staged"
    staged.write_bytes(data)
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        with full(small_disk):
            store.adopt(version_of(data), staged)
            assert not store.holds(version_of(data))
            assert staged.read_bytes() == data
            assert on_disk(small_disk / "cache") == 0
        assert store.status().used_bytes == 0

        def is_adopted() -> bool:
            store.adopt(version_of(data), staged)
            return store.holds(version_of(data))

        await until(is_adopted)


async def test_records_that_have_no_room_are_kept_for_later(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The index itself finds no room: nothing is lost but what a crash would take."""
    async with open_store(small_disk / "cache", max_bytes=PLENTY) as store:
        for number in range(200):
            file = store.open(version(number, 10))
            file.pwrite(0, b"0123456789")
            file.close()
        with full(small_disk):
            await store.save()
            unsaved = store.status().unsaved
            assert store.holds(version(7, 10))
            file = store.open(version(7, 10))
            assert file.pread(0, 10) == b"0123456789"
            file.close()
        await store.save()
        assert store.status().unsaved == 0
        assert store.status().used_bytes == 200 * (10 + COST)
        assert unsaved == 0 or "cannot be recorded" in caplog.text
    with share(small_disk / "cache") as (index, _):
        assert len(names(index)) == 200
        assert total(index) == 200 * (10 + COST)
    caplog.clear()


@pytest.mark.parametrize(("count", "stays_open"), [(1, True), (20, False)])
async def test_bytes_that_the_disk_took_and_then_had_no_room_for_are_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, stays_open: bool
) -> None:
    cache = tmp_path / "cache"
    contents = {number: content_of(2 * MIB, number) for number in range(count + 1)}
    with promising_disk(cache / "data", 16 * MIB) as disk:
        if disk is None:
            pytest.skip("only root can mount a disk")
        async with open_store(cache, max_bytes=PLENTY) as store:

            def bring(number: int) -> CacheFile:
                file = store.open(version_of(contents[number], number))
                write(file, contents[number])
                assert file.complete
                return file

            bring(0).close()
            await store.save()
            disk.fill(free(cache / "data-below"))
            files = [bring(number) for number in range(1, count + 1)]
            if not stays_open:
                for file in files:
                    file.close()
            await until(lambda: not store.status().unsaved)
            if not stays_open:
                files = [
                    store.open(version_of(contents[number], number))
                    for number in range(1, count + 1)
                ]
            assert all(file.missing(0, 2 * MIB) == (0, 2 * MIB) for file in files)
            for file in files:
                file.close()
            file = store.open(version_of(contents[0], 0))
            assert file.pread(0, 2 * MIB) == contents[0]
            file.close()
            assert store.status().used_bytes == 2 * MIB + COST
        assert "cannot be recorded" in caplog.text
    caplog.clear()
