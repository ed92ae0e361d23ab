"""The order in which chunks are given back, against a list that is kept by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from icatfs.content.ages import Ages
from icatfs.content.chunks import CHUNK

FEW = 12
"""Of fewer chunks neither reading nor the place in the file counts."""


def borders(size: int | None) -> set[int]:
    """The chunk of the first byte, and those of the last MiB."""
    if size is None:
        return {0}
    return {0, *(max(0, byte) // CHUNK for byte in (size - CHUNK, size - 1))}


# The edges.


@pytest.mark.parametrize("count", range(FEW + 3))
def test_of_twelve_chunks_and_more_the_borders_go_last(count: int) -> None:
    size = count * CHUNK
    leaving = list(Ages(range(count)).leaving(0, size))
    if count < FEW:
        assert leaving == list(range(count))
    else:
        assert leaving == [*range(1, count - 1), 0, count - 1]


@pytest.mark.parametrize("count", range(1, FEW + 3))
def test_of_twelve_chunks_and_more_the_read_ones_go_later(count: int) -> None:
    ages = Ages(range(100, 100 + count))
    ages.was_read(100)
    expected = [*range(101, 100 + count), 100] if count >= FEW else [*range(100, 100 + count)]
    assert list(ages.leaving(0, CHUNK)) == expected
    assert ages.last_read == 100


@pytest.mark.parametrize(
    ("size", "tail"),
    [
        (20 * CHUNK, [19]),
        (20 * CHUNK - 1, [18, 19]),
        (19 * CHUNK + 1, [18, 19]),
        (19 * CHUNK, [18]),
        (CHUNK + 1, [1]),
        (CHUNK, []),
        (1, []),
        (0, []),
    ],
)
def test_the_borders_are_the_first_chunk_and_those_of_the_last_mebibyte(
    size: int, tail: list[int]
) -> None:
    leaving = list(Ages(range(30)).leaving(0, size))
    last = [0, *tail]
    assert leaving == [number for number in range(30) if number not in last] + last


def test_borders_go_in_the_order_of_their_ages_among_themselves() -> None:
    ages = Ages(range(30))
    ages.was_read(0)
    assert list(ages.leaving(0, 30 * CHUNK))[-2:] == [29, 0]


@pytest.mark.parametrize("kept", range(16))
def test_the_newest_stay_even_where_older_ones_are_borders(kept: int) -> None:
    ages = Ages(range(14))
    leaving = list(ages.leaving(kept, 14 * CHUNK))
    assert set(leaving) == set(range(14 - kept))
    assert leaving == sorted(leaving, key=lambda number: (number in (0, 13), number))


def test_what_came_twice_at_first_is_there_once() -> None:
    ages = Ages([3, 1, 3])
    assert len(ages) == 2
    assert list(ages.leaving(0, None)) == [3, 1]


def test_who_reads_what_is_not_there_reads_all_the_same() -> None:
    ages = Ages(range(20))
    ages.was_read(99)
    assert ages.last_read == 99
    assert list(ages.leaving(0, 1)) == [*range(1, 20), 0]


def test_what_is_forgotten_and_comes_again_is_the_newest() -> None:
    ages = Ages([1, 2, 3])
    ages.forget(1)
    assert len(ages) == 2
    ages.came(1)
    assert list(ages.leaving(0, None)) == [2, 3, 1]


def test_what_leaves_is_found_while_others_come() -> None:
    """The caller takes as many as he needs, and what he was given he may forget."""
    ages = Ages(range(20))
    leaving = ages.leaving(5, 20 * CHUNK)
    first = list(itertools.islice(leaving, 3))
    for number in first:
        ages.forget(number)
    ages.came(50)
    assert first == [1, 2, 3]
    assert list(leaving) == [*range(4, 15), 0]


@pytest.mark.parametrize(
    ("read", "asked", "last"),
    [
        ([], 3, 3),
        ([3], 3, 3),
        ([4], 3, 4),
        ([5], 3, 5),
        ([6], 3, 3),
        ([5, 7, 9], 3, 9),
        ([5, 7, 10], 3, 7),
        ([3, 4, 5, 6], 3, 6),
        ([0, 1, 2], 3, 3),
        ([3, 30], 3, 3),
    ],
)
def test_who_reads_on_is_followed_over_two_chunks_that_were_not_read(
    read: list[int], asked: int, last: int
) -> None:
    for count in (11, 12):  # whether or not reading makes them younger
        ages = Ages(range(count))
        for number in read:
            ages.was_read(number)
        assert ages.read_on(asked) == last


def test_what_was_read_is_read_until_it_goes() -> None:
    ages = Ages([5])
    ages.was_read(5)
    ages.came(5)
    assert ages.read_on(4) == 5, "more of it came"
    ages.forget(5)
    assert ages.read_on(4) == 4
    ages.came(5)
    assert ages.read_on(4) == 4, "it is not that which was read"
    ages.was_read(5)
    ages.clear()
    ages.came(5)
    assert ages.read_on(4) == 4


# Any use.

numbers = st.integers(0, 15)


class Cache(RuleBasedStateMachine):
    """Chunks come, are read and go; the oldest is the first of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.ages = Ages()
        self.oldest_first: list[int] = []
        self.last_read = -1
        self.read: set[int] = set()

    @initialize(came=st.lists(numbers, unique=True, max_size=16))
    def begin(self, came: list[int]) -> None:
        self.ages = Ages(came)
        self.oldest_first = list(came)

    @rule(number=numbers)
    def comes(self, number: int) -> None:
        self.ages.came(number)
        self._renew(number)

    @rule(number=numbers)
    def is_read(self, number: int) -> None:
        self.ages.was_read(number)
        self.last_read = number
        if number in self.oldest_first:
            self.read.add(number)
            if len(self.oldest_first) >= FEW:
                self._renew(number)

    @rule(number=numbers)
    def is_forgotten(self, number: int) -> None:
        self.ages.forget(number)
        if number in self.oldest_first:
            self.oldest_first.remove(number)
            self.read.discard(number)

    @rule(number=numbers)
    def somebody_asks_how_far_it_was_read(self, number: int) -> None:
        last = number
        while nearer := [one for one in self.read if last < one <= last + 2]:
            last = min(nearer)
        assert self.ages.read_on(number) == last

    @rule(kept=st.integers(0, 16), size=st.none() | st.integers(0, 17 * CHUNK))
    def some_may_leave(self, kept: int, size: int | None) -> None:
        old = self.oldest_first[: len(self.oldest_first) - kept] if kept < len(self.ages) else []
        last = borders(size) if len(self.oldest_first) >= FEW else set()
        inner = [number for number in old if number not in last]
        outer = [number for number in old if number in last]
        assert list(self.ages.leaving(kept, size)) == inner + outer

    @precondition(lambda self: len(self.oldest_first) > 10)
    @rule(size=st.integers(1, 17 * CHUNK))
    def room_is_made(self, size: int) -> None:
        for number in itertools.islice(self.ages.leaving(1, size), 4):
            self.ages.forget(number)
            self.oldest_first.remove(number)
            self.read.discard(number)

    @rule()
    def all_is_given_back(self) -> None:
        self.ages.clear()
        self.oldest_first.clear()
        self.read.clear()
        self.last_read = -1

    def _renew(self, number: int) -> None:
        if number in self.oldest_first:
            self.oldest_first.remove(number)
        self.oldest_first.append(number)

    @invariant()
    def it_has_what_is_there(self) -> None:
        assert len(self.ages) == len(self.oldest_first)
        assert list(self.ages.leaving(0, None if len(self.ages) < FEW else 0)) == (
            self.oldest_first
            if len(self.ages) < FEW or 0 not in self.oldest_first
            else [*(number for number in self.oldest_first if number), 0]
        )
        assert self.ages.last_read == self.last_read


Cache.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestCache = Cache.TestCase
