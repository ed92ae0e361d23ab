"""Which chunks of a content are given back first, where it is larger than what the cache has, and
which have been read since they came.

Pure. The chunk used least recently goes first, and reading is using: else the head of an HDF5 file,
which came first and is read again before every slice, would be the first to go. The kernel keeps
pages too, so not every use is seen here. Therefore the *borders* go after all others: the first
chunk, and those of the last MiB, which is where formats have their tables. Where only a few
chunks are here all this is left out, and they go as they came: what a stream has just brought must
not go before its reader comes for it.

*Against* counting uses (a file that is read in order would keep what was read most often, not what
comes next), and against a limit on what reading keeps: of a content that is read in order by one
reader as far ahead as a stream may run, a quarter of the cache, nothing goes before it was read.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from icatfs.content.chunks import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FEW = 12
"""Four times the borders."""
_OUT_OF_ORDER = 2
"""The kernel's reads of one program come out of order, but within so many chunks."""


class Ages:
    """Numbers of chunks, the one used least recently in front, and whether each was read.

    Reading is the hot path: who reads on in ``last_read`` need not say so.
    """

    __slots__ = ("_order", "last_read")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        # mutable
        self._order: dict[int, bool] = dict.fromkeys(numbers, False)
        self.last_read = -1

    def __len__(self) -> int:
        return len(self._order)

    def came(self, number: int) -> None:
        """Something of a chunk arrived."""
        self._order[number] = self._order.pop(number, False)

    def was_read(self, number: int) -> None:
        """Something of a chunk is wanted; noted of one that is here."""
        self.last_read = number
        if number in self._order:
            if len(self._order) >= _FEW:
                self.came(number)
            self._order[number] = True

    def read_on(self, number: int) -> int:
        """The last chunk of those that were read one after the other from this one on, or this."""
        ahead = number
        while ahead <= number + _OUT_OF_ORDER:
            if self._order.get(ahead):
                number = ahead
            ahead += 1
        return number

    def forget(self, number: int) -> None:
        """The chunk is not here any more."""
        self._order.pop(number, None)

    def clear(self) -> None:
        """Nothing is here any more."""
        self._order.clear()
        self.last_read = -1

    def leaving(self, kept: int, size: int | None) -> Iterator[int]:
        """The chunks of a content of this size that may go, in that order: not the newest ``kept``.

        The caller may forget those that he was given.
        """
        numbers = list(self._order)[: max(0, len(self._order) - kept)]
        borders = _borders(size) if len(self._order) >= _FEW else frozenset[int]()
        return chain(
            (number for number in numbers if number not in borders),
            (number for number in numbers if number in borders),
        )


def _borders(size: int | None) -> frozenset[int]:
    if size is None:
        return frozenset((0,))
    return frozenset((0, max(0, size - CHUNK) // CHUNK, max(0, size - 1) // CHUNK))
