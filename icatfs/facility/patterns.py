"""Content by formula: bytes that need no storage and can be computed at any offset, fast.

The content for a seed is one pseudo-random block repeated for ever. The block's length is a prime
just below 1 MiB, so that bytes read from a wrong offset differ from the right ones.
"""

from __future__ import annotations

import random
import zlib
from functools import lru_cache

PERIOD = 1_048_573

_CRC_POLYNOMIAL = 0xEDB88320
_WIDTH = 32
_Matrix = tuple[int, ...]


def read(seed: int, offset: int, size: int) -> bytes:
    """``size`` bytes of the content from ``offset``."""
    block = _block(seed)
    start = offset % PERIOD
    if start + size <= PERIOD:
        return block[start : start + size]
    repeats = (start + size) // PERIOD + 1
    return (block * repeats)[start : start + size]


@lru_cache(maxsize=1024)
def crc32(seed: int, size: int) -> int:
    """The CRC-32 of the first ``size`` bytes, in time logarithmic in their number."""
    block = _block(seed)
    repeats, tail = divmod(size, PERIOD)
    total, power, length = 0, zlib.crc32(block), PERIOD
    while repeats:
        if repeats & 1:
            total = combine_crc32(total, power, length)
        power, length = combine_crc32(power, power, length), length * 2
        repeats >>= 1
    return combine_crc32(total, zlib.crc32(block[:tail]), tail)


def combine_crc32(first: int, second: int, second_length: int) -> int:
    """The CRC-32 of two messages one after the other, from their CRCs and the second's length."""
    matrix = _one_zero_byte()
    while second_length:
        if second_length & 1:
            first = _apply(matrix, first)
        matrix = _square(matrix)
        second_length >>= 1
    return first ^ second


@lru_cache(maxsize=32)
def _block(seed: int) -> bytes:
    return random.Random(seed).randbytes(PERIOD)


@lru_cache(maxsize=1)
def _one_zero_byte() -> _Matrix:
    """What one zero byte does to the register of a CRC-32, as a matrix over two elements."""
    one_bit = (_CRC_POLYNOMIAL, *(1 << bit for bit in range(_WIDTH - 1)))
    return _square(_square(_square(one_bit)))


@lru_cache(maxsize=128)
def _square(matrix: _Matrix) -> _Matrix:
    return tuple(_apply(matrix, column) for column in matrix)


def _apply(matrix: _Matrix, vector: int) -> int:
    result = 0
    for column in matrix:
        if vector & 1:
            result ^= column
        vector >>= 1
    return result
