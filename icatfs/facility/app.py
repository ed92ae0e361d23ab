"""A whole facility: everything assembled into one ASGI application, and served.

``Facility`` is the in-process API: its parts are its attributes, and its ``app`` can be served by
``serving.Service``, also on a thread of a test. ``run`` is the process behind ``icatfs facility``.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse

from icatfs.facility.archive import Delays
from icatfs.facility.chronicle import Chronicle
from icatfs.facility.clock import Clock
from icatfs.facility.control import PREFIX, Parts, control_app
from icatfs.facility.core import CoreOptions, IcatCore
from icatfs.facility.costs import Costs, Prices
from icatfs.facility.counters import Counters
from icatfs.facility.database import Database
from icatfs.facility.faults import Faults
from icatfs.facility.holdings import DEFAULT_SIZE, Holdings, fill
from icatfs.facility.holdings.entry import Filled
from icatfs.facility.icat import icat_app
from icatfs.facility.icaterror import IcatError
from icatfs.facility.ids import ids_app
from icatfs.facility.idscore import IdsConfig, IdsCore
from icatfs.facility.serving import Service, listen
from icatfs.facility.sessions import Authenticator, Sessions
from icatfs.facility.storage import Storage
from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RECORD = "facility.json"
_CATALOGUE = "catalogue.sqlite"
_MAIN = "main"
_START_S = 20.0
_NO_SUCH_PAGE = "<html><head><title>404 Not Found</title></head><body><h1>404</h1></body></html>"
_QUICK = Delays(tick_s=0.1, write_s=0.2)

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class FacilityError(Exception):
    """The facility cannot start; the text is a sentence for the person who starts it."""


class CostModel(StrEnum):
    """How much time answers take."""

    NONE = "none"
    REAL = "real"


@dataclass(frozen=True, slots=True)
class FacilityConfig:
    """What a facility holds and how it behaves; ``data`` None: a temporary folder."""

    holdings: Holdings = Holdings.SAMPLE
    size: int = DEFAULT_SIZE
    storage: StorageUnit = StorageUnit.DATASET
    restore_delay_s: float = 0.0
    archived: bool = False
    costs: CostModel = CostModel.NONE
    session_minutes: float = 120.0
    data: Path | None = None
    port: int = 0
    certificate: Path | None = None
    """PEM with certificate and key: HTTPS is served."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What the ready line tells."""

    url: str
    facility: str
    users: dict[str, str]

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "url": self.url,
                "icat": f"{self.url}/icat",
                "ids": f"{self.url}/ids",
                "facility": self.facility,
                "users": self.users,
            }
        )


class Facility:
    """Catalogue, data service and tape on one database. ``app`` wants to be served by one loop."""

    def __init__(self, config: FacilityConfig, folder: Path) -> None:
        """``folder`` takes the stored bytes and, if ``config.data`` says so, the catalogue."""
        # constant
        hostile = config.holdings is Holdings.HOSTILE
        self._certificate = config.certificate
        path = folder / _CATALOGUE if config.data else None
        self.clock = Clock()
        self.counters = Counters()
        self.db = Database(path, folding_text=not hostile)
        self.storage = Storage(self.db, folder / _MAIN)
        is_new = not (folder / _RECORD).exists()
        self.filled = _filled(config, folder, self.db, self.storage)
        self.chronicle = Chronicle(self.db)
        options = CoreOptions(bmp_only=not hostile, lifetime_minutes=config.session_minutes)
        sessions = Sessions(
            _authenticators(self.filled.passwords), options.lifetime_minutes, self.clock.now
        )
        self.core = IcatCore(self.db, sessions, self.clock.now, options)
        self.faults = Faults(
            self.db,
            self.storage,
            self.clock,
            self.counters,
            restore_delay_s=config.restore_delay_s,
        )
        self.ids = IdsCore(
            IdsConfig(unit=config.storage, delays=_delays(config.costs), bmp_only=not hostile),
            catalogue=self.core,
            db=self.db,
            storage=self.storage,
            clock=self.clock,
            counters=self.counters,
            outcome=self.faults.restore_outcome,
        )
        self.faults.attach(self.ids)
        if config.archived and is_new:
            self.ids.archive_everything()
        self.app = self._assemble(config)

    def _assemble(self, config: FacilityConfig) -> Asgi:
        """The two services, misbehaving and slow as wished, with the control side beside them."""
        parts = Parts(
            self.counters, self.chronicle, self.ids, self.faults, self.clock, self.storage
        )
        services = _by_prefix(
            {
                "/icat": icat_app(self.core, self.counters),
                "/ids": ids_app(self.ids),
            }
        )
        if config.costs is CostModel.REAL:
            services = Costs(Prices(), self.clock, self.counters, self._is_root).wrap(services)
        served = self.counters.wrap(self.faults.wrap(services))
        return _by_prefix({PREFIX: control_app(parts), "": served})

    def _is_root(self, session: str | None) -> bool:
        """Whether no rules apply to the user of a session."""
        try:
            return self.core.user(session) in self.core.options.root_users
        except IcatError:
            return False

    def ready(self, port: int) -> Ready:
        """What the ready line tells when it is served on that port."""
        scheme = "https" if self._certificate else "http"
        return Ready(f"{scheme}://127.0.0.1:{port}", self.filled.facility, self.filled.passwords)

    def close(self) -> None:
        """Close the database."""
        self.db.close()


def _authenticators(passwords: Mapping[str, str]) -> list[Authenticator]:
    """As on the recorded server: db, simple (whose users administrate) and anon."""
    by_plugin: dict[str, dict[str, str]] = {"db": {}, "simple": {}}
    for user, password in passwords.items():
        plugin, _, name = user.partition("/")
        by_plugin[plugin][name] = password
    return [
        Authenticator("db", by_plugin["db"]),
        Authenticator("simple", by_plugin["simple"], admin=True),
        Authenticator("anon", None, friendly="Anonymous"),
    ]


def _delays(costs: CostModel) -> Delays:
    """The timers of a real server are for people; tests should not wait for them."""
    return Delays() if costs is CostModel.REAL else _QUICK


def _by_prefix(apps: Mapping[str, Asgi]) -> Asgi:
    """The application whose prefix the path begins with, the first that fits."""

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        for prefix, app in apps.items():
            if not prefix or path == prefix or path.startswith(f"{prefix}/"):
                await app(scope, receive, send)
                return
        await HTMLResponse(_NO_SUCH_PAGE, status_code=404)(scope, receive, send)

    return dispatch


@dataclass(frozen=True, slots=True)
class ServedFacility:
    """A facility and what its ready line would tell. Its parts belong to the serving thread."""

    facility: Facility
    ready: Ready


@contextmanager
def open_facility(config: FacilityConfig) -> Iterator[Facility]:
    """A facility whose database and files are closed, and removed if temporary, at the end."""
    with ExitStack() as stack:
        folder = config.data
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icatfs-")))
        folder.mkdir(parents=True, exist_ok=True)
        facility = Facility(config, folder)
        stack.callback(facility.close)
        yield facility


def run(
    config: FacilityConfig, on_ready: Callable[[Ready], None], *, until_eof: bool = False
) -> None:
    """Serve a facility until SIGTERM or SIGINT; raises FacilityError when it cannot start."""
    try:
        listener = listen(config.port)
    except OSError as error:
        raise FacilityError(
            f"port {config.port} on 127.0.0.1 is taken: choose another one"
        ) from error
    with listener, open_facility(config) as facility:
        ready = facility.ready(listener.getsockname()[1])
        service = Service(facility.app, listener, ssl_certfile=config.certificate)
        service.run(lambda: on_ready(ready), until_eof=until_eof)


@contextmanager
def facility_in_thread(config: FacilityConfig) -> Iterator[ServedFacility]:
    """A facility that a thread of this process serves, for who wants to look at its parts."""
    with listen(config.port) as listener, open_facility(config) as facility:
        service = Service(facility.app, listener, ssl_certfile=config.certificate)
        is_ready = threading.Event()
        thread = threading.Thread(target=service.run, args=(is_ready.set,), daemon=True)
        thread.start()
        try:
            if not is_ready.wait(_START_S):
                raise FacilityError("the facility does not answer")
            yield ServedFacility(facility, facility.ready(listener.getsockname()[1]))
        finally:
            service.stop()
            thread.join()


def _filled(config: FacilityConfig, folder: Path, db: Database, storage: Storage) -> Filled:
    """Fill a new facility, or take what the folder kept; FacilityError if that is another one."""
    record = folder / _RECORD
    asked = {"holdings": str(config.holdings), "size": config.size}
    if record.exists():
        kept = json.loads(record.read_text(encoding="utf-8"))
        if kept["asked"] != asked:
            raise FacilityError(
                f"{folder} keeps the holdings {kept['asked']['holdings']} of size"
                f" {kept['asked']['size']}: start with these, or choose another folder"
            )
        return Filled(kept["facility"], kept["passwords"])
    filled = fill(config.holdings, db, storage, size=config.size)
    kept = {"asked": asked, "facility": filled.facility, "passwords": filled.passwords}
    record.write_text(json.dumps(kept), encoding="utf-8")
    return filled
