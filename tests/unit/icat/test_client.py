"""The catalogue client and the session keeper, against a scripted ICAT."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import httpx
import pytest
import trio

from icatfs.errors import AccessDenied, FacilityUnreachable, LoginFailed, NotAFacility, NotFound
from icatfs.icat.client import IcatClient
from icatfs.icat.session import Credentials, SessionKeeper, open_session
from icatfs.transport import open_transport
from icatfs.values import DatafileId, DatasetId, DatasetTypeId, InvestigationId

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SECRET = "correct horse battery"
DATASET = DatasetId(7)


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


def answer(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, stream=Body(json.dumps(body).encode()))


class Icat:
    """The few answers of an ICAT that these tests need; sessions are ``s1``, ``s2`` ..."""

    def __init__(self) -> None:
        self.max_entities = 10_000
        self.lifetime_minutes = 120.0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.logins = 0
        self.refreshes = 0
        self.valid: set[str] = set()
        self.is_down = False
        self.gate = trio.Event()
        self.gate.set()
        self.search: Callable[[str], list[object]] = lambda _: []
        self.change: Callable[[str], httpx.Response] = lambda _: answer(200, [])

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        if self.is_down:
            raise httpx.ConnectError("refused")
        raw = request.content.decode() if request.method == "POST" else request.url.query.decode()
        values = {key: one[0] for key, one in parse_qs(raw, keep_blank_values=True).items()}
        path = request.url.path.removeprefix("/icat/")
        self.requests.append((request.method, path, values))
        if path == "properties":
            return self._properties()
        if path == "session":
            self.logins += 1
            await self.gate.wait()
            return self._login(json.loads(values["json"]))
        if path.startswith("session/"):
            return self._session(request.method, path.removeprefix("session/"))
        if values["sessionId"] not in self.valid:
            return self._lost(values["sessionId"])
        if "query" in values:
            return answer(200, self.search(values["query"]))
        return self.change(values["entities"])

    def _properties(self) -> httpx.Response:
        keys = [{"name": "username"}, {"name": "password", "hide": True}]
        authenticators = [{"mnemonic": "db", "keys": keys}, {"mnemonic": "anon", "keys": []}]
        body = {
            "maxEntities": self.max_entities,
            "lifetimeMinutes": self.lifetime_minutes,
            "authenticators": authenticators,
        }
        return answer(200, body)

    def _login(self, said: dict[str, object]) -> httpx.Response:
        if said["plugin"] != "db":
            message = f"Authenticator mnemonic {said['plugin']} not recognised"
            return answer(403, {"code": "SESSION", "message": message})
        if said["credentials"] != [{"username": "nbour"}, {"password": SECRET}]:
            message = "The username and password do not match "
            return answer(403, {"code": "SESSION", "message": message})
        session = f"s{self.logins}"
        self.valid.add(session)
        return answer(200, {"sessionId": session})

    def _session(self, method: str, session: str) -> httpx.Response:
        if session not in self.valid:
            return self._lost(session)
        if method == "GET":
            info = {"userName": "db/nbour", "remainingMinutes": self.lifetime_minutes}
            return answer(200, info)
        if method == "PUT":
            self.refreshes += 1
        else:
            self.valid.remove(session)
        return httpx.Response(204, stream=Body(b""))

    def _lost(self, session: str) -> httpx.Response:
        message = f"Unable to find user by sessionid: {session}"
        return answer(403, {"code": "SESSION", "message": message})


@pytest.fixture
def icat() -> Icat:
    return Icat()


@pytest.fixture
async def client(icat: Icat) -> AsyncIterator[IcatClient]:
    async with open_transport(http=httpx.MockTransport(icat)) as transport:
        icat.valid.add("s")
        yield IcatClient(transport, "https://icat.example.org/icat")


def credentials(password: str = SECRET, auth: str = "db") -> Credentials:
    return Credentials(auth, {"username": "nbour", "password": password})


@asynccontextmanager
async def session(client: IcatClient) -> AsyncIterator[SessionKeeper]:
    async with open_session(client, credentials()) as keeper:
        yield keeper


# -- listings ---------------------------------------------------------------------------------


def rows(ids: range) -> Callable[[str], list[object]]:
    """Datafiles as the server would select them: parses the bounds out of the query."""

    def search(query: str) -> list[object]:
        words = query.replace(",", " ").split()
        low = int(words[words.index(">") + 1]) if ">" in words else -1
        high = int(words[words.index("<=") + 1]) if "<=" in words else 2**63
        if "MAX(x.id)" in words:
            return [max(ids)]
        found = [one for one in ids if low < one <= high][: int(words[-1])]
        moment = "2026-11-23T03:11:57.000+01:00"
        return [[one, f"f{one}", 1, None, None, moment, moment, None, None] for one in found]

    return search


async def test_a_long_listing_comes_complete_and_in_few_queries(
    icat: Icat, client: IcatClient
) -> None:
    icat.max_entities = 1000
    icat.search = rows(range(50, 10_050))
    listed = await client.datafiles("s", DATASET)
    assert [row.id for row in listed] == list(range(50, 10_050))
    queries = [one for one in icat.requests if one[1] == "entityManager"]
    assert len(queries) <= 1 + 10


async def test_properties_are_asked_for_once(icat: Icat, client: IcatClient) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(client.properties)
    assert len(icat.requests) == 1


async def test_only_the_identical_name_counts(icat: Icat, client: IcatClient) -> None:
    moment = "2026-11-23T03:11:57.000Z"
    icat.search = lambda _: [[1, "E2.dat ", 1, None, None, moment, moment, None, None]]
    assert await client.datafile_named("s", DATASET, "e2.dat") is None
    found = await client.datafile_named("s", DATASET, "E2.dat ")
    assert found is not None
    assert found.id == 1


async def test_a_name_that_cannot_exist_is_not_asked_for(icat: Icat, client: IcatClient) -> None:
    for name in ("\U0001f600", "a" * 300, "a\0b"):
        assert await client.datafile_named("s", DATASET, name) is None
        assert await client.dataset_named("s", InvestigationId(1), name) is None
        assert not await client.is_folder("s", DATASET, name)
    assert icat.requests == []


async def test_quotes_and_foreign_letters_arrive_as_they_are(
    icat: Icat, client: IcatClient
) -> None:
    await client.datafile_named("s", DATASET, "it's 本 & %41+é")
    (_, _, values) = icat.requests[-1]
    assert "x.name = 'it''s 本 & %41+é'" in values["query"]


async def test_a_folder_is_found_bytewise(icat: Icat, client: IcatClient) -> None:
    names = ["Scan/1", "SCAN/2", "scan/3"]
    icat.search = lambda _: [[n, name] for n, name in enumerate(names)]
    assert await client.is_folder("s", DATASET, "scan")
    assert not await client.is_folder("s", DATASET, "sCan")


# -- writing ----------------------------------------------------------------------------------


async def test_a_dataset_is_created_with_plain_ascii_on_the_wire(
    icat: Icat, client: IcatClient
) -> None:
    sent: list[str] = []

    def change(text: str) -> httpx.Response:
        sent.append(text)
        return answer(200, [10])

    icat.change = change
    start = datetime(2024, 5, 1, 8, tzinfo=UTC)
    created = await client.create_dataset(
        "s", InvestigationId(3), "grüße", DatasetTypeId(2), start=start
    )
    assert created == 10
    assert sent[0].isascii()
    assert json.loads(sent[0]) == [
        {
            "Dataset": {
                "investigation": {"id": 3},
                "type": {"id": 2},
                "name": "grüße",
                "complete": False,
                "startDate": "2024-05-01T08:00:00.000Z",
            }
        }
    ]


async def test_renaming_mentions_nothing_but_the_name(icat: Icat, client: IcatClient) -> None:
    await client.rename_datafiles("s", [(DatafileId(1), ".trash"), (DatafileId(2), "a")])
    (_, _, values) = icat.requests[-1]
    assert json.loads(values["entities"]) == [
        {"Datafile": {"id": 1, "name": ".trash"}},
        {"Datafile": {"id": 2, "name": "a"}},
    ]


async def test_deleting_names_ids_only(icat: Icat, client: IcatClient) -> None:
    icat.change = lambda _: httpx.Response(204, stream=Body(b""))
    await client.delete("s", "Datafile", [1, 2])
    method, _, values = icat.requests[-1]
    assert method == "DELETE"
    assert json.loads(values["entities"]) == [{"Datafile": {"id": 1}}, {"Datafile": {"id": 2}}]


async def test_something_that_is_no_icat_is_recognised(client: IcatClient, icat: Icat) -> None:
    icat.search = lambda _: []
    icat.change = lambda _: httpx.Response(404, stream=Body(b"<html>"))
    with pytest.raises(NotAFacility):
        await client.delete_dataset("s", DATASET)


# -- sessions ---------------------------------------------------------------------------------


async def test_the_user_name_is_the_servers(icat: Icat, client: IcatClient) -> None:
    async with session(client) as keeper:
        assert keeper.user_name == "db/nbour"
        assert keeper.status().logins == 1


async def test_the_session_is_ended_at_the_end(icat: Icat, client: IcatClient) -> None:
    async with session(client):
        assert "s1" in icat.valid
    assert "s1" not in icat.valid


async def test_the_session_is_ended_even_when_cancelled(icat: Icat, client: IcatClient) -> None:
    with trio.CancelScope() as scope:
        async with session(client):
            scope.cancel()
            await trio.sleep_forever()
    assert "s1" not in icat.valid


async def test_a_wrong_password_fails_with_the_servers_words(client: IcatClient) -> None:
    with pytest.raises(LoginFailed, match="do not match") as caught:
        async with open_session(client, credentials("wrong secret")):
            pass
    assert "wrong secret" not in str(caught.value)


async def test_an_unknown_authenticator_is_answered_with_the_choice(client: IcatClient) -> None:
    with pytest.raises(LoginFailed, match="db, anon"):
        async with open_session(client, credentials(auth="typo")):
            pass


async def test_what_the_caller_raises_comes_out_as_it_is(client: IcatClient) -> None:
    with pytest.raises(NotFound):
        async with session(client):
            raise NotFound("gone")


async def test_a_lost_session_costs_one_login_for_everybody(icat: Icat, client: IcatClient) -> None:
    async with session(client) as keeper:
        icat.valid.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(keeper.run, client.facilities)
        assert icat.logins == 2


async def test_a_server_that_refuses_its_own_session_is_believed_after_one_retry(
    icat: Icat, client: IcatClient
) -> None:
    async def refuse(session: str) -> None:
        icat.valid.discard(session)
        await client.refresh(session)

    async with session(client) as keeper:
        with pytest.raises(AccessDenied):
            await keeper.run(refuse)
        assert icat.logins == 2


async def test_a_refused_login_is_shared_by_all_who_wait(icat: Icat, client: IcatClient) -> None:
    outcomes: list[str] = []

    async def use(keeper: SessionKeeper) -> None:
        try:
            await keeper.run(client.facilities)
        except LoginFailed as error:
            outcomes.append(str(error))

    changed = {"username": "nbour", "password": SECRET}
    async with open_session(client, Credentials("db", changed)) as keeper:
        changed["password"] = "no longer valid"
        icat.valid.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(use, keeper)
        assert len(outcomes) == 20
        assert icat.logins == 2


async def test_the_session_is_refreshed_at_half_of_its_time(
    icat: Icat, client: IcatClient, autojump_clock: trio.abc.Clock
) -> None:
    async with session(client) as keeper:
        await trio.sleep(59 * 60)
        assert icat.refreshes == 0
        await trio.sleep(2 * 60)
        assert icat.refreshes == 1
        await trio.sleep(10 * 60 * 60)
        assert keeper.status().refreshes == 11
        assert icat.logins == 1


async def test_a_server_that_is_away_at_refresh_time_does_not_end_the_keeper(
    icat: Icat, client: IcatClient, autojump_clock: trio.abc.Clock
) -> None:
    async with session(client) as keeper:
        icat.is_down = True
        await trio.sleep(70 * 60)
        with pytest.raises(FacilityUnreachable):
            await keeper.run(client.facilities)
        icat.is_down = False
        icat.valid.clear()
        await trio.sleep(60)
        assert await keeper.run(client.facilities) == []


async def test_nothing_shows_a_password_or_a_session(
    icat: Icat, client: IcatClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with session(client) as keeper:
        shown = repr(keeper) + repr(keeper.status()) + repr(credentials())
    assert SECRET not in shown + caplog.text
    assert "s1" not in shown


async def test_a_caller_cancelled_while_it_logs_in_harms_nobody(
    icat: Icat, client: IcatClient
) -> None:
    answers: list[object] = []

    async def use(keeper: SessionKeeper) -> None:
        answers.append(await keeper.run(client.facilities))

    async with session(client) as keeper, trio.open_nursery() as nursery:
        icat.valid.clear()
        icat.gate = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(use, keeper)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(use, keeper)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        icat.gate.set()
    assert answers == [[]]
    assert icat.logins == 3  # the first one, the one cancelled, and the one that counts
