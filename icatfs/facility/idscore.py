"""The data service of a facility: what ids.server 2.1.1 answers, as a Python API.

Its REST face is ``ids``; the calls that move bytes are in ``idsdata``. The order of checks is that
of the original, since it decides which error a client sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icatfs.facility.exchange import compact_json
from icatfs.facility.icaterror import IcatError
from icatfs.facility.idsaccess import Access, IdsConfig, at_once, flag, session_of
from icatfs.facility.idsdata import SWITCHED_OFF, DataCalls
from icatfs.facility.idserrors import (
    IdsError,
    forbidden,
    internal,
    not_found,
    not_online,
    unavailable,
)
from icatfs.facility.prepared import Prepared
from icatfs.facility.selection import parse_ids
from icatfs.facility.storageunit import Request, Status, StorageUnit, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icatfs.facility.archive import RestoreOutcomes, Unit
    from icatfs.facility.clock import Clock
    from icatfs.facility.counters import Counters
    from icatfs.facility.database import Database
    from icatfs.facility.exchange import Exchange
    from icatfs.facility.selection import Catalogue
    from icatfs.facility.storage import Storage

__all__ = ["IdsConfig", "IdsCore"]

_SINGLE_LEVEL = "This operation is unavailable for single level storage"
_CLIENT = "class org.icatproject.IcatException_Exception "


class IdsCore:
    """A data service on a catalogue and a storage. Its methods raise IdsError and IcatError."""

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
        self.counters = counters
        # constant
        self._access = Access(
            config,
            catalogue=catalogue,
            db=db,
            storage=storage,
            clock=clock,
            counters=counters,
            outcome=outcome,
        )
        self.archive = self._access.archive
        self.data = DataCalls(self._access)
        self.archive.resume(self._kept_units(self._access.tape.unwritten()))

    # For the control side.

    def put_on_tape(self, datasets: Sequence[int], datafiles: Sequence[int]) -> None:
        """Have these only on tape, at once and uncounted; ValueError on a single level."""
        if self.config.unit is StorageUnit.SINGLE:
            raise ValueError("this facility has no tape: start it with another --storage")
        for unit in self._access.units_named(datasets, datafiles):
            self._access.tape.write(unit.id)
            self._access.tape.archive(unit.id)

    def bring_online(self, datasets: Sequence[int], datafiles: Sequence[int]) -> None:
        """Have these on disk, at once and uncounted."""
        units = self._access.units_named(datasets, datafiles)
        for unit in units:
            self._access.tape.bring_back(unit.id)
        self.archive.clear_failures(units)

    def archive_everything(self) -> None:
        """Have everything only on tape."""
        if self.config.unit is not StorageUnit.SINGLE:
            self._access.tape.archive_everything()

    def settle(self) -> None:
        """Let happen what would have happened by now."""
        self.archive.settle()

    def reconsider(self) -> None:
        """Restores that would never end are told anew how long they take."""
        self.archive.settle()
        self.archive.reconsider()

    def datafiles_of(self, prepared_id: str) -> Sequence[int]:
        """The datafiles of a prepared selection; none if it is not known."""
        try:
            return self._access.prepared.get(prepared_id).files
        except IdsError:
            return ()

    def _kept_units(self, ids: Iterable[int]) -> list[Unit]:
        if self.config.unit is StorageUnit.DATASET:
            return self._access.resolver.units(ids, ())
        return self._access.resolver.units((), self._access.resolver.files_named(ids))

    # Answers that are values.

    def icat_url(self, exchange: Exchange) -> str:
        """The catalogue's address without path."""
        return self.config.icat_url or f"{exchange.scope['scheme']}://{exchange.header('host')}"

    def service_status(self, session: str | None) -> bytes:
        """For administrators: queue, locks, failures."""
        try:
            user = self._access.catalogue.user(session)
        except IcatError as error:
            raise forbidden(_CLIENT + error.message) from error
        if user not in self.config.root_users:
            raise forbidden(f"{user} is not included in the ids rootUserNames set.")
        self.settle()
        return compact_json(self.archive.report())

    def size(self, parameters: Mapping[str, str]) -> int:
        """The sum of the catalogue's sizes."""
        if "preparedId" in parameters:
            prepared = self._access.get_prepared(parameters)
            files = self._access.resolver.files_named(prepared.files)
            return sum(file.size or 0 for file in files)
        session, ids = session_of(parameters), parse_ids(parameters)
        only = ids.only()
        if only is not None:
            return self._size_of_one(session, *only)
        selected = self._access.select(self._access.catalogue.user(session), parameters)
        return sum(file.size or 0 for file in selected.files)

    def _size_of_one(self, session: str, entity: str, number: int) -> int:
        """The fast way of the server, with errors of its own."""
        try:
            user = self._access.catalogue.user(session)
        except IcatError as error:
            raise internal(_CLIENT + error.message) from error
        where = {
            "Investigation": "dataset_id IN (SELECT id FROM Dataset WHERE investigation_id = ?)",
            "Dataset": "dataset_id = ?",
            "Datafile": "id = ?",
        }[entity]
        rows = self._access.catalogue.readable(
            user, "Datafile", f"{where} AND location IS NOT NULL", (number,)
        )
        total = sum(row["fileSize"] or 0 for row in rows)
        if total == 0:
            try:
                self._access.catalogue.read(user, entity, number)
            except IcatError as error:
                raise not_found(error.message) from error
        return total

    def status(self, parameters: Mapping[str, str]) -> str:
        """ONLINE, RESTORING or ARCHIVED."""
        if "preparedId" in parameters:
            units = self._access.prepared_units(self._access.get_prepared(parameters))
        else:
            user = None
            if "sessionId" in parameters:
                user = self._access.catalogue.user(session_of(parameters))
            per_file = self.config.unit is StorageUnit.DATAFILE
            units = self._access.units(self._access.select(user, parameters, files=per_file))
        self.settle()
        self._access.check_failures(units)
        return worst({self.archive.status(unit) for unit in units}).value

    def datafile_ids(self, parameters: Mapping[str, str]) -> bytes:
        """The datafiles that are selected or were prepared."""
        if "preparedId" in parameters:
            prepared = self._access.get_prepared(parameters)
            return compact_json(
                {"zip": prepared.zip, "compress": prepared.compress, "ids": prepared.files}
            )
        selected = self._access.select_for_session(parameters)
        return compact_json({"ids": [file.id for file in selected.files]})

    def prepare(self, parameters: Mapping[str, str]) -> str:
        """Keep a selection, ask for what is away, and return the id."""
        selected = self._access.select_for_session(parameters)
        is_zip = flag(parameters, "zip") or not parse_ids(parameters).is_one_datafile
        units = self._access.units(selected)
        self.settle()
        self.archive.clear_failures(units)
        self.archive.require(units)
        return self._access.prepared.add(
            Prepared(
                is_zip,
                flag(parameters, "compress"),
                selected.datasets,
                tuple(file.id for file in selected.files),
            )
        )

    def is_prepared(self, parameters: Mapping[str, str]) -> bool:
        """Whether all is online; asks for what is not."""
        units = self._access.prepared_units(self._access.get_prepared(parameters))
        self.settle()
        self._access.check_failures(units)
        return self.archive.require(units)

    # Requests to the archive.

    def archive_or_restore(self, parameters: Mapping[str, str], request: Request) -> None:
        """Queue an ARCHIVE or a RESTORE, whatever the state."""
        self.archive.request(self._movable(parameters), request)

    def write(self, parameters: Mapping[str, str]) -> None:
        """Queue a WRITE of what is online."""
        units = self._movable(parameters)
        if not self.config.enable_write:
            raise unavailable(SWITCHED_OFF)
        self.settle()
        if any(self.archive.status(unit) is not Status.ONLINE for unit in units):
            raise not_online("Requested data is not online, write request refused")
        self.archive.request(units, Request.WRITE)

    def reset(self, parameters: Mapping[str, str]) -> None:
        """Clear the flags of failed restores."""
        if "preparedId" in parameters:
            units = self._access.prepared_units(self._access.get_prepared(parameters))
        else:
            units = self._access.units(self._access.select_for_session(parameters))
        self.settle()
        self.archive.clear_failures(units)

    def _movable(self, parameters: Mapping[str, str]) -> list[Unit]:
        session_of(parameters)
        if self.config.unit is StorageUnit.SINGLE:
            raise unavailable(_SINGLE_LEVEL)
        return self._access.units(self._access.select_for_session(parameters))
