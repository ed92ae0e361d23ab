"""The durable record of every file on its way to the facility.

A staged file is begun when a program creates it, sealed when its bytes are final, sending while
IDS may be receiving it, and ends as stored (the facility has it, proved by size and CRC-32) or
abandoned (its maker removed it). Whatever is neither stored nor abandoned is *pending*: its bytes
are in the staging folder and must not be lost, whatever dies.

A sealed file was not received, as far as the facility says; one that is sending may have been:
whoever sends it again asks the catalogue first. So a file that is sent the moment it is sealed goes
from begun to sending in one step, which is one write to the disk instead of two. A program that has
a file open may write on after an upload failed: then it is begun again.

The journal is an SQLite database of its own with ``synchronous=FULL``: what a promise rests on is
on the disk when the call returns. Two records are no promise. They are there when the process dies,
but not at once when the machine does: that a file is begun, for its bytes are not on the disk
either before somebody asks for that; and that it is stored, for without it the catalogue is asked,
which knows. They get to the disk with the next record that must, or with `Journal.sync`; which has
to come before anything is done to a stored file that lets the catalogue give another answer.

Calls may take many milliseconds, as the disk does, and are made in a thread. All mounts of one user
at one facility share a journal; each transition is one statement.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from icatfs.values import DatafileFormatId, DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEPT_S = 30 * 86400.0
"""How long what is stored or abandoned stays on record."""


class State(StrEnum):
    """The life of a staged file."""

    BEGUN = "begun"
    SEALED = "sealed"
    SENDING = "sending"
    STORED = "stored"
    ABANDONED = "abandoned"


FOLLOWING: Mapping[State, frozenset[State]] = {
    State.BEGUN: frozenset({State.SEALED, State.SENDING, State.BEGUN, State.ABANDONED}),
    State.SEALED: frozenset(
        {State.SENDING, State.STORED, State.SEALED, State.BEGUN, State.ABANDONED}
    ),
    State.SENDING: frozenset(
        {State.STORED, State.SENDING, State.SEALED, State.BEGUN, State.ABANDONED}
    ),
    State.STORED: frozenset({State.STORED}),
    State.ABANDONED: frozenset(),
}
"""Which state may follow which: a file that is sent at once is sealed in the same step; a sending
one falls back to sealed when the upload fails, and stays if nobody knows whether it did; a state
that follows itself has a new reason; a sealed file that is found at the facility is stored without
having been sent again, and several processes may find that. Begun again is what is written to after
an upload failed, and what has its name for the meantime again because a renaming failed: nobody
sends it like that."""

PENDING = frozenset({State.BEGUN, State.SEALED, State.SENDING})


@dataclass(frozen=True, slots=True)
class Sealed:
    """The bytes of a staged file are final: their number and CRC-32."""

    size: int
    crc32: int


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
    mtime_ns: int | None
    """The modification time it shall have, once it is sealed."""
    format: DatafileFormatId | None
    """The DatafileFormat it was sent with last."""
    begun: float
    """When it was created, in seconds since the epoch."""
    plan: Mapping[str, Any] | None
    """What is to be done with it beyond sending it, by whoever made the plan."""
    damaged: DatafileId | None = None
    """The datafile as which it arrived damaged, to be removed if it is still there."""

    @property
    def sealed(self) -> Sealed | None:
        """Its bytes as they were sealed."""
        if self.size is None or self.crc32 is None or self.state is State.BEGUN:
            return None
        return Sealed(self.size, self.crc32)


@dataclass(frozen=True, slots=True)
class Home:
    """Whose files these are: the address of ICAT, and ICAT's name of the user."""

    server: str
    user: str


_COLUMNS = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "state": "TEXT NOT NULL",
    "dataset": "INTEGER NOT NULL",
    "name": "TEXT NOT NULL",
    "shown": "TEXT NOT NULL",
    "size": "INTEGER",
    "crc32": "INTEGER",
    "reason": "TEXT",
    "mtime_ns": "INTEGER",
    "format": "INTEGER",
    "begun": "REAL NOT NULL DEFAULT 0",
    "plan": "TEXT",
    "damaged": "INTEGER",
}
_ALL = ", ".join(_COLUMNS)


def _marks(states: Collection[State]) -> str:
    return ", ".join(f"'{state}'" for state in states)


class Journal:
    """The journal of one user at one facility; safe to call from one thread at a time.

    `sync` and `is_settled` may be called by another one meanwhile. Invariant: what was recorded
    before ``_settled`` of ``_loose`` records without a promise is on the disk.
    """

    def __init__(self, path: Path) -> None:
        # constant: where SQLite writes first
        self._log = path.with_name(path.name + "-wal")
        # mutable
        self._loose = self._settled = 0
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA busy_timeout = 10000")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
        self._connection.execute(
            f"CREATE TABLE IF NOT EXISTS staged ({columns}, changed REAL NOT NULL)"
        )
        self._connection.execute("CREATE TABLE IF NOT EXISTS home (server TEXT, user TEXT)")
        self._add_missing_columns()

    def _add_missing_columns(self) -> None:
        known = {row[1] for row in self._connection.execute("PRAGMA table_info(staged)")}
        for name, kind in _COLUMNS.items():
            if name not in known:
                self._connection.execute(f"ALTER TABLE staged ADD COLUMN {name} {kind}")

    def settle(self, home: Home) -> None:
        """Say whose journal it is, and forget what was stored or abandoned long ago."""
        self._connection.execute("PRAGMA user_version = 1")  # the log's name is on the disk then
        if self.home() is None:
            self._connection.execute("INSERT INTO home VALUES (?, ?)", (home.server, home.user))
        self._connection.execute(
            f"DELETE FROM staged WHERE state NOT IN ({_marks(PENDING)}) AND plan IS NULL"
            " AND changed < ?",
            (time.time() - _KEPT_S,),
        )

    def home(self) -> Home | None:
        """Whose journal it is."""
        row = self._connection.execute("SELECT server, user FROM home").fetchone()
        return None if row is None else Home(*row)

    def begin(self, dataset: DatasetId, name: str, shown: str) -> int:
        """Record a new file; returns its id, never used twice."""
        now = time.time()
        with self._promising_nothing():
            cursor = self._connection.execute(
                "INSERT INTO staged (state, dataset, name, shown, begun, changed)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (State.BEGUN, dataset, name, shown, now, now),
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
        mtime_ns: int | None = None,
        data_format: DatafileFormatId | None = None,
        reason: str | None = None,
    ) -> None:
        """Change the state; facts stay as they are unless given, but for the reason.

        Raises ValueError for a transition that `FOLLOWING` does not have: a bug.
        """
        before = [one for one in State if state in FOLLOWING[one]]
        with self._promising_nothing() if state is State.STORED else nullcontext():
            cursor = self._connection.execute(
                "UPDATE staged SET state = ?, size = coalesce(?, size), crc32 = coalesce(?, crc32),"
                " mtime_ns = coalesce(?, mtime_ns), format = coalesce(?, format), reason = ?,"
                f" changed = ? WHERE id = ? AND state IN ({_marks(before)})",
                (state, size, crc32, mtime_ns, data_format, reason, time.time(), entry),
            )
        if cursor.rowcount != 1:
            found = self.entry(entry).state
            raise ValueError(f"staged file {entry} cannot become {state}: it is {found}")

    def rename(self, entry: int, name: str, shown: str) -> None:
        """Give a file that is not stored yet another name."""
        self._connection.execute(
            "UPDATE staged SET name = ?, shown = ? WHERE id = ?", (name, shown, entry)
        )

    def set_plan(self, entry: int, plan: Mapping[str, Any] | None) -> None:
        """Record what is to be done with the file beyond sending it."""
        text = None if plan is None else json.dumps(plan)
        self._connection.execute("UPDATE staged SET plan = ? WHERE id = ?", (text, entry))

    def blame(self, entry: int, datafile: DatafileId) -> None:
        """Record that the file arrived damaged as this datafile, which is to be removed."""
        self._connection.execute("UPDATE staged SET damaged = ? WHERE id = ?", (datafile, entry))

    def entry(self, entry: int) -> Entry:
        """One entry; KeyError if there is none."""
        row = self._connection.execute(
            f"SELECT {_ALL} FROM staged WHERE id = ?", (entry,)
        ).fetchone()
        if row is None:
            raise KeyError(entry)
        return _entry(row)

    def pending(self) -> list[Entry]:
        """All that the facility does not have yet, oldest first."""
        rows = self._connection.execute(
            f"SELECT {_ALL} FROM staged WHERE state IN ({_marks(PENDING)}) ORDER BY id"
        )
        return [_entry(row) for row in rows]

    def planned(self) -> list[Entry]:
        """All that has a plan and is not to be sent: something of it may be left to be done."""
        waiting = _marks(PENDING - {State.BEGUN})
        rows = self._connection.execute(
            f"SELECT {_ALL} FROM staged WHERE state NOT IN ({waiting})"
            " AND plan IS NOT NULL ORDER BY id"
        )
        return [_entry(row) for row in rows]

    @property
    def is_settled(self) -> bool:
        """Whether all that was recorded is on the disk."""
        return self._settled == self._loose

    def sync(self) -> None:
        """Return when all that was recorded before is on the disk."""
        recorded = self._loose
        descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._settled = max(self._settled, recorded)

    @contextmanager
    def _promising_nothing(self) -> Iterator[None]:
        """What is recorded in this block gets to the disk later."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._loose += 1
            self._connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _entry(row: tuple[Any, ...]) -> Entry:
    known = dict(zip(_COLUMNS, row, strict=True))
    data_format, plan, damaged = known["format"], known["plan"], known["damaged"]
    return Entry(
        **{
            **known,
            "state": State(known["state"]),
            "dataset": DatasetId(known["dataset"]),
            "format": None if data_format is None else DatafileFormatId(data_format),
            "plan": None if plan is None else json.loads(plan),
            "damaged": None if damaged is None else DatafileId(damaged),
        }
    )
