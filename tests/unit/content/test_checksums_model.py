"""What is known of a CRC-32, against zlib and a set of ranges, however bytes come and go."""

from __future__ import annotations

import random
import struct
import zlib
from itertools import combinations, pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from icatfs.content.chunks import CHUNK, Checksums, Piece, cut
from icatfs.content.extents import Extents

DATA = random.Random(5).randbytes(4 * CHUNK)
SIZE = len(DATA)
CHUNKS = range(SIZE // CHUNK)
MARKS = (0, 1, 1000, CHUNK // 2, CHUNK - 1, CHUNK)
"""Where pieces begin and end in a chunk."""
CRCS: dict[tuple[int, int], int] = {}


def piece(start: int, stop: int) -> Piece:
    if (start, stop) not in CRCS:
        CRCS[start, stop] = zlib.crc32(DATA[start:stop])
    return Piece(start, stop, CRCS[start, stop])


def in_chunk(number: int, first: int, last: int) -> Piece:
    return piece(number * CHUNK + first, number * CHUNK + last)


def known(*ranges: tuple[int, int]) -> Checksums:
    checksums = Checksums()
    for start, stop in ranges:
        for part in cut(start, stop):
            checksums.add(piece(*part))
    return checksums


# One chunk.


@pytest.mark.parametrize("number", [0, 3])
def test_the_runs_of_a_chunk_are_what_is_there_whatever_pieces_came(number: int) -> None:
    """Each set of five pieces, from the front and from the back."""
    parts = [in_chunk(number, first, last) for first, last in pairwise(MARKS)]
    for count in range(len(parts) + 1):
        for some in combinations(parts, count):
            for order in (some, some[::-1], some[1:] + some[:1]):
                checksums = Checksums()
                for one in order:
                    checksums.add(one)
                there = Extents((one.start, one.stop) for one in some)
                assert checksums.runs(number) == tuple(piece(*run) for run in there)
                assert checksums.extents() == there
                assert checksums.chunks() == ([number] if some else [])


def test_the_runs_of_a_chunk_of_which_nothing_is_known_are_none() -> None:
    checksums = known((CHUNK, 2 * CHUNK))
    assert checksums.runs(0) == checksums.runs(2) == ()
    assert checksums.remove(0) == ()
    assert list(checksums) == [piece(CHUNK, 2 * CHUNK)]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(5, 5), (7, 5), (-5, 5), (-5, -1), (0, CHUNK + 1), (CHUNK - 1, CHUNK + 1), (CHUNK, 3 * CHUNK)],
)
def test_what_is_no_piece_is_a_mistake(start: int, stop: int) -> None:
    with pytest.raises(AssertionError, match="in one chunk"):
        Checksums().add(Piece(start, stop, 0))


def test_bytes_are_counted_by_chunk() -> None:
    checksums = known((0, CHUNK), (CHUNK + 10, CHUNK + 30), (CHUNK + 50, CHUNK + 55))
    assert checksums.size([0]) == CHUNK
    assert checksums.size([1]) == 25
    assert checksums.size([1, 0]) == CHUNK + 25
    assert checksums.size([]) == 0


# The whole.


def test_the_whole_of_full_chunks_is_known_at_every_border() -> None:
    checksums = Checksums()
    for number in CHUNKS:
        assert checksums.whole(number * CHUNK) == zlib.crc32(DATA[: number * CHUNK])
        assert checksums.whole((number + 1) * CHUNK) is None
        checksums.add(in_chunk(number, 0, CHUNK))
    assert checksums.whole(SIZE) == zlib.crc32(DATA)
    assert checksums.whole(SIZE - CHUNK) is None, "nothing tells that of a part"


@pytest.mark.parametrize("end", [2, 1000, CHUNK - 1])
def test_the_whole_is_known_where_the_last_run_ends_and_nowhere_else(end: int) -> None:
    checksums = known((0, 2 * CHUNK + end))
    size = 2 * CHUNK + end
    assert checksums.whole(size) == zlib.crc32(DATA[:size])
    assert checksums.whole(size + 1) is None
    assert checksums.whole(size - 1) is None
    assert checksums.whole(2 * CHUNK) == zlib.crc32(DATA[: 2 * CHUNK])


def test_the_whole_is_not_known_where_the_last_chunk_has_a_hole() -> None:
    end = CHUNK + 1000
    assert known((0, CHUNK), (CHUNK + 1, end)).whole(end) is None
    assert known((0, CHUNK), (CHUNK, CHUNK + 1), (CHUNK + 2, end)).whole(end) is None
    assert known((1, end)).whole(end) is None


def test_chunks_that_were_full_before_those_in_front_of_them_pass_with_these() -> None:
    checksums = Checksums()
    for number in (3, 1, 2):
        checksums.add(in_chunk(number, 0, CHUNK))
        assert checksums.whole(SIZE) is None
    checksums.add(in_chunk(0, 0, CHUNK))
    assert checksums.whole(SIZE) == zlib.crc32(DATA)


def test_a_chunk_that_is_forgotten_before_its_turn_has_not_passed() -> None:
    checksums = known((CHUNK, 3 * CHUNK))
    checksums.remove(1)
    checksums.add(in_chunk(0, 0, CHUNK))
    assert checksums.whole(CHUNK) == zlib.crc32(DATA[:CHUNK])
    assert checksums.whole(3 * CHUNK) is None
    checksums.add(in_chunk(1, 0, CHUNK))
    assert checksums.whole(3 * CHUNK) == zlib.crc32(DATA[: 3 * CHUNK]), "the third waited"


def test_a_chunk_that_passed_and_comes_again_does_not_pass_twice() -> None:
    checksums = known((0, CHUNK))
    checksums.remove(0)
    checksums.add(in_chunk(0, 0, CHUNK))
    assert checksums.whole(CHUNK) == zlib.crc32(DATA[:CHUNK])
    checksums.add(in_chunk(1, 0, CHUNK))
    assert checksums.whole(2 * CHUNK) == zlib.crc32(DATA[: 2 * CHUNK])


def test_what_is_cleared_has_not_passed() -> None:
    checksums = known((0, CHUNK))
    checksums.clear()
    assert checksums.whole(CHUNK) is None
    assert checksums.chunks() == []
    for number in (1, 0):
        checksums.add(in_chunk(number, 0, CHUNK))
    assert checksums.whole(2 * CHUNK) == zlib.crc32(DATA[: 2 * CHUNK])


def test_what_passed_before_it_was_written_down_is_not_known_after() -> None:
    """A record has what is here; what was given back nobody can compare any more."""
    checksums = known((0, CHUNK), (CHUNK, CHUNK + 5))
    checksums.remove(0)
    again = Checksums.unpack(checksums.pack(checksums.chunks()))
    assert checksums.whole(CHUNK + 5) == zlib.crc32(DATA[: CHUNK + 5])
    assert again.whole(CHUNK + 5) is None
    again.add(in_chunk(0, 0, CHUNK))
    assert again.whole(CHUNK + 5) == zlib.crc32(DATA[: CHUNK + 5])


# Records.

RECORDS: list[tuple[list[tuple[int, int]], list[tuple[int, int, int]]]] = [
    ([], []),
    ([(0, 5)], [(0, 5, 1)]),
    ([(5, 9), (20, 30)], [(5, 9, 1), (20, 30, 1)]),
    ([(0, CHUNK)], [(0, CHUNK, 1)]),
    ([(0, CHUNK + 1)], [(0, CHUNK + 1, 2)]),
    ([(CHUNK - 1, CHUNK + 1)], [(CHUNK - 1, CHUNK + 1, 2)]),
    ([(7, 3 * CHUNK - 7)], [(7, 3 * CHUNK - 7, 3)]),
    ([(0, CHUNK - 1), (CHUNK, 2 * CHUNK)], [(0, CHUNK - 1, 1), (CHUNK, 2 * CHUNK, 1)]),
    ([(0, 2 * CHUNK), (3 * CHUNK, 4 * CHUNK)], [(0, 2 * CHUNK, 2), (3 * CHUNK, 4 * CHUNK, 1)]),
]


@pytest.mark.parametrize(("ranges", "parts"), RECORDS)
def test_a_record_has_each_range_and_a_checksum_for_each_chunk_that_it_touches(
    ranges: list[tuple[int, int]], parts: list[tuple[int, int, int]]
) -> None:
    """To the byte: records of earlier versions are read with this."""
    checksums = known(*ranges)
    packed = b""
    for start, stop, count in parts:
        crcs = [piece(*part).crc32 for part in cut(start, stop)]
        assert len(crcs) == count
        packed += struct.pack(f"<QQ{count}I", start, stop, *crcs)
    assert checksums.pack(checksums.chunks()) == packed
    again = Checksums.unpack(packed)
    assert list(again) == list(checksums)
    assert again.chunks() == checksums.chunks()
    assert again.extents() == Extents(ranges)


@pytest.mark.parametrize(("ranges", "parts"), RECORDS)
def test_a_record_that_is_cut_off_is_refused_but_where_a_range_ends(
    ranges: list[tuple[int, int]], parts: list[tuple[int, int, int]]
) -> None:
    checksums = known(*ranges)
    packed = checksums.pack(checksums.chunks())
    ends, end = {0}, 0
    for _, _, count in parts:
        end += 16 + 4 * count
        ends.add(end)
    for length in range(len(packed) + 1):
        if length in ends:
            Checksums.unpack(packed[:length])
        else:
            with pytest.raises(ValueError, match=r"piece|longer"):
                Checksums.unpack(packed[:length])


@pytest.mark.parametrize(
    "ranges",
    [
        [(5, 5)],
        [(6, 5)],
        [(0, 5), (5, 9)],
        [(0, 5), (3, 9)],
        [(5, 9), (0, 3)],
        [(0, CHUNK), (CHUNK, CHUNK + 5)],
        [(CHUNK, 2 * CHUNK), (0, 5)],
    ],
)
def test_ranges_that_nobody_can_have_written_are_refused(ranges: list[tuple[int, int]]) -> None:
    packed = b"".join(
        struct.pack("<QQ", start, stop) + bytes(4 * max(1, len(list(cut(start, stop)))))
        for start, stop in ranges
    )
    with pytest.raises(ValueError, match="order"):
        Checksums.unpack(packed)


def test_a_record_may_be_read_of_chunks_far_away() -> None:
    far = 2**40
    packed = struct.pack("<QQ2I", far - 5, far + CHUNK, 1, 2)
    checksums = Checksums.unpack(packed)
    assert list(checksums) == [Piece(far - 5, far, 1), Piece(far, far + CHUNK, 2)]
    assert checksums.pack(checksums.chunks()) == packed
    assert checksums.whole(far + CHUNK) is None


# All of it, for long.

marks = st.sampled_from(MARKS)
numbers = st.sampled_from(list(CHUNKS))


class Content(RuleBasedStateMachine):
    """Bytes come in any order, chunks go, records are written and read."""

    def __init__(self) -> None:
        super().__init__()
        self.checksums = Checksums()
        self.there = Extents()
        self.passed = 0

    @rule(number=numbers, first=marks, last=marks)
    def bytes_come(self, number: int, first: int, last: int) -> None:
        """What of these is not there, as a stream brings it."""
        start, stop = number * CHUNK + first, number * CHUNK + last
        for gap in list(self.there.gaps(start, stop)):
            self.checksums.add(piece(*gap))
            self.there.add(*gap)
        self._pass()

    @rule(start=numbers, last=marks)
    def a_stream_comes(self, start: int, last: int) -> None:
        stop = min(SIZE, (start + 2) * CHUNK + last)
        for gap in list(self.there.gaps(start * CHUNK, stop)):
            for part in cut(*gap):
                self.checksums.add(piece(*part))
                self.there.add(*part)
                self._pass()

    @rule(number=numbers)
    def a_chunk_goes(self, number: int) -> None:
        assert self.checksums.remove(number) == self._runs(number)
        self.there.remove(number * CHUNK, (number + 1) * CHUNK)

    @rule(left_out=st.sets(numbers, max_size=2))
    def a_record_is_written_and_read(self, left_out: set[int]) -> None:
        kept = [number for number in self.checksums.chunks() if number not in left_out]
        packed = self.checksums.pack(kept)
        self.checksums = Checksums.unpack(packed)
        for number in left_out:
            self.there.remove(number * CHUNK, (number + 1) * CHUNK)
        self.passed = 0
        self._pass()

    @rule()
    def all_is_forgotten(self) -> None:
        self.checksums.clear()
        self.there.clear()
        self.passed = 0

    def _pass(self) -> None:
        while self.passed in CHUNKS and self._is_full(self.passed):
            self.passed += 1

    def _is_full(self, number: int) -> bool:
        return self.there.gap(number * CHUNK, (number + 1) * CHUNK) is None

    def _runs(self, number: int) -> tuple[Piece, ...]:
        other = Extents(self.there)
        other.remove(0, number * CHUNK)
        other.remove((number + 1) * CHUNK, SIZE)
        return tuple(piece(*run) for run in other)

    @invariant()
    def it_knows_what_is_there(self) -> None:
        runs = [self._runs(number) for number in CHUNKS]
        there = [number for number in CHUNKS if runs[number]]
        assert [self.checksums.runs(number) for number in CHUNKS] == runs
        assert list(self.checksums) == [run for some in runs for run in some]
        assert self.checksums.chunks() == there
        assert self.checksums.extents() == self.there
        assert self.checksums.size(there) == self.there.total

    @invariant()
    def it_knows_the_whole_of_what_passed_and_the_run_after_it(self) -> None:
        passed = self.passed * CHUNK
        runs = self._runs(self.passed) if self.passed in CHUNKS else ()
        sizes = {passed} | {run.stop for run in runs[:1] if run.start == passed}
        for size in {0, 1, 1000, CHUNK, CHUNK + 1, SIZE - 1, SIZE, passed, passed + 1} | sizes:
            right = piece(0, size).crc32 if size in sizes else None
            assert self.checksums.whole(size) == right


Content.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestContent = Content.TestCase
