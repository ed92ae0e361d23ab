"""Chunks that are to be compared once: which, how often, and what counts as altered."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.content.checking import Unchecked, altered
from icatfs.content.chunks import CHUNK, Checksums, Piece, cut

DATA = random.Random(3).randbytes(4 * CHUNK + 1000)


@dataclass
class Disk:
    """What is read, and what was."""

    data: bytearray = field(default_factory=lambda: bytearray(DATA))
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return bytes(self.data[offset : offset + size])

    def numbers(self) -> list[int]:
        """The chunks that were read."""
        return [offset // CHUNK for offset, _ in self.reads]


def pieces(*ranges: tuple[int, int]) -> list[Piece]:
    return [
        Piece(first, last, zlib.crc32(DATA[first:last]))
        for start, stop in ranges
        for first, last in cut(start, stop)
    ]


def known(*ranges: tuple[int, int]) -> Checksums:
    checksums = Checksums()
    for piece in pieces(*ranges):
        checksums.add(piece)
    return checksums


ALL = known((0, len(DATA)))


def test_nothing_is_unchecked_of_nothing() -> None:
    assert not Unchecked([])
    assert Unchecked([]).compare(0, len(DATA), Checksums(), Disk().read)


def test_a_chunk_of_number_0_is_one() -> None:
    assert Unchecked([0])


def test_each_chunk_is_compared_when_it_is_first_wanted_and_not_again() -> None:
    disk, unchecked = Disk(), Unchecked(range(5))
    assert unchecked.compare(CHUNK + 5, CHUNK + 6, ALL, disk.read)
    assert disk.numbers() == [1]
    assert unchecked.compare(0, 3 * CHUNK, ALL, disk.read)
    assert disk.numbers() == [1, 0, 2]
    assert unchecked.compare(0, len(DATA), ALL, disk.read)
    assert disk.numbers() == [1, 0, 2, 3, 4]
    assert not unchecked


@pytest.mark.parametrize(
    ("start", "stop", "numbers"),
    [
        (0, 1, [0]),
        (CHUNK - 1, CHUNK, [0]),
        (CHUNK - 1, CHUNK + 1, [0, 1]),
        (CHUNK, CHUNK + 1, [1]),
        (CHUNK, 2 * CHUNK, [1]),
        (4 * CHUNK, 2**40, [4]),
        (2**40, 2**41, []),
        (7, 7, [0]),
    ],
)
def test_what_is_compared_are_the_chunks_that_have_some_of_it(
    start: int, stop: int, numbers: list[int]
) -> None:
    disk = Disk()
    assert Unchecked(range(5)).compare(start, stop, ALL, disk.read)
    assert disk.numbers() == numbers


def test_what_was_not_kept_is_not_compared() -> None:
    disk = Disk()
    assert Unchecked([1, 3]).compare(0, len(DATA), ALL, disk.read)
    assert disk.numbers() == [1, 3]


def test_of_a_chunk_that_has_gaps_its_runs_are_compared() -> None:
    disk = Disk()
    checksums = known((10, 20), (50, 100), (CHUNK - 5, CHUNK))
    disk.data[20:50] = bytes(30)  # nobody knows what that is
    assert Unchecked([0]).compare(0, 1, checksums, disk.read)
    assert disk.reads == [(10, 10), (50, 50), (CHUNK - 5, 5)]


def test_an_altered_chunk_is_found_only_by_who_wants_some_of_it() -> None:
    disk, unchecked = Disk(), Unchecked(range(5))
    disk.data[2 * CHUNK + 77] ^= 1
    assert unchecked.compare(0, 2 * CHUNK, ALL, disk.read)
    assert not unchecked.compare(2 * CHUNK + 500, 2 * CHUNK + 600, ALL, disk.read)
    assert not unchecked.compare(2 * CHUNK, 2 * CHUNK + 1, ALL, disk.read), "and stays so"
    assert unchecked


def test_behind_an_altered_chunk_nothing_is_read() -> None:
    disk = Disk()
    disk.data[CHUNK] ^= 1
    assert not Unchecked(range(5)).compare(0, len(DATA), ALL, disk.read)
    assert disk.numbers() == [0, 1]


def test_the_first_altered_run_is_told() -> None:
    disk = Disk()
    runs = pieces((0, 100), (200, 300), (400, 500))
    assert altered(runs, disk.read) is None
    disk.data[450] ^= 128
    assert altered(runs, disk.read) == runs[2]
    disk.data[299] ^= 1
    assert altered(runs, disk.read) == runs[1]


def test_what_is_shorter_than_it_was_is_altered() -> None:
    run = pieces((len(DATA) - 100, len(DATA)))[0]
    disk = Disk(bytearray(DATA[:-1]))
    assert altered([run], disk.read) == run


def test_what_reads_as_nothing_is_altered_though_its_crc_were_that_of_nothing() -> None:
    run = Piece(0, 10, zlib.crc32(b""))
    assert altered([run], lambda _offset, _size: b"") == run


def test_what_the_disk_does_not_read_is_altered() -> None:
    def broken(offset: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    (run,) = pieces((0, 10))
    assert altered([run], broken) == run
    assert not Unchecked([0]).compare(0, 1, ALL, broken)


@given(
    kept=st.sets(st.integers(0, 4)),
    flipped=st.none() | st.integers(0, len(DATA) - 1),
    wanted=st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, CHUNK)), max_size=8),
)
def test_whatever_is_wanted_an_altered_byte_is_found_before_it_is_read(
    kept: set[int], flipped: int | None, wanted: list[tuple[int, int]]
) -> None:
    disk, unchecked = Disk(), Unchecked(sorted(kept))
    if flipped is not None:
        disk.data[flipped] ^= 1
    bad = None if flipped is None else flipped // CHUNK
    for start, size in wanted:
        touched = set(range(start // CHUNK, -(-(start + size) // CHUNK))) & kept
        is_right = unchecked.compare(start, start + size, ALL, disk.read)
        assert is_right == (bad not in touched)
        if not is_right:
            return
    numbers = disk.numbers()
    assert len(numbers) == len(set(numbers))
