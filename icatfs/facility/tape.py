"""What is on disk and what is only on tape, kept in the database.

Everything is on tape unless it was changed since (``_unwritten``), and on disk unless it was
archived (``_offline``); both by id of the unit. With dataset units the zip on tape has the names of
the time when it was written, and comes back only if the catalogue still has exactly these
(ids.server 2.1.1: DsRestorer). ``_taped`` has a digest of them; triggers enter it before the first
change, so that holdings need not be read for it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from icatfs.facility.storageunit import StorageUnit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from icatfs.facility.database import Database
    from icatfs.facility.storage import Storage

_DDL = (
    "CREATE TABLE IF NOT EXISTS {p}_offline (unit INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS {p}_unwritten (unit INTEGER PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS {p}_taped (dataset INTEGER PRIMARY KEY, digest TEXT NOT NULL)",
)
_NAMES = (
    "SELECT COALESCE(names_digest(name), '0:0')"
    " FROM Datafile WHERE dataset_id = {} AND location IS NOT NULL"
)
_TRIGGER = """
CREATE TEMP TRIGGER {p}_before_{event} BEFORE {event} ON main.Datafile
WHEN NOT EXISTS (SELECT 1 FROM {p}_taped WHERE dataset = {row}.dataset_id)
BEGIN INSERT INTO {p}_taped (dataset, digest) VALUES ({row}.dataset_id, ({names})); END
"""
_TOTAL_BYTES = 16


class _NamesDigest:
    """An SQL aggregate: a digest of a set of names."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0

    def step(self, name: str) -> None:
        """One more name."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_TOTAL_BYTES)
        self._count += 1
        self._sum += int.from_bytes(digest.digest(), "big")

    def finalize(self) -> str:
        """The digest."""
        return f"{self._count}:{self._sum % (1 << 8 * _TOTAL_BYTES):x}"


class Tape:
    """Which units are where. ``prefix`` keeps several services on one catalogue apart."""

    def __init__(self, db: Database, storage: Storage, unit: StorageUnit, prefix: str = "") -> None:
        # given
        self._db = db.connection
        self._storage = storage
        self._unit = unit
        self._prefix = prefix
        for statement in _DDL:
            self._db.execute(statement.format(p=prefix))
        if unit is StorageUnit.DATASET:
            self._watch_names()

    def _watch_names(self) -> None:
        self._db.create_aggregate("names_digest", 1, _NamesDigest)  # type: ignore[arg-type]
        for event, row in (("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")):
            names = _NAMES.format(f"{row}.dataset_id")
            self._db.execute(_TRIGGER.format(p=self._prefix, event=event, row=row, names=names))

    # Disk.

    def is_present(self, unit: int) -> bool:
        """Whether main storage has the unit."""
        if self._has("_offline", unit):
            return False
        return self._unit is not StorageUnit.DATAFILE or self._storage.has(unit)

    def archive(self, unit: int) -> bool:
        """Remove the copy on disk, unless the one on tape is older; returns whether it is gone."""
        if self._has("_unwritten", unit) or not self.is_present(unit):
            return False
        self._add("_offline", [unit])
        return True

    def restore(self, unit: int) -> bool:
        """Bring the unit back to disk; returns whether that was possible."""
        if self.is_present(unit):
            return True
        if self._unit is StorageUnit.DATASET:
            if not self._fits(unit):
                return False
        elif self._has("_unwritten", unit):
            return False
        self.bring_back(unit)
        return True

    def bring_back(self, unit: int) -> None:
        """Have the unit on disk, undamaged, whatever the catalogue says."""
        self._storage.renew(self._files(unit))
        self._drop("_offline", unit)

    def archive_everything(self) -> None:
        """Remove all copies on disk."""
        entity = "Dataset" if self._unit is StorageUnit.DATASET else "Datafile"
        self._db.execute(f'INSERT OR IGNORE INTO {self._prefix}_offline SELECT id FROM "{entity}"')

    # Tape.

    def change(self, unit: int) -> None:
        """The copy on disk is newer than that on tape, until written."""
        self._add("_unwritten", [unit])

    def write(self, unit: int) -> None:
        """The copy on tape is what is on disk."""
        if self._unit is StorageUnit.DATASET:
            self._db.execute(
                f"INSERT OR REPLACE INTO {self._prefix}_taped VALUES (?, ({_NAMES.format('?')}))",
                (unit, unit),
            )
        self._drop("_unwritten", unit)

    def forget(self, unit: int) -> None:
        """The unit is neither here nor there."""
        self._drop("_offline", unit)
        self._drop("_unwritten", unit)

    def unwritten(self) -> list[int]:
        """The units that still have to be written to tape."""
        rows = self._db.execute(f"SELECT unit FROM {self._prefix}_unwritten ORDER BY unit")
        return [unit for (unit,) in rows]

    def _fits(self, dataset: int) -> bool:
        """Whether the zip on tape has the files that the catalogue has, all of known size."""
        (unsized,) = self._db.execute(
            "SELECT COUNT(*) FROM Datafile WHERE dataset_id = ? AND location IS NOT NULL"
            " AND fileSize IS NULL",
            (dataset,),
        ).fetchone()
        taped = self._db.execute(
            f"SELECT digest FROM {self._prefix}_taped WHERE dataset = ?", (dataset,)
        ).fetchone()
        if unsized or taped is None:
            return not unsized
        (names,) = self._db.execute(_NAMES.format("?"), (dataset,)).fetchone()
        return bool(names == taped[0])

    def _files(self, unit: int) -> list[int]:
        if self._unit is StorageUnit.DATAFILE:
            return [unit]
        rows = self._db.execute("SELECT id FROM Datafile WHERE dataset_id = ?", (unit,))
        return [datafile for (datafile,) in rows]

    def _has(self, table: str, unit: int) -> bool:
        query = f"SELECT 1 FROM {self._prefix}{table} WHERE unit = ?"
        return self._db.execute(query, (unit,)).fetchone() is not None

    def _add(self, table: str, units: Iterable[int]) -> None:
        self._db.executemany(
            f"INSERT OR IGNORE INTO {self._prefix}{table} VALUES (?)", ((unit,) for unit in units)
        )

    def _drop(self, table: str, unit: int) -> None:
        self._db.execute(f"DELETE FROM {self._prefix}{table} WHERE unit = ?", (unit,))
