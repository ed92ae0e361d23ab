"""The clients against the embedded facility over HTTP."""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import trio

from icatfs.errors import (
    AccessDenied,
    BadName,
    DataArchived,
    Exists,
    LoginFailed,
    NotAFacility,
    NotFound,
)
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.ids.client import IdsClient
from icatfs.ids.selection import Selection
from icatfs.transport import Transport, open_transport
from icatfs.values import DatafileId, DatasetId, OnlineStatus, parse_crc32

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from icatfs.facility.testing import FacilityHandle, StartFacility
    from icatfs.icat.records import DatafileRow, DatasetRow, FacilityRow, InvestigationRow


@dataclass(frozen=True)
class Clients:
    """All that one user needs."""

    transport: Transport
    icat: IcatClient
    ids: IdsClient
    keeper: SessionKeeper

    async def facility(self) -> FacilityRow:
        found = await self.keeper.run(self.icat.facility_named, "ESNF")
        assert found is not None
        return found

    async def visit(self, name: str = "12100409-ST", visit_id: str = "1.1-P") -> InvestigationRow:
        facility = await self.facility()
        found = await self.keeper.run(self.icat.visit, facility.id, name, visit_id)
        assert found is not None
        return found

    async def dataset(self, name: str = "e208945") -> DatasetRow:
        visit = await self.visit()
        found = await self.keeper.run(self.icat.dataset_named, visit.id, name)
        assert found is not None
        return found

    async def datafile(self, name: str = "e208945.nxs") -> DatafileRow:
        dataset = await self.dataset()
        found = await self.keeper.run(self.icat.datafile_named, dataset.id, name)
        assert found is not None
        return found


@asynccontextmanager
async def clients(handle: FacilityHandle, user: str = "db/nbour") -> AsyncIterator[Clients]:
    auth, _, name = user.partition("/")
    credentials = Credentials(auth, {"username": name, "password": handle.users[user]})
    async with open_transport() as transport:
        icat = IcatClient(transport, handle.icat)
        async with open_session(icat, credentials) as keeper:
            yield Clients(transport, icat, IdsClient(transport, handle.ids), keeper)


async def test_the_server_tells_about_itself(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        assert await us.icat.version() == "6.2.1"
        properties = await us.icat.properties()
        assert properties.max_entities == 10_000
        assert "db" in [one.mnemonic for one in properties.authenticators]
        await us.ids.ping()
        assert await us.ids.is_two_level()
        assert not await us.ids.is_read_only()
        assert us.keeper.user_name == "db/nbour"


async def test_the_tree_of_the_sample(facility: FacilityHandle) -> None:
    async with clients(facility, "simple/root") as us:
        esnf = await us.facility()
        visits = await us.keeper.run(us.icat.investigations, esnf.id)
        assert [visit.name for visit in visits] == ["08100122-EF", "10100601-ST", "12100409-ST"]
        names = set[str]()
        for visit in visits:
            for dataset in await us.keeper.run(us.icat.datasets, visit.id):
                rows = await us.keeper.run(us.icat.datafiles, dataset.id)
                names |= {f"{dataset.name}/{row.name}" for row in rows}
        assert len(names) == 11
        assert "pub-00027/A000027.hdf5" in names


async def test_what_a_user_may_not_see_is_not_there(facility: FacilityHandle) -> None:
    async with clients(facility, "db/ahau") as us:
        esnf = await us.facility()
        visits = await us.keeper.run(us.icat.investigations_named, esnf.id, "12100409-ST")
        assert visits == []


async def test_a_wrong_password_is_refused(facility: FacilityHandle) -> None:
    async with open_transport() as transport:
        wrong = Credentials("db", {"username": "nbour", "password": "wrong"})
        with pytest.raises(LoginFailed, match="do not match"):
            async with open_session(IcatClient(transport, facility.icat), wrong):
                pass


async def test_a_wrong_address_is_recognised(facility: FacilityHandle) -> None:
    async with open_transport() as transport:
        with pytest.raises(NotAFacility):
            await IcatClient(transport, f"{facility.url}/nowhere").properties()
        with pytest.raises(NotAFacility):
            await IdsClient(transport, f"{facility.url}/nowhere").ping()


async def test_bytes_come_as_the_catalogue_says(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        row = await us.datafile()
        async with await us.keeper.run(us.ids.open_data, row.id) as stream:
            data = b"".join([piece async for piece in stream])
        assert stream.length == row.size == len(data)
        assert zlib.crc32(data) == parse_crc32(row.checksum)
        async with await us.keeper.run(us.ids.open_data, row.id, 1000) as stream:
            assert b"".join([piece async for piece in stream]) == data[1000:]


async def test_prepared_bytes_need_no_session(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        row = await us.datafile()
        prepared = await us.keeper.run(us.ids.prepare, Selection(datafiles=(row.id,)))
        assert await us.ids.is_prepared(prepared)
        assert await us.ids.status_prepared(prepared) is OnlineStatus.ONLINE
        assert await us.ids.datafile_ids_prepared(prepared) == [row.id]
        async with await us.ids.open_prepared(prepared, 10) as stream:
            assert len(b"".join([piece async for piece in stream])) == (row.size or 0) - 10


async def test_archived_data_say_so_and_come_back(start_facility: StartFacility) -> None:
    handle = start_facility("--restore-delay", "0")
    async with clients(handle) as us:
        row = await us.datafile()
        dataset = await us.dataset()
        handle.archive(datasets=[dataset.id])
        everything = Selection(datasets=(dataset.id,))
        assert await us.keeper.run(us.ids.status, everything) is OnlineStatus.ARCHIVED
        with pytest.raises(DataArchived, match="its dataset"):
            await us.keeper.run(us.ids.open_data, row.id)
        for _ in range(200):
            if await us.keeper.run(us.ids.status, everything) is OnlineStatus.ONLINE:
                break
            await trio.sleep(0.1)
        async with await us.keeper.run(us.ids.open_data, row.id) as stream:
            assert stream.length == row.size
        assert us.transport.status().admission.bulk == 0


async def content(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def put(us: Clients, dataset: DatasetId, name: str, data: bytes) -> DatafileId:
    esnf = await us.facility()
    formats = await us.keeper.run(us.icat.datafile_formats, esnf.id)
    stored = await us.keeper.run(
        us.ids.put,
        dataset,
        name,
        formats[0].id,
        content(data),
        length=len(data),
        mod_time_ms=1_700_000_000_500,
    )
    assert stored.size == len(data)
    assert stored.crc32 == zlib.crc32(data)
    return stored.id


async def new_dataset(us: Clients, name: str) -> DatasetId:
    esnf = await us.facility()
    visit = await us.visit()
    types = await us.keeper.run(us.icat.dataset_types, esnf.id)
    return await us.keeper.run(us.icat.create_dataset, visit.id, name, types[0].id)


@pytest.mark.parametrize(
    "name", ["greeting-é.txt", "it's 100% & more/ü_本.txt", "a\tb", "x" * 255, " lead", "é" * 100]
)
async def test_what_is_stored_is_found_under_its_very_name(
    facility: FacilityHandle, name: str
) -> None:
    async with clients(facility) as us:
        dataset = await new_dataset(us, "it's new ü")
        created = await put(us, dataset, name, b"Hello!\n")
        row = await us.keeper.run(us.icat.datafile_named, dataset, name)
        assert row is not None
        assert row.id == created
        assert row.size == 7
        assert row.mod_time is not None
        assert row.mod_time.timestamp() == 1_700_000_000
        folder = name.rpartition("/")[0]
        if folder:
            assert await us.keeper.run(us.icat.is_folder, dataset, folder)
            assert not await us.keeper.run(us.icat.is_folder, dataset, folder.upper())
        await us.keeper.run(us.ids.delete, Selection(datafiles=(row.id,)))
        assert await us.keeper.run(us.icat.datafile_named, dataset, name) is None


async def test_a_taken_name_exists_and_only_then(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        dataset = await new_dataset(us, "fs-new")
        with pytest.raises(Exists):
            await new_dataset(us, "fs-new")
        one = await put(us, dataset, "a", b"1")
        two = await put(us, dataset, "b", b"2")
        with pytest.raises(Exists):
            await put(us, dataset, "b", b"3")
        with pytest.raises(Exists):
            await us.keeper.run(us.icat.rename_datafile, one, "b")
        with pytest.raises(BadName):
            await us.keeper.run(us.icat.rename_datafile, one, "\U0001f600")
        await us.keeper.run(us.icat.rename_datafiles, [(two, ".trash"), (one, "b")])
        rows = await us.keeper.run(us.icat.datafiles, dataset)
        assert [(row.id, row.name) for row in rows] == [(one, "b"), (two, ".trash")]


async def test_a_reader_may_not_write(facility: FacilityHandle) -> None:
    async with clients(facility, "db/rbeck") as us:
        with pytest.raises(AccessDenied):
            await new_dataset(us, "refused")


async def test_what_is_gone_is_not_found(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        with pytest.raises(NotFound):
            await us.keeper.run(us.ids.open_data, DatafileId(999_999_999))
        assert await us.keeper.run(us.icat.dataset, DatasetId(999_999_999)) is None


async def test_a_session_lost_at_the_server_costs_one_login(facility: FacilityHandle) -> None:
    async with clients(facility) as us:
        await us.keeper.run(us.icat.logout)
        facility.reset_counters()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(us.dataset)
            nursery.start_soon(us.datafile)
        counters = await trio.to_thread.run_sync(facility.counters)
        assert counters["logins"] == 1


async def test_a_dataset_of_many_files_costs_few_queries(start_facility: StartFacility) -> None:
    handle = start_facility("--holdings", "large", "--size", "25000")
    async with clients(handle, "simple/root") as us:
        large = await us.keeper.run(us.icat.facility_named, "LARGE")
        assert large is not None
        (visit,) = await us.keeper.run(us.icat.investigations_named, large.id, "BIG-1")
        many = await us.keeper.run(us.icat.dataset_named, visit.id, "many")
        assert many is not None
        await trio.to_thread.run_sync(handle.reset_counters)
        rows = await us.keeper.run(us.icat.datafiles, many.id)
        assert len(rows) == 25_000
        counters = await trio.to_thread.run_sync(handle.counters)
        assert counters["queries"] <= 1 + 3
