"""What the data service's refusals mean."""

from __future__ import annotations

import json

import pytest

from icatfs.errors import (
    AccessDenied,
    BadName,
    BadRequest,
    Busy,
    DataArchived,
    Exists,
    IcatfsError,
    NameTooLong,
    NoSpace,
    NotAFacility,
    NotFound,
    NotSupported,
    ProtocolError,
    ReadOnly,
    RecallFailed,
    ServerError,
    SessionLost,
)
from icatfs.ids.answers import check, doubt, refusal

SESSION = "99999999-9999-9999-9999-999999999999"
ARCHIVED_DATASET = (
    "Before putting, getting or deleting a datafile, its dataset has to be restored,"
    " restoration requested automatically"
)
ARCHIVED_DATAFILE = (
    "Before getting a datafile, it must be restored, restoration requested automatically"
)
ICAT = "class org.icatproject.IcatException_Exception "
INTERNAL = "InternalException"
FORBIDDEN = "InsufficientPrivilegesException"
BAD = "BadRequestException"
OFFLINE = "DataNotOnlineException"
NOT_IMPLEMENTED = "NotImplementedException"


@pytest.mark.parametrize(
    ("status", "code", "message", "meaning"),
    [
        (404, "NotFoundException", "Datafile 563", NotFound),
        (403, FORBIDDEN, "READ access to this Datafile is not allowed.", AccessDenied),
        (403, FORBIDDEN, f"Unable to find user by sessionid: {SESSION}", SessionLost),
        (403, FORBIDDEN, f"Session id:{SESSION} has expired", SessionLost),
        (500, INTERNAL, f"{ICAT}Unable to find user by sessionid: {SESSION}", SessionLost),
        (400, BAD, "The sessionId parameter 'null' is not a valid UUID", SessionLost),
        (503, OFFLINE, ARCHIVED_DATASET, DataArchived),
        (503, OFFLINE, ARCHIVED_DATAFILE, DataArchived),
        (404, OFFLINE, ARCHIVED_DATASET, DataArchived),
        (503, OFFLINE, "Data is busy", Busy),
        (501, NOT_IMPLEMENTED, "configured to be unavailable", ReadOnly),
        (501, NOT_IMPLEMENTED, "unavailable for single level storage", NotSupported),
        (501, "NOT_IMPLEMENTED", "Operation not implemented by this IDS server.", NotSupported),
        (500, INTERNAL, "OBJECT_ALREADY_EXISTS Datafile exists with", Exists),
        (500, INTERNAL, "Restore failed", RecallFailed),
        (500, INTERNAL, "java.util.concurrent.ExecutionException Restore failed", RecallFailed),
        (500, INTERNAL, "class java.io.IOException No space left on device", NoSpace),
        (500, "InsufficientStorageException", "full", NoSpace),
        (500, INTERNAL, "class jakarta.ejb.EJBException null", ServerError),
        (400, BAD, "Datafile: name cannot have length > 255", NameTooLong),
        (400, BAD, "Illegal filename or dataset: x", BadName),
        (400, BAD, r"The range must match bytes=(\d+)-", BadRequest),
    ],
)
def test_the_code_and_then_the_message_decide(
    status: int, code: str, message: str, meaning: type[IcatfsError]
) -> None:
    error = refusal(status, {}, json.dumps({"code": code, "message": message}).encode())
    assert type(error) is meaning
    assert SESSION not in str(error)


def test_the_unit_of_storage_can_be_read_from_the_text() -> None:
    body = json.dumps({"code": OFFLINE, "message": ARCHIVED_DATASET}).encode()
    assert "its dataset" in str(refusal(503, {}, body))


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_page_says_nothing_about_data(status: int) -> None:
    error = refusal(status, {"content-type": "text/html;charset=utf-8"}, b"<html></html>")
    assert type(error) is NotAFacility


def test_a_page_of_a_failing_server_is_its_failure() -> None:
    assert type(refusal(500, {"content-type": "text/html"}, b"<html></html>")) is ServerError


def test_a_good_answer_is_its_body() -> None:
    assert check(204, {}, b"") == b""


def test_an_empty_400_is_about_the_request() -> None:
    assert type(refusal(400, {}, b"")) is BadRequest


@pytest.mark.parametrize(
    ("status", "headers", "offset"),
    [
        (200, {}, 0),
        (206, {}, 7),
        (200, {"content-type": "application/octet-stream"}, 0),
        (200, {"content-encoding": "Identity"}, 0),
        (206, {"content-range": "bytes 7-9/10"}, 7),
        (206, {"content-range": "Bytes 7-9/*"}, 7),
    ],
)
def test_what_is_asked_for_is_taken(status: int, headers: dict[str, str], offset: int) -> None:
    assert doubt(status, headers, offset) is None


@pytest.mark.parametrize(
    ("status", "headers", "offset", "kind"),
    [
        (206, {}, 0, ProtocolError),
        (200, {}, 7, ProtocolError),
        (204, {}, 0, ProtocolError),
        (200, {"content-type": "text/HTML; charset=utf-8"}, 0, NotAFacility),
        (206, {"content-encoding": "gzip"}, 7, NotAFacility),
        (206, {"content-range": "bytes 70-79/80"}, 7, ProtocolError),
        (206, {"content-range": "bytes */80"}, 7, ProtocolError),
        (206, {"content-type": "multipart/byteranges; boundary=x"}, 7, ProtocolError),
    ],
)
def test_what_is_not_asked_for_is_refused(
    status: int, headers: dict[str, str], offset: int, kind: type[IcatfsError]
) -> None:
    assert type(doubt(status, headers, offset)) is kind
