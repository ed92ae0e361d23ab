"""The names that datafiles ever had: what the catalogue shows in the end does not tell them.

A program that writes aside and renames, or a probe that is removed at once, leaves nothing in the
catalogue, though for a moment everybody could see it. Triggers take down each name in the
transaction that gives it, so that what was rolled back is not told. Holdings are not: it begins
with the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icatfs.facility.database import Database

_DDL = (
    "CREATE TEMP TABLE chronicle (id INTEGER PRIMARY KEY, dataset INTEGER, name TEXT)",
    """
    CREATE TEMP TRIGGER chronicle_insert AFTER INSERT ON main.Datafile
    BEGIN INSERT INTO chronicle (dataset, name) VALUES (NEW.dataset_id, NEW.name); END
    """,
    """
    CREATE TEMP TRIGGER chronicle_update AFTER UPDATE OF name, dataset_id ON main.Datafile
    WHEN (NEW.name, NEW.dataset_id) IS NOT (OLD.name, OLD.dataset_id)
    BEGIN INSERT INTO chronicle (dataset, name) VALUES (NEW.dataset_id, NEW.name); END
    """,
)


class Chronicle:
    """What a database has named datafiles since this was made."""

    def __init__(self, db: Database) -> None:
        # given
        self._db = db.connection
        for statement in _DDL:
            self._db.execute(statement)

    def names(self, dataset: int) -> list[str]:
        """Every name that a datafile of this dataset was given, in the order of events."""
        rows = self._db.execute(
            "SELECT name FROM chronicle WHERE dataset = ? ORDER BY id", (dataset,)
        )
        return [name for (name,) in rows]
