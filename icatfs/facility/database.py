"""The catalogue's rows: one SQLite database with a table for each entity."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icatfs.facility import folding
from icatfs.facility.model import ENTITIES, Type, ddl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from icatfs.facility.model import Entity

ROOT = "simple/root"
"""The user that rows are entered by when nothing else is said."""

_FEW = 1000


def _upper(text: object) -> str | None:
    return None if text is None else str(text).upper()


def _lower(text: object) -> str | None:
    return None if text is None else str(text).lower()


def _root(number: object) -> float | None:
    return math.sqrt(number) if isinstance(number, int | float) and number >= 0 else None


_FUNCTIONS = {"icat_upper": _upper, "icat_lower": _lower, "icat_sqrt": _root}


class Database:
    """All rows of a facility.

    The table of an entity has its name; its columns are the attributes by their names and
    ``<relation>_id`` for the to-one relations. Dates are milliseconds since the epoch, booleans 0
    and 1. Text is stored as it is; ``fold(text)`` in SQL gives what equal texts have in common, and
    the collation ``ICAT`` compares by it. Ids are counted per entity and never used twice.
    Nothing is checked but unique keys and not-null columns (sqlite3.IntegrityError).
    """

    def __init__(self, path: Path | None = None, *, folding_text: bool = True) -> None:
        """Open or make a database; ``folding_text=False``: equal texts are equal bytes."""
        self.fold: Callable[[str], str] = folding.general_ci if folding_text else folding.binary
        self.letters: Callable[[str], str] = folding.letters if folding_text else folding.binary
        # Autocommit: ``transaction`` says where a transaction begins and ends.
        self.connection = sqlite3.connect(
            path if path is not None else ":memory:", isolation_level=None, check_same_thread=False
        )
        self._analysed_at = 0  # total_changes when the planner's statistics were last made
        self._register()
        self.connection.execute("PRAGMA analysis_limit = 400")
        self.connection.execute("PRAGMA temp_store = MEMORY")
        if path is not None:
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
        if self.connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None:
            with self.transaction():
                for entity in ENTITIES.values():
                    for statement in ddl(entity):
                        self.connection.execute(statement)

    def _register(self) -> None:
        fold, like = self.fold, folding.matcher(self.letters)

        def folded(text: object) -> str | None:
            return None if text is None else fold(str(text))

        def compare(a: str, b: str) -> int:
            left, right = fold(a), fold(b)
            return (left > right) - (left < right)

        self.connection.create_function("fold", 1, folded, deterministic=True)
        self.connection.create_function("icat_like", 3, like, deterministic=True)
        self.connection.create_function("icat_locate", 3, self.locate, deterministic=True)
        for name, function in _FUNCTIONS.items():
            self.connection.create_function(name, 1, function, deterministic=True)
        self.connection.create_collation("ICAT", compare)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def locate(self, wanted: object, text: object, start: object) -> int | None:
        """Where a text is found in another from a place on, counted from 1; 0: nowhere."""
        if wanted is None or text is None or not isinstance(start, int):
            return None
        return self.letters(str(text)).find(self.letters(str(wanted)), start - 1) + 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; may be nested, the inner ones then are savepoints."""
        nested = self.connection.in_transaction
        self.connection.execute("SAVEPOINT part" if nested else "BEGIN IMMEDIATE")
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                self.connection.execute("ROLLBACK TO part" if nested else "ROLLBACK")
            if nested:
                self.connection.execute("RELEASE part")
            elif done:
                self.connection.execute("COMMIT")

    def insert(self, entity: str, **values: object) -> int:
        """Enter one row and return its id; system columns and defaults are filled in."""
        row = _system_values() | values
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("?" * len(row))
        cursor = self.connection.execute(
            f'INSERT INTO "{entity}" ({names}) VALUES ({marks})', tuple(row.values())
        )
        if cursor.lastrowid is None:
            raise sqlite3.InternalError(f"no id for a new {entity}")
        return cursor.lastrowid

    def insert_rows(
        self, entity: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Enter many rows of the given columns, with ids or without, in one transaction."""
        system = {name: value for name, value in _system_values().items() if name not in columns}
        names = ", ".join(f'"{name}"' for name in (*columns, *system))
        marks = ", ".join(["?"] * len(columns) + [_literal(value) for value in system.values()])
        with self.transaction():
            self.connection.executemany(f'INSERT INTO "{entity}" ({names}) VALUES ({marks})', rows)

    def row(self, entity: str, row_id: int) -> dict[str, object] | None:
        """All columns of one row, booleans as bool; None if it is not there."""
        cursor = self.connection.execute(f'SELECT * FROM "{entity}" WHERE id = ?', (row_id,))
        values = cursor.fetchone()
        return None if values is None else as_dict(ENTITIES[entity], cursor.description, values)

    def columns(self, entity: str) -> tuple[str, ...]:
        """The columns of a table in the order of ``SELECT *``."""
        return ENTITIES[entity].columns

    def refresh_statistics(self) -> None:
        """Tell the query planner about much that is new; does nothing when little is."""
        changes = self.connection.total_changes
        if changes - self._analysed_at > max(_FEW, self._analysed_at // 2):
            self.connection.execute("ANALYZE")
            self._analysed_at = self.connection.total_changes


def as_dict(
    entity: Entity, description: Sequence[Sequence[object]], values: Sequence[object]
) -> dict[str, object]:
    """A row of ``SELECT *`` by column, booleans as bool."""
    row = {str(column[0]): value for column, value in zip(description, values, strict=True)}
    for name, field in entity.fields.items():
        if field.type is Type.BOOL:
            row[name] = bool(row[name])
    return row


def _system_values() -> dict[str, object]:
    now = int(time.time()) * 1000
    return {"createId": ROOT, "createTime": now, "modId": ROOT, "modTime": now}


def _literal(value: object) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"
