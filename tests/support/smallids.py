"""A data service with a handful of files, in the process of the test and on a clock that stands."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from icatfs.facility.clock import Clock
from icatfs.facility.core import IcatCore
from icatfs.facility.counters import Counters
from icatfs.facility.database import Database
from icatfs.facility.faults import Faults
from icatfs.facility.icat import icat_app
from icatfs.facility.ids import ids_app
from icatfs.facility.idscore import IdsConfig, IdsCore
from icatfs.facility.sessions import Authenticator, Sessions
from icatfs.facility.storage import Storage
from icatfs.facility.storageunit import StorageUnit
from support.rawhttp import Connection, Received, connect

if TYPE_CHECKING:
    from icatfs.facility.exchange import Receive, Scope, Send

SMALL, OTHER, LARGE, FAR = 1, 2, 3, 4
"""Datafiles: 12 bytes and 1 byte in dataset 1, 64 MiB by formula in 1, 12 bytes in dataset 2."""

LARGE_SIZE = 64 << 20
HELLO = b"Hello John!\n"
_PATIENCE_S = 10.0
_STEPS = 100
_STEP_REAL_S = 0.05


@dataclass
class SmallIds:
    """The service and its parts; ``url`` is set when it is served."""

    folder: Path
    config: IdsConfig = field(default_factory=lambda: IdsConfig(unit=StorageUnit.SINGLE))
    url: str = ""
    wrap: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        self.clock = Clock(running=False)
        self.counters = Counters()
        self.db = Database()
        self.storage = Storage(self.db, self.folder)
        self._enter()
        users = {"root": "pw"}
        self.sessions = Sessions([Authenticator("simple", users)], 120, self.clock.now)
        self.core = IcatCore(self.db, self.sessions, self.clock.now)
        self.session = self.sessions.log_in("simple", {"username": "root", "password": "pw"})
        self.faults = Faults(self.db, self.storage, self.clock, self.counters)
        self.ids = IdsCore(
            self.config,
            catalogue=self.core,
            db=self.db,
            storage=self.storage,
            clock=self.clock,
            counters=self.counters,
            outcome=self.faults.restore_outcome,
        )
        self.faults.attach(self.ids)
        self._icat = icat_app(self.core, self.counters)
        self._ids = ids_app(self.ids)
        inner = self.wrap(self._dispatch) if self.wrap else self._dispatch
        self.app = self.counters.wrap(self.faults.wrap(inner))

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._icat if scope["path"].startswith("/icat") else self._ids
        await app(scope, receive, send)

    def _enter(self) -> None:
        db = self.db
        facility = db.insert("Facility", name="F")
        kind = db.insert("InvestigationType", name="t", facility_id=facility)
        of = {"facility_id": facility}
        names = {"name": "I", "visitId": "1", "title": "T"}
        investigation = db.insert("Investigation", **names, type_id=kind, **of)
        db.insert("DatafileFormat", name="f", version="1", **of)
        kind = db.insert("DatasetType", name="t", **of)
        parents = {"investigation_id": investigation, "type_id": kind}
        for name in ("D1", "D2"):
            db.insert("Dataset", name=name, complete=False, **parents)
        self._enter_file("hello", 1, len(HELLO))
        self._enter_file("other", 1, 1)
        self._enter_file("large", 1, LARGE_SIZE)
        self._enter_file("far", 2, len(HELLO))
        self.storage.keep(SMALL, HELLO)
        self.storage.keep(OTHER, b"x")
        self.storage.keep_patterns([(LARGE, 5, LARGE_SIZE)])
        self.storage.keep(FAR, HELLO)

    def _enter_file(self, name: str, dataset: int, size: int) -> None:
        values = {"name": name, "location": f"at/{name}", "fileSize": size}
        self.db.insert("Datafile", **values, dataset_id=dataset)

    # Requests.

    def open(
        self,
        path: str,
        parameters: dict[str, object] | None = None,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        receive_buffer: int | None = None,
    ) -> Connection:
        """Send a request with the session of root; POST sends the parameters as a form."""
        told = urlencode({"sessionId": self.session} | (parameters or {}))
        headers = {"Host": "box"} | (headers or {})
        if method == "POST":
            body = told.encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            path += f"?{told}"
        if body is not None and "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(body)))
        lines = [f"{method} /{path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        connection = connect(self.url, receive_buffer=receive_buffer)
        connection.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return connection

    def ask(
        self,
        path: str,
        parameters: dict[str, object] | None = None,
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        until_silent: bool = False,
    ) -> Received:
        """Send a request and receive its answer."""
        with self.open(path, parameters, method=method, headers=headers, body=body) as connection:
            return connection.receive(method, until_silent=until_silent)

    def put(self, name: str, body: bytes, **parameters: object) -> Received:
        """Store a file in dataset 1."""
        told: dict[str, object] = {"name": name, "datasetId": 1, "datafileFormatId": 1}
        return self.ask("ids/put", told | parameters, method="PUT", body=body)

    def advance_until_readable(self, connection: Connection, step_s: float) -> None:
        """Let time pass in steps until the server says something: it may begin to wait late."""
        for _ in range(_STEPS):
            if connection.is_readable(_STEP_REAL_S):
                return
            self.clock.advance(step_s)
        raise AssertionError("the server said nothing")

    def locks(self) -> int:
        """How many datasets are locked."""
        return self.ids.archive.lock_count()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something that a server does on its own thread has happened."""
    until = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.002)
