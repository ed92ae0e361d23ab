"""Every recorded exchange with a real data service, replayed against ours over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.replay import Replay, sequences

from icatfs.facility.archive import RestoreOutcome, Unit
from icatfs.facility.clock import Clock
from icatfs.facility.core import IcatCore
from icatfs.facility.counters import Counters
from icatfs.facility.database import Database
from icatfs.facility.holdings import sample
from icatfs.facility.icat import icat_app
from icatfs.facility.ids import ids_app
from icatfs.facility.idscore import IdsConfig, IdsCore
from icatfs.facility.sessions import Authenticator, Sessions
from icatfs.facility.storage import Storage
from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from pathlib import Path

FILES = (
    "ids-info",
    "ids-errors",
    "ids-getdata",
    "ids-range",
    "ids-put",
    "ids-delete",
    "ids-single",
    "ids-archive-dataset",
    "ids-archive-datafile",
)
UNITS = {
    "ids": StorageUnit.DATASET,
    "idsdf": StorageUnit.DATAFILE,
    "idssingle": StorageUnit.SINGLE,
}
RECORDED = {name: steps for file in FILES for name, steps in sequences(file).items()}


class Recorded:
    """The three data services of the recordings on one catalogue, as one application."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock(running=False)
        self.outcome = RestoreOutcome()
        self.db = Database()
        users = sample.fill(self.db, None, locations=False).passwords
        sessions = Sessions(_authenticators(users), 120, self.clock.now)
        core = IcatCore(self.db, sessions, self.clock.now)
        self.storage = Storage(self.db, folder)
        counters = Counters()
        self.services = {
            name: IdsCore(
                IdsConfig(unit=unit, icat_url="http://localhost:9080", prefix=f"_{name}"),
                catalogue=core,
                db=self.db,
                storage=self.storage,
                clock=self.clock,
                counters=counters,
                outcome=self.restore_outcome,
            )
            for name, unit in UNITS.items()
        }
        self._apps = {name: ids_app(one, f"/{name}") for name, one in self.services.items()}
        self._apps["icat"] = icat_app(core, counters)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        await self._apps[scope["path"].split("/")[1]](scope, receive, send)

    def restore_outcome(self, unit: Unit) -> RestoreOutcome:
        return self.outcome

    def control(self, wish: dict[str, Any]) -> None:
        if "restore" in wish:
            fails = wish["restore"] == "fail"
            self.outcome = RestoreOutcome(0.0 if fails else float(wish["restore"]), fails)
        elif "truncate" in wish:
            self.storage.truncate(wish["truncate"], wish["length"])
        else:
            self.storage.lose(wish["remove"])

    def locks(self) -> int:
        return sum(service.archive.lock_count() for service in self.services.values())


def _authenticators(passwords: dict[str, str]) -> list[Authenticator]:
    by_plugin: dict[str, dict[str, str]] = {}
    for user, password in passwords.items():
        plugin, _, name = user.partition("/")
        by_plugin.setdefault(plugin, {})[name] = password
    return [Authenticator(plugin, users) for plugin, users in by_plugin.items()]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, serve_app_for_session: Any
) -> tuple[str, Recorded]:
    recorded = Recorded(tmp_path_factory.mktemp("main"))
    return serve_app_for_session(recorded), recorded


@pytest.mark.parametrize("name", RECORDED)
def test_it_answers_like_the_real_server(name: str, server: tuple[str, Recorded]) -> None:
    url, recorded = server
    recorded.clock.advance(60)
    Replay(url, advance=recorded.clock.advance, control=recorded.control, locks=recorded.locks).run(
        RECORDED[name]
    )
