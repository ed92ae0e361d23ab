"""Content by formula."""

from __future__ import annotations

import zlib

import pytest

from icatfs.facility import patterns

SIZES = [0, 1, patterns.PERIOD - 1, patterns.PERIOD, patterns.PERIOD + 1, 3 * patterns.PERIOD + 17]


@pytest.mark.parametrize("size", SIZES)
def test_the_checksum_by_formula_is_that_of_the_bytes(size: int) -> None:
    assert patterns.crc32(7, size) == zlib.crc32(patterns.read(7, 0, size))


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 10), (patterns.PERIOD - 3, 10), (patterns.PERIOD, 5), (5, 2 * patterns.PERIOD + 9)],
)
def test_bytes_at_any_offset_are_those_of_the_whole(offset: int, size: int) -> None:
    whole = patterns.read(1, 0, 4 * patterns.PERIOD)
    assert patterns.read(1, offset, size) == whole[offset : offset + size]


def test_seeds_and_offsets_differ() -> None:
    assert patterns.read(1, 0, 64) != patterns.read(2, 0, 64)
    assert patterns.read(1, 0, 64) != patterns.read(1, 1 << 20, 64)


def test_the_checksum_of_a_gigantic_file_costs_nothing() -> None:
    half = patterns.crc32(3, 14 * patterns.PERIOD << 10)
    assert patterns.crc32(3, 28 * patterns.PERIOD << 10) == patterns.combine_crc32(
        half, half, 14 * patterns.PERIOD << 10
    )
