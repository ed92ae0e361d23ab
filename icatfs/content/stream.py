"""One stream from the facility into one cache file: resumed when it breaks, checked at every turn.

`Carrier` knows nothing of readers: after each piece it asks whether to go on. What counts as wrong,
and the source of each claim, is in `icatfs.content.transfer`. A source opens one of two kinds of
bodies: a `Body` hands over its bytes, which are then written here; a `MovedBody`, from a worker
process, only says which of them are in the file (`icatfs.content.landing`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from icatfs.content.landing import Landing, MovedBody
from icatfs.errors import Damaged, FacilityTimeout, FacilityUnreachable, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from icatfs.content.cachefile import CacheFile
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

T = TypeVar("T")

_REMEMBERED_S = 60.0
_SHORT_TRIES = 2
"""Attempts at a place where an answered request brings no byte: a stored file that is too short
costs a silence each time."""
_SILENCES = 2.5
"""Times the patience with one silence, for all silences at a place: three, or as many shorter ones
as there are streams that had their turn there."""
_FITS = 4
"""A file that is larger than so many times the room has no place in the cache as a whole."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0


class Pieces(Protocol):
    """Bytes while they come."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Body(Pieces, Protocol):
    """What a source opens: `icatfs.transport.ByteStream`, or a double."""

    @property
    def status(self) -> int: ...
    @property
    def length(self) -> int | None: ...


class Source(Protocol):
    """Opens the bytes of a version from an offset to the end."""

    async def __call__(self, version: ContentVersion, offset: int) -> Body | MovedBody:
        """Raises DataArchived, Busy, NotFound, AccessDenied, facility errors."""
        ...


@dataclass(slots=True)
class Suspicion:
    """What is known against the facility's bytes of a version."""

    mismatches: int = 0
    """How often they contradicted the catalogue since they last agreed."""
    sentence: str = ""
    from_byte: int = 0
    until_s: float = 0.0
    silent_at: int = -1
    silent_s: float = 0.0
    """How long answered requests have waited for this byte, whichever streams they were of."""

    def check(self, now_s: float, stop: int) -> None:
        """Raises Damaged while that is the answer for bytes before ``stop``."""
        if now_s < self.until_s and stop > self.from_byte:
            raise Damaged(self.sentence)

    def damaged(self, sentence: str, from_byte: int) -> Damaged:
        """Remember for a while; the error to raise."""
        self.sentence = sentence
        self.from_byte = from_byte
        self.until_s = trio.current_time() + _REMEMBERED_S
        self.silent_s = 0.0
        return Damaged(sentence)

    def silence(self, position: int, seconds: float) -> float:
        """One more silence at this byte; seconds of all of them."""
        self.silent_s = seconds + (self.silent_s if position == self.silent_at else 0.0)
        self.silent_at = position
        return self.silent_s


class _Contradiction(Exception):
    """The bytes contradict the catalogue."""


class Carrier:
    """Carries bytes from ``position`` on. ``position`` is the next byte that arrives."""

    def __init__(
        self,
        source: Source,
        file: CacheFile,
        position: int,
        suspicion: Suspicion,
        under_way: set[Landing],
        *,
        stall_s: float,
        resume_attempts: int,
    ) -> None:
        # given
        self._source = source
        self._file = file
        self._suspicion = suspicion
        self._under_way = under_way
        self._stall_s = stall_s
        self._resume_attempts = resume_attempts
        # mutable
        self.position = position
        self.ignores_range = False
        self.resumed = 0
        self.mismatches = 0
        self.first_byte_s: float | None = None
        """From the latest request to the first byte of its body; None while that has not come."""
        self._asked_at = 0.0
        self._best = position
        self._may_grant = True
        self._answered = False

    async def carry(self, goes_on: Callable[[int], bool]) -> None:
        """Bring bytes until ``goes_on``, given how many have come, says no, or to the end.

        Returns also when what came was dropped as wrong and should be fetched again from 0.
        Raises what the source raises, and Damaged.
        """
        fruitless = 0
        try:
            while goes_on(0):
                best = self._best
                fault = await self._attempt(goes_on)
                if fault is None:
                    return
                fruitless = 0 if self._best > best else fruitless + 1
                self._give_up(fault, fruitless)
                self.resumed += 1
                await trio.sleep(_pause_s(fruitless))
        except _Contradiction as contradiction:
            self._drop(str(contradiction))

    def prove(self) -> None:
        """Compare the CRC-32 of the complete content with the catalogue's.

        Returns when it is right, or was dropped as wrong and should be fetched again; Damaged.
        """
        crc = self._file.crc
        if crc == self._file.version.crc32:
            self._suspicion.mismatches = 0
            self._file.settle()
        else:
            self._drop(f"their CRC-32 is {crc:x}, the catalogue says {self._file.version.checksum}")

    async def _attempt(self, goes_on: Callable[[int], bool]) -> Exception | None:
        """One request: None when nothing more is wanted or the end was reached, else the fault."""
        offset = 0 if self.ignores_range else self.position
        self.first_byte_s = None
        self._asked_at = trio.current_time()
        try:
            async with await self._source(self._file.version, offset) as body:
                self._answered = True
                self._asked_at = getattr(body, "asked_at", self._asked_at)
                self._begin(body, offset)
                if isinstance(body, MovedBody):
                    return await self._land(body, goes_on)
                return await self._read(body, goes_on)
        except (FacilityUnreachable, FacilityTimeout) as fault:
            if not self._answered:
                raise
            return fault
        except ProtocolError as fault:
            if type(fault) is not ProtocolError or not offset:
                raise
            self.ignores_range = True  # it answered 200: another request may bring all from 0 on
            return fault

    def _begin(self, body: Body | MovedBody, offset: int) -> None:
        """The answer begins: look what it says of itself."""
        if offset and body.status == 200:
            self.ignores_range = True
            offset = 0
        self.position = offset
        size = self._file.size
        if size is not None and body.length not in (None, size - offset):
            raise _Contradiction(f"{body.length} bytes are announced from byte {offset} on")

    async def _read(self, body: Body, goes_on: Callable[[int], bool]) -> Exception | None:
        size = self._file.size
        pieces = aiter(body)
        while (piece := await self._next(pieces)) is not None:
            stop = self.position + len(piece)
            if size is not None and (stop > size or (stop == size and body.length is None)):
                await self._see_the_end(pieces, stop)
            self._file.pwrite(self.position, piece)
            self._came(len(piece))
            if not goes_on(len(piece)):
                return None
        return self._body_ended()

    async def _land(self, body: MovedBody, goes_on: Callable[[int], bool]) -> Exception | None:
        size = self._file.size
        assert size is not None, "a body of unknown length is read here"
        landing = Landing(
            self._file,
            body,
            self.position,
            size,
            may_grant=self._may_grant,
            under_way=self._under_way,
        )
        try:
            while self.position < size:
                landing.order_ahead(self.position)
                count = await self._in_time(body.progress)
                if body.has_surplus:
                    raise _Contradiction(f"there are more than {size} bytes")
                if not count:
                    break
                self._came(count)
                if not goes_on(count):
                    await self._finish(body, goes_on)
                    return None
        finally:
            landing.leave()
            self._may_grant = self._may_grant and not landing.disk_refused
        return self._body_ended()

    async def _finish(self, body: MovedBody, goes_on: Callable[[int], bool]) -> None:
        """End a body and take what is under way: whoever plans must know how far it came."""
        body.finish()
        while count := await self._in_time(body.progress):
            self._came(count)
            goes_on(count)

    def _came(self, count: int) -> None:
        if self.first_byte_s is None:
            self.first_byte_s = trio.current_time() - self._asked_at
        self.position += count
        self._best = max(self._best, self.position)

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece, None at the end; FacilityTimeout after a long silence."""
        return await self._in_time(lambda: anext(pieces, None))

    async def _in_time(self, come: Callable[[], Awaitable[T]]) -> T:
        began = trio.current_time()
        self._suspicion.check(began, self.position + 1)
        has_come = False
        try:
            with trio.move_on_after(self._stall_s):
                result = await come()
                has_come = True
                return result
        finally:
            if not has_come:
                self._silent_for(trio.current_time() - began)
        raise FacilityTimeout(f"the facility sent nothing for {self._stall_s:.0f} s")

    def _silent_for(self, seconds: float) -> None:
        """Nothing came, until the patience, the connection, or the turn of the stream ended."""
        if self._suspicion.silence(self.position, seconds) >= _SILENCES * self._stall_s:
            self._too_short()

    def _too_short(self) -> Damaged:
        version = self._file.version
        sentence = (
            f"the facility has {self._best} of {version.size} bytes of datafile"
            f" {version.datafile}; tell the facility"
        )
        log.warning("%s", sentence)
        return self._suspicion.damaged(sentence, self._best)

    async def _see_the_end(self, pieces: AsyncIterator[bytes], stop: int) -> None:
        """The last byte is here: there must be no other, or the catalogue's size is wrong."""
        size = self._file.size
        if stop == size and not await self._next(pieces):
            return
        raise _Contradiction(f"there are more than {size} bytes")

    def _body_ended(self) -> Exception | None:
        size = self._file.size
        if size is None:
            self._file.finish(self.position)
            return None
        if self.position >= size:
            return None
        return Damaged(f"{self.position} of {size} bytes came")

    def _give_up(self, fault: Exception, fruitless: int) -> None:
        """Raises when the fault is not worth another attempt."""
        if fruitless >= _SHORT_TRIES and isinstance(fault, Damaged):
            raise self._too_short() from fault
        self._suspicion.check(trio.current_time(), self._best + 1)
        if fruitless >= self._resume_attempts:
            raise fault

    def _drop(self, words: str) -> None:
        """Forget what is wrong; Damaged when it was wrong before, or cannot be fetched whole."""
        self.mismatches += 1
        self._suspicion.mismatches += 1
        version, size = self._file.version, self._file.size
        self._file.reset()
        log.info("what came of datafile %d was dropped: %s", version.datafile, words)
        if self._suspicion.mismatches > 1 or (size or 0) > _FITS * self._file.room:
            sentence = (
                f"the bytes of datafile {version.datafile} are not those of the catalogue:"
                f" {words}; tell the facility"
            )
            log.warning("%s", sentence)
            raise self._suspicion.damaged(sentence, 0)


def _pause_s(fruitless: int) -> float:
    if not fruitless:
        return 0.0
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (fruitless - 1))
