"""What ICAT's refusals mean."""

from __future__ import annotations

import json

import pytest

from icatfs.errors import (
    AccessDenied,
    BadName,
    BadRequest,
    Exists,
    IcatfsError,
    NameTooLong,
    NotAFacility,
    NotFound,
    NotSupported,
    ServerError,
    SessionLost,
)
from icatfs.icat.answers import Wanted, check
from icatfs.transport import Answer

SESSION = "0d9a3706-80d4-4d29-9ff3-4d65d4308a24"


def refused(status: int, code: str, message: str, *wanted: Wanted) -> IcatfsError:
    body = json.dumps({"code": code, "message": message, "offset": 0}).encode()
    with pytest.raises(IcatfsError) as caught:
        check(Answer(status, {"content-type": "text/plain"}, body), wanted)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "message", "meaning"),
    [
        (403, "SESSION", f"Unable to find user by sessionid: {SESSION}", SessionLost),
        (403, "INSUFFICIENT_PRIVILEGES", "CREATE access to this Dataset", AccessDenied),
        (404, "NO_SUCH_OBJECT_FOUND", "Datafile[id:9999] not found.", NotFound),
        (412, "VALIDATION", "Dataset: name cannot have length > 255", NameTooLong),
        (412, "VALIDATION", "Dataset: type cannot be null.", BadName),
        (412, "VALIDATION", "attempt to process more than 10000 entities", ServerError),
        (400, "BAD_PARAMETER", "query is not set", BadRequest),
        (501, "NOT_IMPLEMENTED", "Operation not implemented", NotSupported),
        (500, "INTERNAL", "Unexpected DB response", ServerError),
    ],
)
def test_the_code_decides(status: int, code: str, message: str, meaning: type[IcatfsError]) -> None:
    assert type(refused(status, code, message)) is meaning


def test_no_session_id_gets_into_a_text() -> None:
    assert SESSION not in str(refused(403, "SESSION", f"Session id:{SESSION} has expired"))


TAKEN = "Datafile exists with dataset = 'Dataset:10', name = 'b.h5'"


def test_a_taken_name_exists() -> None:
    error = refused(412, "OBJECT_ALREADY_EXISTS", TAKEN, Wanted("Datafile", "b.h5"))
    assert isinstance(error, Exists)


@pytest.mark.parametrize(
    "wanted",
    [
        (),
        (Wanted("Datafile", "another"),),
        (Wanted("DatafileParameter", "b.h5"),),
    ],
)
def test_already_exists_about_something_else_is_not_believed(wanted: tuple[Wanted, ...]) -> None:
    assert isinstance(refused(412, "OBJECT_ALREADY_EXISTS", TAKEN, *wanted), BadName)


def test_a_name_with_a_quote_is_recognised() -> None:
    message = "Dataset exists with investigation = 'Investigation:3', name = 'it's'"
    wanted = Wanted("Dataset", "it's")
    assert isinstance(refused(412, "OBJECT_ALREADY_EXISTS", message, wanted), Exists)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_a_page_is_no_word_about_any_entity(status: int) -> None:
    with pytest.raises(NotAFacility):
        check(Answer(status, {"content-type": "text/html"}, b"<html>404</html>"))


def test_a_redirection_names_the_address_without_its_query() -> None:
    answer = Answer(302, {"location": f"https://icat.example.org/icat?sessionId={SESSION}"}, b"")
    with pytest.raises(NotAFacility, match=r"https://icat\.example\.org/icat:") as caught:
        check(answer)
    assert SESSION not in str(caught.value)


def test_an_empty_400_is_about_the_request() -> None:
    with pytest.raises(BadRequest):
        check(Answer(400, {}, b""))
