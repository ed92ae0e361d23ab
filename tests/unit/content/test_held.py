"""Bytes in memory, laid over those of a data file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icatfs.content.chunks import CHUNK
from icatfs.content.datafile import DataFile
from icatfs.content.held import Held

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 3 * CHUNK + 100
DATA = random.Random(1).randbytes(SIZE)
UNDER = random.Random(2).randbytes(SIZE)


def keep(held: Held, start: int, stop: int) -> None:
    held.keep(start, memoryview(DATA)[start:stop])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DataFile]:
    made = DataFile.create(tmp_path, "one")
    assert made is not None
    assert made.write(0, memoryview(UNDER))
    yield made
    made.close()


def test_nothing_is_there_at_first() -> None:
    held = Held()
    assert (held.size, len(held)) == (0, 0)
    assert 0 not in held
    assert held.read(None, 0, 10) == b""


def test_what_is_kept_is_counted_by_bytes_and_chunks() -> None:
    held = Held()
    keep(held, 10, 20)
    assert (held.size, len(held)) == (10, 1)
    keep(held, 20, 25)
    assert (held.size, len(held)) == (15, 1)
    keep(held, 2 * CHUNK - 5, 2 * CHUNK + 5)
    assert (held.size, len(held)) == (25, 3)
    assert [number in held for number in range(4)] == [True, True, True, False]


def test_it_is_a_copy_that_is_kept() -> None:
    held, data = Held(), bytearray(b"bytes")
    held.keep(0, memoryview(data))
    data[:] = b"other"
    assert held.read(None, 0, 5) == b"bytes"


def test_the_oldest_chunk_is_the_one_that_came_first_whatever_came_to_it_since() -> None:
    held = Held()
    for number in (2, 0, 1):
        keep(held, number * CHUNK, number * CHUNK + 10)
    keep(held, 2 * CHUNK + 10, 2 * CHUNK + 20)
    assert held.oldest == 2
    assert held.drop(2) == 20
    assert held.oldest == 0
    keep(held, 2 * CHUNK, 2 * CHUNK + 10)
    assert held.oldest == 0


def test_what_is_dropped_is_said_and_gone() -> None:
    held = Held()
    keep(held, CHUNK - 10, CHUNK + 30)
    assert held.drop(1) == 30
    assert (held.size, len(held)) == (10, 1)
    assert 1 not in held
    assert held.drop(1) == 0
    assert held.drop(7) == 0
    assert held.size == 10
    assert held.read(None, CHUNK - 10, 40) == DATA[CHUNK - 10 : CHUNK]


def test_after_all_was_forgotten_nothing_is_there() -> None:
    held = Held()
    keep(held, 0, CHUNK + 1)
    held.clear()
    assert (held.size, len(held)) == (0, 0)
    assert held.read(None, 0, 10) == b""


def test_with_nothing_in_memory_the_file_is_read(file: DataFile) -> None:
    assert Held().read(file, 5, 100) == UNDER[5:105]
    assert Held().read(file, SIZE - 5, 100) == UNDER[-5:]


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 10), (90, 110), (100, 200), (120, 130), (190, 210), (90, 210), (199, 200), (200, 201)],
)
def test_what_is_in_memory_lies_over_what_is_in_the_file(
    file: DataFile, start: int, stop: int
) -> None:
    held = Held()
    keep(held, 100, 200)
    expected = UNDER[:100] + DATA[100:200] + UNDER[200:]
    assert held.read(file, start, stop - start) == expected[start:stop]


def test_a_piece_beyond_the_end_of_the_file_is_read_whole(file: DataFile) -> None:
    held = Held()
    beyond = memoryview(b"beyond")
    held.keep(SIZE + 10, beyond)
    assert held.read(file, SIZE - 2, 18) == UNDER[-2:] + bytes(10) + b"beyond"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(st.integers(0, SIZE), min_size=2, max_size=16, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 2 * CHUNK)), max_size=12),
    st.sets(st.integers(0, 3)),
    st.randoms(use_true_random=False),
)
def test_whatever_is_kept_and_dropped_is_read_as_it_should_be(
    file: DataFile,
    ends: list[int],
    reads: list[tuple[int, int]],
    dropped: set[int],
    dice: random.Random,
) -> None:
    held, expected = Held(), bytearray(UNDER)
    ranges = list(zip(ends[::2], ends[1::2], strict=False))
    dice.shuffle(ranges)
    for start, stop in ranges:
        keep(held, start, stop)
        expected[start:stop] = DATA[start:stop]
    for number in dropped:
        held.drop(number)
        expected[number * CHUNK : (number + 1) * CHUNK] = UNDER[number * CHUNK :][:CHUNK]
    for start, size in reads:
        assert held.read(file, start, size) == expected[start : start + size]
    left = [
        number
        for number in range(4)
        if number not in dropped
        and any(start < (number + 1) * CHUNK and number * CHUNK < stop for start, stop in ranges)
    ]
    assert len(held) == len(left)
    assert all(number in held for number in left)
