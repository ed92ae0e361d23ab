"""Make bytes have a wanted CRC-32 by flipping some of their bits.

A CRC is linear: flipping one bit of a message of given length always changes the same bits of its
CRC, whatever else the message says. So 32 bits whose effects are independent reach every CRC. The
sample holdings use this to have real files with exactly the checksums the real catalogue recorded.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit that may be flipped: its byte's offset and its mask in that byte."""

    offset: int
    mask: int


def whole_bytes(offset: int, count: int) -> list[Bit]:
    """Every bit of ``count`` bytes from ``offset``; four bytes always suffice."""
    return [Bit(offset + at, 1 << bit) for at in range(count) for bit in range(8)]


def letter_cases(offset: int, count: int) -> list[Bit]:
    """The bit that tells ``a`` from ``A`` in ``count`` letters; 32 letters always suffice."""
    return [Bit(offset + at, 0x20) for at in range(count)]


def force_crc32(data: bytearray, wanted: int, bits: Iterable[Bit]) -> None:
    """Flip some of ``bits`` in place so that the CRC-32 of ``data`` is ``wanted``.

    Raises ValueError when these bits cannot reach it.
    """
    chosen = _solve(zlib.crc32(data) ^ wanted, [(bit, _effect(len(data), bit)) for bit in bits])
    for bit in chosen:
        data[bit.offset] ^= bit.mask


def _effect(length: int, bit: Bit) -> int:
    """What flipping that bit changes in the CRC of a message of that length."""
    tail = bytes(length - bit.offset - 1)
    return zlib.crc32(bytes([bit.mask]) + tail) ^ zlib.crc32(bytes(1) + tail)


def _solve(difference: int, effects: list[tuple[Bit, int]]) -> list[Bit]:
    """Gaussian elimination over the two-element field: which effects add up to ``difference``."""
    rows: dict[int, tuple[int, int]] = {}
    for index, (_, effect) in enumerate(effects):
        value, members = effect, 1 << index
        for pivot in reversed(range(_WIDTH)):
            if not value >> pivot & 1:
                continue
            if pivot not in rows:
                rows[pivot] = (value, members)
                break
            value, members = value ^ rows[pivot][0], members ^ rows[pivot][1]
    members = 0
    for pivot in reversed(range(_WIDTH)):
        if difference >> pivot & 1:
            if pivot not in rows:
                raise ValueError("these bits cannot give the wanted CRC-32")
            difference, members = difference ^ rows[pivot][0], members ^ rows[pivot][1]
    return [bit for index, (bit, _) in enumerate(effects) if members >> index & 1]
