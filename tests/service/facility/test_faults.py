"""Each fault does what its description says, and ends when cleared."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from support.smallids import FAR, HELLO, LARGE, LARGE_SIZE, OTHER, SMALL, SmallIds, wait_until

from icatfs.facility.idscore import IdsConfig
from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[StorageUnit.DATASET])
def ids(request: pytest.FixtureRequest, tmp_path: Path, serve_app: Any) -> Iterator[SmallIds]:
    service = SmallIds(tmp_path, IdsConfig(unit=request.param))
    service.url = serve_app(service.app)
    yield service
    service.clock.advance(1_000_000)


def switch(ids: SmallIds, kind: str, **more: Any) -> None:
    ids.faults.change([{"kind": kind, **more}])


def get(ids: SmallIds, datafile: int = SMALL, **more: Any) -> Any:
    return ids.ask("ids/getData", {"datafileIds": datafile}, **more)


def test_latency_holds_the_answer_back(ids: SmallIds) -> None:
    switch(ids, "latency", endpoint="ids/getData", seconds=5)
    with ids.open("ids/getData", {"datafileIds": SMALL}) as connection:
        assert ids.ask("ids/ping").text() == "IdsOK"
        ids.clock.advance(4)
        assert not connection.is_readable(0.1)
        ids.advance_until_readable(connection, 2)
        assert connection.receive("GET").body == HELLO


def test_errors_have_the_wanted_words(ids: SmallIds) -> None:
    switch(ids, "error", endpoint="ids/", status=503, code="X", message="Y", times=1)
    received = get(ids)
    assert (received.status, received.json()) == (503, {"code": "X", "message": "Y"})
    assert get(ids).status == 200
    switch(ids, "error", endpoint="icat/version", status=502, body="<html>")
    assert ids.ask("icat/version").text() == "<html>"


def test_an_error_can_be_an_early_answer_to_an_upload(ids: SmallIds) -> None:
    switch(ids, "error", endpoint="ids/put", status=500, after_bytes=10)
    told: dict[str, object] = {"name": "x", "datasetId": 1, "datafileFormatId": 1}
    headers = {"Content-Length": "1000"}
    with ids.open("ids/put", told, method="PUT", headers=headers, body=bytes(20)) as connection:
        assert connection.receive("PUT").status == 500


@pytest.mark.parametrize("status", [404, 502])
def test_pages_of_html(ids: SmallIds, status: int) -> None:
    switch(ids, "html", endpoint="icat/", status=status)
    received = ids.ask("icat/version")
    assert received.status == status
    assert received.headers["content-type"].startswith("text/html")


def test_a_dead_session_in_the_words_of_each_service(ids: SmallIds) -> None:
    switch(ids, "session", endpoint="")
    words = f"Unable to find user by sessionid: {ids.session}"
    assert get(ids).json() == {"code": "InsufficientPrivilegesException", "message": words}
    received = ids.ask(f"icat/session/{ids.session}")
    assert (received.status, received.json()) == (403, {"code": "SESSION", "message": words})


def test_a_reset_without_an_answer(ids: SmallIds) -> None:
    switch(ids, "reset", endpoint="ids/getData")
    with (
        ids.open("ids/getData", {"datafileIds": SMALL}) as connection,
        pytest.raises(ConnectionError),
    ):
        connection.receive("GET")


def test_a_reset_amid_a_body_is_a_reset(ids: SmallIds) -> None:
    switch(ids, "reset", endpoint="ids/getData", after_bytes=1000)
    with ids.open("ids/getData", {"datafileIds": LARGE}) as connection:
        connection.read_head()
        with pytest.raises(ConnectionResetError):
            connection.read_raw_to_end()
    wait_until(lambda: ids.locks() == 0)


def test_a_reset_amid_an_upload_stores_nothing(ids: SmallIds) -> None:
    switch(ids, "reset", endpoint="ids/put", after_bytes=1000)
    with pytest.raises(ConnectionError):
        ids.put("new", bytes(100_000))
    assert ids.counters.puts == 0


@pytest.mark.parametrize("kind", ["error", "html", "session"])
def test_a_request_that_is_refused_by_a_fault_is_counted(ids: SmallIds, kind: str) -> None:
    switch(ids, kind, endpoint="ids/getData")
    assert get(ids).status >= 400
    assert ids.counters.requests == {"ids/getData": 1}


@pytest.mark.parametrize("kind", ["reset", "stall"])
def test_a_request_that_is_never_answered_is_counted(ids: SmallIds, kind: str) -> None:
    switch(ids, kind, endpoint="ids/getData")
    with ids.open("ids/getData", {"datafileIds": SMALL}):
        wait_until(lambda: ids.counters.requests == {"ids/getData": 1})


def test_a_stall_amid_a_body_lasts_until_time_has_passed(ids: SmallIds) -> None:
    switch(ids, "stall", endpoint="ids/getData", after_bytes=5, seconds=60)
    with ids.open("ids/getData", {"datafileIds": SMALL}) as connection:
        connection.read_head()
        connection.read_body(5)
        ids.advance_until_readable(connection, 61)
        assert connection.receive("GET").body == HELLO


def test_a_stall_for_ever_frees_the_lock_when_the_client_leaves(ids: SmallIds) -> None:
    switch(ids, "stall", endpoint="ids/getData", after_bytes=5)
    with ids.open("ids/getData", {"datafileIds": SMALL}) as connection:
        connection.read_head()
        connection.read_body(5)
        assert ids.locks() == 1
    wait_until(lambda: ids.locks() == 0)


def test_a_stall_without_an_answer_ends_with_the_client(ids: SmallIds) -> None:
    switch(ids, "stall", endpoint="ids/getData", times=1)
    ids.open("ids/getData", {"datafileIds": SMALL}).close()
    assert get(ids).body == HELLO


@pytest.mark.parametrize("datafile", [SMALL, LARGE])
def test_visible_truncation(ids: SmallIds, datafile: int) -> None:
    switch(ids, "truncate", endpoint="ids/getData", after_bytes=7)
    received = get(ids, datafile)
    assert (len(received.body), received.end) == (7, "closed")
    assert int(received.headers["content-length"]) > 7
    wait_until(lambda: ids.locks() == 0)


@pytest.mark.parametrize("datafile", [SMALL, LARGE])
def test_hidden_truncation(ids: SmallIds, datafile: int) -> None:
    switch(ids, "truncate_hidden", endpoint="ids/getData", after_bytes=7)
    received = get(ids, datafile)
    assert (len(received.body), received.end) == (7, "final chunk")
    wait_until(lambda: ids.locks() == 0)


def test_truncation_beyond_the_end_changes_nothing(ids: SmallIds) -> None:
    switch(ids, "truncate", endpoint="ids/getData", after_bytes=1000)
    assert get(ids).body == HELLO


def test_a_corrupt_byte_of_the_answer(ids: SmallIds) -> None:
    switch(ids, "corrupt", endpoint="ids/getData", after_bytes=LARGE_SIZE - 1)
    body, true = get(ids, LARGE).body, ids.storage.content(LARGE)
    assert (body[:-1] == true[:-1], body[-1] == true[-1] ^ 1) == (True, True)
    assert get(ids).body == HELLO


def test_corrupt_stored_bytes_are_corrupt_in_zips_too(ids: SmallIds) -> None:
    switch(ids, "corrupt", entity={"datafile": SMALL}, after_bytes=0)
    wrong = b"I" + HELLO[1:]
    assert get(ids).body == wrong
    received = ids.ask("ids/getData", {"datafileIds": f"{SMALL},{FAR}"})
    with zipfile.ZipFile(io.BytesIO(received.body)) as archive:
        assert archive.read("ids/F/I/1/D1/hello") == wrong
        assert archive.read("ids/F/I/1/D2/far") == HELLO
    ids.faults.change([], clear=True)
    assert get(ids).body == HELLO


def test_missing_and_short_stored_bytes(ids: SmallIds) -> None:
    switch(ids, "missing", entity={"datafile": SMALL})
    assert get(ids).status == 500
    ids.faults.change(
        [{"kind": "truncate_stored", "entity": {"datafile": SMALL}, "after_bytes": 3}], clear=True
    )
    assert get(ids, until_silent=True).body == HELLO[:3]
    ids.faults.change([], clear=True)
    assert get(ids).body == HELLO


def test_a_wrong_size_in_the_catalogue_until_cleared(ids: SmallIds) -> None:
    switch(ids, "wrong_size", entity={"datafile": SMALL}, delta=-2)
    assert ids.ask("ids/getSize", {"datafileIds": SMALL}).text() == "10"
    assert get(ids, until_silent=True).headers["content-length"] == "10"
    ids.faults.change([], clear=True)
    assert ids.ask("ids/getSize", {"datafileIds": SMALL}).text() == "12"


def test_read_only(ids: SmallIds) -> None:
    switch(ids, "read_only", endpoint="ids/")
    assert ids.ask("ids/isReadOnly").text() == "true"
    assert ids.put("x", b"x").status == 501
    assert ids.ask("ids/delete", {"datafileIds": OTHER}, method="DELETE").status == 501
    assert get(ids).body == HELLO


def test_a_full_disk(ids: SmallIds) -> None:
    switch(ids, "disk_full", endpoint="ids/")
    received = ids.put("x", b"x")
    assert received.status == 500
    assert received.json()["message"] == "class java.io.IOException No space left on device"
    assert get(ids).body == HELLO


def test_faults_keep_to_their_entity(ids: SmallIds) -> None:
    switch(ids, "error", endpoint="ids/", entity={"dataset": 2})
    assert get(ids, SMALL).status == 200
    assert get(ids, FAR).status == 500
    assert ids.ask("ids/getStatus", {"datasetIds": 2}).status == 500
    assert ids.ask("ids/prepareData", {"datafileIds": FAR}, method="POST").status == 500
    switch(ids, "error", endpoint="ids/getData", entity={"datafile": OTHER})
    prepared = ids.ask("ids/prepareData", {"datafileIds": OTHER}, method="POST").text()
    assert ids.ask("ids/getData", {"preparedId": prepared}).status == 500
    assert ids.ask("ids/getData", {"datasetIds": 1}).status == 500
    assert get(ids, SMALL).status == 200


def test_faults_of_the_catalogue_can_look_at_the_query(ids: SmallIds) -> None:
    switch(ids, "error", endpoint="icat/entityManager", entity="Datafile")
    statuses = [
        ids.ask("icat/entityManager", {"query": f"SELECT o.id FROM {entity} o"}).status
        for entity in ("Datafile", "Dataset")
    ]
    assert statuses == [500, 200]


def status_of(ids: SmallIds, datafile: int) -> Any:
    return ids.ask("ids/getStatus", {"datafileIds": datafile})


def restore(ids: SmallIds) -> None:
    ids.ids.put_on_tape([1, 2], [])
    ids.ask("ids/restore", {"datasetIds": "1,2"}, method="POST")
    ids.clock.advance(10)


def test_restores_that_fail(ids: SmallIds) -> None:
    switch(ids, "restore_fails", entity={"dataset": 2})
    restore(ids)
    assert status_of(ids, SMALL).text() == "ONLINE"
    assert status_of(ids, FAR).json()["message"] == "Restore failed"


def test_restores_that_never_end_do_when_cleared(ids: SmallIds) -> None:
    switch(ids, "restore_never")
    restore(ids)
    ids.clock.advance(5000)
    assert status_of(ids, SMALL).text() == "RESTORING"
    ids.faults.change([], clear=True)
    assert status_of(ids, SMALL).text() == "ONLINE"


def test_restores_that_take_long(ids: SmallIds) -> None:
    switch(ids, "restore_slow", seconds=100)
    restore(ids)
    assert status_of(ids, SMALL).text() == "RESTORING"
    ids.clock.advance(100)
    assert status_of(ids, SMALL).text() == "ONLINE"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "nonsense"},
        {"kind": "error", "colour": "red"},
        {"kind": "missing"},
        {"kind": "error", "entity": {"sample": 1}},
        {"kind": "wrong_size", "entity": {"datafile": 999}},
    ],
)
def test_nonsense_is_refused(ids: SmallIds, fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fault|Datafile"):
        ids.faults.change([fault])
