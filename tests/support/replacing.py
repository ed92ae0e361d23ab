"""A facility whose datafiles are replaced without anybody being told."""

from __future__ import annotations

import os
import sqlite3
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from icatfs.facility.folding import general_ci
from icatfs.facility.handle import FacilityHandle, running_facility
from icatfs.fs.versions import BELIEVED_S

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Holdings:
    """A facility, and one datafile of it; what is behind it is changed in its database."""

    facility: FacilityHandle
    database: Path
    datafile: int

    def store(self, seed: int, size: int) -> bytes:
        """Other bytes under the same id, and what the catalogue says of them."""
        stored = "UPDATE _stored SET source = ?, size = ? WHERE datafile_id = ?"
        self._run(stored, f"pattern:{seed}", size, self.datafile)
        data = self.facility.content(self.datafile)
        facts = "UPDATE Datafile SET fileSize = ?, checksum = ? WHERE id = ?"
        self._run(facts, size, f"{zlib.crc32(data):x}", self.datafile)
        return data

    def renumber(self, by: int = 1000) -> None:
        """The same name gets a new id, as when a dataset is ingested again."""
        old, self.datafile = self.datafile, self.datafile + by
        for table, column in (("_stored", "datafile_id"), ("Datafile", "id")):
            change = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
            self._run(change, self.datafile, old)

    def _run(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.database, timeout=20)
        connection.create_function("fold", 1, general_ci, deterministic=True)
        with connection:
            connection.execute(statement, values)
        connection.close()


@contextmanager
def replaceable(folder: Path, name: str) -> Iterator[Holdings]:
    """The sample facility, on one storage level; its data in ``folder``."""
    with running_facility("--storage", "single", data=folder) as facility:
        ids = facility.search(f"SELECT df.id FROM Datafile df WHERE df.name = '{name}'")
        yield Holdings(facility, folder / "catalogue.sqlite", int(ids[0]))


def wait_until_doubted() -> None:
    """Return when the version of no file is believed any more to be the facility's.

    Nothing shows that from outside: it is a time. A slow machine only makes it longer.
    """
    time.sleep(1.1 * BELIEVED_S)


def is_shown(path: Path, content: bytes) -> bool:
    """Whether a mount knows of the facility's last content of a file."""
    try:
        shown = os.getxattr(path, "user.icat.checksum").decode()
    except FileNotFoundError:
        return False
    return shown == f"{zlib.crc32(content):x}"
