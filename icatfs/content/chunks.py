"""The CRC-32 of a content that arrives in any order: kept for each chunk, combined for the whole.

Pure. A content is cut into chunks of 1 MiB. Of each chunk `Checksums` knows its *runs*: stretches
without a gap, each with its CRC-32. Two runs that touch become one, since the CRC-32 of two texts
one after the other follows from theirs and the length of the second (`crc32_combine`); a run cannot
be cut, for nothing tells the CRC-32 of a part. So runs end at the borders of chunks: what a disk
has to give back, or what proved wrong, goes by whole chunks, and checking what was kept reads 1 MiB
at most for any byte that is wanted.

Beside them goes the CRC-32 of all chunks from the first on that have been full (``_passed`` of
them). It stays when their runs are forgotten: a content that is larger than the disk passes
through, and is compared with the catalogue all the same.

*Against* one running CRC-32 (it wants the bytes in order, or a second pass), and against one for
each 128 KiB (eight times the table, for checks that are as cheap as the read that needs them).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isal.isal_zlib import crc32_combine

from icatfs.content.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 2**20
"""A CRC-32 is kept for each chunk, [k * CHUNK, (k + 1) * CHUNK)."""

_RANGE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, stop) of a content, never across a multiple of `CHUNK`, and their CRC-32."""

    start: int
    stop: int
    crc32: int


def cut(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """[start, stop) cut at the borders of chunks."""
    while start < stop:
        end = min(stop, (start // CHUNK + 1) * CHUNK)
        yield start, end
        start = end


class Checksums:
    """What is known of the CRC-32 of one content.

    Invariants: the runs of a chunk are sorted and do not touch; no byte is in two; a chunk is in
    ``_full`` or in ``_runs`` or in neither; the chunk after those that have passed is not full.
    """

    __slots__ = ("_crc", "_full", "_passed", "_runs")

    def __init__(self) -> None:
        # mutable
        self._full: dict[int, int] = {}
        self._runs: dict[int, list[Piece]] = {}
        self._crc = 0
        self._passed = 0

    def __iter__(self) -> Iterator[Piece]:
        """Every run, in order."""
        for number in sorted(self._full.keys() | self._runs.keys()):
            yield from self.runs(number)

    def chunks(self) -> list[int]:
        """The numbers of the chunks of which anything is known, in order."""
        return sorted(self._full.keys() | self._runs.keys())

    def runs(self, number: int) -> tuple[Piece, ...]:
        """The runs of a chunk, in order."""
        whole = self._full.get(number)
        if whole is not None:
            return (Piece(number * CHUNK, (number + 1) * CHUNK, whole),)
        return tuple(self._runs.get(number, ()))

    def add(self, piece: Piece) -> None:
        """Know a piece, of which no byte is known."""
        number = piece.start // CHUNK
        assert 0 <= piece.start < piece.stop <= (number + 1) * CHUNK, "a piece is in one chunk"
        runs = self._runs.setdefault(number, [])
        place = len(runs)
        while place and runs[place - 1].start > piece.start:
            place -= 1
        if place < len(runs) and runs[place].start == piece.stop:
            piece = _joined(piece, runs.pop(place))
        if place and runs[place - 1].stop == piece.start:
            place -= 1
            piece = _joined(runs.pop(place), piece)
        runs.insert(place, piece)
        if piece.stop - piece.start == CHUNK:
            del self._runs[number]
            self._full[number] = piece.crc32
            self._pass()

    def has_passed(self, number: int) -> bool:
        """Whether the CRC-32 of all has this chunk, as it came first."""
        return number < self._passed

    def remove(self, number: int) -> tuple[Piece, ...]:
        """Forget the runs of a chunk, and return them; what has passed stays."""
        runs = self.runs(number)
        self._full.pop(number, None)
        self._runs.pop(number, None)
        return runs

    def clear(self) -> None:
        """Know nothing."""
        self._full.clear()
        self._runs.clear()
        self._crc = self._passed = 0

    def whole(self, size: int) -> int | None:
        """The CRC-32 of [0, size); None where something of it is not known."""
        passed = self._passed * CHUNK
        if passed == size:
            return self._crc
        for run in self.runs(self._passed)[:1]:
            if (run.start, run.stop) == (passed, size):
                return crc32_combine(self._crc, run.crc32, size - passed)
        return None

    def latest(self, size: int) -> int | None:
        """The same, of the runs alone where all are known: of what came last at every place.

        Some of what has passed may have been forgotten, and have come again with other bytes.
        """
        crc = end = 0
        for start, stop, own in self._ranges(self.chunks()):
            if start != end:
                break
            crc, end = crc32_combine(crc, own, stop - start), stop
        return crc if end == size else self.whole(size)

    def size(self, numbers: Iterable[int]) -> int:
        """How many bytes of these chunks are known."""
        partly = self._runs
        return sum(
            CHUNK if number in self._full else sum(run.stop - run.start for run in partly[number])
            for number in numbers
        )

    def pack(self, numbers: Iterable[int]) -> bytes:
        """The runs of these chunks, given in order, as bytes for `unpack`.

        For each range without a gap: its start and stop, and a CRC-32 for each chunk it touches.
        """
        packed = bytearray()
        first, last, crcs = 0, 0, list[int]()
        for start, stop, crc in self._ranges(numbers):
            if start != last:
                packed += _packed(first, last, crcs)
                first, crcs = start, []
            last = stop
            crcs.append(crc)
        return bytes(packed + _packed(first, last, crcs))

    @classmethod
    def unpack(cls, packed: bytes) -> Checksums:
        """The runs behind `pack`; ValueError for anything that it cannot have made."""
        checksums = cls()
        place, end = 0, -1
        while place < len(packed):
            start, stop = _part(_RANGE, packed, place)
            if not end < start < stop or stop - start > CHUNK * len(packed):
                raise ValueError("ranges out of order, or longer than what follows")
            first, last = start // CHUNK, (stop - 1) // CHUNK
            place += _RANGE.size
            crcs = _part(struct.Struct(f"<{last - first + 1}I"), packed, place)
            for number, crc in enumerate(crcs, first):
                begin, finish = max(start, number * CHUNK), min(stop, (number + 1) * CHUNK)
                if finish - begin == CHUNK:
                    checksums._full[number] = crc
                else:
                    checksums.add(Piece(begin, finish, crc))
            place += 4 * len(crcs)
            end = stop
        checksums._pass()
        return checksums

    def extents(self) -> Extents:
        """The ranges of the runs."""
        extents = Extents()
        first = last = 0
        for start, stop, _ in self._ranges(self.chunks()):
            if start != last:
                extents.add(first, last)
                first = start
            last = stop
        extents.add(first, last)
        return extents

    def _ranges(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, int]]:
        """Start, stop and CRC-32 of the runs of these chunks: of a large file there are many."""
        for number in numbers:
            whole = self._full.get(number)
            if whole is not None:
                yield number * CHUNK, (number + 1) * CHUNK, whole
            else:
                for run in self._runs.get(number, ()):
                    yield run.start, run.stop, run.crc32

    def _pass(self) -> None:
        """Take the chunks that are full now, one after the other, into the CRC-32 of all."""
        while (crc := self._full.get(self._passed)) is not None:
            self._crc = crc32_combine(self._crc, crc, CHUNK)
            self._passed += 1


def _joined(first: Piece, second: Piece) -> Piece:
    crc = crc32_combine(first.crc32, second.crc32, second.stop - second.start)
    return Piece(first.start, second.stop, crc)


def _packed(start: int, stop: int, crcs: list[int]) -> bytes:
    return _RANGE.pack(start, stop) + struct.pack(f"<{len(crcs)}I", *crcs) if crcs else b""


def _part(form: struct.Struct, packed: bytes, place: int) -> tuple[int, ...]:
    try:
        return form.unpack_from(packed, place)
    except struct.error as error:
        raise ValueError("a piece of a record") from error
