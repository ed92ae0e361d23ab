"""The data service's client, against a scripted IDS."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx
import pytest
import trio

from icatfs.errors import (
    Busy,
    DataArchived,
    Exists,
    NotAFacility,
    NotSupported,
    ProtocolError,
    RecallFailed,
)
from icatfs.ids.client import IdsClient, Stored
from icatfs.ids.selection import Selection
from icatfs.transport import Transport, open_transport
from icatfs.values import DatafileFormatId, DatafileId, DatasetId, OnlineStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONE = Selection(datafiles=(DatafileId(5),))


class Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self.content = [content]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.content:
            raise StopAsyncIteration
        return self.content.pop()


class Ids:
    """Answers from a queue and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        status, text = self.answers.pop(0)
        return httpx.Response(status, stream=Body(text.encode()))

    @property
    def params(self) -> dict[str, str]:
        request = self.requests[-1]
        is_form = request.method == "POST"
        raw = request.content if is_form else request.url.query
        return {key: one[0] for key, one in parse_qs(raw.decode()).items()}


@pytest.fixture
def ids() -> Ids:
    return Ids()


@pytest.fixture
async def transport(ids: Ids) -> AsyncIterator[Transport]:
    async with open_transport(http=httpx.MockTransport(ids)) as transport:
        yield transport


@pytest.fixture
async def client(transport: Transport) -> IdsClient:
    return IdsClient(transport, "https://ids.example.org/ids/")


async def test_ping_knows_an_ids(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(200, "IdsOK"), (200, "<html>")]
    await client.ping()
    with pytest.raises(NotAFacility):
        await client.ping()
    assert ids.requests[0].url == "https://ids.example.org/ids/ping"


async def test_yes_and_no_are_told_from_nonsense(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(200, "true"), (200, "false"), (200, "<html>")]
    assert await client.is_read_only()
    assert not await client.is_two_level()
    with pytest.raises(NotAFacility):
        await client.is_two_level()


async def test_data_are_asked_for_raw_under_a_constant_name(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(200, "bytes")]
    async with await client.open_data("s", DatafileId(5)) as stream:
        assert [piece async for piece in stream] == [b"bytes"]
    assert ids.params == {"sessionId": "s", "datafileIds": "5", "outname": "data"}
    headers = ids.requests[0].headers
    assert "range" not in headers
    assert headers["connection"] == "close"
    assert headers["accept"] == "*/*"


async def test_an_offset_is_an_open_ended_range(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(206, "tail")]
    async with await client.open_data("s", DatafileId(5), 100) as stream:
        assert stream.status == 206
    assert ids.requests[0].headers["range"] == "bytes=100-"


async def test_a_server_that_ignores_the_offset_is_refused(
    ids: Ids, client: IdsClient, transport: Transport
) -> None:
    ids.answers = [(200, "from the start")]
    with pytest.raises(ProtocolError):
        await client.open_data("s", DatafileId(5), 100)
    assert transport.status().admission.bulk == 0


async def test_archived_and_busy_data_are_told_apart(
    ids: Ids, client: IdsClient, transport: Transport
) -> None:
    archived = "Before getting a datafile, it must be restored"
    ids.answers = [
        (503, f'{{"code":"DataNotOnlineException","message":"{archived}"}}'),
        (503, '{"code":"DataNotOnlineException","message":"Data is busy"}'),
    ]
    with pytest.raises(DataArchived, match="it must be restored"):
        await client.open_data("s", DatafileId(5))
    with pytest.raises(Busy):
        await client.open_data("s", DatafileId(5))
    assert transport.status().admission.bulk == 0


async def test_a_prepared_id_needs_no_session(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(200, "pid"), (206, "x"), (200, "RESTORING"), (200, '{"ids":[1,2]}')]
    assert await client.prepare("s", ONE) == "pid"
    assert ids.params["zip"] == "false"
    async with await client.open_prepared("pid", 3):
        pass
    assert ids.params == {"preparedId": "pid", "outname": "data"}
    assert await client.status_prepared("pid") is OnlineStatus.RESTORING
    assert await client.datafile_ids_prepared("pid") == [1, 2]


async def test_a_selection_names_datafiles_and_datasets(ids: Ids, client: IdsClient) -> None:
    selection = Selection((DatafileId(1), DatafileId(2)), (DatasetId(3),))
    ids.answers = [(204, "")]
    await client.restore("s", selection)
    assert ids.params == {"sessionId": "s", "datafileIds": "1,2", "datasetIds": "3"}
    assert not selection.is_one_datafile
    assert ONE.is_one_datafile


async def test_the_status_of_many_is_the_worst_of_all_batches(ids: Ids, client: IdsClient) -> None:
    many = Selection(tuple(DatafileId(2**40 + n) for n in range(400)))
    ids.answers = [(200, "ONLINE"), (200, "ARCHIVED"), (200, "RESTORING")]
    assert await client.status(None, many) is OnlineStatus.ARCHIVED
    assert all(len(str(one.url)) < 2500 for one in ids.requests)
    assert "sessionId" not in ids.params


async def test_nothing_selected_is_online_without_asking(client: IdsClient) -> None:
    assert await client.status("s", Selection()) is OnlineStatus.ONLINE


async def test_a_failed_restore_is_told(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(500, '{"code":"InternalException","message":"Restore failed"}')]
    with pytest.raises(RecallFailed):
        await client.status("s", ONE)


async def test_there_is_no_archive_on_one_level(ids: Ids, client: IdsClient) -> None:
    message = "This operation is unavailable for single level storage"
    ids.answers = [(501, f'{{"code":"NotImplementedException","message":"{message}"}}')]
    with pytest.raises(NotSupported):
        await client.archive("s", ONE)


async def body() -> AsyncIterator[bytes]:
    yield b"new_file "
    yield b"test content"


async def test_an_upload_tells_size_and_crc(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(201, '{"id":103,"checksum":97298342,"location":"1/10/\\\\x","size":21}')]
    stored = await client.put(
        "s",
        DatasetId(10),
        "a/new bin ü.dat",
        DatafileFormatId(3),
        body(),
        length=21,
        mod_time_ms=1718000000000,
    )
    assert stored == Stored(DatafileId(103), 21, 97298342)
    assert ids.params == {
        "sessionId": "s",
        "name": "a/new bin ü.dat",
        "datasetId": "10",
        "datafileFormatId": "3",
        "datafileModTime": "1718000000000",
    }
    assert ids.requests[0].content == b"new_file test content"


async def test_a_taken_name_exists(ids: Ids, client: IdsClient) -> None:
    message = "OBJECT_ALREADY_EXISTS Datafile exists with dataset = 'Dataset:10', name = 'a'"
    ids.answers = [(500, f'{{"code":"InternalException","message":"{message}"}}')]
    with pytest.raises(Exists):
        await client.put("s", DatasetId(1), "a", DatafileFormatId(1), body(), length=None)


async def test_a_deletion_goes_in_batches_and_is_not_repeated(ids: Ids, client: IdsClient) -> None:
    ids.answers = [(204, ""), (204, "")]
    await client.delete("s", Selection(tuple(DatafileId(n) for n in range(200))))
    assert [one.method for one in ids.requests] == ["DELETE", "DELETE"]
    assert ids.requests[0].content == b""
