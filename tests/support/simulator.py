"""A facility that is a formula, readers that are lists, and the real planner between them.

No byte is moved and nothing waits: `World.run` lets readers ask, streams bring pieces, and counts.
What the server does costs what `Server` says; what is simulated otherwise is `Dispatch` itself.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from icatfs.content import plan
from icatfs.content.ages import Ages
from icatfs.content.dispatch import Dispatch
from icatfs.content.extents import Extents
from icatfs.content.flows import Fetch, Stream, Waiter
from icatfs.content.plan import Limits
from icatfs.content.stream import Suspicion
from icatfs.values import ContentVersion, DatafileId
from support.sizes import KIB, MIB

if TYPE_CHECKING:
    from icatfs.content.courses import Course


@dataclass(frozen=True)
class Server:
    """What a request costs: a start, skipping to the offset, and the line that streams share."""

    base_s: float = 0.023
    skip_rate: float = 2.5e9
    rate: float = 500e6
    piece: int = 256 * KIB


REAL = Server()
FAST = Server(base_s=0.003, skip_rate=1e12, rate=800e6)
FAR = Server(base_s=0.15, skip_rate=200e6, rate=50e6)


class SimulatedFile:
    """A cache file without bytes; without room for all of it, the oldest chunks are given back."""

    def __init__(self, number: int, size: int, room: int) -> None:
        self.version = ContentVersion(DatafileId(number), size, 0, None)
        self.size: int | None = size
        self.room = room
        self.unproved = False
        self.shared = True
        self.extents = Extents()
        self.given_back = 0
        self.pins = 0
        self._ages = Ages()

    def missing(self, start: int, stop: int, /) -> tuple[int, int] | None:
        assert self.size is not None
        return self.extents.gap(start, min(stop, self.size))

    def arrived(self, start: int, stop: int) -> int:
        """Returns how many bytes were not there."""
        fresh = self.extents.add(start, stop)
        for number in range(start // MIB, (stop - 1) // MIB + 1):
            self._ages.came(number)
        while self.extents.total > 4 * self.room:
            number = next(self._ages.leaving(1, self.size))
            self._ages.forget(number)
            self.given_back += self.extents.remove(number * MIB, (number + 1) * MIB)
        return fresh

    def read_on(self, offset: int) -> int:
        return max(offset, MIB * self._ages.read_on(offset // MIB))

    def read(self, start: int) -> None:
        """Somebody reads what is there."""
        self._ages.was_read(start // MIB)

    def close(self) -> None:
        self.pins -= 1


@dataclass
class SimulatedCarrier:
    """Where a stream is."""

    position: int
    ignores_range: bool = False
    resumed: int = 0
    mismatches: int = 0
    first_byte_s: float | None = None


@dataclass
class Reader:
    """A program: the ranges it reads one after the other, thinking in between."""

    file: SimulatedFile
    reads: Iterable[tuple[int, int]]
    think_s: float = 0.0001
    begins_s: float = 0.0
    ended_s: float = 0.0
    longest_s: float = 0.0


@dataclass
class World:
    """One mount and its facility."""

    server: Server = REAL
    limits: Limits = field(default_factory=Limits)
    now: float = 0.0
    requests: list[int] = field(default_factory=list)
    fetched: int = 0
    again: int = 0
    skipped: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self.dispatch = Dispatch(self.limits, self._open, lambda: self.now, idle_s=5.0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._blocked: dict[Waiter, Callable[[], None]] = {}
        self._over: set[Stream] = set()
        self._watches = False

    def run(self, *readers: Reader) -> World:
        """Until every reader has read all, and every stream is closed."""
        for reader in readers:
            self._at(reader.begins_s, lambda one=reader: self._next(one, iter(one.reads)))  # type: ignore[misc]
        for _ in range(5_000_000):
            if not self._events:
                break
            self.now, _number, event = heapq.heappop(self._events)
            event()
            self._settle()
            self._check()
        assert not self._events, "it goes on for ever"
        assert not self._blocked, "somebody waits and nothing happens"
        assert not self.dispatch.streams
        assert not self.dispatch.queue
        assert not self.dispatch.fetches, "a fetch without waiters and streams"
        return self

    def _at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._numbers), event))

    def _settle(self) -> None:
        """What follows at once from an event: cancelled streams end, served waiters go on."""
        busy = True
        while busy:
            busy = False
            for stream in list(self.dispatch.streams):
                if stream.ending and stream not in self._over:
                    self._end(stream)
                    busy = True
            for waiter, go_on in list(self._blocked.items()):
                if waiter.served.is_set():
                    del self._blocked[waiter]
                    self.dispatch.leave(waiter)
                    go_on()
                    busy = True
        if self.dispatch.queue and not self._watches:
            self._watches = True
            self._at(self.now + self.limits.grace_s, self._watch)

    def _check(self) -> None:
        """What holds at any time, as `icatfs.content.plan` says."""
        streams, queue = self.dispatch.streams, self.dispatch.queue
        assert len(streams) <= self.limits.streams
        places = [(one.fetch, one.carrier.position) for one in streams if not one.ending]
        assert len(set(places)) == len(places), "two streams in step"
        for waiter in self._blocked:
            stream = waiter.stream
            assert (waiter in queue) != (stream in streams), "served by nobody, or forgotten"
            file, gap = waiter.fetch.file, waiter.gap()
            assert isinstance(file, SimulatedFile)
            assert gap is not None, "he has what he waits for"
            if stream is not None and not stream.ending and not file.given_back:
                assert stream.carrier.position <= gap, "it has passed"
        if queue and len(streams) < self.limits.streams:
            assert all(self._is_promised(waiter) for waiter in queue), "there is a place"

    def _is_promised(self, waiter: Waiter) -> bool:
        """Whether a stream that somebody before him waits for comes to him."""
        gap, prices = waiter.gap(), self.dispatch.costs.prices
        assert gap is not None
        seen = [stream.seen() for stream in waiter.fetch.streams]
        return any(plan.reaches(one, gap, prices, self.limits) for one in seen)

    def _watch(self) -> None:
        self._watches = False
        self.dispatch.arrange()

    # Readers.

    def _next(self, reader: Reader, reads: Iterator[tuple[int, int]]) -> None:
        wanted = next(reads, None)
        if wanted is None:
            reader.ended_s = self.now
            return
        self._read(reader, reads, *wanted, self.now)

    def _read(
        self,
        reader: Reader,
        reads: Iterator[tuple[int, int]],
        start: int,
        stop: int,
        since_s: float,
    ) -> None:
        if reader.file.missing(start, stop) is None:
            reader.file.read(start)
            reader.longest_s = max(reader.longest_s, self.now - since_s)
            self._at(self.now + reader.think_s, lambda: self._next(reader, reads))
            return
        waiter = self.dispatch.wait(self._fetch(reader.file), start, stop)
        self._blocked[waiter] = lambda: self._read(reader, reads, start, stop, since_s)

    def _fetch(self, file: SimulatedFile) -> Fetch:
        fetch = self.dispatch.fetches.get(file.version)
        if fetch is None:
            file.pins += 1
            fetch = self.dispatch.fetches[file.version] = Fetch(file, Suspicion())
        return fetch

    # Streams.

    def _open(self, fetch: Fetch, course: Course) -> Stream:
        carrier = SimulatedCarrier(course.start)
        missing = (course.start, course.start + 1)
        assert fetch.file.missing(*missing) == missing, "a stream begins at a missing byte"
        stream = Stream(fetch, carrier, course, self.now)
        self.requests.append(course.start)
        self.skipped += course.start
        self._at(self.now, lambda: self._begin(stream, carrier))
        return stream

    def _begin(self, stream: Stream, carrier: SimulatedCarrier) -> None:
        self.most_open = max(self.most_open, len(self.dispatch.streams))
        if stream in self._over:
            return
        if not self.dispatch.goes_on(stream, 0):
            self._end(stream)
            return
        first_s = self.server.base_s + carrier.position / self.server.skip_rate
        self._at(self.now + first_s, lambda: self._piece(stream, carrier))

    def _piece(self, stream: Stream, carrier: SimulatedCarrier) -> None:
        if stream in self._over:
            return
        file = stream.fetch.file
        assert isinstance(file, SimulatedFile)
        assert file.size is not None
        stop = min(carrier.position + self.server.piece, file.size)
        count = stop - carrier.position
        self.fetched += count
        self.again += count - file.arrived(carrier.position, stop)
        carrier.position = stop
        if not self.dispatch.goes_on(stream, count) or stop == file.size:
            if stream not in self._over:
                self._end(stream)
            return
        piece_s = count / self.server.rate * len(self.dispatch.streams)
        self._at(self.now + piece_s, lambda: self._piece(stream, carrier))

    def _end(self, stream: Stream) -> None:
        self._over.add(stream)
        self.dispatch.ended(stream, None)


def blocks(places: Iterable[int], block: int) -> list[tuple[int, int]]:
    """A read of each of these blocks."""
    return [(place * block, (place + 1) * block) for place in places]


def in_sequence(size: int, block: int = 128 * KIB) -> list[tuple[int, int]]:
    """From the first byte to the last."""
    return [(start, min(start + block, size)) for start in range(0, size, block)]


def simulate(
    reads: Sequence[tuple[int, int]],
    size: int,
    *,
    server: Server = REAL,
    room: int = 2**40,
    think_s: float = 0.0001,
    limits: Limits | None = None,
) -> World:
    """One reader of one file."""
    file = SimulatedFile(1, size, room)
    world = World(server, limits or Limits())
    return world.run(Reader(file, reads, think_s))
