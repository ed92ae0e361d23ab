"""What the REST face of the catalogue does that no recording shows."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from icatfs.facility.app import FacilityConfig, facility_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOGIN = {"plugin": "simple", "credentials": [{"username": "root"}, {"password": "rootpw"}]}


class Client:
    """One connection at a time."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        self.connection = http.client.HTTPConnection(self.host, timeout=20)

    def ask(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        self.connection.request(method, path, **more)
        answer = self.connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()

    def post(self, path: str, **form: str) -> tuple[int, Any]:
        status, _, body = self.ask("POST", path, body=urlencode(form), headers=FORM)
        return status, json.loads(body)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with facility_in_thread(FacilityConfig()) as served:
        yield served.ready.url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = Client(url)
    yield client
    client.connection.close()


@pytest.fixture
def session(client: Client) -> str:
    session = client.post("/icat/session", json=json.dumps(LOGIN))[1]["sessionId"]
    assert isinstance(session, str)
    return session


@pytest.mark.parametrize("path", ["/icat/session/%zz", "/icat/user/db%2Fnbour", "/icat/session/%"])
def test_strange_paths_give_a_page_of_the_container(client: Client, path: str) -> None:
    status, headers, body = client.ask("GET", path)
    assert status == 500
    assert headers["content-type"].startswith("text/html")
    assert "access-control-allow-origin" not in headers
    assert body.startswith(b"<html>")


@pytest.mark.parametrize("spare", [0, 1])
def test_a_head_may_have_8192_bytes(client: Client, spare: int) -> None:
    head = (
        f"GET /icat/version?x= HTTP/1.1\r\nHost: {client.host}\r\nAccept-Encoding: identity\r\n\r\n"
    )
    filling = "y" * (8192 - len(head) + spare)
    status, headers, body = client.ask("GET", f"/icat/version?x={filling}")
    assert (status, body) == ((400, b"") if spare else (200, b'{"version":"6.2.1"}'))
    assert headers.get("connection") == ("close" if spare else None)


@pytest.mark.parametrize("spare", [0, 1])
def test_a_head_may_have_100_lines(client: Client, spare: int) -> None:
    more = {f"X-{number}": "" for number in range(98 + spare)}  # and Host, Accept-Encoding
    assert client.ask("GET", "/icat/version", headers=more)[0] == (400 if spare else 200)


def test_the_250th_answer_of_a_connection_is_its_last(client: Client) -> None:
    told = [client.ask("HEAD", "/icat/version")[1].get("connection") for _ in range(250)]
    assert told == [None] * 249 + ["close"]


def test_forms_may_be_large_and_chunked(client: Client, session: str) -> None:
    form = urlencode({"sessionId": session, "entities": "[]", "x": "y" * 2_000_000}).encode()
    parts = (form[at : at + 100_000] for at in range(0, len(form), 100_000))
    status, _, body = client.ask("POST", "/icat/entityManager", body=parts, headers=FORM)
    assert (status, body) == (200, b"[]")


@pytest.mark.parametrize("number", ["x", "1.5", "9223372036854775808", "9" * 5000])
def test_an_id_that_is_no_long_is_not_found(client: Client, session: str, number: str) -> None:
    path = f"/icat/entityManager?sessionId={session}&query=Datafile&id={number}"
    status, _, body = client.ask("GET", path)
    assert status == 500
    assert "QueryParamException HTTP 404" in json.loads(body)["message"]


def test_a_copy_wants_a_name_and_a_known_entity(client: Client, session: str) -> None:
    told = {"sessionId": session, "id": "1", "keys": "{}"}
    assert client.post("/icat/cloner", **told)[0] == 400
    answer = client.post("/icat/cloner", name="Foo", **told)
    assert answer == (400, {"code": "BAD_PARAMETER", "message": "Foo is not an ICAT entity"})


def test_json_that_is_no_object_is_no_login(client: Client) -> None:
    assert client.post("/icat/session", json="12")[0] == 403
    assert client.post("/icat/session", json='"db"')[0] == 500


def test_text_goes_there_and_back_as_it_is(client: Client, session: str) -> None:
    name = "ünï—€ \t%+&'\"\\"
    new = {"Study": {"name": name}}
    status, ids = client.post("/icat/entityManager", sessionId=session, entities=json.dumps(new))
    assert status == 200
    query = quote(f"SELECT s.name FROM Study s WHERE s.id = {ids[0]}")
    path = f"/icat/entityManager?sessionId={session}&query={query}"
    assert json.loads(client.ask("GET", path)[2]) == [name]
