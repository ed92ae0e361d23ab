"""Every recorded exchange with a real catalogue, replayed against ours over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.replay import Replay, sequences

from icatfs.facility.clock import Clock
from icatfs.facility.core import IcatCore
from icatfs.facility.counters import Counters
from icatfs.facility.database import Database
from icatfs.facility.holdings import sample
from icatfs.facility.icat import icat_app
from icatfs.facility.sessions import Authenticator, Sessions

if TYPE_CHECKING:
    from icatfs.facility.exchange import App

FILES = (
    "icat-session",
    "icat-errors",
    "icat-search",
    "icat-visibility",
    "icat-limits",
    "icat-write",
)
RECORDED = {name: steps for file in FILES for name, steps in sequences(file).items()}
LIFETIME_S = 120 * 60
GHOST = "db/ghost"


class Recorded:
    """The catalogue of the recordings."""

    def __init__(self) -> None:
        self.clock = Clock(running=False)
        self.db = Database()
        users = sample.fill(self.db, None, locations=False).passwords | {GHOST: "ghostpw"}
        self.sessions = Sessions(_authenticators(users), LIFETIME_S / 60, self.clock.now)
        core = IcatCore(self.db, self.sessions, self.clock.now)
        self.app: App = icat_app(core, Counters())

    def prepare(self, name: str) -> None:
        """What a sequence needs before it begins."""
        if name == "too-many" and self.db.row("Dataset", LIM) is None:
            made = {"name": "lim", "investigation_id": 3, "type_id": 3, "complete": False}
            self.db.insert("Dataset", id=LIM, **made)
            rows = ((f"f{number:05}", LIM) for number in range(10_001))
            self.db.insert_rows("Datafile", ("name", "dataset_id"), rows)

    def tidy(self, name: str) -> None:
        """Take away what ``prepare`` made."""
        if name == "too-many":
            for table, column in (("Datafile", "dataset_id"), ("Dataset", "id")):
                self.db.connection.execute(f'DELETE FROM "{table}" WHERE "{column}" = ?', (LIM,))

    def before(self, words: str) -> None:
        """What was done to the server beside the protocol."""
        if words == "that row is purged":
            self.sessions.purge()
            return
        assert "has passed its lifetime" in words
        if GHOST in words:
            self.sessions.log_in("db", {"username": "ghost", "password": "ghostpw"})
        self.clock.advance(LIFETIME_S + 1)


LIM = 1000
HOST = "localhost:9080"


def _as_sent_there(step: dict[str, Any]) -> dict[str, Any]:
    """The step as it was sent to the recorded server: redirects name the host that was asked."""
    request = step["request"]
    headers = {"Host": HOST} | request.get("headers", {})
    return step | {"request": request | {"headers": headers}}


def _authenticators(passwords: dict[str, str]) -> list[Authenticator]:
    by_plugin: dict[str, dict[str, str]] = {"db": {}, "simple": {}}
    for user, password in passwords.items():
        plugin, _, name = user.partition("/")
        by_plugin[plugin][name] = password
    return [
        Authenticator("db", by_plugin["db"]),
        Authenticator("simple", by_plugin["simple"], admin=True),
        Authenticator("anon", None, friendly="Anonymous"),
    ]


@pytest.fixture(scope="module")
def server(serve_app_for_session: Any) -> tuple[str, Recorded]:
    recorded = Recorded()
    return serve_app_for_session(recorded.app), recorded


@pytest.mark.parametrize("name", RECORDED)
def test_it_answers_like_the_real_server(name: str, server: tuple[str, Recorded]) -> None:
    url, recorded = server
    recorded.clock.advance(60)
    recorded.prepare(name)
    try:
        steps = [_as_sent_there(step) for step in RECORDED[name]]
        Replay(url, advance=recorded.clock.advance, before=recorded.before).run(steps)
    finally:
        recorded.tidy(name)
