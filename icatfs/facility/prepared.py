"""Prepared selections: whoever has the id may read, without a session, until it is evicted."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.facility.idserrors import not_found

if TYPE_CHECKING:
    from icatfs.facility.database import Database


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was prepared: flags and ids, files in ascending order."""

    zip: bool
    compress: bool
    datasets: tuple[int, ...]
    files: tuple[int, ...]


class PreparedStore:
    """Keeps the newest prepared selections in the database, over restarts."""

    def __init__(self, db: Database, *, count: int, prefix: str = "") -> None:
        # given
        self._db = db.connection
        self._count = count
        self._table = f"{prefix}_prepared"
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table}"
            " (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, record TEXT NOT NULL)"
        )

    def add(self, prepared: Prepared) -> str:
        """Keep a selection and return its id; the oldest may be evicted."""
        prepared_id = str(uuid.uuid4())
        record = [prepared.zip, prepared.compress, prepared.datasets, prepared.files]
        number = self._db.execute(
            f"INSERT INTO {self._table} (id, record) VALUES (?, ?)",
            (prepared_id, json.dumps(record)),
        ).lastrowid
        assert number is not None
        self._db.execute(f"DELETE FROM {self._table} WHERE number <= ?", (number - self._count,))
        return prepared_id

    def get(self, prepared_id: str) -> Prepared:
        """The selection of that id; raises IdsError."""
        row = self._db.execute(
            f"SELECT record FROM {self._table} WHERE id = ?", (prepared_id,)
        ).fetchone()
        if row is None:
            raise not_found(f"The preparedId {prepared_id} is not known")
        is_zip, compress, datasets, files = json.loads(row[0])
        return Prepared(is_zip, compress, tuple(datasets), tuple(files))
