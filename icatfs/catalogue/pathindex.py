"""Where the file of a shown path is: a hash table in arrays, 12 to 24 bytes for each path.

A dict of a million names takes 100 bytes for each of them, beside the names. Here an entry is one
number of 64 bits, a hash and a position, in a table of open addressing; the names themselves are
not kept: whoever asks tells whether a position is the one meant. Nothing is ever taken out: an
entry whose file goes by another name meanwhile is one that is not meant by anybody.

The table is made of parts, by the highest bits of the hash, so that growing is never more than
a few milliseconds' work at a time.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTS = 256
_SPLIT = 8_192
_SPREAD = 0x9E3779B1
_LOW = (1 << 32) - 1


class PathIndex:
    """Positions by path. Invariant: at most two thirds of the slots of a part are taken."""

    __slots__ = ("_parts", "_shift")

    def __init__(self) -> None:
        self._parts = [_Part()]
        self._shift = 32

    def find(self, path: str, is_meant: Callable[[int, str], bool]) -> int | None:
        """The position that was added for this path and is meant by it."""
        number = _hash(path)
        return self._parts[number >> self._shift].find(number, path, is_meant)

    def add(self, path: str, position: int, is_meant: Callable[[int, str], bool]) -> bool:
        """Add a position under a path; False if there is one that is meant by it already."""
        if len(self._parts) == 1 and self._parts[0].count >= _SPLIT:
            self._split()
        number = _hash(path)
        part = self._parts[number >> self._shift]
        if part.find(number, path, is_meant) is not None:
            return False
        part.add(number << 32 | position + 1)
        return True

    def _split(self) -> None:
        (whole,) = self._parts
        self._shift = 24
        self._parts = [_Part() for _ in range(_PARTS)]
        for slot in whole.slots:
            if slot:
                self._parts[slot >> 56].add(slot)


class _Part:
    __slots__ = ("count", "slots")

    def __init__(self) -> None:
        self.count = 0
        self.slots = array("Q", bytes(8 * 8))

    def find(self, number: int, path: str, is_meant: Callable[[int, str], bool]) -> int | None:
        slots = self.slots
        mask = len(slots) - 1
        at = number & mask
        while slot := slots[at]:
            if slot >> 32 == number and is_meant((slot & _LOW) - 1, path):
                return (slot & _LOW) - 1
            at = (at + 1) & mask
        return None

    def add(self, new: int) -> None:
        if 3 * self.count >= 2 * len(self.slots):
            self._grow()
        _place(self.slots, new)
        self.count += 1

    def _grow(self) -> None:
        slots = array("Q", bytes(16 * len(self.slots)))
        for slot in self.slots:
            if slot:
                _place(slots, slot)
        self.slots = slots


def _place(slots: array[int], new: int) -> None:
    mask = len(slots) - 1
    at = new >> 32 & mask
    while slots[at]:
        at = (at + 1) & mask
    slots[at] = new


def _hash(path: str) -> int:
    return crc32(path.encode("utf-8", "surrogatepass")) * _SPREAD & _LOW
