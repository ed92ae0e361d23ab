"""Columns: many values of one attribute in few bytes, each of them at hand.

=====================================  =========================================================
numbers that go up evenly, or stay     the first and the step: ids, ends of equally long names
other numbers, and times               the lowest, and multiples of a common unit above it in as
                                       few bytes as they need: whole seconds take 1 to 4
texts                                  UTF-8 in one piece, and where each ends
texts that few ask for                 the same, compressed
=====================================  =========================================================

Pure; a column never changes.
"""

from __future__ import annotations

import math
import zlib
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTHS = ((1 << 8, "B"), (1 << 16, "H"), (1 << 32, "I"), (1 << 64, "Q"))


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of integers, or of nothing where there is None.

    Without ``data`` value ``i`` is ``low + i * unit``, or None if ``low`` is; else ``data`` is an
    array of ``width``, and a value ``low + unit * code``; with ``holes`` code 0 is None, and all
    others are one higher.
    """

    low: int | None
    unit: int = 0
    width: str = ""
    data: bytes = b""
    holes: bool = False

    def __getitem__(self, index: int) -> int | None:
        if not self.width:
            return None if self.low is None else self.low + index * self.unit
        code: int = memoryview(self.data).cast(self.width)[index]  # type: ignore[call-overload]
        if self.holes:
            code -= 1
            if code < 0:
                return None
        assert self.low is not None
        return self.low + code * self.unit

    def values(self, start: int, stop: int) -> Sequence[int | None]:
        """Those from ``start`` to before ``stop``, all of which there must be."""
        low, unit = self.low, self.unit
        if not self.width:
            if low is None or not unit:
                return [low] * (stop - start)
            return range(low + start * unit, low + stop * unit, unit)
        assert low is not None
        codes = memoryview(self.data).cast(self.width)[start:stop].tolist()  # type: ignore[call-overload]
        if self.holes:
            return [low + (code - 1) * unit if code else None for code in codes]
        return [low + code * unit for code in codes]

    def position(self, value: int, count: int) -> int | None:
        """Where a value is in a column that ascends and has no holes."""
        assert self.low is not None
        code, rest = divmod(value - self.low, self.unit or 1)
        if rest or code < 0:
            return None
        if not self.width:
            return code if code < count else None
        codes = memoryview(self.data).cast(self.width)  # type: ignore[call-overload]
        index = bisect_left(codes, code)
        return index if index < count and codes[index] == code else None

    def sum(self, count: int) -> int:
        """Of all that are not None; ``count`` is how many there are."""
        if self.low is None:
            return 0
        if not self.width:
            return count * self.low + self.unit * (count * (count - 1) // 2)
        codes = array(self.width, self.data)
        if not self.holes:
            return count * self.low + self.unit * sum(codes)
        known = count - codes.count(0)
        return known * self.low + self.unit * (sum(codes) - known)

    def highest(self, count: int) -> int | None:
        """Of all that are not None; ``count`` is how many there are."""
        if self.low is None or not count:
            return None
        if not self.width:
            return self.low + self.unit * (count - 1)
        return self.low + self.unit * (max(array(self.width, self.data)) - self.holes)


def numbers(values: Sequence[int | None]) -> Numbers:
    """The column of these; OverflowError for what 64 bits cannot hold."""
    known = [value for value in values if value is not None]
    if not known:
        return Numbers(None)
    holes = len(known) < len(values)
    low, high = min(known), max(known)
    if not holes:
        first, step = known[0], known[1] - known[0] if len(known) > 1 else 0
        if step >= 0 and high == known[-1] == first + step * (len(known) - 1):
            even = [first] * len(known) if not step else range(first, high + 1, step)
            if all(map(int.__eq__, known, even)):
                return Numbers(first, step)
    unit = math.gcd(*[value - low for value in known]) or 1
    top = (high - low) // unit + holes
    width = next((width for most, width in _WIDTHS if top < most), None)
    if width is None or not -(1 << 63) <= low < 1 << 63:
        raise OverflowError(f"no column holds {low} to {high}")
    if holes:
        codes = [0 if value is None else (value - low) // unit + 1 for value in values]
    else:
        codes = [(value - low) // unit for value in known]
    return Numbers(low, unit, width, array(width, codes).tobytes(), holes)


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts; value ``i`` ends at ``ends[i]`` in ``data``, None where that is None."""

    ends: Numbers
    data: bytes
    compressed: bool = False

    def __getitem__(self, index: int) -> str | None:
        end = self.ends[index]
        if end is None:
            return None
        start = self._before(index)
        data = _opened(self) if self.compressed else self.data
        return data[start:end].decode("utf-8", "surrogatepass")

    def _before(self, index: int) -> int:
        while index:
            index -= 1
            end = self.ends[index]
            if end is not None:
                return end
        return 0

    def values(self, start: int, stop: int) -> list[str | None]:
        """Those from ``start`` to before ``stop``, all of which there must be."""
        data = _opened(self) if self.compressed else self.data
        found: list[str | None] = []
        before = self._before(start)
        for end in self.ends.values(start, stop):
            if end is None:
                found.append(None)
            else:
                found.append(data[before:end].decode("utf-8", "surrogatepass"))
                before = end
        return found


@lru_cache(maxsize=8)
def _opened(texts: Texts) -> bytes:
    return zlib.decompress(texts.data)


def texts(values: Sequence[str | None], *, compress: bool = False) -> Texts:
    """The column of these."""
    pieces = [b"" if value is None else value.encode("utf-8", "surrogatepass") for value in values]
    ends: list[int | None] = list(accumulate(map(len, pieces)))
    if None in values:
        ends = [None if value is None else end for value, end in zip(values, ends, strict=True)]
    data = b"".join(pieces)
    if compress and data:
        return Texts(numbers(ends), zlib.compress(data, 1), compressed=True)
    return Texts(numbers(ends), data)
