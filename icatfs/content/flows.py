"""What `icatfs.content.dispatch` keeps track of: contents, who waits for them, who brings them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.content import plan
from icatfs.content.costs import Prices
from icatfs.content.courses import Aim, Content, Course

if TYPE_CHECKING:
    from icatfs.content.stream import Suspicion
    from icatfs.errors import IcatfsError
    from icatfs.values import ContentVersion


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One running stream."""

    datafile: int
    position: int
    waiting: int
    sweeps: bool


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """Who waits and what runs now, and what streams cost; the other counts only grow."""

    streams: tuple[StreamStatus, ...]
    waiting: int
    opened: int
    resumed: int
    bytes_received: int
    mismatches: int
    prices: Prices


class File(Protocol):
    """What of `icatfs.content.cachefile.CacheFile` is looked at here."""

    version: ContentVersion

    @property
    def size(self) -> int | None: ...
    @property
    def room(self) -> int: ...
    @property
    def unproved(self) -> bool: ...
    @property
    def shared(self) -> bool: ...
    def missing(self, start: int, stop: int, /) -> tuple[int, int] | None: ...
    def read_on(self, offset: int) -> int: ...
    def close(self) -> None: ...


class Carrier(Protocol):
    """What of `icatfs.content.stream.Carrier` is looked at here."""

    @property
    def position(self) -> int: ...
    @property
    def ignores_range(self) -> bool: ...
    @property
    def resumed(self) -> int: ...
    @property
    def mismatches(self) -> int: ...
    @property
    def first_byte_s(self) -> float | None: ...


class Waiter:
    """Somebody who waits for [start, stop) of a fetch."""

    __slots__ = ("error", "fetch", "served", "since", "start", "stop", "stream")

    def __init__(self, fetch: Fetch, start: int, stop: int, now_s: float) -> None:
        self.fetch = fetch
        self.start = start
        self.stop = stop
        self.since = now_s
        self.served = trio.Event()
        self.error: IcatfsError | None = None
        self.stream: Stream | None = None

    def gap(self) -> int | None:
        """The first byte that this waiter lacks."""
        gap = self.fetch.file.missing(self.start, self.stop)
        return None if gap is None else gap[0]


class Fetch:
    """One content that somebody waits for or that a stream brings."""

    __slots__ = ("file", "prover", "streams", "suspicion", "waiters")

    def __init__(self, file: File, suspicion: Suspicion) -> None:
        self.file = file
        self.suspicion = suspicion
        self.waiters: dict[Waiter, None] = {}
        self.streams: list[Stream] = []
        self.prover: Stream | None = None
        """The stream that compares the complete content with the catalogue."""

    @property
    def is_whole(self) -> bool:
        """Whether it is fetched from 0 to its end, by one stream."""
        return self.file.size is None or self.suspicion.mismatches > 0

    def content(self) -> Content:
        """As the planner sees it."""
        size = self.file.size or 0
        missing = self.file.missing(0, size)
        return Content(size, self.file.room, size if missing is None else missing[0])


class Stream:
    """A stream and who waits for it. ``carrier.position`` is its next byte."""

    __slots__ = (
        "begun_at",
        "came_at",
        "carrier",
        "ending",
        "fetch",
        "first_piece",
        "furthest",
        "most_reach",
        "next_missing",
        "origin",
        "scope",
        "since",
        "start",
        "sweeps",
        "waiters",
        "wanted_at",
        "window",
    )

    def __init__(self, fetch: Fetch, carrier: Carrier, course: Course, now_s: float) -> None:
        # given
        self.fetch = fetch
        self.carrier = carrier
        self.start = carrier.position
        self.since = now_s
        # constant
        self.most_reach = plan.ENDLESS if fetch.is_whole else fetch.content().most_reach
        self.scope = trio.CancelScope()
        # mutable: its aim
        self.origin = course.origin
        self.furthest = carrier.position
        """The end of what anybody waited for here, or has read on from there."""
        self.window = course.window
        self.sweeps = course.sweeps
        # mutable
        self.next_missing = carrier.position
        """The first byte from where it last was on that was not there then."""
        self.waiters: dict[Waiter, None] = {}
        self.wanted_at = now_s
        self.came_at = 0.0
        """When the last of those came who waited here."""
        self.ending = False
        """It reads no further, whatever happens; nobody is joined to it any more."""
        # mutable: when its first piece came, and how large that was
        self.begun_at: float | None = None
        self.first_piece = 0

    @property
    def turn_s(self) -> float | None:
        """When its turn began: with its first byte, or when it broke before that; None till then.

        Where a stream takes longer than a turn to begin, all would end each other's for ever.
        """
        return self.since if self.begun_at is None and self.carrier.resumed else self.begun_at

    @property
    def is_confirmed(self) -> bool:
        """Whether its readers came for more than a window of it."""
        return self.furthest - self.origin > self.window

    @property
    def aim(self) -> Aim:
        """For whom it reads, and how far."""
        return Aim(self.origin, self.furthest, self.window, self.sweeps)

    @aim.setter
    def aim(self, aim: Aim) -> None:
        self.origin, self.furthest = aim.origin, aim.furthest
        self.window, self.sweeps = aim.window, aim.sweeps

    @property
    def stop(self) -> int:
        """How far it reads, as things are now."""
        return self.aim.until(self.fetch.file.size, self.fetch.file.room)

    def seen(self) -> plan.Stream:
        """As the planner sees it."""
        return plan.Stream(
            self.fetch.file.version,
            self.carrier.position,
            bool(self.waiters),
            self.since,
            self.wanted_at,
            self.turn_s,
            self.ending,
            self.sweeps,
            self.most_reach,
            self.came_at,
        )

    def end(self) -> None:
        """Stop reading soon."""
        self.ending = True
        self.scope.cancel()
