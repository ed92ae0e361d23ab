"""Streams from the embedded facility over HTTP: the right bytes, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from support.reading import both_ways, mounted
from support.sizes import MIB

from icatfs.content.plan import Limits
from icatfs.errors import AccessDenied, Busy, Damaged, DataArchived, IcatfsError, NotFound
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from icatfs.facility.testing import StartFacility


@pytest.fixture(scope="module")
def sample() -> Iterator[FacilityHandle]:
    with running_facility() as started:
        yield started


@pytest.fixture
def facility(sample: FacilityHandle) -> FacilityHandle:
    """The sample holdings, without faults, with nothing counted; nobody here changes them."""
    sample.clear_faults()
    sample.reset_counters()
    return sample


FILE = 9
"""e208945.nxs: 396,430 bytes, with a CRC-32."""


@both_ways
async def test_every_file_of_the_sample_is_read_with_its_bytes(
    facility: FacilityHandle, tmp_path: Path, moves: bool
) -> None:
    async with mounted(facility, tmp_path / "cache", moves=moves) as us:
        rows = await trio.to_thread.run_sync(facility.search, "SELECT df.id FROM Datafile df")
        for datafile in rows:
            file = await us.open(datafile)
            data = await us.read(file, 0, 2**40)
            assert data == await us.truth(datafile)
            assert file.complete
            file.close()
        asked = await us.requests()
        assert asked == len(rows)
    async with mounted(facility, tmp_path / "cache") as us:
        for datafile in rows:
            assert (await us.open(datafile)).complete
        assert await us.requests() == asked, "the cache was kept"


async def test_many_readers_of_many_files_make_few_requests(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    # However slow this machine is just now: streams are shared here, and nobody's patience ends.
    limits = Limits(grace_s=60.0, turn_s=60.0)
    async with mounted(facility, tmp_path / "cache", limits=limits, stall_s=60.0) as us:
        truth = {number: await us.truth(number) for number in range(1, 12)}

        async def reader(number: int) -> None:
            file = await us.open(number)
            for start in range(0, len(truth[number]), 50_000):
                data = await us.read(file, start, start + 50_000)
                assert data == truth[number][start : start + 50_000]
            file.close()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                for number in truth:
                    nursery.start_soon(reader, number)
        assert await us.requests() == 11


@both_ways
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "reset", "after_bytes": 100_000},
        {"kind": "reset"},
        {"kind": "truncate", "after_bytes": 100_000},
        {"kind": "truncate", "after_bytes": 0},
        {"kind": "truncate_hidden", "after_bytes": 100_000},
        {"kind": "stall", "after_bytes": 100_000},
        {"kind": "corrupt", "after_bytes": 100_000},
        {"kind": "session"},
        {"kind": "html", "status": 502},
        {"kind": "latency", "seconds": 0.5},
    ],
    ids=str,
)
async def test_a_fault_that_happens_once_is_not_noticed(
    facility: FacilityHandle, tmp_path: Path, fault: dict[str, object], moves: bool
) -> None:
    async with mounted(facility, tmp_path / "cache", moves=moves) as us:
        await us.faults({"endpoint": "ids/getData", "times": 1, **fault})
        file = await us.open(FILE)
        with trio.fail_after(30):
            assert await us.read(file, 0, 2**40) == await us.truth(FILE)
        assert file.complete


@both_ways
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "truncate", "after_bytes": 100_000},
        {"kind": "truncate_hidden", "after_bytes": 100_000},
        {"kind": "stall", "after_bytes": 100_000},
        {"kind": "corrupt", "after_bytes": 100_000},
        {"kind": "wrong_size", "entity": {"datafile": FILE}},
        {"kind": "wrong_size", "entity": {"datafile": FILE}, "delta": -1},
        {"kind": "truncate_stored", "entity": {"datafile": FILE}, "after_bytes": 100_000},
        {"kind": "missing", "entity": {"datafile": FILE}},
    ],
    ids=str,
)
async def test_a_fault_that_stays_is_an_error_and_never_a_wrong_byte(
    facility: FacilityHandle,
    tmp_path: Path,
    fault: dict[str, object],
    moves: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with mounted(facility, tmp_path / "cache", moves=moves) as us:
        truth = await us.truth(FILE)
        await us.faults({"endpoint": "ids/getData", **fault})
        file = await us.open(FILE)
        got = b""
        try:
            with trio.fail_after(60):
                for start in range(0, len(truth) + 1000, 30_000):
                    got += await us.read(file, start, start + 30_000)
        except IcatfsError:
            assert len(got) < len(truth)
        else:
            assert got == truth  # each request brought a part
        if fault["kind"] != "corrupt":
            assert truth.startswith(got)
        assert await us.requests() < 20
        await us.faults()
    caplog.clear()


async def test_a_corrupted_stored_file_is_damaged(
    facility: FacilityHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with mounted(facility, tmp_path / "cache") as us:
        fault = {"kind": "corrupt", "entity": {"datafile": FILE}, "after_bytes": 5}
        await us.faults(fault)
        with pytest.raises(Damaged, match="CRC-32"):
            await us.read(await us.open(FILE), 0, 2**40)
        assert await us.requests() == 2
    caplog.clear()


async def test_archived_data_are_told_apart_from_locked_data(
    start_facility: StartFacility, tmp_path: Path
) -> None:
    facility = start_facility("--storage", "dataset", "--archived", "--restore-delay", "1000")
    async with mounted(facility, tmp_path / "cache") as us:
        file = await us.open(FILE)
        with pytest.raises((DataArchived, Busy)):
            await us.read(file, 0, 10)
        assert us.transfer.status().streams == ()


async def test_files_that_are_not_there_or_not_ours_are_refused(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    async with mounted(facility, tmp_path / "cache", user="db/ahau") as us:
        gone = us.store.open(ContentVersion(DatafileId(999_999), 100, 0, None))
        with pytest.raises(NotFound):
            await us.read(gone, 0, 10)
        refused = 0
        for number in range(1, 12):
            try:
                await us.read(await us.open(number), 0, 10)
            except (AccessDenied, NotFound):
                refused += 1
        assert 0 < refused < 11


async def test_a_size_the_catalogue_does_not_know_is_learnt(
    facility: FacilityHandle, tmp_path: Path
) -> None:
    async with mounted(facility, tmp_path / "cache") as us:
        truth = await us.truth(FILE)
        known = await us.version(FILE)
        for checksum in (known.checksum, None):
            file = us.store.open(ContentVersion(DatafileId(FILE), None, 0, checksum))
            assert await us.read(file, 100_000, 100_010) == truth[100_000:100_010]
            await us.transfer.ensure(file, 0, 2**40)
            assert file.size == len(truth)
            assert file.pread(0, len(truth)) == truth


async def test_a_large_file_is_read_at_any_place(
    start_facility: StartFacility, tmp_path: Path
) -> None:
    facility = start_facility("--holdings", "large", "--size", "10", "--storage", "single")
    largest = "SELECT df.id, df.fileSize FROM Datafile df WHERE df.fileSize > 10000000"
    limits = Limits(window=4 * MIB, least_reach=2 * MIB, most_reach=2 * MIB)
    async with mounted(facility, tmp_path / "cache", limits=limits, max_bytes=64 * MIB) as us:
        rows = await trio.to_thread.run_sync(facility.search, largest)
        datafile, size = min(rows, key=lambda row: row[1])
        truth = await us.truth(datafile)
        file = await us.open(datafile)
        for start in (0, size - 5000, size // 2, 1000, size // 3, size // 2 + 7 * MIB):
            data = await us.read(file, start, start + 200_000)
            assert data == truth[start : start + 200_000]
        for start in range(0, min(size, 100 * MIB), MIB):
            assert await us.read(file, start, start + MIB) == truth[start : start + MIB]
        assert us.store.status().used_bytes <= 64 * MIB
