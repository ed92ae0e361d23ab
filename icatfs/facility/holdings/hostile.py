"""The hostile holdings: facility HOSTILE, whose every name and fact is legal and inconvenient.

Investigations, in the order of their ids:

* ``odd-files``: dataset ``names`` (each odd name as a file), ``paths`` (names with slashes),
  ``facts`` (wrong sizes, times, checksums, locations), ``long`` (names of 255 characters), ``hdf5``
  (a master file with external links), ``replaced`` (written again under the same names), ``empty``;
* ``odd-datasets``: a dataset for each odd and long name, with one file;
* ``odd-visits``: a visit for each odd and long name;
* an investigation for each odd and long name, visit ``1``, with a dataset ``raw`` of one file;
* ``ID002020``, the same name for several visits; ``empty``, without dataset;
* ``large-ids``: entities whose ids need more than 31 bits.

They need a database that compares names byte for byte and takes all of Unicode: on others some of
these names collide. Every stored file says what it is: see ``plain_bytes``.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import h5py
import numpy as np

from icatfs.facility.holdings import rules
from icatfs.facility.holdings.entry import (
    Bytes,
    Filled,
    enter_dataset_types,
    enter_formats,
    enter_groups,
    enter_rules,
    milliseconds,
    passwords,
)
from icatfs.facility.holdings.hostile_facts import (
    FACILITY,
    LARGE_IDS,
    LONG_NAMES,
    ODD_FILES,
    ODD_NAMES,
    PATH_NAMES,
    REPEATED_NAME,
    REPEATED_VISITS,
    SECOND_FACILITY,
    OddFile,
)

if TYPE_CHECKING:
    from icatfs.facility.database import Database

USERS = ("simple/root", "db/jdoe", "db/ahau", "db/o'hara")
"""jdoe reads everything, o'hara writes in ``odd-files``, ahau sees nothing but public tables."""

MEMBERS = "members"


def plain_bytes(name: str) -> bytes:
    """What a file of that name holds, where nothing about its content is odd."""
    return f"the content of {name!r}\n".encode("utf-8", "backslashreplace")


def fill(db: Database, storage: Bytes) -> Filled:
    """Enter the hostile holdings into an empty ``db`` and store their bytes."""
    _Hostile(db, storage).enter()
    return Filled(FACILITY, passwords(USERS))


class _Hostile:
    """One run of ``fill``."""

    def __init__(self, db: Database, storage: Bytes) -> None:
        self._db = db
        self._storage = storage
        self._facility = db.insert("Facility", name=FACILITY, fullName="Names as they come")
        self._type = db.insert("InvestigationType", name="calib/ration", facility_id=self._facility)
        self._dataset_types = enter_dataset_types(db, self._facility)
        self._formats = enter_formats(db, self._facility)
        users = {name: db.insert("User", name=name, fullName=name) for name in USERS}
        self._groups = enter_groups(
            db, [(MEMBERS, ("db/jdoe",)), ("writers", ("db/o'hara",))], users
        )
        enter_rules(
            db,
            [*rules.public_tables(), *rules.read_all(MEMBERS), *rules.member_rules()],
            self._groups,
        )

    def enter(self) -> None:
        self._enter_odd_files()
        investigation = self._investigation("odd-datasets")
        for name in (*ODD_NAMES, *LONG_NAMES):
            self._file(self._dataset(investigation, name), "file.dat")
        for name in (*ODD_NAMES, *LONG_NAMES):
            self._small("odd-visits", name)
        for name in (*ODD_NAMES, *LONG_NAMES):
            self._small(name, "1")
        for visit in REPEATED_VISITS:
            self._small(REPEATED_NAME, visit)
        self._investigation("empty")
        self._enter_second_facility()
        self._enter_large_ids()

    def _enter_odd_files(self) -> None:
        investigation = self._investigation("odd-files")
        self._db.insert(
            "InvestigationGroup",
            investigation_id=investigation,
            grouping_id=self._groups["writers"],
            role="writer",
        )
        names = self._dataset(investigation, "names")
        for name in ODD_NAMES:
            self._file(names, name)
        paths = self._dataset(investigation, "paths")
        for name in PATH_NAMES:
            self._file(paths, name)
        facts = self._dataset(investigation, "facts")
        for file in ODD_FILES:
            self._odd_file(facts, file)
        long = self._dataset(investigation, "long")
        for name in LONG_NAMES:
            self._file(long, name)
        self._enter_hdf5(self._dataset(investigation, "hdf5", doi="10.15151/ESRF-ES-1/2"))
        self._enter_replaced(self._dataset(investigation, "replaced", "analyzed"))
        self._dataset(investigation, "empty")

    def _enter_hdf5(self, dataset: int) -> None:
        """A master file whose external links lead into a folder beside it."""
        master, data = io.BytesIO(), io.BytesIO()
        with h5py.File(data, "w") as file:
            file["counts"] = np.arange(1000, dtype="<i4")
        with h5py.File(master, "w") as file:
            file["counts"] = h5py.ExternalLink("scan0001/data.h5", "/counts")
        self._file(dataset, "/sample_master.h5", master.getvalue())
        self._file(dataset, "/scan0001/data.h5", data.getvalue())

    def _enter_replaced(self, dataset: int) -> None:
        """The same names again with new ids and other bytes of the same size."""
        for name in ("result.dat", "report.txt"):
            old = self._file(dataset, name, b"first version\n")
            self._db.connection.execute("DELETE FROM Datafile WHERE id = ?", (old,))
            self._storage.remove([old])
            self._file(dataset, name, b"later version\n")

    def _enter_second_facility(self) -> None:
        facility = self._db.insert("Facility", name=SECOND_FACILITY)
        self._small("a/b", "1", facility=facility)

    def _enter_large_ids(self) -> None:
        """Last, because ids go on from the largest."""
        for number in LARGE_IDS:
            name = f"large-ids {number}"
            investigation = self._investigation(name, entity_id=number)
            dataset = self._dataset(investigation, "raw", entity_id=number)
            self._file(dataset, "file.dat", entity_id=number)

    def _small(self, name: str, visit: str, *, facility: int | None = None) -> None:
        investigation = self._investigation(name, visit, facility=facility)
        self._file(self._dataset(investigation, "raw"), "file.dat")

    def _investigation(
        self,
        name: str,
        visit: str = "1",
        *,
        entity_id: int | None = None,
        facility: int | None = None,
    ) -> int:
        given = {} if entity_id is None else {"id": entity_id}
        return self._db.insert(
            "Investigation",
            name=name,
            visitId=visit,
            title="Hostile",
            doi="10.5286/ISIS.E.RB2200001-1",
            startDate=milliseconds("2020-01-01T00:00:00Z"),
            facility_id=facility or self._facility,
            type_id=self._type,
            **given,
        )

    def _dataset(
        self,
        investigation: int,
        name: str,
        kind: str = "raw",
        *,
        doi: str | None = None,
        entity_id: int | None = None,
    ) -> int:
        given = {} if entity_id is None else {"id": entity_id}
        return self._db.insert(
            "Dataset",
            name=name,
            complete=False,
            doi=doi,
            investigation_id=investigation,
            type_id=self._dataset_types[kind],
            **given,
        )

    def _file(
        self,
        dataset: int,
        name: str,
        data: bytes | None = None,
        *,
        entity_id: int | None = None,
    ) -> int:
        odd = OddFile(name, "", plain_bytes(name) if data is None else data)
        return self._odd_file(dataset, odd, entity_id=entity_id)

    def _odd_file(self, dataset: int, file: OddFile, *, entity_id: int | None = None) -> int:
        data = file.data or b""
        given = {} if entity_id is None else {"id": entity_id}
        datafile = self._db.insert(
            "Datafile",
            name=file.name,
            description=file.description,
            doi=file.doi,
            fileSize=len(data) if file.size == "as stored" else file.size,
            checksum=_checksum(file.checksum, data),
            datafileModTime=file.modified,
            datafileCreateTime=file.created,
            location=f"{dataset}/{zlib.crc32(file.name.encode()):08x}"
            if file.location == "as stored"
            else file.location,
            dataset_id=dataset,
            datafileFormat_id=self._formats["other"],
            **given,
        )
        if file.data is not None:
            self._storage.keep(datafile, file.data)
        return datafile


def _checksum(said: str | None, data: bytes) -> str | None:
    """What the catalogue says: the truth in one of its spellings, or what it was told."""
    crc = zlib.crc32(data)
    spellings = {"as stored": f"{crc:x}", "padded": f"{crc:08x}", "upper": f"{crc:X}"}
    return said if said is None else spellings.get(said, said)
