"""Bytes that a worker writes into cache files: with room, without, and beside what is there."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from support.reading import Mounted, mounted
from support.sizes import KIB, MIB

from icatfs.content.plan import Limits
from icatfs.content.store import open_store
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.transport import open_transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.content.store import CacheFile
    from icatfs.mover.mover import MoverStatus

SIZE = 4 * MIB


@pytest.fixture(scope="module")
def large() -> Iterator[FacilityHandle]:
    with running_facility("--holdings", "large", "--size", "10", "--storage", "single") as started:
        yield started


@pytest.fixture
def facility(large: FacilityHandle) -> FacilityHandle:
    """Its holdings are not changed here; nothing is counted."""
    large.reset_counters()
    return large


def images(facility: FacilityHandle) -> list[int]:
    """Files of 4 MiB."""
    query = "SELECT df.id FROM Datafile df WHERE df.dataset.name = 'images' ORDER BY df.id"
    return [int(number) for number in facility.search(query)][:4]


def largest(facility: FacilityHandle) -> tuple[int, int]:
    """Number and size of a file of 1 GiB."""
    query = "SELECT df.id, df.fileSize FROM Datafile df WHERE df.fileSize > 100000000"
    number, size = facility.search(query)[0]
    return int(number), int(size)


async def is_true(us: Mounted, number: int, file: CacheFile, *, step: int = 128 * KIB) -> bool:
    """Whether it reads as it should, from its beginning to its end."""
    read = [await us.read(file, start, start + step) for start in range(0, SIZE, step)]
    return b"".join(read) == await us.truth(number)


async def test_a_file_is_brought_by_the_worker_alone(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    number = images(facility)[0]
    async with mounted(facility, tmp_path / "cache") as us:
        file = await us.open(number)
        assert await is_true(us, number, file)
        assert file.complete
        assert us.moved == us.transfer.status().bytes_received == SIZE
        file.close()
        assert us.store.status().used_bytes == SIZE + 4096


async def test_without_room_the_bytes_come_through_memory(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    number = images(facility)[0]
    async with mounted(facility, tmp_path / "cache", max_bytes=64 * KIB) as us:
        file = await us.open(number)
        assert await is_true(us, number, file)
        assert us.moved >= SIZE
        assert us.store.status().used_bytes <= 64 * KIB
        file.close()


async def test_head_and_tail_stay_while_slices_of_a_file_larger_than_the_cache_pass(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    """As h5py reads: tables at the beginning and at the end, a slice, the tables again."""
    number, size = largest(facility)
    slices = range(size // 16, size - size // 16, size // 16)
    async with mounted(facility, tmp_path / "cache", max_bytes=16 * MIB) as us:
        file = await us.open(number)
        for start in slices:
            await us.read(file, 0, 64 * KIB)
            await us.read(file, size - 64 * KIB, size)
            await us.read(file, start, start + 3 * MIB)
        assert await us.requests() <= 2 + len(slices)
        assert us.store.status().used_bytes <= 16 * MIB
        file.close()


async def test_a_full_disk_is_no_error(
    facility: FacilityHandle, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with mounted(facility, small_disk / "cache") as us:
        numbers = await trio.to_thread.run_sync(images, facility)
        (small_disk / "of somebody else").write_bytes(bytes(6 * MIB))
        files = [await us.open(number) for number in numbers]
        for number, file in zip(numbers, files, strict=True):
            assert await is_true(us, number, file)
        for file in files:
            file.close()
        assert us.moved >= SIZE * len(files)


async def test_what_is_there_already_is_not_written_again(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    number = images(facility)[0]
    async with mounted(facility, tmp_path / "cache") as us:
        truth = await us.truth(number)
        file = await us.open(number)
        for start, stop in ((100_000, 200_000), (MIB, 2 * MIB), (3 * MIB + 7, 3 * MIB + 8)):
            file.pwrite(start, truth[start:stop])
        assert await is_true(us, number, file)
        assert file.complete
        file.close()
        assert us.store.status().used_bytes == SIZE + 4096


async def test_readers_at_many_places_get_their_bytes(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    limits = Limits(window=256 * KIB, glance=128 * KIB, least_reach=128 * KIB)
    async with mounted(facility, tmp_path / "cache", limits=limits) as us:
        numbers = await trio.to_thread.run_sync(images, facility)
        truths = {number: await us.truth(number) for number in numbers}

        async def reader(number: int, place: int) -> None:
            file = await us.open(number)
            for start in range(place, SIZE, MIB):
                data = await us.read(file, start, start + 100_000)
                assert data == truths[number][start : start + 100_000]
            file.close()

        async with trio.open_nursery() as nursery:
            for number in numbers:
                for place in (0, 700_000, 300_000):
                    nursery.start_soon(reader, number, place)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_readers_who_leave_at_any_time_leave_nothing_behind(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    """Cancelled at every moment of a transfer, in turn."""
    number = images(facility)[0]
    async with mounted(facility, tmp_path / "cache", limits=Limits(window=MIB)) as us:
        file = await us.open(number)
        await us.read(file, 0, 1)  # the worker is there
        before = _descriptors()
        for ticks in range(0, 60, 3):
            us.store.drop(file.version)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(us.read, file, 0, SIZE)
                for _ in range(ticks):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        us.store.drop(file.version)
        assert await is_true(us, number, file)
        with trio.fail_after(20):
            while us.transfer.status().streams or _descriptors() > before:  # noqa: ASYNC110
                await trio.sleep(0.01)
        file.close()
        assert us.store.status().open_files == 0


def on_disk(folder: Path) -> int:
    """Bytes that the data files take."""
    return sum(path.stat().st_blocks * 512 for path in (folder / "data").iterdir())


@pytest.mark.parametrize("attempt", range(3))
async def test_nothing_is_written_once_the_store_has_recorded_its_end(
    facility: FacilityHandle, tmp_path: Path, attempt: int
) -> None:
    """The worker stands still in the middle of a stream, as on a busy machine, and goes on late."""
    number, size = largest(facility)
    folder = tmp_path / "cache"
    async with open_transport(moves=True) as transport:
        with ExitStack() as standstill:
            async with mounted(facility, folder, within=transport) as us:
                file = await us.open(number)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(us.read, file, 0, size)
                    while us.moved < (10 + attempt) * MIB:  # noqa: ASYNC110
                        await trio.sleep(0.001)
                    standstill.enter_context(stands_still(transport.status().mover, 0.3))
                    nursery.cancel_scope.cancel()
                file.close()
            kept = on_disk(folder)
        async with mounted(facility, tmp_path / "other", within=transport) as us:
            file = await us.open(number)  # served by the same worker, in turn: after what it had
            await us.read(file, 0, MIB)
            file.close()
        assert on_disk(folder) == kept
    async with open_store(folder, max_bytes=2**40) as store:
        assert kept <= store.status().used_bytes


@contextmanager
def stands_still(worker: MoverStatus | None, seconds: float) -> Iterator[None]:
    """The worker's process does nothing for so long, and not after this block in any case."""
    assert worker is not None
    assert worker.pid is not None
    waking = threading.Timer(seconds, os.kill, (worker.pid, signal.SIGCONT))
    waking.start()
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        waking.join()
