"""Which chunks of a content were kept since an earlier mount, and are to be compared once."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from icatfs.content.chunks import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from icatfs.content.chunks import Piece


class Unchecked:
    """Numbers of chunks, one byte for each; false when there are none."""

    __slots__ = ("_marks",)

    def __init__(self, numbers: Sequence[int]) -> None:
        # mutable
        self._marks = bytearray(numbers[-1] + 1 if numbers else 0)
        for number in numbers:
            self._marks[number] = 1

    def __bool__(self) -> bool:
        return 1 in self._marks

    def among(self, start: int, stop: int) -> Iterator[int]:
        """Those that have bytes of [start, stop)."""
        last = min(-(-stop // CHUNK), len(self._marks))
        return (number for number in range(start // CHUNK, last) if self._marks[number])

    def discard(self, number: int) -> None:
        """This one is compared."""
        self._marks[number] = 0


def altered(runs: Sequence[Piece], read: Callable[[int, int], bytes]) -> Piece | None:
    """The first of these runs whose bytes, read by (offset, size), are not those that came."""
    for run in runs:
        try:
            data = read(run.start, run.stop - run.start)
        except OSError:
            return run
        if len(data) < run.stop - run.start or zlib.crc32(data) != run.crc32:
            return run
    return None
