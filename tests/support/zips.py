"""Zips of every kind that a server may stream, made by hand."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

DESCRIPTORS = (None, "signed32", "signed64", "plain32", "plain64")
"""Where sizes and CRC are: in the header, or behind the data in one of four forms."""


@dataclass(frozen=True)
class Member:
    """One member. ``crc32`` and ``size`` are what the zip claims, by default the truth."""

    name: str
    data: bytes
    deflated: bool = True
    descriptor: str | None = "signed32"
    level: int = 0
    crc32: int | None = None
    size: int | None = None
    encrypted: bool = False

    @property
    def claimed_crc(self) -> int:
        return zlib.crc32(self.data) if self.crc32 is None else self.crc32

    @property
    def claimed_size(self) -> int:
        return len(self.data) if self.size is None else self.size

    @property
    def packed(self) -> bytes:
        if not self.deflated:
            return self.data
        deflate = zlib.compressobj(self.level, zlib.DEFLATED, -zlib.MAX_WBITS)
        return deflate.compress(self.data) + deflate.flush()


def local(member: Member) -> bytes:
    """A member as it is streamed: header, data, and descriptor if it has one."""
    name, packed = member.name.encode(), member.packed
    behind = member.descriptor is not None
    flags = 0x0800 | (0x0008 if behind else 0) | (1 if member.encrypted else 0)
    sizes = (0, 0, 0) if behind else (member.claimed_crc, len(packed), member.claimed_size)
    method = 8 if member.deflated else 0
    head = struct.pack("<4s3HLLLLHH", b"PK\3\4", 20, flags, method, 0, *sizes, len(name), 0)
    return head + name + packed + descriptor(member)


def descriptor(member: Member) -> bytes:
    """What is behind the data."""
    if member.descriptor is None:
        return b""
    wide = "QQ" if member.descriptor.endswith("64") else "LL"
    values = (member.claimed_crc, len(member.packed), member.claimed_size)
    signature = b"PK\7\x08" if member.descriptor.startswith("signed") else b""
    return signature + struct.pack(f"<L{wide}", *values)


def zipped(*members: Member) -> bytes:
    """A whole zip."""
    body = directory = b""
    for member in members:
        name = member.name.encode()
        directory += struct.pack(
            "<4s4HLLLLHHHHHLL", b"PK\1\2", 20, 20, 0x0808, 8, 0, member.claimed_crc,
            len(member.packed), member.claimed_size, len(name), 0, 0, 0, 0, 0, len(body),
        ) + name  # fmt: skip
        body += local(member)
    count = len(members)
    end = struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end
