"""For how long an answer of the catalogue is good."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from icatfs.values import InvestigationId, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from icatfs.catalogue.shelf import Shelf
    from icatfs.icat.records import InvestigationRow

_GRACE = timedelta(days=1)
_UNENDED = timedelta(days=90)


class Lifetimes:
    """TTLs in seconds; the running one is for visits that data are being taken in, and below."""

    def __init__(self, default_s: float, running_s: float, wall: Callable[[], datetime]) -> None:
        # given
        self._default_s = default_s
        self._running_s = running_s
        self._wall = wall
        # mutable: the visits known to be running
        self._running: set[InvestigationId] = set()

    def wall_s(self) -> float:
        """What the clock on the wall says, in seconds since 1970."""
        return self._wall().timestamp()

    def ttl_s(self, shelf: Shelf[Any]) -> float:
        """How long an answer about a folder is good."""
        visit = shelf.key.id if shelf.key.kind is Kind.VISIT else shelf.visit
        return self._running_s if visit in self._running else self._default_s

    def note_running(self, shelf: Shelf[Any], rows: Sequence[Any]) -> None:
        """Learn from the visits of a FACILITY or of an INVESTIGATION."""
        if shelf.key.kind not in (Kind.FACILITY, Kind.INVESTIGATION):
            return
        now = self._wall()
        for row in rows:
            if is_running(row, now):
                self._running.add(row.id)
            else:
                self._running.discard(row.id)


def is_running(row: InvestigationRow, now: datetime) -> bool:
    """Whether new data are to be expected in a visit.

    It has begun, and its end was not more than a day ago; without an end date (many catalogues
    never set one) it began less than 90 days ago.
    """
    if row.start is None or row.start > now:
        return False
    if row.end is not None:
        return row.end + _GRACE >= now
    return row.start + _UNENDED >= now
