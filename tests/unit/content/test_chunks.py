"""CRC-32s of pieces, against zlib."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal.isal_zlib import crc32_combine

from icatfs.content.chunks import CHUNK, Checksums, Piece, cut
from icatfs.content.extents import Extents

DATA = random.Random(1).randbytes(3 * CHUNK + 12_345)
SIZE = len(DATA)


def piece(start: int, stop: int) -> Piece:
    return Piece(start, stop, zlib.crc32(DATA[start:stop]))


def pieces(start: int, stop: int) -> list[Piece]:
    return [piece(first, last) for first, last in cut(start, stop)]


def known(*ranges: tuple[int, int]) -> Checksums:
    checksums = Checksums()
    for start, stop in ranges:
        for one in pieces(start, stop):
            checksums.add(one)
    return checksums


def is_right(checksums: Checksums) -> bool:
    """Whether all that it says is what zlib says of the data."""
    runs = list(checksums)
    by_chunk = [run for number in checksums.chunks() for run in checksums.runs(number)]
    return (
        runs == by_chunk
        and all(run == piece(run.start, run.stop) for run in runs)
        and all(
            one.stop < other.start or (one.stop == other.start and other.start % CHUNK == 0)
            for one, other in pairwise(runs)
        )
    )


@pytest.mark.parametrize("length", [*range(300), CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_two_texts_of_any_length_are_combined_as_zlib_does(length: int) -> None:
    first, second = DATA[5:77], DATA[SIZE - length :]
    combined = crc32_combine(zlib.crc32(first), zlib.crc32(second), length)
    assert combined == zlib.crc32(first + second)


def test_the_length_of_the_second_text_may_be_beyond_any_memory() -> None:
    """A text of 2^43 zeros, doubled step by step, and added at once or in halves."""
    zeros, length = zlib.crc32(b"\0"), 1
    for _ in range(42):
        zeros, length = crc32_combine(zeros, zeros, length), 2 * length
    text = zlib.crc32(b"text")
    in_halves = crc32_combine(crc32_combine(text, zeros, length), zeros, length)
    assert in_halves == crc32_combine(text, crc32_combine(zeros, zeros, length), 2 * length)


@given(st.integers(0, 5 * CHUNK), st.integers(0, 5 * CHUNK))
def test_a_range_is_cut_at_every_border_and_nowhere_else(start: int, stop: int) -> None:
    parts = list(cut(start, stop))
    assert Extents(parts) == Extents([(start, stop)])
    assert all(one[1] == other[0] and one[1] % CHUNK == 0 for one, other in pairwise(parts))
    assert all(first // CHUNK == (last - 1) // CHUNK for first, last in parts)


ORDERS = list(permutations([(0, 1000), (1000, 3000), (3000, CHUNK), (CHUNK, CHUNK + 5)]))


@pytest.mark.parametrize("order", ORDERS)
def test_pieces_in_any_order_become_one_run_for_each_chunk(order: list[tuple[int, int]]) -> None:
    checksums = Checksums()
    for start, stop in order:
        checksums.add(piece(start, stop))
        assert is_right(checksums)
    assert list(checksums) == pieces(0, CHUNK + 5)
    assert checksums.whole(CHUNK + 5) == zlib.crc32(DATA[: CHUNK + 5])


@given(st.lists(st.integers(0, SIZE), max_size=12), st.randoms(use_true_random=False))
def test_the_whole_is_known_when_everything_is(borders: list[int], dice: random.Random) -> None:
    borders = sorted({0, SIZE, *borders})
    parts = [one for start, stop in pairwise(borders) for one in pieces(start, stop)]
    dice.shuffle(parts)
    checksums = Checksums()
    for number, one in enumerate(parts):
        assert checksums.whole(SIZE) is None, number
        checksums.add(one)
    assert is_right(checksums)
    assert checksums.whole(SIZE) == zlib.crc32(DATA)


@given(st.lists(st.integers(0, SIZE), max_size=10), st.data())
def test_what_was_packed_is_unpacked(borders: list[int], data: st.DataObject) -> None:
    ranges = [pair for pair in pairwise(sorted(set(borders))) if data.draw(st.booleans())]
    checksums = known(*ranges)
    again = Checksums.unpack(checksums.pack(checksums.chunks()))
    assert is_right(again)
    assert list(again) == list(checksums)
    assert again.extents() == Extents(ranges)
    left_out = data.draw(st.sets(st.integers(0, 3)))
    for number in left_out:
        checksums.remove(number)
    assert is_right(checksums)
    packed = again.pack(number for number in again.chunks() if number not in left_out)
    assert list(Checksums.unpack(packed)) == list(checksums)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_refused_or_are_one(packed: bytes) -> None:
    try:
        checksums = Checksums.unpack(packed)
    except ValueError:
        return
    assert checksums.pack(checksums.chunks()) == packed


@pytest.mark.parametrize("start_stop", [(5, 5), (9, 5), (0, 2**63), (0, 2 * CHUNK)])
def test_a_range_without_its_checksums_is_refused(start_stop: tuple[int, int]) -> None:
    packed = b"".join(number.to_bytes(8, "little") for number in start_stop)
    with pytest.raises(ValueError, match=r"order|piece"):
        Checksums.unpack(packed + b"1234")


def test_what_has_passed_stays_known_when_the_chunks_are_forgotten() -> None:
    checksums = Checksums()
    *full, last = pieces(0, SIZE)
    for number, one in enumerate(full):
        checksums.add(one)
        assert checksums.remove(number) == (one,)
    assert list(checksums) == []
    assert checksums.whole(SIZE) is None
    checksums.add(last)
    assert checksums.whole(SIZE) == zlib.crc32(DATA)
    assert checksums.whole(SIZE - 1) is None


def test_without_what_was_forgotten_the_whole_is_not_known() -> None:
    checksums = known((CHUNK, SIZE))
    checksums.remove(1)
    checksums.add(piece(0, CHUNK))
    assert checksums.whole(SIZE) is None
    checksums.add(piece(CHUNK, 2 * CHUNK))
    assert checksums.whole(SIZE) == zlib.crc32(DATA)


def test_bytes_that_come_back_differently_cut_are_as_good() -> None:
    checksums = known((0, CHUNK + 1000))
    checksums.remove(0)
    checksums.remove(1)
    for start, stop in ((500, CHUNK), (CHUNK, CHUNK + 77), (CHUNK + 77, SIZE)):
        for one in pieces(start, stop):
            checksums.add(one)
    assert checksums.whole(SIZE) == zlib.crc32(DATA)


def test_nothing_is_known_of_an_empty_content_but_its_checksum() -> None:
    checksums = Checksums()
    assert checksums.whole(0) == 0
    assert checksums.pack([]) == b""
    assert list(Checksums.unpack(b"")) == []
    checksums.add(piece(0, 100))
    checksums.clear()
    assert list(checksums) == []
    assert checksums.whole(0) == 0


def test_a_piece_across_a_border_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        Checksums().add(Piece(CHUNK - 1, CHUNK + 1, 0))


def test_of_what_came_twice_the_latest_counts_where_all_is_here() -> None:
    first, other, tail = b"a" * CHUNK, b"b" * CHUNK, b"tail"
    size = CHUNK + len(tail)
    checksums = Checksums()
    checksums.add(Piece(0, CHUNK, zlib.crc32(first)))
    checksums.remove(0)
    checksums.add(Piece(CHUNK, size, zlib.crc32(tail)))
    assert checksums.latest(size) == checksums.whole(size) == zlib.crc32(first + tail)
    checksums.add(Piece(0, CHUNK, zlib.crc32(other)))
    assert checksums.whole(size) == zlib.crc32(first + tail), "what has passed"
    assert checksums.latest(size) == zlib.crc32(other + tail), "what is here"
    assert checksums.latest(size + 1) is None
