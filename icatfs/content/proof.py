"""Reading a cached content that is partly on the disk and partly in memory."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass

_PIECE = 2**20


@dataclass(frozen=True, slots=True)
class Proof:
    """A pass over what the running CRC has not seen. Owns its descriptor."""

    fd: int
    held: tuple[tuple[int, bytes], ...]
    crc: int
    start: int
    stop: int

    def run(self) -> int:
        """The CRC-32 of the whole content; blocks. OSError where the disk fails."""
        try:
            crc = self.crc
            for offset in range(self.start, self.stop, _PIECE):
                size = min(_PIECE, self.stop - offset)
                crc = zlib.crc32(read(self.fd, self.held, offset, size), crc)
            return crc
        finally:
            if self.fd >= 0:
                os.close(self.fd)


def read(fd: int, held: tuple[tuple[int, bytes], ...], offset: int, size: int) -> bytes:
    """Bytes from the data file, and those in memory laid over them."""
    data = bytearray(os.pread(fd, size, offset)) if fd >= 0 else bytearray()
    for start, piece in held:
        first, last = max(start, offset), min(start + len(piece), offset + size)
        if first < last:
            if len(data) < last - offset:
                data.extend(bytes(last - offset - len(data)))
            data[first - offset : last - offset] = piece[first - start : last - start]
    return bytes(data)
