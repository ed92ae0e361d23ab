"""Streams from the embedded facility over HTTP: the right bytes, or an error."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.content.plan import Limits
from icatfs.content.store import ContentStore, open_store
from icatfs.content.transfer import Transfer, open_transfer
from icatfs.errors import AccessDenied, Busy, Damaged, DataArchived, IcatfsError, NotFound
from icatfs.facility.testing import FacilityHandle, running_facility
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, open_session
from icatfs.ids.client import IdsClient
from icatfs.ids.source import DataSource
from icatfs.transport import open_transport
from icatfs.values import ContentVersion, DatafileId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from icatfs.content.store import CacheFile
    from icatfs.facility.testing import StartFacility

MIB = 2**20
MOVED, PIECEMEAL = 0, 2**60
"""Sizes from which on a worker process brings the bytes: all of them, or none."""

both_ways = pytest.mark.parametrize("moved_from", [MOVED, PIECEMEAL], ids=["moved", "piecemeal"])


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


@dataclass(frozen=True)
class Mounted:
    """All that reading needs."""

    facility: FacilityHandle
    store: ContentStore
    transfer: Transfer

    async def version(self, datafile: int) -> ContentVersion:
        """What the catalogue says."""
        query = f"SELECT df.fileSize, df.checksum FROM Datafile df WHERE df.id = {datafile}"
        ((size, checksum),) = await trio.to_thread.run_sync(self.facility.search, query)
        return ContentVersion(DatafileId(datafile), size, 0, checksum)

    async def open(self, datafile: int) -> CacheFile:
        return self.store.open(await self.version(datafile))

    async def read(self, file: CacheFile, start: int, stop: int) -> bytes:
        await self.transfer.ensure(file, start, stop)
        end = stop if file.size is None else min(stop, file.size)
        return file.pread(start, end - start)

    async def truth(self, datafile: int) -> bytes:
        return await trio.to_thread.run_sync(self.facility.content, datafile)

    async def faults(self, *faults: dict[str, object]) -> None:
        await trio.to_thread.run_sync(lambda: self.facility.faults(*faults, clear=True))

    async def requests(self) -> int:
        """How often bytes were asked for."""
        counters = await trio.to_thread.run_sync(self.facility.counters)
        count = counters["requests"].get("ids/getData", 0)
        assert isinstance(count, int)
        return count


@asynccontextmanager
async def mounted(
    facility: FacilityHandle,
    folder: Path,
    *,
    user: str = "simple/root",
    max_bytes: int = 2**40,
    stall_s: float = 1.0,
    limits: Limits | None = None,
    moved_from: int = MOVED,
) -> AsyncIterator[Mounted]:
    auth, _, name = user.partition("/")
    credentials = Credentials(auth, {"username": name, "password": facility.users[user]})
    async with (
        open_transport() as transport,
        open_session(IcatClient(transport, facility.icat), credentials) as keeper,
        open_store(folder, max_bytes=max_bytes) as store,
        open_transfer(
            DataSource(IdsClient(transport, facility.ids), keeper, moved_from=moved_from),
            stall_s=stall_s,
            limits=limits,
        ) as transfer,
    ):
        yield Mounted(facility, store, transfer)


FILE = 9
"""e208945.nxs: 396,430 bytes, with a CRC-32."""


@both_ways
async def test_every_file_of_the_sample_is_read_with_its_bytes(
    facility: FacilityHandle, tmp_path: Path, moved_from: int
) -> None:
    async with mounted(facility, tmp_path / "cache", moved_from=moved_from) as us:
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
    async with mounted(facility, tmp_path / "cache") as us:
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
    facility: FacilityHandle, tmp_path: Path, fault: dict[str, object], moved_from: int
) -> None:
    async with mounted(facility, tmp_path / "cache", moved_from=moved_from) as us:
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
    moved_from: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with mounted(facility, tmp_path / "cache", moved_from=moved_from) as us:
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
