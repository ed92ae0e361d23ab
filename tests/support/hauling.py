"""A worker process that does as a test says: a double of `icatfs.mover` behind the data service."""

from __future__ import annotations

import os
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import trio

from icatfs.content.chunks import CHUNK, Piece
from icatfs.errors import FacilityUnreachable, IcatfsError
from icatfs.values import ContentVersion

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from icatfs.content.landing import Sink


@dataclass(frozen=True)
class Ordered:
    """What the worker was told: the next bytes are these, and go into a file or nowhere."""

    start: int
    stop: int
    into: int | None
    """The inode of the file, None: nowhere."""
    is_last: bool
    at: int
    """What had come by then ends here."""


@dataclass(frozen=True)
class Trip:
    """How the answer to one request goes; offsets are those of the file."""

    refuse: IcatfsError | None = None
    break_at: int | None = None
    end_at: int | None = None
    stall_at: int | None = None
    corrupt_at: int | None = None
    surplus: bool = False
    """There is more behind the last byte."""
    ignore_range: bool = False
    announce: int | None = None
    disk_full_at: int | None = None
    """The disk takes no more from there on, unless it is a file in memory."""


SMOOTH = Trip()


@dataclass
class Hauler:
    """Answers from ``data``; takes a trip from ``trips`` for each request, then ``always``."""

    nursery: trio.Nursery
    data: bytes | Callable[[ContentVersion], bytes]
    trips: list[Trip] = field(default_factory=list)
    always: Trip = SMOOTH
    declares: bool = True
    piece: int = 65536
    pace_s: float = 0.001
    latency_s: float = 0.0
    untold: int = 0
    """How many bytes it has written beyond those that it has told of."""
    lag_s: float = 0.0
    """How long it goes on after it was left."""
    requests: list[tuple[int, int]] = field(default_factory=list)
    """(datafile, offset) of each."""
    loads: list[Load] = field(default_factory=list)
    most_open: int = 0

    async def __call__(self, version: ContentVersion, offset: int) -> Load:
        self.requests.append((version.datafile, offset))
        trip = self.trips.pop(0) if self.trips else self.always
        asked_at = trio.current_time()
        await trio.sleep(self.latency_s)
        if trip.refuse is not None:
            raise trip.refuse
        data = self.data if isinstance(self.data, bytes) else self.data(version)
        load = Load(self, data, offset, trip, asked_at)
        self.loads.append(load)
        return load

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset in self.requests]

    @property
    def open_now(self) -> int:
        """How many bodies somebody reads."""
        return sum(load.is_read for load in self.loads)

    @property
    def writing(self) -> int:
        """How many bodies somebody may write for."""
        return sum(not load.is_over for load in self.loads)

    @property
    def sent(self) -> int:
        return sum(load.sent for load in self.loads)

    def die(self) -> None:
        """The process is killed: nothing is written any more, and all are told so."""
        for load in self.loads:
            load.killed()


class Load:
    """One answer; see `icatfs.content.landing.MovedBody`."""

    def __init__(
        self, hauler: Hauler, data: bytes, offset: int, trip: Trip, asked_at: float
    ) -> None:
        self.status = 206 if offset and not trip.ignore_range else 200
        self.asked_at = asked_at
        self.has_surplus = False
        self.orders: list[Ordered] = []
        self.sent = 0
        self.is_read = self.is_over = False
        self._hauler = hauler
        self._trip = trip
        self._position = 0 if trip.ignore_range else offset
        if trip.corrupt_at is not None:
            flipped = bytes([data[trip.corrupt_at] ^ 1])
            data = data[: trip.corrupt_at] + flipped + data[trip.corrupt_at + 1 :]
        self._data = data
        length = len(data) - self._position if hauler.declares else None
        self.length = length if trip.announce is None else trip.announce
        self._sink: Sink | None = None
        self._todo: deque[tuple[Ordered, int]] = deque()
        self._count = 0
        self._trouble: IcatfsError | None = None
        self._news = trio.Event()
        self._told = trio.Event()
        self._scope = trio.CancelScope()

    # What the mount says.

    def into(self, sink: Sink) -> None:
        self._sink = sink
        self._hauler.nursery.start_soon(self._haul)

    def order(self, start: int, stop: int, fd: int | None, *, is_last: bool) -> None:
        if self.is_over:
            return
        assert start < stop, "an order is for some bytes"
        last = self.orders[-1].stop if self.orders else self._position
        assert start == last, "orders are for what comes, one after the other"
        inode = None if fd is None else os.fstat(fd).st_ino
        ordered = Ordered(start, stop, inode, is_last, self._position)
        self.orders.append(ordered)
        self._todo.append((ordered, -1 if fd is None else os.dup(fd)))
        self._told.set()

    async def progress(self) -> int:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._count and not self.is_over:
            await self._news.wait()
            self._news = trio.Event()
        if not self._count and self._trouble is not None:
            raise self._trouble
        count, self._count = self._count, 0
        return count

    def finish(self) -> None:
        self._trouble = None
        self._scope.cancel()

    async def __aenter__(self) -> Self:
        self.is_read = True
        self._hauler.most_open = max(self._hauler.most_open, self._hauler.open_now)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_read = False
        if self._sink is None:
            self.is_over = True
        self._scope.cancel()

    # What it does.

    async def _haul(self) -> None:
        refused = False
        with self._scope:
            refused = await self._all()
        if self._scope.cancelled_caught and not self.is_over:
            with trio.CancelScope(shield=True):
                await trio.sleep(self._hauler.lag_s)
            if self._todo and self._position not in (self._trip.stall_at, len(self._data)):
                self._bring()  # what was under way
        self._end(disk_refused=refused)

    async def _all(self) -> bool:
        """Everything that is ordered; whether the disk refused it."""
        while True:
            while not self._todo:
                if self._position >= len(self._data):
                    return False
                self._told = trio.Event()
                await self._told.wait()
            trip = self._trip
            if self._position == trip.break_at:
                self._trouble = FacilityUnreachable("the connection broke")
                return False
            if self._position in (trip.end_at, len(self._data)):
                return False
            if self._position == trip.stall_at:
                await trio.sleep_forever()
            if trip.disk_full_at is not None and self._position >= trip.disk_full_at:
                _, fd = self._todo[0]
                if _is_on_disk(fd):
                    self._trouble = FacilityUnreachable("the disk is full")
                    return True
            await trio.sleep(self._hauler.pace_s)
            if self._bring():
                return False

    def _bring(self) -> bool:
        """The next bytes, where they are ordered to; whether that was the last."""
        ordered, fd = self._todo[0]
        trip, start = self._trip, self._position
        marks = [trip.break_at, trip.end_at, trip.stall_at, trip.disk_full_at]
        stop = min(
            [
                start + self._hauler.piece,
                ordered.stop,
                len(self._data),
                (start // CHUNK + 1) * CHUNK,
                *(mark for mark in marks if mark is not None and mark > start),
            ]
        )
        data = self._data[start:stop]
        if fd >= 0:
            os.pwrite(fd, self._data[start : min(stop + self._hauler.untold, ordered.stop)], start)
        self._position = stop
        self.sent += len(data)
        if ordered.is_last and stop == ordered.stop and trip.surplus:
            self.has_surplus = True
            self._done()
            return True
        self._tell([Piece(start, stop, zlib.crc32(data))])
        if stop == ordered.stop:
            self._done()
        return ordered.is_last and stop == ordered.stop

    def _tell(self, pieces: Sequence[Piece]) -> None:
        assert self._sink is not None
        self._sink.arrived(pieces)
        self._count += pieces[-1].stop - pieces[0].start
        self._news.set()

    def _done(self) -> None:
        _, fd = self._todo.popleft()
        if fd >= 0:
            os.close(fd)

    def _end(self, *, disk_refused: bool) -> None:
        if self.is_over:
            return
        self.is_over = True
        while self._todo:
            self._done()
        if self._sink is not None:
            self._sink.over(disk_refused=disk_refused)
        self._news.set()

    def killed(self) -> None:
        """The process has gone."""
        if self._sink is not None and not self.is_over:
            self._trouble = FacilityUnreachable("the process for large transfers has gone")
            self._end(disk_refused=False)
            self._scope.cancel()


def _is_on_disk(fd: int) -> bool:
    return fd >= 0 and not os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:")
