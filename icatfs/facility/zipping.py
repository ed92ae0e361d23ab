"""Zip as the data service streams it: what java.util.zip of JDK 17 writes, byte by byte.

Method 8 always; without compression the data are stored blocks of at most 32,767 bytes. Flags
0x0808: UTF-8 names, sizes and CRC in a data descriptor behind the data. ZIP64 only where a number
does not fit in 32 bits. (Recorded from ids.server 2.1.1; ZIP64 from the sources of the JDK.)
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime

_VERSION = 20
_VERSION_ZIP64 = 45
_FLAGS = 0x0808
_METHOD = 8
_LIMIT = 0xFFFFFFFF
_LIMIT_ENTRIES = 0xFFFF
_BLOCK = 32_767


class _Coder(Protocol):
    def code(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


class _Stored:
    """Deflate without compression; keeps back the last block, which is marked as such."""

    def __init__(self) -> None:
        self._rest = b""

    def code(self, data: bytes) -> bytes:
        data = self._rest + data
        full = max(0, (len(data) - 1) // _BLOCK) * _BLOCK
        header = struct.pack("<BHH", 0, _BLOCK, _BLOCK ^ 0xFFFF)
        parts: list[bytes | memoryview] = []
        view = memoryview(data)
        for start in range(0, full, _BLOCK):
            parts += [header, view[start : start + _BLOCK]]
        self._rest = data[full:]
        return b"".join(parts)

    def end(self) -> bytes:
        size = len(self._rest)
        return struct.pack("<BHH", 1, size, size ^ 0xFFFF) + self._rest


class _Deflated:
    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)

    def code(self, data: bytes) -> bytes:
        return self._deflate.compress(data)

    def end(self) -> bytes:
        return self._deflate.flush()


@dataclass(slots=True)
class _Member:
    name: bytes
    offset: int
    crc32: int = 0
    size: int = 0
    packed: int = 0


class ZipStream:
    """Makes a zip in pieces: ``begin``, ``data`` ..., ``end`` for each member, then ``finish``.

    Each call returns bytes to be sent at once. All members get the same modification time.
    """

    def __init__(self, *, compress: bool, modified: datetime) -> None:
        # constant
        self._compress = compress
        self._time = _dos_time(modified)
        # mutable: all members so far, the last one perhaps open; bytes given out
        self._members: list[_Member] = []
        self._coder: _Coder = _Stored()
        self._offset = 0

    def begin(self, name: str) -> bytes:
        """The local header of the next member."""
        member = _Member(name.encode("utf-8", "replace"), self._offset)
        self._members.append(member)
        self._coder = _Deflated() if self._compress else _Stored()
        head = struct.pack("<4s3HLLLLHH", b"PK\3\4", _VERSION, _FLAGS, _METHOD, self._time, 0, 0, 0,
                           len(member.name), 0)  # fmt: skip
        return self._given(head + member.name)

    def data(self, data: bytes) -> bytes:
        """Content of the open member."""
        member = self._members[-1]
        member.crc32 = zlib.crc32(data, member.crc32)
        member.size += len(data)
        coded = self._coder.code(data)
        member.packed += len(coded)
        return self._given(coded)

    def end(self) -> bytes:
        """The rest of the member and its data descriptor."""
        member = self._members[-1]
        coded = self._coder.end()
        member.packed += len(coded)
        sizes = "QQ" if max(member.size, member.packed) >= _LIMIT else "LL"
        descriptor = struct.pack(
            f"<4sL{sizes}", b"PK\7\x08", member.crc32, member.packed, member.size
        )
        return self._given(coded + descriptor)

    def finish(self) -> bytes:
        """The central directory."""
        start = self._offset
        directory = b"".join(self._central(member) for member in self._members)
        return self._given(directory + _trailer(len(self._members), len(directory), start))

    def _central(self, member: _Member) -> bytes:
        large = [n for n in (member.size, member.packed, member.offset) if n >= _LIMIT]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        version = _VERSION_ZIP64 if large else _VERSION
        head = struct.pack(
            "<4s4HLLLLHHHHHLL", b"PK\1\2", version, version, _FLAGS, _METHOD, self._time,
            member.crc32, min(member.packed, _LIMIT), min(member.size, _LIMIT),
            len(member.name), len(extra), 0, 0, 0, 0, min(member.offset, _LIMIT),
        )  # fmt: skip
        return head + member.name + extra

    def _given(self, data: bytes) -> bytes:
        self._offset += len(data)
        return data


def _trailer(entries: int, size: int, start: int) -> bytes:
    zip64 = b""
    if entries >= _LIMIT_ENTRIES or size >= _LIMIT or start >= _LIMIT:
        record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, _VERSION_ZIP64, _VERSION_ZIP64, 0, 0,
                             entries, entries, size, start)  # fmt: skip
        zip64 = record + struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    count = min(entries, _LIMIT_ENTRIES)
    return zip64 + struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, count, count, min(size, _LIMIT),
                               min(start, _LIMIT), 0)  # fmt: skip


def _dos_time(when: datetime) -> int:
    date = (when.year - 1980) << 9 | when.month << 5 | when.day
    return date << 16 | when.hour << 11 | when.minute << 5 | when.second // 2
