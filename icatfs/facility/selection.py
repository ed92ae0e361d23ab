"""Which datasets and datafiles a request of the data service is about.

Everything is looked up in the catalogue with the caller's rights (ids.server 2.1.1:
DataSelection). Datafiles without location do not exist for the data service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from icatfs.facility.archive import Unit
from icatfs.facility.idserrors import (
    REJECTED_BY_EJB,
    bad_request,
    forbidden,
    internal,
    not_found,
)
from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from icatfs.facility.database import Database

LISTS = ("investigationIds", "datasetIds", "datafileIds")

_LONG = re.compile(r"[+-]?[0-9]+")
_LARGEST_LONG = 2**63 - 1
_BATCH = 500


class Catalogue(Protocol):
    """What the data service asks of the catalogue; refusals are IcatErrors."""

    def user(self, session_id: str | None) -> str:
        """Whose session that is."""

    def read(self, user: str, entity: str, row_id: int) -> Mapping[str, Any]:
        """An instance the user may read."""

    def may_read(self, user: str, entity: str, row_id: int) -> bool:
        """Whether there is such an instance that the user may read."""

    def readable(
        self, user: str, entity: str, where_sql: str, parameters: Sequence[object]
    ) -> Sequence[Mapping[str, Any]]:
        """The rows that fulfil an SQL condition on columns and that the user may read."""

    def create(self, user: str, entity: str, values: Mapping[str, object]) -> int:
        """Make an instance from values by column."""

    def remove(self, user: str, entity: str, row_ids: Sequence[int]) -> None:
        """Delete instances, all or none."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The three lists of a request; None: not given."""

    investigations: tuple[int, ...] = ()
    datasets: tuple[int, ...] = ()
    datafiles: tuple[int, ...] = ()

    def only(self) -> tuple[str, int] | None:
        """Entity and id, if exactly one id is given in all."""
        named = [("Investigation", number) for number in self.investigations]
        named += [("Dataset", number) for number in self.datasets]
        named += [("Datafile", number) for number in self.datafiles]
        return named[0] if len(named) == 1 else None

    @property
    def is_one_datafile(self) -> bool:
        """Whether this is exactly one datafile and nothing else, which may be sent raw."""
        return len(self.datafiles) == 1 and self.only() is not None


@dataclass(frozen=True, slots=True)
class File:
    """A datafile that has a location."""

    id: int
    dataset: int
    name: str
    size: int | None
    location: str


@dataclass(frozen=True, slots=True)
class Place:
    """A dataset with the names above it."""

    id: int
    investigation: int
    names: tuple[str, str, str, str]

    @property
    def label(self) -> str:
        """As getServiceStatus calls it."""
        return f"{self.investigation}/{self.id} ({'/'.join(self.names)})"


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected; ``files`` in ascending order of ids, empty if they were not asked for."""

    datasets: tuple[int, ...]
    files: tuple[File, ...]


def parse_ids(parameters: Mapping[str, str]) -> Ids:
    """The id lists of a request; raises IdsError."""
    return Ids(*(_parse_list(name, parameters.get(name)) for name in LISTS))


def _parse_list(name: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = re.split(r" *, *", text)
    while len(parts) > 1 and parts[-1] == "":
        parts.pop()
    numbers = [parse_long(part) for part in parts]
    if None in numbers:
        raise bad_request(
            f"The {name} parameter '{text}' is not a valid string representation of"
            " a comma separated list of longs"
        )
    return tuple(number for number in numbers if number is not None)


def parse_long(text: str) -> int | None:
    """A Java long in decimal, or None."""
    if not _LONG.fullmatch(text):
        return None
    number = int(text)
    return number if -_LARGEST_LONG - 1 <= number <= _LARGEST_LONG else None


class Resolver:
    """Looks up selections. ``user`` None stands for the server's own account, which sees all."""

    def __init__(self, catalogue: Catalogue, db: Database, unit: StorageUnit) -> None:
        # given
        self._catalogue = catalogue
        self._db = db
        self._unit = unit

    def resolve(self, user: str | None, ids: Ids, *, files: bool) -> Selected:
        """Look up a selection; raises IdsError, and IcatError for what the user may not."""
        datasets: dict[int, None] = {}
        found: dict[int, File] = {}
        for investigation in ids.investigations:
            datasets |= dict.fromkeys(self._datasets_of(user, investigation))
        for dataset in ids.datasets:
            self.check_dataset(user, dataset)
            datasets[dataset] = None
        if files:
            for dataset in datasets:
                found |= {file.id: file for file in self._files_of(user, dataset)}
        for datafile in ids.datafiles:
            file = self._file(user, datafile, needs_location=files)
            datasets[file.dataset] = None
            found[datafile] = file
        ordered = tuple(found[datafile] for datafile in sorted(found)) if files else ()
        return Selected(tuple(datasets), ordered)

    def _datasets_of(self, user: str | None, investigation: int) -> list[int]:
        if self._db.row("Investigation", investigation) is None:
            raise internal(REJECTED_BY_EJB)
        if user is not None:
            where, parameters = "investigation_id = ?", (investigation,)
            rows = self._catalogue.readable(user, "Dataset", where, parameters)
            return sorted(int(row["id"]) for row in rows)
        query = "SELECT id FROM Dataset WHERE investigation_id = ? ORDER BY id"
        return [row[0] for row in self._db.connection.execute(query, (investigation,))]

    def check_dataset(self, user: str | None, dataset: int) -> None:
        """Raises IdsError or IcatError if the user may not use that dataset."""
        if user is not None:
            self._catalogue.read(user, "Dataset", dataset)
            if not self._sees_above(user, dataset):
                raise forbidden(f"Probably not able to read Investigation for dataset id {dataset}")
        elif self._db.row("Dataset", dataset) is None:
            raise not_found(f"Dataset[id:{dataset}] not found.")

    def _sees_above(self, user: str, dataset: int) -> bool:
        place = self.place(dataset)
        if place is None:
            return False
        query = "SELECT facility_id FROM Investigation WHERE id = ?"
        (facility,) = self._db.connection.execute(query, (place.investigation,)).fetchone()
        return self._catalogue.may_read(
            user, "Investigation", place.investigation
        ) and self._catalogue.may_read(user, "Facility", facility)

    def _files_of(self, user: str | None, dataset: int) -> list[File]:
        if user is None:
            return self.files("dataset_id = ?", (dataset,))
        rows = self._catalogue.readable(
            user, "Datafile", "dataset_id = ? AND location IS NOT NULL", (dataset,)
        )
        return [
            File(row["id"], dataset, row["name"], row["fileSize"], row["location"]) for row in rows
        ]

    def _file(self, user: str | None, datafile: int, *, needs_location: bool) -> File:
        if user is not None:
            self._catalogue.read(user, "Datafile", datafile)
        row = self._db.row("Datafile", datafile)
        if row is None:
            raise not_found(f"Datafile[id:{datafile}] not found.")
        dataset = row["dataset_id"]
        assert isinstance(dataset, int)
        if user is not None and not (
            self._catalogue.may_read(user, "Dataset", dataset) and self._sees_above(user, dataset)
        ):
            raise not_found(f"Datafile {datafile}")
        if row["location"] is None and needs_location:
            raise not_found(f"Datafile {datafile}")
        size = row["fileSize"]
        assert size is None or isinstance(size, int)
        return File(datafile, dataset, str(row["name"]), size, str(row["location"]))

    # Without rights.

    def files(self, where: str, parameters: Sequence[object]) -> list[File]:
        """Datafiles with location that fulfil a condition, by id."""
        query = (
            "SELECT id, dataset_id, name, fileSize, location FROM Datafile"
            f" WHERE {where} AND location IS NOT NULL ORDER BY id"
        )
        return [File(*row) for row in self._db.connection.execute(query, tuple(parameters))]

    def files_named(self, datafiles: Iterable[int]) -> list[File]:
        """Those of the given datafiles that are still there, by id."""
        ids = sorted(set(datafiles))
        found: list[File] = []
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            found += self.files(f"id IN ({', '.join('?' * len(some))})", some)
        return found

    def has_files(self, dataset: int) -> bool:
        """Whether the data service has anything of this dataset."""
        query = "SELECT 1 FROM Datafile WHERE dataset_id = ? AND location IS NOT NULL LIMIT 1"
        return self._db.connection.execute(query, (dataset,)).fetchone() is not None

    def place(self, dataset: int) -> Place | None:
        """Where a dataset is, or None."""
        row = self._db.connection.execute(
            "SELECT i.id, f.name, i.name, i.visitId, d.name FROM Dataset d"
            " JOIN Investigation i ON i.id = d.investigation_id"
            " JOIN Facility f ON f.id = i.facility_id WHERE d.id = ?",
            (dataset,),
        ).fetchone()
        return None if row is None else Place(dataset, row[0], tuple(row[1:]))

    def units(self, datasets: Iterable[int], files: Iterable[File]) -> list[Unit]:
        """The units of the archive that hold these; what has no files needs none."""
        if self._unit is StorageUnit.DATAFILE:
            return [Unit(file.id, file.dataset, file.location) for file in files]
        if self._unit is StorageUnit.SINGLE:
            return []
        places = (self.place(dataset) for dataset in datasets if self.has_files(dataset))
        return [Unit(place.id, place.id, place.label) for place in places if place is not None]
