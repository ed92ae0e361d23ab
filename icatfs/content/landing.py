"""Where the bytes of one moved answer go: the cache file, as far as it grants it.

A worker writes into the data file what it was ordered to. `Landing` gives the orders, some ahead of
what has arrived so that the connection never waits for us, and keeps the books:

* bytes that the file lacks, and grants, go into the data file;
* bytes that are there already are dropped;
* where there is no grant, for want of room or because another stream is about to bring these bytes,
  they go into a file in memory, and from there through ``pwrite``, which knows what to do.

The worker may still write after the stream was left: so the grants, and a pin on the file, are held
until it has said that it does not (``over``), and what arrives until then is not lost. Only what is
in memory is, since it might be of bytes that were dropped as wrong meanwhile.

A transfer that ends waits a moment for those that are not over (``all_over``), so that the store
after it records what is there, and nothing is written behind its record.

Invariants: the orders are consecutive, from what arrived to ``_ahead``; each has its grant, or a
file in memory, or neither; after ``over`` there are none.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import trio

from icatfs.content.chunks import CHUNK, Piece
from icatfs.content.house import Grant
from icatfs.errors import TooManyFiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from icatfs.content.cachefile import CacheFile

_FIRST_STEP = 2**18
_STEP = 4 * 2**20
"""Orders grow with the stream from the first to this: what is under way when it is left was not
wanted, and a stream that is left soon should not have brought much."""
_THROUGH_MEMORY = CHUNK


class Range(Protocol):
    """Bytes [start, stop) of a file and their CRC-32."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def crc32(self) -> int: ...


class Sink(Protocol):
    """Whom a moved body tells, as `Landing` does."""

    def arrived(self, pieces: Sequence[Range]) -> None: ...
    def over(self, *, disk_refused: bool) -> None: ...


@runtime_checkable
class MovedBody(Protocol):
    """A body whose bytes go where they are ordered to: `icatfs.transport.MovedStream`."""

    @property
    def status(self) -> int: ...
    @property
    def length(self) -> int | None: ...
    @property
    def asked_at(self) -> float: ...
    @property
    def has_surplus(self) -> bool: ...
    def into(self, sink: Sink) -> None: ...
    def order(self, start: int, stop: int, fd: int | None, *, is_last: bool) -> None: ...
    async def progress(self) -> int: ...
    def finish(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@dataclass(slots=True)
class _Order:
    start: int
    stop: int
    grant: Grant | None = None
    memory: int | None = None
    """The descriptor of a file in memory."""


class Landing:
    """Takes the body of one answer, which begins at ``start``, into a cache file."""

    def __init__(
        self,
        file: CacheFile,
        body: MovedBody,
        start: int,
        size: int,
        *,
        may_grant: bool,
        under_way: set[Landing],
    ) -> None:
        """``under_way`` has this from now on until it is over."""
        # given
        self._under_way = under_way
        self._body = body
        self._size = size
        self._may_grant = may_grant
        # constant
        self._file = file.pin()
        self._start = start
        # mutable: see the invariants above
        self._orders: deque[_Order] = deque()
        self._ahead = start
        # mutable
        self._left = self._is_over = False
        self.disk_refused = False
        """Whether the worker could not write for want of room."""
        self.ended = trio.Event()
        under_way.add(self)
        body.into(self)

    def order_ahead(self, position: int) -> None:
        """Order what comes, one order beyond the one that is being carried out. TooManyFiles."""
        step = min(max(_FIRST_STEP, (position - self._start) // 4), _STEP, self._file.room)
        while not self._is_over and self._ahead < self._size and self._ahead - position <= step:
            order = self._next(step)
            self._orders.append(order)
            self._ahead = order.stop
            fd = order.grant.fd if order.grant is not None else order.memory
            self._body.order(order.start, order.stop, fd, is_last=order.stop == self._size)

    def leave(self) -> None:
        """Nobody looks at what comes any more."""
        self._left = True

    def arrived(self, pieces: Sequence[Range]) -> None:
        """These bytes are where they were ordered to."""
        for piece in pieces:
            order = self._orders[0]
            if order.grant is not None:
                known = Piece(piece.start, piece.stop, piece.crc32)
                self._file.arrived(order.grant, [known])
            elif order.memory is not None and not self._left:
                data = os.pread(order.memory, piece.stop - piece.start, piece.start)
                self._file.pwrite(piece.start, data)
            if piece.stop == order.stop:
                self._settle(self._orders.popleft())

    def over(self, *, disk_refused: bool) -> None:
        """Nobody writes for this body any more."""
        self._is_over = True
        self.disk_refused = disk_refused
        while self._orders:
            self._settle(self._orders.popleft(), disk_refused=disk_refused)
            disk_refused = False
        self._file.close()
        self._under_way.discard(self)
        self.ended.set()

    def _next(self, most: int) -> _Order:
        start, stop = self._ahead, min(self._ahead + most, self._size)
        missing = self._file.missing(start, stop)
        if missing is None:
            return _Order(start, stop)
        if missing[0] > start:
            return _Order(start, missing[0])
        grant = self._file.grant(start, stop - start) if self._may_grant else None
        if grant is not None:
            return _Order(start, grant.stop, grant=grant)
        return _Order(start, min(start + _THROUGH_MEMORY, stop), memory=_memory())

    def _settle(self, order: _Order, *, disk_refused: bool = False) -> None:
        if order.grant is not None:
            self._file.release(order.grant, disk_refused=disk_refused)
        if order.memory is not None:
            os.close(order.memory)


def _memory() -> int:
    """A file in memory; TooManyFiles."""
    try:
        return os.memfd_create("body")
    except OSError as error:
        raise TooManyFiles("the process of this mount can have no more files open") from error


async def all_over(under_way: set[Landing]) -> None:
    """Return when nobody writes for any of them any more."""
    while under_way:
        await next(iter(under_way)).ended.wait()
