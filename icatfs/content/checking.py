"""Which chunks of a content were kept since an earlier mount, and are to be compared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isal.isal_zlib import crc32

from icatfs.content.chunks import CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from icatfs.content.chunks import Checksums, Piece

    Read = Callable[[int, int], bytes]


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

    def compare(self, start: int, stop: int, checksums: Checksums, read: Read) -> bool:
        """Compare the chunks that have bytes of [start, stop), each once; whether all are right."""
        for number in range(start // CHUNK, min(-(-stop // CHUNK), len(self._marks))):
            if self._marks[number]:
                if altered(checksums.runs(number), read) is not None:
                    return False
                self._marks[number] = 0
        return True


def altered(runs: Iterable[Piece], read: Read) -> Piece | None:
    """The first of these runs whose bytes, read by (offset, size), are not those that came."""
    for run in runs:
        try:
            data = read(run.start, run.stop - run.start)
        except OSError:
            return run
        if len(data) < run.stop - run.start or crc32(data) != run.crc32:
            return run
    return None
