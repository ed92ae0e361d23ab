"""The durable record of every file on its way to the facility.

A staged file is begun when a program creates it, sealed when its bytes are final, sending while
IDS may be receiving it, and ends as stored (the facility has it, proved by size and CRC-32) or
abandoned (its maker removed it). Whatever is neither stored nor abandoned is *pending*: its bytes
are in the staging folder and must not be lost, whatever dies.

A sealed file was not received, as far as the facility says; one that is sending may have been:
whoever sends it again asks the catalogue first. A program that has a file open may write on after
an upload failed: then the bytes no longer have the size and CRC-32 on record, and such a file
counts as begun.

The journal is an SQLite database of its own with ``synchronous=FULL``: a transition is on the disk
when the call returns. Calls take about a millisecond for that reason and are made in a thread.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from icatfs.values import DatasetId

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class State(StrEnum):
    """The life of a staged file."""

    BEGUN = "begun"
    SEALED = "sealed"
    SENDING = "sending"
    STORED = "stored"
    ABANDONED = "abandoned"


FOLLOWING: Mapping[State, frozenset[State]] = {
    State.BEGUN: frozenset({State.SEALED, State.BEGUN, State.ABANDONED}),
    State.SEALED: frozenset({State.SENDING, State.SEALED, State.ABANDONED}),
    State.SENDING: frozenset({State.STORED, State.SENDING, State.SEALED, State.ABANDONED}),
    State.STORED: frozenset(),
    State.ABANDONED: frozenset(),
}
"""Which state may follow which: a sending file falls back to sealed when the upload fails, and
stays if nobody knows whether it did; a state that follows itself has a new reason."""

PENDING = frozenset({State.BEGUN, State.SEALED, State.SENDING})


@dataclass(frozen=True, slots=True)
class Entry:
    """One staged file. ``name`` is the Datafile name; ``size`` and ``crc32`` once it is sealed."""

    id: int
    state: State
    dataset: DatasetId
    name: str
    shown: str
    """Its path in the mount, for messages."""
    size: int | None
    crc32: int | None
    reason: str | None
    """Why the last attempt to send it failed."""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS staged (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL,
    dataset INTEGER NOT NULL,
    name TEXT NOT NULL,
    shown TEXT NOT NULL,
    size INTEGER,
    crc32 INTEGER,
    reason TEXT,
    changed REAL NOT NULL
)
"""
_COLUMNS = "id, state, dataset, name, shown, size, crc32, reason"


class Journal:
    """The journal of one user at one facility; safe to call from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA busy_timeout = 5000")
        self._connection.execute(_SCHEMA)

    def begin(self, dataset: DatasetId, name: str, shown: str) -> int:
        """Record a new file; returns its id, never used twice."""
        cursor = self._connection.execute(
            "INSERT INTO staged (state, dataset, name, shown, changed) VALUES (?, ?, ?, ?, ?)",
            (State.BEGUN, dataset, name, shown, time.time()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def move(
        self,
        entry: int,
        state: State,
        *,
        size: int | None = None,
        crc32: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Change the state; size and CRC-32 stay as they are unless given.

        Raises ValueError for a transition that `FOLLOWING` does not have: a bug.
        """
        before = self.entry(entry).state
        if state not in FOLLOWING[before]:
            raise ValueError(f"staged file {entry} cannot become {state}: it is {before}")
        self._connection.execute(
            "UPDATE staged SET state = ?, size = coalesce(?, size), crc32 = coalesce(?, crc32),"
            " reason = ?, changed = ? WHERE id = ?",
            (state, size, crc32, reason, time.time(), entry),
        )

    def rename(self, entry: int, name: str, shown: str) -> None:
        """Give a file that is not stored yet another name."""
        self._connection.execute(
            "UPDATE staged SET name = ?, shown = ? WHERE id = ?", (name, shown, entry)
        )

    def entry(self, entry: int) -> Entry:
        """One entry; KeyError if there is none."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM staged WHERE id = ?", (entry,)
        ).fetchone()
        if row is None:
            raise KeyError(entry)
        return _entry(row)

    def pending(self) -> list[Entry]:
        """All that the facility does not have yet, oldest first."""
        marks = ", ".join(f"'{state}'" for state in PENDING)
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM staged WHERE state IN ({marks}) ORDER BY id"
        )
        return [_entry(row) for row in rows]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _entry(row: tuple[int, str, int, str, str, int | None, int | None, str | None]) -> Entry:
    number, state, dataset, name, shown, size, crc32, reason = row
    return Entry(number, State(state), DatasetId(dataset), name, shown, size, crc32, reason)
