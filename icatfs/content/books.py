"""What can be asked of the index, and changed in it, in one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icatfs.content.database import FORMAT, NAME
from icatfs.content.house import FILE_COST
from icatfs.content.record import COLUMNS, Record, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HELD = "CAST(held AS INTEGER)"
"""A record may be torn."""
_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in (*COLUMNS.split(", ")[1:], "used"))
_WRITE = (
    f"INSERT INTO content ({COLUMNS}, used) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
    f" ON CONFLICT (name) DO UPDATE SET {_UPDATES}"
)


@dataclass(frozen=True, slots=True)
class Home:
    """Whose content a cache folder has, whose name is but a hash; and what it may hold."""

    server: str
    user: str
    max_bytes: int


class Books:
    """What can be done in one transaction."""

    def __init__(self, connection: sqlite3.Connection, mark: str, max_bytes: int) -> None:
        # given
        self._run = connection.execute
        self._mark = mark
        self._bonus = 2 * max_bytes

    def total(self) -> int:
        """What records and leases take together."""
        (total,) = self._run(
            "SELECT (SELECT recorded FROM books) + (SELECT ifnull(sum(bytes), 0) FROM lease)"
        ).fetchone()
        return int(total)

    def belongs_to(self, home: Home) -> None:
        """Note whose cache this is."""
        self._run(
            "INSERT OR REPLACE INTO home VALUES (1, ?, ?, ?)",
            (home.server, home.user, home.max_bytes),
        )

    def home(self) -> Home | None:
        """Whose cache this is, if that was ever noted."""
        row = self._run("SELECT server, user, max_bytes FROM home").fetchone()
        return None if row is None else Home(*row)

    def lease(self, change: int) -> None:
        """More, or less, may be on the disk beyond our records."""
        if change:
            self._run(
                "INSERT INTO lease VALUES (?1, ?2)"
                " ON CONFLICT (mark) DO UPDATE SET bytes = bytes + ?2",
                (self._mark, change),
            )

    def leases(self) -> dict[str, int]:
        """The lease of each process that has one."""
        return dict(self._run("SELECT mark, bytes FROM lease").fetchall())

    def end_lease(self, mark: str) -> None:
        """A process has nothing on the disk beyond its records."""
        self._run("DELETE FROM lease WHERE mark = ?", (mark,))

    def record(self, record: Record) -> None:
        """Add or replace the record of a file that bears our mark: its cost leaves the lease."""
        before = self.cost(record.name)
        self._run(_WRITE, (*record.row(), self._now(record.cost, precious=record.precious)))
        self.lease(before - record.cost)

    def rename(self, record: Record, name: str) -> None:
        """A data file has another name now."""
        new = Record(name, record.version, record.size, record.pieces, record.held, record.precious)
        self._run(
            "UPDATE content SET name = ?, proof = ? WHERE name = ?", (name, new.proof, record.name)
        )

    def remove(self, name: str) -> int:
        """Remove the record of a file that is gone; how much of its cost our lease has now.

        That is all of it for one of ours. Where there is no record any more, it is nothing.
        """
        cost = self.cost(name)
        self.erase(name)
        gained = cost if mark_of(name) == self._mark else 0
        self.lease(gained)
        return gained

    def erase(self, name: str) -> None:
        """Remove the record of a file that is gone: what it cost is room for everybody."""
        self._run("DELETE FROM content WHERE name = ?", (name,))

    def use(self, name: str) -> None:
        """The file was used now."""
        row = self._run(f"SELECT {_HELD}, precious FROM content WHERE name = ?", (name,)).fetchone()
        if row is not None:
            used = self._now(row[0] + FILE_COST, precious=bool(row[1]))
            self._run("UPDATE content SET used = ? WHERE name = ?", (used, name))

    def cost(self, name: str) -> int:
        """What the record of a file counts; 0 without one."""
        row = self._run(f"SELECT {_HELD} FROM content WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0]) + FILE_COST

    def oldest(self) -> Iterator[tuple[str, int]]:
        """Names and costs, what was used least recently first; they may be removed meanwhile."""
        last: tuple[int, str] = (-(2**63), "")
        while rows := self._run(
            f"SELECT used, name, {_HELD} FROM content WHERE (used, name) > (?, ?)"
            " ORDER BY used, name LIMIT 100",
            last,
        ).fetchall():
            for _, name, held in rows:
                if isinstance(name, str):
                    yield name, held + FILE_COST
            last = rows[-1][:2]

    def names(self) -> dict[str, bool]:
        """Every name, and whether the file is complete."""
        return {
            name: bool(complete)
            for name, complete in self._run("SELECT name, held IS size FROM content")
        }

    def find(self, name: str) -> Record | None:
        """The record of a data file; None when there is none that can be trusted."""
        row = self._run(f"SELECT {COLUMNS} FROM content WHERE name = ?", (name,)).fetchone()
        return None if row is None else Record.of_row(row)

    def recount(self) -> None:
        """Do the books anew."""
        self._run(
            f"UPDATE books SET recorded = (SELECT ifnull(sum(held + {FILE_COST}), 0) FROM content)"
        )

    def _now(self, cost: int, *, precious: bool) -> int:
        """The time of a use that so many bytes make."""
        (clock,) = self._run(
            "UPDATE books SET clock = clock + ? RETURNING clock", (cost,)
        ).fetchone()
        return int(clock) + (self._bonus if precious else 0)


def home_of(folder: Path) -> Home | None:
    """Whose cache a folder is; None where that cannot be told. Changes nothing; blocks."""
    path = folder.absolute() / NAME
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (FORMAT,):
                return Books(connection, "", 0).home()
    except (sqlite3.Error, UnicodeDecodeError):
        return None
    return None
