"""Bytes of one content that the disk did not take: kept in memory for a while, by chunks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from icatfs.content.chunks import CHUNK, cut

if TYPE_CHECKING:
    from icatfs.content.datafile import DataFile


class Held:
    """Pieces in memory, laid over what a data file has. ``size`` is their bytes."""

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        # mutable: the pieces of each chunk, the chunk that came first in front
        self._chunks: dict[int, list[tuple[int, bytes]]] = {}
        self.size = 0

    def __contains__(self, number: object) -> bool:
        """Whether something of the chunk of this number is here."""
        return number in self._chunks

    def __len__(self) -> int:
        """How many chunks have something here."""
        return len(self._chunks)

    @property
    def oldest(self) -> int:
        """The number of the chunk that came first."""
        return next(iter(self._chunks))

    def keep(self, offset: int, data: memoryview) -> None:
        """Keep a copy."""
        for start, stop in cut(offset, offset + len(data)):
            piece = bytes(data[start - offset : stop - offset])
            self._chunks.setdefault(start // CHUNK, []).append((start, piece))
        self.size += len(data)

    def drop(self, number: int) -> int:
        """Forget the pieces of a chunk; returns how many bytes that were."""
        count = sum(len(piece) for _, piece in self._chunks.pop(number, ()))
        self.size -= count
        return count

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()
        self.size = 0

    def read(self, file: DataFile | None, offset: int, size: int) -> bytes:
        """Bytes of the data file under those that are here. OSError."""
        if file is not None and not self.size:
            return os.pread(file.fd, size, offset)
        data = bytearray(os.pread(file.fd, size, offset)) if file else bytearray()
        for number in range(offset // CHUNK, (offset + size - 1) // CHUNK + 1):
            for start, piece in self._chunks.get(number, ()):
                first, last = max(start, offset), min(start + len(piece), offset + size)
                if first < last:
                    data.extend(bytes(max(0, last - offset - len(data))))
                    data[first - offset : last - offset] = piece[first - start : last - start]
        return bytes(data)
