"""Reading from the embedded facility over HTTP, counted there: each byte once, and few requests.

What changes at the facility while it is read from (files replaced, datasets on tape, zips that die,
workers that are killed) costs requests, but never a wrong byte.
"""

from __future__ import annotations

import os
import random
import signal
import zlib
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio
from support.contents import Row
from support.reading import Mounted, both_ways, mounted
from support.replacing import Holdings, replaceable
from support.sizes import KIB, MIB

from icatfs.content.bulk import Bulk, open_bulk
from icatfs.content.foresight import Contents
from icatfs.content.plan import Limits
from icatfs.errors import Busy, Damaged, DataArchived
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.ids.client import IdsClient
from icatfs.ids.zips import ZipSource
from icatfs.values import ContentVersion, DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from icatfs.content.store import CacheFile
    from icatfs.transport import ByteStream

BLOCK = 128 * KIB
SIZE = 4 * MIB
"""Of each image."""
BLOCKS = SIZE // BLOCK
SMALL = Limits(window=512 * KIB, glance=128 * KIB, least_reach=64 * KIB)
"""The file is larger than a window."""

PATTERNS = {
    "in order": list(range(BLOCKS)),
    "backwards": list(range(BLOCKS - 1, -1, -1)),
    "in strides": [*range(0, BLOCKS, 3), *range(1, BLOCKS, 3), *range(2, BLOCKS, 3)],
    "in strides back": list(range(BLOCKS - 1, -1, -4)),
    "at random": random.Random(2).sample(range(BLOCKS), BLOCKS),
    "ends first": [0, BLOCKS - 1, 0, BLOCKS - 1, *range(BLOCKS)],
    "two readers": [one + half for one in range(BLOCKS // 2) for half in (0, BLOCKS // 2)],
}


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    with running_facility(
        "--holdings", "large", "--size", "120", "--storage", "dataset"
    ) as started:
        yield started


@pytest.fixture
def facility(large: FacilityHandle) -> FacilityHandle:
    """Everything online, without faults, and nothing counted."""
    large.clear_faults()
    if large.counters()["restores"]:
        large.advance(1000.0)  # what was asked back from tape is there
    large.restore(datasets=[_dataset(large, "many"), _dataset(large, "images")])
    large.reset_counters()
    return large


def _dataset(facility: FacilityHandle, name: str) -> int:
    (number,) = facility.search(f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'")
    return int(number)


def image(facility: FacilityHandle) -> int:
    query = "SELECT MIN(df.id) FROM Datafile df WHERE df.dataset.name = 'images'"
    return int(facility.search(query)[0])


async def block(us: Mounted, file: CacheFile, number: int) -> bytes:
    return await us.read(file, number * BLOCK, (number + 1) * BLOCK)


# Streams.


@both_ways
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_a_file_that_fits_a_window_is_one_request_however_it_is_read(
    facility: FacilityHandle, tmp_path: Path, pattern: str, moves: bool
) -> None:
    number = await trio.to_thread.run_sync(image, facility)
    async with mounted(facility, tmp_path / "cache", moves=moves) as us:
        truth = await us.truth(number)
        file = await us.open(number)
        for place in PATTERNS[pattern]:
            data = await block(us, file, place)
            assert data == truth[place * BLOCK : (place + 1) * BLOCK]
        await us.transfer.ensure(file, 0, SIZE)
        assert await us.requests() == 1
        assert us.transfer.status().bytes_received == SIZE
        assert file.complete
        file.close()


@both_ways
@pytest.mark.parametrize("pattern", PATTERNS)
async def test_of_a_file_larger_than_a_window_few_bytes_come_twice(
    facility: FacilityHandle, tmp_path: Path, pattern: str, moves: bool
) -> None:
    number = await trio.to_thread.run_sync(image, facility)
    async with mounted(facility, tmp_path / "cache", moves=moves, limits=SMALL) as us:
        truth = await us.truth(number)
        file = await us.open(number)
        for place in PATTERNS[pattern]:
            data = await block(us, file, place)
            assert data == truth[place * BLOCK : (place + 1) * BLOCK]
        await us.transfer.ensure(file, 0, SIZE)
        status = us.transfer.status()
        # What streams had under way at their ends. Of a worker's that is two orders of 256 KiB, and
        # more for the one that has read most of the file; else a piece, of 1 MiB at most, and
        # nothing at the end of the file.
        under_way = status.opened * 512 * KIB if moves else (status.opened - 1) * MIB
        assert SIZE <= status.bytes_received <= SIZE * 17 // 16 + under_way
        # A stream that was given up at once may never have been asked for.
        assert await us.requests() <= status.opened <= BLOCKS
        file.close()


@both_ways
async def test_readers_everywhere_in_a_file_make_one_request(
    facility: FacilityHandle, tmp_path: Path, moves: bool
) -> None:
    number = await trio.to_thread.run_sync(image, facility)
    limits = Limits(grace_s=60.0, turn_s=60.0)
    async with mounted(
        facility, tmp_path / "cache", moves=moves, limits=limits, stall_s=60.0
    ) as us:
        truth = await us.truth(number)

        async def reader(places: Sequence[int]) -> None:
            file = await us.open(number)
            for place in places:
                data = await block(us, file, place)
                assert data == truth[place * BLOCK : (place + 1) * BLOCK]
            file.close()

        async with trio.open_nursery() as nursery:
            for places in [*PATTERNS.values(), *PATTERNS.values()]:
                nursery.start_soon(reader, places)
        assert await us.requests() == 1
        assert us.transfer.status().bytes_received == SIZE
        assert us.store.status().open_files == 0


@both_ways
async def test_readers_who_give_up_at_any_time_cost_no_byte_twice(
    facility: FacilityHandle, tmp_path: Path, moves: bool
) -> None:
    number = await trio.to_thread.run_sync(image, facility)
    dice = random.Random(4)
    async with mounted(facility, tmp_path / "cache", moves=moves, stall_s=60.0) as us:
        truth = await us.truth(number)
        file = await us.open(number)
        for _ in range(40):
            place = dice.randrange(BLOCKS)
            with trio.move_on_after(dice.choice([0.0, 0.0005, 0.002])):
                data = await block(us, file, place)
                assert data == truth[place * BLOCK : (place + 1) * BLOCK]
        assert await us.read(file, 0, SIZE) == truth
        assert us.transfer.status().bytes_received == SIZE
        assert await us.requests() == 1
        file.close()


async def test_a_worker_that_is_killed_again_and_again_costs_what_it_had_under_way(
    facility: FacilityHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with mounted(facility, tmp_path / "cache", stall_s=30.0, limits=SMALL) as us:
        number = await trio.to_thread.run_sync(image, facility)
        truth = await us.truth(number)
        file = await us.open(number)
        killed = set()
        for place in range(BLOCKS):
            data = await block(us, file, place)
            assert data == truth[place * BLOCK : (place + 1) * BLOCK]
            mover = us.transport.status().mover
            assert mover is not None
            if place % 10 == 3 and mover.pid is not None:
                os.kill(mover.pid, signal.SIGKILL)
                killed.add(mover.pid)
        assert file.complete
        assert len(killed) >= 2
        file.close()
    caplog.clear()


# Files that are replaced.


@pytest.fixture(scope="module")
def holdings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Holdings]:
    with replaceable(tmp_path_factory.mktemp("holdings"), "e208945.nxs") as started:
        yield started


@both_ways
@pytest.mark.parametrize("change", [0, -1, 1, -MIB, MIB])
async def test_old_and_new_bytes_of_a_file_that_is_replaced_meanwhile_are_never_mixed(
    holdings: Holdings,
    tmp_path: Path,
    moves: bool,
    change: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seed = random.Random(f"{moves} {change}").randrange(1, 10**6)
    old = await trio.to_thread.run_sync(holdings.store, seed, SIZE)
    async with mounted(holdings.facility, tmp_path / "cache", moves=moves, limits=SMALL) as us:
        version = await us.version(holdings.datafile)
        file = us.store.open(version)
        assert await us.read(file, 0, BLOCK) == old[:BLOCK]
        new = await trio.to_thread.run_sync(holdings.store, seed + 1, SIZE + change)
        got = bytearray(old[:BLOCK])

        async def read_on() -> None:
            for place in range(1, BLOCKS):
                got.extend(await block(us, file, place))

        with pytest.raises(Damaged):
            await read_on()
        assert len(got) < SIZE, "the last piece was withheld"
        if change:
            assert old.startswith(got), "the length is another: not a byte is taken"
        assert file.withdrawals >= 1
        assert file.missing(0, SIZE) is not None
        newer = us.store.open(await us.version(holdings.datafile))
        assert await us.read(newer, 0, 2**40) == new
        assert newer.complete
        assert newer.withdrawals == 0
        newer.close()
        file.close()
    caplog.clear()


# Zips.


@dataclass
class Dataset:
    """Somebody who reads the 120 files of a dataset, as the mount would."""

    us: Mounted
    bulk: Bulk
    number: DatasetId
    versions: list[ContentVersion]

    async def read(self, place: int) -> bytes:
        version = self.versions[place]
        assert version.size is not None
        self.bulk.opened(self.number, version.datafile)
        file = self.us.store.open(version)
        try:
            if file.missing(0, version.size) is not None:
                await self.bulk.coming(self.number, version)
            if file.missing(0, version.size) is not None:
                await self.us.transfer.ensure(file, 0, version.size)
                self.bulk.missed(self.number, version)
            return file.pread(0, version.size)
        finally:
            file.close()

    async def is_right(self, place: int) -> bool:
        data = await self.read(place)
        return zlib.crc32(data) == self.versions[place].crc32

    def held(self) -> list[int]:
        return [
            place for place, version in enumerate(self.versions) if self.us.store.holds(version)
        ]

    async def zip_is_over(self) -> None:
        with trio.fail_after(60):
            while self.bulk.status().dataset is not None:  # noqa: ASYNC110
                await trio.sleep(0.01)


@dataclass(frozen=True)
class Between:
    """The data service, where something happens after it said that a dataset is online."""

    source: ZipSource
    happens: Callable[[], None]

    async def is_online(self, dataset: DatasetId) -> bool:
        is_online = await self.source.is_online(dataset)
        await trio.to_thread.run_sync(self.happens)
        return is_online

    async def open(self, dataset: DatasetId, datafiles: Sequence[DatafileId] | None) -> ByteStream:
        return await self.source.open(dataset, datafiles)


@asynccontextmanager
async def dataset(
    facility: FacilityHandle, folder: Path, between: Callable[[], None] = lambda: None
) -> AsyncIterator[Dataset]:
    query = (
        "SELECT df.id, df.name, df.fileSize, df.checksum FROM Datafile df"
        " WHERE df.dataset.name = 'many' ORDER BY df.id"
    )
    rows = await trio.to_thread.run_sync(facility.search, query)
    versions = [ContentVersion(DatafileId(row[0]), row[2], 0, row[3]) for row in rows]
    files = [Row(DatafileId(row[0]), row[1], row[2]) for row in rows]
    contents = Contents(files, versions.__getitem__)
    number = DatasetId(await trio.to_thread.run_sync(_dataset, facility, "many"))
    credentials = Credentials(
        "simple", {"username": "root", "password": facility.users["simple/root"]}
    )
    async with (
        mounted(facility, folder, stall_s=60.0) as us,
        open_session(IcatClient(us.transport, facility.icat), credentials) as keeper,
        open_bulk(
            Between(
                ZipSource(IdsClient(us.transport, facility.ids), keeper, two_level=True), between
            ),
            us.store,
            lambda one: contents if one == number else None,
        ) as bulk,
    ):
        yield Dataset(us, bulk, number, versions)


@pytest.mark.parametrize("order", ["by id", "backwards", "at random"])
async def test_a_hundred_and_twenty_files_are_four_requests_in_whatever_order(
    facility: FacilityHandle, tmp_path: Path, order: str
) -> None:
    places = list(range(120))
    if order != "by id":
        places = places[::-1] if order == "backwards" else random.Random(3).sample(places, 120)
    async with dataset(facility, tmp_path / "cache") as one:
        for place in places[:3]:
            assert await one.is_right(place)
        await one.zip_is_over()
        assert one.held() == list(range(120))
        for place in places:
            assert await one.is_right(place)
        assert await one.us.requests() == 4
        status = one.bulk.status()
        assert (status.zips, status.broken, status.files, status.strange) == (1, 0, 117, 0)
        assert one.us.transfer.status().bytes_received == 3 * 10_000


@pytest.mark.parametrize("kind", ["reset", "truncate", "truncate_hidden"])
async def test_what_a_zip_brought_before_it_died_is_not_asked_for_again(
    facility: FacilityHandle, tmp_path: Path, kind: str
) -> None:
    async with dataset(facility, tmp_path / "cache") as one:
        for place in range(2):
            assert await one.is_right(place)
        # It befalls the request for the third file, too, and does nothing: that one is smaller.
        await one.us.faults(
            {"kind": kind, "endpoint": "ids/getData", "after_bytes": 500_000, "times": 2}
        )
        assert await one.is_right(2)
        await one.zip_is_over()
        held = one.held()
        assert held == list(range(len(held)))
        assert one.bulk.status().broken == 1
        # A reset throws away what was sent before it, as far as nobody had read it.
        assert len(held) >= (3 if kind == "reset" else 45)
        rest = [place for place in range(0, 120, 6) if place not in held]
        for place in [*held, *rest]:
            assert await one.is_right(place)
        assert await one.us.requests() <= 3 + one.bulk.status().zips + len(rest)


async def test_a_bit_that_a_zip_lost_on_its_way_costs_one_file(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    async with dataset(facility, tmp_path / "cache") as one:
        for place in range(2):
            assert await one.is_right(place)
        await one.us.faults({"kind": "corrupt", "endpoint": "ids/getData", "after_bytes": 205_000})
        assert await one.is_right(2)
        await one.zip_is_over()
        await one.us.faults()
        assert 0 < 120 - len(one.held()) <= 2
        for place in range(120):
            assert await one.is_right(place)
        assert await one.us.requests() <= 4 + 2


async def test_a_dataset_that_goes_offline_in_between_ends_its_zip_quietly(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    number = await trio.to_thread.run_sync(_dataset, facility, "many")

    def leave() -> None:
        facility.archive(datasets=[number])

    async with dataset(facility, tmp_path / "cache", leave) as one:
        await one.us.faults({"kind": "restore_slow", "seconds": 1000.0})
        for place in range(3):
            assert await one.is_right(place)
        with trio.fail_after(30):
            await one.bulk.coming(one.number, one.versions[50])
        await one.zip_is_over()
        status = one.bulk.status()
        assert (status.zips, status.broken, status.files, status.waiting) == (1, 1, 0, 0)
        assert one.held() == [0, 1, 2]
        assert await one.is_right(1)


async def test_a_dataset_on_tape_is_asked_about_and_not_restored(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    number = await trio.to_thread.run_sync(_dataset, facility, "many")
    async with dataset(facility, tmp_path / "cache") as one:
        for place in range(2):
            assert await one.is_right(place)
        await trio.to_thread.run_sync(lambda: facility.archive(datasets=[number]))
        for place in range(2, 8):
            one.bulk.opened(one.number, one.versions[place].datafile)
            one.bulk.missed(one.number, one.versions[place])
        await one.zip_is_over()
        counters = await trio.to_thread.run_sync(facility.counters)
        assert counters["restores"] == 0
        assert counters["requests"].get("ids/prepareData", 0) == 0
        assert one.bulk.status().broken == 1
        with pytest.raises((DataArchived, Busy)):
            await one.read(60)
