"""What `icatfs.content.transfer` keeps track of: contents, who waits for them, who brings them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from icatfs.content import plan

if TYPE_CHECKING:
    from icatfs.content.cachefile import CacheFile
    from icatfs.content.stream import Carrier, Suspicion
    from icatfs.errors import IcatfsError


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One running stream."""

    datafile: int
    position: int
    waiting: int


@dataclass(frozen=True, slots=True)
class TransferStatus:
    """Who waits and what runs now; the other counts only grow."""

    streams: tuple[StreamStatus, ...]
    waiting: int
    opened: int
    resumed: int
    bytes_received: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class Habit:
    """Where the window of the last stream ended, and how wide it was."""

    stop: int
    window: int


class Waiter:
    """Somebody who waits for [start, stop) of a fetch."""

    __slots__ = ("error", "fetch", "served", "start", "stop", "stream")

    def __init__(self, fetch: Fetch, start: int, stop: int) -> None:
        self.fetch = fetch
        self.start = start
        self.stop = stop
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

    def __init__(self, file: CacheFile, suspicion: Suspicion) -> None:
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


class Stream:
    """A stream and who waits for it. ``carrier.position`` is its next byte."""

    __slots__ = (
        "carrier",
        "ending",
        "fetch",
        "furthest",
        "scope",
        "since",
        "waiters",
        "wanted_at",
        "window",
    )

    def __init__(self, fetch: Fetch, carrier: Carrier, window: int) -> None:
        self.fetch = fetch
        self.carrier = carrier
        self.window = window
        self.furthest = carrier.position
        self.scope = trio.CancelScope()
        self.since = self.wanted_at = trio.current_time()
        self.ending = False
        self.waiters: dict[Waiter, None] = {}

    def seen(self) -> plan.Stream:
        """As the planner sees it."""
        wanted = bool(self.waiters)
        return plan.Stream(
            self.fetch.file.version,
            self.carrier.position,
            wanted,
            self.since,
            self.wanted_at,
            self.ending,
        )

    def end(self) -> None:
        """Stop reading soon."""
        self.ending = True
        self.scope.cancel()
