"""What all calls of the data service share: its setup, selections, the archive, and refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.archive import Archive, Delays, RestoreOutcome, Unit
from icatfs.facility.idserrors import bad_request, internal, not_online
from icatfs.facility.locks import Busy
from icatfs.facility.prepared import Prepared, PreparedStore
from icatfs.facility.selection import Resolver, Selected, parse_ids
from icatfs.facility.storageunit import StorageUnit
from icatfs.facility.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from icatfs.facility.archive import RestoreOutcomes
    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.database import Database
    from icatfs.facility.locks import Hold
    from icatfs.facility.selection import Catalogue, File
    from icatfs.facility.storage import Storage

PREPARED_COUNT = 10_000
DELAYS = Delays()

_UUID = re.compile(r"[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}")
_AWAY = {
    StorageUnit.DATASET: "Before putting, getting or deleting a datafile, its dataset has to be"
    " restored, restoration requested automatically",
    StorageUnit.DATAFILE: "Before getting a datafile, it must be restored, restoration requested"
    " automatically",
}


@dataclass(frozen=True, slots=True)
class IdsConfig:
    """How a data service is set up. ``icat_url`` None: the address the client used.

    ``bmp_only``: names with characters outside the basic plane are refused, as by MySQL's utf8.
    ``prefix`` keeps the tables of several services on one catalogue apart.
    """

    unit: StorageUnit = StorageUnit.DATASET
    delays: Delays = DELAYS
    root_users: frozenset[str] = frozenset({"simple/root"})
    icat_url: str | None = None
    read_only: bool = False
    enable_write: bool = True
    bmp_only: bool = True
    prepared_count: int = PREPARED_COUNT
    prefix: str = ""


def at_once(unit: Unit) -> RestoreOutcome:
    """Every restore succeeds and takes no time."""
    return RestoreOutcome()


class Access:
    """Selections of a service, and what its archive says about them."""

    def __init__(
        self,
        config: IdsConfig,
        *,
        catalogue: Catalogue,
        db: Database,
        storage: Storage,
        clock: Clock,
        counters: Counters,
        outcome: RestoreOutcomes = at_once,
    ) -> None:
        # given
        self.config = config
        self.catalogue = catalogue
        self.storage = storage
        self.clock = clock
        self.counters = counters
        # constant
        self.resolver = Resolver(catalogue, db, config.unit)
        self.tape = Tape(db, storage, config.unit, config.prefix)
        self.prepared = PreparedStore(db, count=config.prepared_count, prefix=config.prefix)
        self.archive = Archive(
            config.unit,
            self.tape,
            clock,
            counters,
            config.delays,
            outcome,
            lambda dataset: self.resolver.place(dataset) is not None,
        )

    def select(
        self, user: str | None, parameters: Mapping[str, str], *, files: bool = True
    ) -> Selected:
        """The selection of a request; ``user`` None: with the rights of the server."""
        return self.resolver.resolve(user, parse_ids(parameters), files=files)

    def select_for_session(self, parameters: Mapping[str, str]) -> Selected:
        """The selection of a request that needs a session."""
        return self.select(self.catalogue.user(session_of(parameters)), parameters)

    def get_prepared(self, parameters: Mapping[str, str]) -> Prepared:
        """The prepared selection that a request names."""
        return self.prepared.get(_uuid(parameters, "preparedId"))

    def units(self, selected: Selected) -> list[Unit]:
        """The units of the archive that a selection needs."""
        return self.resolver.units(selected.datasets, selected.files)

    def prepared_units(self, prepared: Prepared) -> list[Unit]:
        """The same of a prepared selection; what was deleted needs none."""
        files: list[File] = []
        if self.config.unit is StorageUnit.DATAFILE:
            files = self.resolver.files_named(prepared.files)
        return self.resolver.units(prepared.datasets, files)

    def units_named(self, datasets: Iterable[int], datafiles: Iterable[int]) -> list[Unit]:
        """The units that hold these datasets and datafiles."""
        files = self.resolver.files_named(datafiles)
        for dataset in datasets:
            files += self.resolver.files("dataset_id = ?", (dataset,))
        return self.resolver.units(dict.fromkeys(file.dataset for file in files), files)

    def hold(self, datasets: Iterable[int], *, exclusive: bool) -> Hold:
        """Lock datasets or refuse."""
        try:
            return self.archive.hold(datasets, exclusive=exclusive)
        except Busy as error:
            raise not_online("Data is busy") from error

    def require(self, units: Iterable[Unit]) -> None:
        """Refuse what is not online, and ask for its restore."""
        if not self.archive.require(units):
            raise not_online(_AWAY[self.config.unit])

    def check_failures(self, units: Iterable[Unit]) -> None:
        """Refuse what could not be restored."""
        if any(self.archive.has_failed(unit) for unit in units):
            raise internal("Restore failed")


def flag(parameters: Mapping[str, str], name: str) -> bool:
    """A boolean parameter."""
    return parameters.get(name, "").lower() == "true"


def session_of(parameters: Mapping[str, str]) -> str:
    """The session id of a request."""
    return _uuid(parameters, "sessionId")


def _uuid(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name)
    if text is None or not _UUID.fullmatch(text):
        shown = "null" if text is None else text
        raise bad_request(f"The {name} parameter '{shown}' is not a valid UUID")
    return text
