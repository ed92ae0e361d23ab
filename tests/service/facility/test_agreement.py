"""An independent client, python-icat's IDSClient, must be content with the facility."""

from __future__ import annotations

import io
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from icat.ids import DataSelection, IDSClient

from icatfs.facility.testing import FacilityHandle, running_facility

if TYPE_CHECKING:
    from collections.abc import Iterator

GREETINGS = {
    "greet-jdoe.txt": (b"Hello John!\n", "bef32c73"),
    "new.bin": (b"new_file test content", "5cca7a6"),
    "empty.txt": (b"", "0"),
}


@pytest.fixture(params=["single", "dataset", "datafile"])
def facility(request: pytest.FixtureRequest) -> Iterator[FacilityHandle]:
    with running_facility("--storage", request.param) as handle:
        yield handle


@pytest.fixture
def client(facility: FacilityHandle) -> IDSClient:
    return IDSClient(facility.ids, facility.login("db/nbour"))


def id_of(facility: FacilityHandle, query: str) -> int:
    (number,) = facility.search(query)
    assert isinstance(number, int)
    return number


def dataset_id(facility: FacilityHandle, name: str) -> int:
    return id_of(facility, f"SELECT ds.id FROM Dataset ds WHERE ds.name = '{name}'")


def format_id(facility: FacilityHandle) -> int:
    return id_of(facility, "SELECT f.id FROM DatafileFormat f WHERE f.name = 'other'")


def test_the_server_says_what_it_is(client: IDSClient, facility: FacilityHandle) -> None:
    client.ping()
    assert str(client.apiversion) == "2.1.1"
    assert client.isReadOnly() is False
    assert facility.facility == "ESNF"


def test_what_is_put_is_got_and_catalogued(client: IDSClient, facility: FacilityHandle) -> None:
    dataset = dataset_id(facility, "e208946")
    for name, (data, checksum) in GREETINGS.items():
        number = client.put(io.BytesIO(data), name, dataset, format_id(facility))
        assert client.getData(DataSelection({"datafileIds": [number]})).read() == data
        query = f"SELECT df.name, df.fileSize, df.checksum FROM Datafile df WHERE df.id = {number}"
        assert facility.search(query) == [[name, len(data), checksum]]


def test_a_file_is_got_from_an_offset(client: IDSClient, facility: FacilityHandle) -> None:
    number = id_of(facility, "SELECT df.id FROM Datafile df WHERE df.name = 'e208945.dat'")
    selection = DataSelection({"datafileIds": [number]})
    whole = client.getData(selection).read()
    assert zlib.crc32(whole) == 0xBD55AFFA
    assert client.getData(selection, offset=400).read() == whole[400:]


def test_the_files_of_a_dataset_are_named_and_sized(
    client: IDSClient, facility: FacilityHandle
) -> None:
    dataset = dataset_id(facility, "e208945")
    query = f"SELECT df.id FROM Datafile df WHERE df.dataset.id = {dataset}"
    selection = DataSelection({"datasetIds": [dataset]})
    assert sorted(client.getDatafileIds(selection)) == sorted(facility.search(query))
    assert client.getSize(selection) == 478_683
    assert client.getStatus(selection) == "ONLINE"


def test_prepared_data_are_ready_and_got_by_their_id(
    client: IDSClient, facility: FacilityHandle
) -> None:
    number = id_of(facility, "SELECT df.id FROM Datafile df WHERE df.name = 'A000027.hdf5'")
    prepared = client.prepareData(DataSelection({"datafileIds": [number]}))
    deadline = time.monotonic() + 20
    while not client.isPrepared(prepared):
        assert time.monotonic() < deadline
    assert client.getDatafileIds(prepared) == [number]
    assert client.getData(prepared).read() == facility.content(number)


def test_what_is_deleted_is_gone(client: IDSClient, facility: FacilityHandle) -> None:
    dataset = dataset_id(facility, "e208946")
    number = client.put(io.BytesIO(b"short life"), "gone.txt", dataset, format_id(facility))
    selection = DataSelection({"datafileIds": [number]})
    client.delete(selection)
    assert facility.search(f"SELECT df.id FROM Datafile df WHERE df.id = {number}") == []
