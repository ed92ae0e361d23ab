"""The data service over HTTP, where the recordings end: silence, cuts, counters, switches."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from support.smallids import FAR, HELLO, LARGE, LARGE_SIZE, OTHER, SMALL, SmallIds, wait_until

from icatfs.facility.idscore import IdsConfig
from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Start = "Callable[..., SmallIds]"


@pytest.fixture
def start(tmp_path: Path, serve_app: Any) -> Iterator[Callable[..., SmallIds]]:
    started = []

    def begin(**config: Any) -> SmallIds:
        service = SmallIds(tmp_path, IdsConfig(**{"unit": StorageUnit.SINGLE} | config))
        service.url = serve_app(service.app)
        started.append(service)
        return service

    yield begin
    for service in started:
        service.clock.advance(1000)


@pytest.fixture
def ids(start: Callable[..., SmallIds]) -> SmallIds:
    return start()


def message(received: Any) -> str:
    return str(received.json()["message"])


# Streams.


def test_a_large_file_arrives_whole(ids: SmallIds) -> None:
    received = ids.ask("ids/getData", {"datafileIds": LARGE})
    assert len(received.body) == LARGE_SIZE
    assert received.body == ids.storage.content(LARGE)


def test_what_is_read_skipped_and_sent_is_counted(ids: SmallIds) -> None:
    offset = 1_000_000
    received = ids.ask("ids/getData", {"datafileIds": LARGE}, headers={"Range": f"bytes={offset}-"})
    assert received.status == 206
    assert received.body == ids.storage.content(LARGE)[offset:]
    assert ids.counters.bytes_read == LARGE_SIZE
    assert ids.counters.bytes_skipped == offset
    assert ids.counters.bytes_sent == LARGE_SIZE - offset
    assert ids.counters.requests == {"ids/getData": 1}


def test_a_range_of_a_zip_is_of_its_bytes(ids: SmallIds) -> None:
    whole = ids.ask("ids/getData", {"datasetIds": 1}).body
    rest = ids.ask("ids/getData", {"datasetIds": 1}, headers={"Range": "bytes=20000-"})
    assert rest.status == 206
    assert rest.body == whole[20_000:]


def test_a_short_file_is_followed_by_silence_and_then_the_end(ids: SmallIds) -> None:
    ids.storage.truncate(SMALL, 5)
    with ids.open("ids/getData", {"datafileIds": SMALL}) as connection:
        assert connection.receive("GET", until_silent=True).end == "silent"
        ids.advance_until_readable(connection, 31)
        received = connection.receive("GET", until_silent=True)
    assert (received.body, received.end) == (HELLO[:5], "closed")
    wait_until(lambda: ids.locks() == 0)


def test_a_reader_who_stops_loses_stream_and_lock_after_45_s(ids: SmallIds) -> None:
    parameters: dict[str, object] = {"datafileIds": LARGE}
    with ids.open("ids/getData", parameters, receive_buffer=4096) as connection:
        connection.read_head()
        ids.clock.advance(44)
        assert ids.locks() == 1

        def is_cut() -> bool:
            ids.clock.advance(1)
            return ids.locks() == 0

        wait_until(is_cut)
        received = connection.receive("GET")
    assert received.end == "closed"
    assert 0 < len(received.body) < LARGE_SIZE


def test_a_reader_who_leaves_frees_the_lock_at_once(ids: SmallIds) -> None:
    parameters: dict[str, object] = {"datafileIds": LARGE}
    connection = ids.open("ids/getData", parameters, receive_buffer=4096)
    connection.read_head()
    assert ids.ask("ids/delete", {"datafileIds": OTHER}, method="DELETE").status == 503
    connection.close()
    wait_until(lambda: ids.locks() == 0)
    assert ids.ask("ids/delete", {"datafileIds": OTHER}, method="DELETE").status == 204


def test_a_member_that_is_missing_late_ends_the_zip_like_a_complete_one(ids: SmallIds) -> None:
    prepared = ids.ask("ids/prepareData", {"datafileIds": f"{LARGE},{FAR}"}, method="POST").text()
    ids.storage.lose(FAR)
    received = ids.ask("ids/getData", {"preparedId": prepared})
    assert (received.status, received.end) == (200, "final chunk")
    assert len(received.body) > LARGE_SIZE
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(received.body))


def test_a_damaged_file_is_a_valid_zip(ids: SmallIds) -> None:
    ids.storage.corrupt(SMALL, 0)
    received = ids.ask("ids/getData", {"datafileIds": SMALL, "zip": "true"})
    with zipfile.ZipFile(io.BytesIO(received.body)) as archive:
        assert archive.read("ids/F/I/1/D1/hello") == b"I" + HELLO[1:]


# Uploads.


def test_a_stalled_upload_fails_after_30_s_and_keeps_nothing(ids: SmallIds, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    told: dict[str, object] = {"name": "new", "datasetId": 1, "datafileFormatId": 1}
    headers = {"Content-Length": "100"}
    with ids.open("ids/put", told, method="PUT", headers=headers, body=b"abc") as connection:
        wait_until(lambda: ids.locks() == 1)
        ids.advance_until_readable(connection, 31)
        received = connection.receive("PUT")
    assert received.status == 500
    assert message(received) == "class java.io.IOException java.util.concurrent.TimeoutException"
    assert ids.locks() == 0
    assert sorted(tmp_path.iterdir()) == before


def test_an_upload_that_breaks_off_keeps_nothing(ids: SmallIds, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    told: dict[str, object] = {"name": "new", "datasetId": 1, "datafileFormatId": 1}
    connection = ids.open(
        "ids/put", told, method="PUT", headers={"Content-Length": "100"}, body=b"abc"
    )
    wait_until(lambda: ids.locks() == 1)
    connection.close()
    wait_until(lambda: ids.locks() == 0)
    assert sorted(tmp_path.iterdir()) == before
    assert ids.counters.puts == 0


def test_what_is_refused_early_is_answered_after_the_upload(ids: SmallIds) -> None:
    received = ids.put("new", bytes(5_000_000), datasetId=99)
    assert (received.status, message(received)) == (404, "Dataset[id:99] not found.")


def test_expect_100_continue_is_granted_before_any_check(ids: SmallIds) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "3"}
    told: dict[str, object] = {"sessionId": "bad", "name": "x"}
    with ids.open("ids/put", told, method="PUT", headers=headers, body=b"") as connection:
        connection.send(b"abc")
        assert connection.receive("PUT").status == 400


def test_a_put_is_counted_stored_and_deleted(ids: SmallIds) -> None:
    answer = ids.put("new", b"12345").json()
    received = ids.ask("ids/getData", {"datafileIds": answer["id"]})
    assert received.body == b"12345"
    ids.ask("ids/delete", {"datafileIds": answer["id"]}, method="DELETE")
    assert not ids.storage.has(answer["id"])
    assert (ids.counters.puts, ids.counters.deletes) == (1, 1)


def test_a_name_that_is_taken_leaves_no_bytes(ids: SmallIds, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    received = ids.put("hello", b"12345")
    assert message(received).startswith("OBJECT_ALREADY_EXISTS")
    assert sorted(tmp_path.iterdir()) == before


# Container.


def test_more_than_8192_bytes_of_head_are_refused(ids: SmallIds) -> None:
    received = ids.ask("ids/ping", {"x": "x" * 8192})
    assert (received.status, received.body) == (400, b"")
    assert received.headers["connection"] == "close"


# Switches.


def test_a_read_only_service_refuses_changes(start: Callable[..., SmallIds]) -> None:
    ids = start(read_only=True)
    assert ids.ask("ids/isReadOnly").text() == "true"
    off = "This operation has been configured to be unavailable"
    refused = [ids.put("x", b"x"), ids.ask("ids/delete", {"datafileIds": 1}, method="DELETE")]
    assert [(one.status, message(one)) for one in refused] == [(501, off), (501, off)]


def test_writing_to_tape_can_be_switched_off(start: Callable[..., SmallIds]) -> None:
    ids = start(unit=StorageUnit.DATASET, enable_write=False)
    assert ids.ask("ids/write", {"datasetIds": 1}, method="POST").status == 501


def test_the_oldest_prepared_ids_are_evicted(start: Callable[..., SmallIds]) -> None:
    ids = start(prepared_count=2)
    prepared = [ids.ask("ids/prepareData", {}, method="POST").text() for _ in range(3)]
    statuses = [ids.ask("ids/isPrepared", {"preparedId": one}).status for one in prepared]
    assert statuses == [404, 200, 200]


# Tape, off the books.


@pytest.mark.parametrize("unit", [StorageUnit.DATASET, StorageUnit.DATAFILE])
def test_data_can_be_put_on_tape_and_back_off_the_books(
    start: Callable[..., SmallIds], unit: StorageUnit
) -> None:
    ids = start(unit=unit)
    ids.ids.put_on_tape([], [SMALL])
    assert ids.ask("ids/getStatus", {"datafileIds": SMALL}).text() == "ARCHIVED"
    sibling = "ARCHIVED" if unit is StorageUnit.DATASET else "ONLINE"
    assert ids.ask("ids/getStatus", {"datafileIds": OTHER}).text() == sibling
    ids.ids.bring_online([1], [])
    assert ids.ask("ids/getStatus", {"datasetIds": 1}).text() == "ONLINE"
    ids.ids.archive_everything()
    assert ids.ask("ids/getStatus", {"datasetIds": "1,2"}).text() == "ARCHIVED"
    assert (ids.counters.archives, ids.counters.restores) == (0, 0)


def test_without_tape_nothing_can_be_archived(ids: SmallIds) -> None:
    with pytest.raises(ValueError, match="no tape"):
        ids.ids.put_on_tape([1], [])


def test_an_empty_dataset_is_online_whatever_was_archived(
    start: Callable[..., SmallIds],
) -> None:
    ids = start(unit=StorageUnit.DATASET)
    ids.ids.archive_everything()
    empty = ids.db.insert("Dataset", name="E", complete=False, investigation_id=1, type_id=1)
    assert ids.ask("ids/getStatus", {"datasetIds": empty}).text() == "ONLINE"
    assert ids.put("first", b"1", datasetId=empty).status == 201


def test_all_selections_count_duplicates_once(ids: SmallIds) -> None:
    answer = ids.ask("ids/getDatafileIds", {"datasetIds": "1,1", "datafileIds": f"{SMALL}"})
    assert sorted(json.loads(answer.body)["ids"]) == [SMALL, OTHER, LARGE]
