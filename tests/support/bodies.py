"""A source of bytes that breaks as told: a double of the data service's getData."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import trio

from icatfs.errors import FacilityUnreachable, IcatfsError
from icatfs.values import ContentVersion

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True)
class Fault:
    """What is wrong with the answer to one request; offsets are those of the file."""

    refuse: IcatfsError | None = None
    break_at: int | None = None
    """The connection breaks."""
    end_at: int | None = None
    """The body ends, and looks complete."""
    stall_at: int | None = None
    """Silence."""
    corrupt_at: int | None = None
    surplus: int = 0
    """So many bytes too many."""
    ignore_range: bool = False
    announce: int | None = None
    """A length that is not true."""


GOOD = Fault()


@dataclass
class FakeSource:
    """Answers with ``data``; takes a fault from ``faults`` for each request, then ``always``."""

    data: bytes | Callable[[ContentVersion], bytes]
    faults: list[Fault] = field(default_factory=list)
    always: Fault = GOOD
    declares: bool = True
    """Whether answers have a length."""
    piece: int = 65536
    pace_s: float = 0.0
    """Per piece."""
    latency_s: float = 0.0
    close_s: float = 0.0
    """What it takes to close an answer."""
    requests: list[tuple[int, int]] = field(default_factory=list)
    """(datafile, offset) of each."""
    open_now: int = 0
    most_open: int = 0
    sent: int = 0
    longest_unread_s: float = 0.0
    """For how long an answer had more to send, and nobody took it."""

    async def __call__(self, version: ContentVersion, offset: int) -> FakeBody:
        self.requests.append((version.datafile, offset))
        fault = self.faults.pop(0) if self.faults else self.always
        await trio.sleep(self.latency_s)
        if fault.refuse is not None:
            raise fault.refuse
        data = self.data if isinstance(self.data, bytes) else self.data(version)
        return FakeBody(self, data, offset, fault)

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset in self.requests]


class FakeBody:
    """One answer."""

    def __init__(self, source: FakeSource, data: bytes, offset: int, fault: Fault) -> None:
        self.status = 206 if offset and not fault.ignore_range else 200
        self._source = source
        self._fault = fault
        self._position = 0 if fault.ignore_range else offset
        if fault.corrupt_at is not None:
            flipped = data[fault.corrupt_at] ^ 1
            data = data[: fault.corrupt_at] + bytes([flipped]) + data[fault.corrupt_at + 1 :]
        self._data = data + bytes(fault.surplus)
        self._taken_s = trio.current_time()
        length = len(data) - self._position if source.declares else None
        self.length = length if fault.announce is None else fault.announce

    async def __aenter__(self) -> Self:
        self._source.open_now += 1
        self._source.most_open = max(self._source.most_open, self._source.open_now)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._source.close_s:
            await trio.sleep(self._source.close_s)
        self._source.open_now -= 1
        self._asked()

    def __aiter__(self) -> Self:
        return self

    def _asked(self) -> None:
        unread_s = trio.current_time() - self._taken_s
        self._source.longest_unread_s = max(self._source.longest_unread_s, unread_s)

    async def __anext__(self) -> bytes:
        self._asked()
        try:
            return await self._next()
        finally:
            self._taken_s = trio.current_time()

    async def _next(self) -> bytes:
        await trio.sleep(self._source.pace_s)
        fault = self._fault
        marks = (fault.break_at, fault.end_at, fault.stall_at)
        stop = min([len(self._data), *(mark for mark in marks if mark is not None)])
        piece = self._data[self._position : min(self._position + self._source.piece, stop)]
        if piece:
            self._position += len(piece)
            self._source.sent += len(piece)
            return piece
        if fault.break_at is not None:
            raise FacilityUnreachable("the connection broke")
        if fault.stall_at is not None:
            await trio.sleep_forever()
        raise StopAsyncIteration
