"""Which chunks are given back first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icatfs.content.ages import Ages
from icatfs.content.chunks import CHUNK

SIZE = 10 * CHUNK
MANY = range(20, 30)
numbers = st.integers(0, 20)


def test_what_came_first_goes_first() -> None:
    assert list(Ages([3, 1, 2]).leaving(0, SIZE)) == [3, 1, 2]


def test_what_came_again_goes_later() -> None:
    ages = Ages([3, 1, 2])
    ages.came(3)
    assert list(ages.leaving(0, SIZE)) == [1, 2, 3]


def test_what_was_read_goes_later() -> None:
    ages = Ages([3, 1, 2, *MANY])
    ages.was_read(1)
    assert list(ages.leaving(0, SIZE)) == [3, 2, *MANY, 1]
    assert ages.last_read == 1


def test_of_few_chunks_the_read_ones_stay_where_they_are() -> None:
    ages = Ages([3, 1, 2])
    ages.was_read(1)
    assert list(ages.leaving(0, SIZE)) == [3, 1, 2]


def test_what_is_not_here_is_not_noted_when_it_is_read() -> None:
    ages = Ages([3])
    ages.was_read(7)
    assert list(ages.leaving(0, SIZE)) == [3]
    assert len(ages) == 1


def test_the_newest_stay() -> None:
    assert list(Ages([3, 1, 2]).leaving(2, SIZE)) == [3]
    assert list(Ages([3, 1, 2]).leaving(3, SIZE)) == []
    assert list(Ages([3, 1, 2]).leaving(9, SIZE)) == []


def test_head_and_tail_go_last() -> None:
    assert list(Ages([0, 9, *MANY]).leaving(0, SIZE)) == [*MANY, 0, 9]


def test_of_few_chunks_all_go_by_age() -> None:
    assert list(Ages([0, 9, *MANY[:9]]).leaving(0, SIZE)) == [0, 9, *MANY[:9]]


def test_the_tail_is_a_whole_chunk_at_least() -> None:
    for size in (SIZE - 1, 9 * CHUNK + 1):
        assert list(Ages([9, 8, *MANY]).leaving(0, size)) == [*MANY, 9, 8]


def test_of_an_unknown_size_only_the_head_is_known() -> None:
    assert list(Ages([0, 9, *MANY]).leaving(0, None)) == [9, *MANY, 0]


def test_what_is_forgotten_does_not_leave() -> None:
    ages = Ages([3, 1, 2])
    ages.forget(1)
    ages.forget(7)
    assert list(ages.leaving(0, SIZE)) == [3, 2]


def test_nothing_is_left_when_all_is_cleared() -> None:
    ages = Ages([3])
    ages.was_read(3)
    ages.clear()
    assert len(ages) == 0
    assert ages.last_read == -1


def test_those_that_leave_may_be_forgotten_one_by_one() -> None:
    ages = Ages(range(10))
    for number in ages.leaving(1, SIZE):
        ages.forget(number)
    assert list(ages.leaving(0, SIZE)) == [9]


@given(
    st.lists(numbers, unique=True),
    st.lists(numbers),
    st.integers(0, 22),
    st.none() | st.integers(1, 2 * SIZE),
)
def test_each_leaves_once_and_the_newest_never(
    came: list[int], read: list[int], kept: int, size: int | None
) -> None:
    ages = Ages(came)
    for number in read:
        ages.was_read(number)
    used = [*came, *(number for number in read if number in came and len(came) >= 12)]
    newest = sorted(came, key=lambda number: -max(i for i, n in enumerate(used) if n == number))
    leaving = list(ages.leaving(kept, size))
    assert sorted(leaving) == sorted(newest[kept:])


def test_who_reads_in_order_is_in_the_last_chunk_that_he_read() -> None:
    ages = Ages(range(20))
    for number in range(10):
        ages.was_read(number)
    assert [ages.read_on(number) for number in (0, 5, 9, 12)] == [9, 9, 9, 12]


def test_reads_that_come_out_of_order_are_in_order_all_the_same() -> None:
    ages = Ages(range(20))
    for number in (0, 3, 1, 5, 8):
        ages.was_read(number)
    assert ages.read_on(0) == 5, "and the chunk before the last two is not"


def test_what_was_read_and_came_again_has_not_been_read() -> None:
    ages = Ages(range(20))
    for number in range(10):
        ages.was_read(number)
    ages.came(4)
    assert ages.read_on(0) == 9, "more of what is here came"
    for number in range(3, 9):
        ages.forget(number)
        ages.came(number)
    assert ages.read_on(0) == 2
