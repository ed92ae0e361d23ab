"""One stream from the facility into one cache file: resumed when it breaks, checked at every turn.

`Carrier` knows nothing of readers: after each piece it asks whether to go on. What counts as wrong,
and the source of each claim, is in `icatfs.content.transfer`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from icatfs.errors import Damaged, FacilityTimeout, FacilityUnreachable, ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Self

    from icatfs.content.cachefile import CacheFile
    from icatfs.values import ContentVersion

log = logging.getLogger(__name__)

_REMEMBERED_S = 60.0
_SHORT_TRIES = 2
"""Attempts at a place where an answered request brings no byte: a stored file that is too short
costs a silence each time."""
_FITS = 4
"""A file that is larger than so many times the room has no place in the cache as a whole."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0


class Body(Protocol):
    """What a source opens: `icatfs.transport.ByteStream`, or a double."""

    @property
    def status(self) -> int: ...
    @property
    def length(self) -> int | None: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Source(Protocol):
    """Opens the bytes of a version from an offset to the end."""

    async def __call__(self, version: ContentVersion, offset: int) -> Body:
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

    def check(self, now_s: float, stop: int) -> None:
        """Raises Damaged while that is the answer for bytes before ``stop``."""
        if now_s < self.until_s and stop > self.from_byte:
            raise Damaged(self.sentence)

    def damaged(self, sentence: str, from_byte: int) -> Damaged:
        """Remember for a while; the error to raise."""
        self.sentence = sentence
        self.from_byte = from_byte
        self.until_s = trio.current_time() + _REMEMBERED_S
        return Damaged(sentence)


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
        *,
        stall_s: float,
        resume_attempts: int,
    ) -> None:
        # given
        self._source = source
        self._file = file
        self._suspicion = suspicion
        self._stall_s = stall_s
        self._resume_attempts = resume_attempts
        # mutable
        self.position = position
        self.ignores_range = False
        self.resumed = 0
        self.mismatches = 0
        self._best = position
        self._answered = False
        self._answered_now = False

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
        self._answered_now = False
        try:
            async with await self._source(self._file.version, offset) as body:
                self._answered = self._answered_now = True
                return await self._read(body, offset, goes_on)
        except (FacilityUnreachable, FacilityTimeout) as fault:
            if not self._answered:
                raise
            return fault
        except ProtocolError as fault:
            if type(fault) is not ProtocolError or not offset:
                raise
            self.ignores_range = True  # it answered 200: another request may bring all from 0 on
            return fault

    async def _read(
        self, body: Body, offset: int, goes_on: Callable[[int], bool]
    ) -> Exception | None:
        if offset and body.status == 200:
            self.ignores_range = True
            offset = 0
        self.position = offset
        size = self._file.size
        if size is not None and body.length not in (None, size - offset):
            raise _Contradiction(f"{body.length} bytes are announced from byte {offset} on")
        pieces = aiter(body)
        while (piece := await self._next(pieces)) is not None:
            stop = self.position + len(piece)
            if size is not None and (stop > size or (stop == size and body.length is None)):
                await self._see_the_end(pieces, stop)
            self._file.pwrite(self.position, piece)
            self.position = stop
            self._best = max(self._best, stop)
            if not goes_on(len(piece)):
                return None
        return self._body_ended()

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece, None at the end; FacilityTimeout after a long silence."""
        with trio.move_on_after(self._stall_s):
            return await anext(pieces, None)
        raise FacilityTimeout(f"the facility sent nothing for {self._stall_s:.0f} s")

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
        is_silent = isinstance(fault, FacilityTimeout) and self._answered_now
        if fruitless >= _SHORT_TRIES and (is_silent or isinstance(fault, Damaged)):
            version = self._file.version
            sentence = (
                f"the facility has {self._best} of {version.size} bytes of datafile"
                f" {version.datafile}; tell the facility"
            )
            log.warning("%s", sentence)
            raise self._suspicion.damaged(sentence, self._best) from fault
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
