"""The durable list of the storage units that were asked for deliberately.

It is an SQLite database of its own, one for each user and facility, shared by all mounts and by the
command line, which reads it without a mount and cancels in it. What the user says is on the disk
when the call returns; what becomes of a unit survives the death of a process, and if the machine
loses its power the next mount finds out again. Whoever changes a unit gives it the next ``serial``:
who waits asks for what has a later one than it saw last, so that waiting costs the same for ten
units as for 100,000.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from icatfs.recall.orders import PENDING, Fetch, Home, Ordered, State
from icatfs.recall.units import Key
from icatfs.values import DatafileId, DatasetId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from icatfs.recall.orders import Wish

BOOK = "orders.sqlite"
_KEPT_S = 30 * 86400.0
"""How long what has finished stays on the list."""

_COLUMNS = (
    "id", "dataset", "datafile", "path", "files", "bytes", "state", "words", "asked", "requested",
    "finished", "command", "fetch", "serial",
)  # fmt: skip
_ALL = ", ".join(_COLUMNS)
_WHOLE = 0
"""The datafile of a unit that is a whole dataset."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS units (
    id INTEGER PRIMARY KEY AUTOINCREMENT, dataset INTEGER NOT NULL, datafile INTEGER NOT NULL,
    path TEXT NOT NULL, files INTEGER, bytes INTEGER, state TEXT NOT NULL, words TEXT,
    asked REAL NOT NULL, requested REAL, finished REAL, command INTEGER NOT NULL,
    fetch TEXT NOT NULL, serial INTEGER NOT NULL, UNIQUE (dataset, datafile));
CREATE INDEX IF NOT EXISTS by_state ON units (state, asked, id);
CREATE INDEX IF NOT EXISTS by_serial ON units (serial);
CREATE TABLE IF NOT EXISTS last (serial INTEGER NOT NULL, command INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS home (server TEXT, user TEXT);
"""


def _marks(states: Collection[str]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


_IS_PENDING = f"state IN ({_marks(PENDING)})"
_IS_AT = (
    "(path = :at OR substr(path, 1, length(:at) + 1) = :at || '/'"
    " OR substr(:at, 1, length(path) + 1) = path || '/')"
)
"""At a path, below it, or the unit that it is in; the top of the facility is the empty text."""


class Book:
    """The list of one user at one facility; safe to call from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA busy_timeout = 10000")
        self._connection.execute("PRAGMA journal_mode = WAL")
        with self._changing(lasting=True):
            for statement in _SCHEMA.split(";"):
                self._connection.execute(statement)
            if self._connection.execute("SELECT 1 FROM last").fetchone() is None:
                self._connection.execute("INSERT INTO last VALUES (0, 0)")

    def settle(self, home: Home) -> None:
        """Say whose list it is, and forget what finished long ago."""
        with self._changing():
            if self.home() is None:
                self._connection.execute("INSERT INTO home VALUES (?, ?)", (home.server, home.user))
            self._connection.execute(
                f"DELETE FROM units WHERE NOT {_IS_PENDING} AND finished < ?",
                (time.time() - _KEPT_S,),
            )

    def home(self) -> Home | None:
        """Whose list it is."""
        row = self._connection.execute("SELECT server, user FROM home").fetchone()
        return None if row is None else Home(*row)

    # Asking, and taking it back.

    def new_command(self) -> int:
        """A number that no command had before."""
        with self._changing(lasting=True):
            self._connection.execute("UPDATE last SET command = command + 1")
            return self._last("command")

    def place(self, wishes: Sequence[Wish], command: int, fetch: Fetch = Fetch.NO) -> list[int]:
        """Put units on the list; their ids, in the order of the wishes.

        What is pending stays as it is, but for what is to be fetched; what has ended begins anew.
        """
        ids = []
        with self._changing(lasting=True):
            serial = self._next_serial()
            for wish in wishes:
                where = (wish.key.dataset, wish.key.datafile or _WHOLE)
                known = self._connection.execute(
                    "SELECT id, state, fetch FROM units WHERE dataset = ? AND datafile = ?", where
                ).fetchone()
                if known is None:
                    ids.append(self._insert(wish, where, command, fetch, serial))
                elif known[1] in PENDING:
                    wanted = known[2] if fetch is Fetch.NO else fetch
                    self._update(known[0], serial, command=command, fetch=wanted)
                    ids.append(known[0])
                else:
                    self._update(
                        known[0], serial, state=State.ASKED, words=None, asked=time.time(),
                        requested=None, finished=None, command=command, fetch=fetch,
                        path=wish.path, files=wish.files, bytes=wish.bytes,
                    )  # fmt: skip
                    ids.append(known[0])
        return ids

    def _insert(
        self, wish: Wish, where: tuple[int, int], command: int, fetch: Fetch, serial: int
    ) -> int:
        cursor = self._connection.execute(
            f"INSERT INTO units ({', '.join(_COLUMNS[1:])})"
            " VALUES (?, ?, ?, ?, ?, ?, NULL, ?, NULL, NULL, ?, ?, ?)",
            (*where, wish.path, wish.files, wish.bytes, State.ASKED, time.time(), command, fetch,
             serial),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def cancel(self, at: str | None = None) -> int:
        """Take pending units off the list, those at a path or all; how many."""
        condition, named = _at(at)
        with self._changing(lasting=True):
            cursor = self._connection.execute(
                "UPDATE units SET state = :state, finished = :now, serial = :serial"
                f" WHERE {_IS_PENDING} AND {condition}",
                {
                    **named,
                    "state": State.CANCELLED,
                    "now": time.time(),
                    "serial": self._next_serial(),
                },
            )
            self._connection.execute(
                "UPDATE units SET fetch = :no, serial = :serial"
                f" WHERE state = :online AND fetch = :wanted AND {condition}",
                {
                    **named, "no": Fetch.NO, "online": State.ONLINE, "wanted": Fetch.WANTED,
                    "serial": self._last("serial"),
                },
            )  # fmt: skip
            return cursor.rowcount

    # What becomes of them.

    def move(self, unit: int, state: State, words: str | None = None) -> bool:
        """A pending unit was seen to be so; False, and nothing done, where it is not pending."""
        now = time.time()
        with self._changing():
            row = self._connection.execute(
                f"SELECT requested FROM units WHERE id = ? AND {_IS_PENDING}", (unit,)
            ).fetchone()
            if row is None:
                return False
            requested = now if row[0] is None and state is State.RESTORING else row[0]
            finished = None if state in PENDING else now
            self._update(
                unit,
                self._next_serial(),
                state=state,
                words=words,
                requested=requested,
                finished=finished,
            )
        return True

    def fetched(self, unit: int, fetch: Fetch, words: str | None = None) -> None:
        """The bytes of an online unit are in the cache, or are not and why."""
        with self._changing():
            self._update(unit, self._next_serial(), fetch=fetch, words=words)

    def ask_again(self, unit: int) -> None:
        """An online unit turned out to be in the archive again."""
        with self._changing():
            self._update(unit, self._next_serial(), state=State.ASKED, finished=None)

    # Looking.

    def pending(self, most: int) -> list[Ordered]:
        """What is to be brought back, those asked for first at the head."""
        return list(self._select(f"{_IS_PENDING} ORDER BY asked, id LIMIT :most", {"most": most}))

    def to_fetch(self) -> Ordered | None:
        """The next unit that is online and whose bytes are wanted in the cache."""
        return next(
            self._select(
                "state = :state AND fetch = :fetch ORDER BY asked, id LIMIT 1",
                {"state": State.ONLINE, "fetch": Fetch.WANTED},
            ),
            None,
        )

    def fetched_bytes(self, command: int) -> int:
        """How much was brought into the cache for one command."""
        row = self._connection.execute(
            "SELECT coalesce(sum(bytes), 0) FROM units WHERE command = ? AND fetch = ?",
            (command, Fetch.DONE),
        ).fetchone()
        return int(row[0])

    def later(self, serial: int, most: int = 500) -> list[Ordered]:
        """What has changed after a serial, in that order."""
        # Units that were cancelled together have one serial: all of it, or none.
        rows = list(
            self._select("serial > :s ORDER BY serial LIMIT :most", {"s": serial, "most": most})
        )
        if len(rows) == most:
            rest = {"s": rows[-1].serial}
            rows = [row for row in rows if row.serial < rest["s"]]
            rows += self._select("serial = :s", rest)
        return rows

    def unit(self, unit: int) -> Ordered:
        """One unit; KeyError if it is not on the list."""
        for found in self._select("id = :id", {"id": unit}):
            return found
        raise KeyError(unit)

    def find(self, key: Key) -> Ordered | None:
        """The unit, if it is on the list."""
        named = {"dataset": key.dataset, "datafile": key.datafile or _WHOLE}
        return next(self._select("dataset = :dataset AND datafile = :datafile", named), None)

    def at(self, at: str | None = None, *, pending: bool = False) -> Iterator[Ordered]:
        """All that is on the list, or what is at a path."""
        condition, named = _at(at)
        only = f"{_IS_PENDING} AND " if pending else ""
        return self._select(f"{only}{condition} ORDER BY asked, id", named)

    def count_pending(self) -> int:
        """How many units are to be brought back."""
        query = f"SELECT count(*) FROM units WHERE {_IS_PENDING}"
        return int(self._connection.execute(query).fetchone()[0])

    def version(self) -> int:
        """Differs from before when somebody else has changed the list."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    # Underneath.

    def _select(self, condition: str, named: dict[str, Any]) -> Iterator[Ordered]:
        for row in self._connection.execute(f"SELECT {_ALL} FROM units WHERE {condition}", named):
            yield _ordered(row)

    def _update(self, unit: int, serial: int, **values: Any) -> None:
        values["serial"] = serial
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self._connection.execute(
            f"UPDATE units SET {changes} WHERE id = :unit", {**values, "unit": unit}
        )

    def _next_serial(self) -> int:
        self._connection.execute("UPDATE last SET serial = serial + 1")
        return self._last("serial")

    def _last(self, what: str) -> int:
        return int(self._connection.execute(f"SELECT {what} FROM last").fetchone()[0])

    @contextmanager
    def _changing(self, *, lasting: bool = False) -> Iterator[None]:
        """All of the block happens, or nothing of it; ``lasting``: it is on the disk then."""
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # not swallowed
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _at(at: str | None) -> tuple[str, dict[str, Any]]:
    return ("1", {}) if at is None else (_IS_AT, {"at": at.rstrip("/")})


def _ordered(row: tuple[Any, ...]) -> Ordered:
    facts = dict(zip(_COLUMNS, row, strict=True))
    datafile = facts["datafile"]
    key = Key(DatasetId(facts["dataset"]), DatafileId(datafile) if datafile != _WHOLE else None)
    return Ordered(
        id=facts["id"],
        key=key,
        path=facts["path"],
        files=facts["files"],
        bytes=facts["bytes"],
        state=State(facts["state"]),
        words=facts["words"],
        asked_s=facts["asked"],
        requested_s=facts["requested"],
        finished_s=facts["finished"],
        command=facts["command"],
        fetch=Fetch(facts["fetch"]),
        serial=facts["serial"],
    )


def books(state_dir: Path) -> list[Path]:
    """The lists of all facilities of this user."""
    return sorted((state_dir / "orders").glob(f"*/{BOOK}"))
