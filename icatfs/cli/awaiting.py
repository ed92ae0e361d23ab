"""Waiting until what was asked for is back: read from the list of orders, told as it comes.

The list is on disk and outlives every process, so waiting needs nothing from the mount but that
there is one: that is looked at from time to time, for without a mount nobody works on the list.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from icatfs import control
from icatfs.cli.looking import shown
from icatfs.cli.places import Place
from icatfs.errors import MountError
from icatfs.recall.book import Book
from icatfs.recall.orders import Fetch, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icatfs.recall.orders import Ordered

_LOOK_S = 0.5
_MOUNT_EVERY_S = 3.0


@dataclass
class Tally:
    """How far some units are. ``begun_s``: when the waiting began, monotonic."""

    units: int
    bytes: int
    begun_s: float = field(default_factory=time.monotonic)
    online: int = 0
    online_bytes: int = 0
    failed: int = 0
    cancelled: int = 0
    not_fetched: int = 0
    """Online, but not in the cache as was asked for."""
    came: int = 0
    """Of those that have ended, those that were not online all the time."""

    @property
    def done(self) -> int:
        return self.online + self.failed + self.cancelled

    @property
    def left(self) -> int:
        return self.units - self.done

    def add(self, unit: Ordered) -> None:
        """A unit has ended."""
        if unit.state is State.ONLINE:
            self.online += 1
            self.online_bytes += unit.bytes or 0
            self.not_fetched += unit.fetch in (Fetch.NO_ROOM, Fetch.FAILED)
        elif unit.state is State.FAILED:
            self.failed += 1
        else:
            self.cancelled += 1
        self.came += unit.requested_s is not None

    def rate(self, now_s: float) -> float | None:
        """Units that came back in a second; None before one did."""
        elapsed_s = now_s - self.begun_s
        return self.came / elapsed_s if self.came and elapsed_s > 0 else None

    def left_s(self, now_s: float) -> float | None:
        """How long it may take still, if it goes on as so far."""
        rate = self.rate(now_s)
        return self.left / rate if rate else None


class Teller(Protocol):
    """Tells a person or a program how far it is."""

    def ended(self, unit: Ordered, tally: Tally) -> None: ...
    def passed(self, tally: Tally) -> None:
        """Time has passed."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """Units of one list that are waited for; ``top`` is the folder of the facility that is
    mounted."""

    place: Place
    book: Path
    top: str
    ids: Sequence[int]

    def seen(self, unit: Ordered) -> Ordered:
        """The unit, its path as it is seen in the mount."""
        return replace(unit, path=shown(self.place, unit.path.removeprefix(self.top)))

    def as_json(self) -> Iterator[dict[str, Any]]:
        """Each unit as it is now."""
        with closing(Book(self.book)) as book:
            for number in self.ids:
                yield as_json(self.seen(book.unit(number)))


def as_json(unit: Ordered) -> dict[str, Any]:
    """A unit for ``--json``; times in seconds since the epoch."""
    fields = asdict(unit)
    for name in ("id", "key", "command", "serial"):
        del fields[name]
    return {**fields, "dataset": unit.key.dataset, "datafile": unit.key.datafile}


def wait(watched: Sequence[Watched], tally: Tally, teller: Teller, timeout_s: float | None) -> bool:
    """Return when all units have ended; False when the time is over.

    Raises `MountError` when a mount has gone: the orders stay, and its next mount goes on.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with ExitStack() as stack:
        watches = [_Watch(one, stack.enter_context(closing(Book(one.book)))) for one in watched]
        while True:
            for unit in (unit for watch in watches for unit in watch.ended()):
                tally.add(unit)
                teller.ended(unit, tally)
            now = time.monotonic()
            if not tally.left or (deadline is not None and now >= deadline):
                return not tally.left
            teller.passed(tally)
            time.sleep(_LOOK_S if deadline is None else min(_LOOK_S, deadline - now))
            for watch in watches:
                watch.check_mount()


class _Watch:
    """The units of one list. Mutable: the last serial seen; which have not ended, by position."""

    def __init__(self, watched: Watched, book: Book) -> None:
        self._watched = watched
        self._book = book
        self._ids = array("q", sorted(watched.ids))
        self._open = bytearray(b"\1" * len(self._ids))
        self._serial = 0
        self._looked_s = time.monotonic()

    def ended(self) -> Iterator[Ordered]:
        """The units that have ended since the last time."""
        while changed := self._book.later(self._serial):
            self._serial = changed[-1].serial
            yield from (self._watched.seen(unit) for unit in changed if self._has_ended(unit))

    def _has_ended(self, unit: Ordered) -> bool:
        position = bisect_left(self._ids, unit.id)
        if position == len(self._ids) or self._ids[position] != unit.id or not unit.is_over:
            return False
        was_open = bool(self._open[position])
        self._open[position] = 0
        return was_open

    def check_mount(self) -> None:
        """Raises `MountError` when nobody works on the list for this mount any more."""
        now = time.monotonic()
        if now < self._looked_s + _MOUNT_EVERY_S:
            return
        self._looked_s = now
        try:
            control.ask(self._watched.place.socket, "orders", timeout_s=60.0)
        except MountError as error:
            raise MountError(
                "the mount has gone; what was asked for stays on the list, and the next mount of"
                " this facility goes on with it (icatfs stage --list)"
            ) from error
