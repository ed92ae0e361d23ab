"""Ranges of bytes, against a set of integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.content.extents import Extents

END = 40
ranges = st.tuples(st.integers(0, END), st.integers(0, END))
steps = st.lists(st.tuples(st.sampled_from(["add", "remove"]), ranges), max_size=30)


def runs(numbers: set[int]) -> list[tuple[int, int]]:
    """The maximal runs of a set."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def test_nothing_is_held_at_first() -> None:
    extents = Extents()
    assert list(extents) == []
    assert extents.total == extents.end == 0
    assert extents.gap(3, 9) == (3, 9)


@pytest.mark.parametrize(
    ("held", "asked", "gap"),
    [
        ([(10, 20)], (10, 20), None),
        ([(10, 20)], (12, 15), None),
        ([(10, 20)], (5, 12), (5, 10)),
        ([(10, 20)], (15, 25), (20, 25)),
        ([(10, 20)], (5, 25), (5, 10)),
        ([(10, 20)], (20, 25), (20, 25)),
        ([(10, 20)], (5, 10), (5, 10)),
        ([(10, 20), (30, 40)], (15, 35), (20, 30)),
        ([(10, 20), (30, 40)], (0, 0), None),
        ([(10, 20), (30, 40)], (7, 3), None),
        ([(10, 20), (30, 40)], (35, 50), (40, 50)),
    ],
)
def test_the_first_gap_is_found(
    held: list[tuple[int, int]], asked: tuple[int, int], gap: tuple[int, int] | None
) -> None:
    assert Extents(held).gap(*asked) == gap


@pytest.mark.parametrize(
    ("held", "added", "result", "count"),
    [
        ([(10, 20)], (20, 25), [(10, 25)], 5),
        ([(10, 20)], (5, 10), [(5, 20)], 5),
        ([(10, 20)], (12, 18), [(10, 20)], 0),
        ([(10, 20)], (5, 25), [(5, 25)], 10),
        ([(10, 20), (30, 40)], (20, 30), [(10, 40)], 10),
        ([(10, 20), (30, 40)], (15, 35), [(10, 40)], 10),
        ([(10, 20), (30, 40)], (0, 50), [(0, 50)], 30),
        ([(10, 20)], (21, 22), [(10, 20), (21, 22)], 1),
        ([], (5, 5), [], 0),
    ],
)
def test_added_ranges_join_their_neighbours(
    held: list[tuple[int, int]],
    added: tuple[int, int],
    result: list[tuple[int, int]],
    count: int,
) -> None:
    extents = Extents(held)
    assert extents.add(*added) == count
    assert list(extents) == result


@pytest.mark.parametrize(
    ("removed", "result", "count"),
    [
        ((12, 15), [(10, 12), (15, 20), (30, 40)], 3),
        ((5, 12), [(12, 20), (30, 40)], 2),
        ((15, 35), [(10, 15), (35, 40)], 10),
        ((10, 20), [(30, 40)], 10),
        ((20, 30), [(10, 20), (30, 40)], 0),
        ((0, 50), [], 20),
        ((8, 8), [(10, 20), (30, 40)], 0),
    ],
)
def test_a_range_can_be_taken_out(
    removed: tuple[int, int], result: list[tuple[int, int]], count: int
) -> None:
    extents = Extents([(10, 20), (30, 40)])
    assert extents.remove(*removed) == count
    assert list(extents) == result


@given(steps, ranges)
def test_extents_behave_like_a_set_of_integers(
    done: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    extents, model = Extents(), set[int]()
    for what, (start, stop) in done:
        before = len(model)
        if what == "add":
            model |= set(range(start, stop))
            assert extents.add(start, stop) == len(model) - before
        else:
            model -= set(range(start, stop))
            assert extents.remove(start, stop) == before - len(model)
        assert list(extents) == runs(model)
        assert extents.total == len(model)
        assert extents.end == (max(model) + 1 if model else 0)
    wanted = set(range(*asked))
    gaps = list(extents.gaps(*asked))
    assert gaps == runs(wanted - model)
    assert extents.gap(*asked) == (gaps[0] if gaps else None)


@given(steps)
def test_packing_and_unpacking_changes_nothing(done: list[tuple[str, tuple[int, int]]]) -> None:
    extents = Extents()
    for what, given_range in done:
        (extents.add if what == "add" else extents.remove)(*given_range)
    copy = Extents.unpack(extents.pack())
    assert copy == extents
    assert copy.total == extents.total


@given(st.binary(max_size=80))
def test_bytes_that_are_no_extents_are_refused_or_are_valid(packed: bytes) -> None:
    try:
        extents = Extents.unpack(packed)
    except ValueError:
        return
    assert extents.pack() == packed
    assert all(start < stop for start, stop in extents)


@pytest.mark.parametrize(
    "ranges",
    [[(5, 5)], [(5, 4)], [(0, 5), (5, 9)], [(5, 9), (0, 3)], [(0, 9), (3, 5)]],
)
def test_ranges_that_cannot_have_been_packed_are_refused(ranges: list[tuple[int, int]]) -> None:
    packed = b"".join(
        start.to_bytes(8, "little") + stop.to_bytes(8, "little") for start, stop in ranges
    )
    with pytest.raises(ValueError, match="out of order"):
        Extents.unpack(packed)


def test_a_torn_end_is_refused() -> None:
    with pytest.raises(ValueError, match="piece"):
        Extents.unpack(Extents([(0, 5)]).pack()[:-1])


def test_clearing_leaves_nothing() -> None:
    extents = Extents([(0, 5), (9, 12)])
    extents.clear()
    assert extents == Extents()
    assert extents.total == 0
