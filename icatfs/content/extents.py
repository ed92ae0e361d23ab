"""Sorted, disjoint, half-open ranges of bytes: what a cache file holds.

Pure. Two parallel lists, so that finding a gap is one binary search. Invariants:
``starts[i] < stops[i] < starts[i + 1]`` (ranges that touch are one), and ``total`` is the sum of
their lengths.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PAIR = struct.Struct("<QQ")


class Extents:
    """A set of byte offsets, kept as ranges."""

    __slots__ = ("_starts", "_stops", "total")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        # mutable
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.total = 0
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Extents({list(self)})"

    @property
    def end(self) -> int:
        """The end of the last range, 0 if there is none."""
        return self._stops[-1] if self._stops else 0

    def gap(self, start: int, stop: int) -> tuple[int, int] | None:
        """The first range inside [start, stop) that is not held; None if all of it is."""
        if start >= stop:
            return None
        after = bisect_right(self._starts, start)
        if after and self._stops[after - 1] > start:
            start = self._stops[after - 1]
            if start >= stop:
                return None
        if after < len(self._starts):
            stop = min(stop, self._starts[after])
        return start, stop

    def gaps(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Every range inside [start, stop) that is not held, in order."""
        gap = self.gap(start, stop)
        while gap is not None:
            yield gap
            gap = self.gap(gap[1], stop)

    def add(self, start: int, stop: int) -> int:
        """Hold [start, stop) too; returns how many bytes of it were not held before."""
        if start >= stop:
            return 0
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        had = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        added = stop - start - had
        self.total += added
        return added

    def remove(self, start: int, stop: int) -> int:
        """Hold nothing of [start, stop) any more; returns how many bytes of it were held."""
        if start >= stop:
            return 0
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last:
            return 0
        had = sum(self._stops[i] - self._starts[i] for i in range(first, last))
        ends = ((self._starts[first], start), (stop, self._stops[last - 1]))
        kept = [(a, b) for a, b in ends if a < b]
        self._starts[first:last] = [a for a, _ in kept]
        self._stops[first:last] = [b for _, b in kept]
        removed = had - sum(b - a for a, b in kept)
        self.total -= removed
        return removed

    def clear(self) -> None:
        """Hold nothing."""
        self._starts.clear()
        self._stops.clear()
        self.total = 0

    def pack(self) -> bytes:
        """The ranges as bytes, for `unpack`."""
        return b"".join(_PAIR.pack(start, stop) for start, stop in self)

    @classmethod
    def unpack(cls, packed: bytes) -> Extents:
        """The ranges behind `pack`; ValueError for anything that it cannot have made."""
        if len(packed) % _PAIR.size:
            raise ValueError("a piece of a range")
        extents = cls()
        end = -1
        for start, stop in _PAIR.iter_unpack(packed):
            if not end < start < stop:
                raise ValueError("ranges out of order")
            extents._starts.append(start)
            extents._stops.append(stop)
            extents.total += stop - start
            end = stop
        return extents
