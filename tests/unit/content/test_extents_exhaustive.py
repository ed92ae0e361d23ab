"""Ranges of bytes, against sets of integers: every set of seven numbers, and every range."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from icatfs.content.extents import Extents

COUNT = 7
SETS = [
    frozenset(number for number in range(COUNT) if bits >> number & 1) for bits in range(2**COUNT)
]
RANGES = list(itertools.product(range(COUNT + 1), repeat=2))
"""The empty ones too, and those whose stop is before their start."""


def held(numbers: frozenset[int]) -> Extents:
    """By one range for each number, which must become one where they touch."""
    return Extents((number, number + 1) for number in sorted(numbers))


def numbers_of(extents: Extents) -> frozenset[int]:
    return frozenset(number for start, stop in extents for number in range(start, stop))


def is_sound(extents: Extents) -> bool:
    """The invariants, as the module states them."""
    ranges = list(extents)
    return (
        all(start < stop for start, stop in ranges)
        and all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
        and extents.total == sum(stop - start for start, stop in ranges)
        and extents.end == max((stop for _, stop in ranges), default=0)
        and len(extents) == len(ranges)
    )


def test_every_set_is_held_as_ranges() -> None:
    for numbers in SETS:
        assert numbers_of(held(numbers)) == numbers
        assert is_sound(held(numbers)), numbers


@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_of_every_set_a_range_is_found_added_and_removed(start: int, stop: int) -> None:
    wanted = frozenset(range(start, stop))
    for numbers in SETS:
        absent, present = wanted - numbers, wanted & numbers
        extents = held(numbers)
        gaps = list(extents.gaps(start, stop))
        assert Extents(gaps) == held(absent), numbers
        assert list(Extents(gaps)) == gaps, "each is as long as can be, and they are in order"
        assert extents.gap(start, stop) == (gaps[0] if gaps else None), numbers
        assert extents.add(start, stop) == len(absent), numbers
        assert extents == held(numbers | wanted), numbers
        assert is_sound(extents), numbers
        extents = held(numbers)
        assert extents.remove(start, stop) == len(present), numbers
        assert extents == held(numbers - wanted), numbers
        assert is_sound(extents), numbers


def test_two_are_equal_if_and_only_if_they_hold_the_same() -> None:
    all_held = [(numbers, held(numbers)) for numbers in SETS]
    for (numbers, one), (others, other) in itertools.product(all_held, repeat=2):
        assert (one == other) is (numbers == others)


@pytest.mark.parametrize("order", list(itertools.permutations([(0, 2), (2, 4), (4, 6), (1, 5)])))
def test_what_is_held_does_not_depend_on_the_order_of_coming(
    order: list[tuple[int, int]],
) -> None:
    extents = Extents()
    assert sum(extents.add(start, stop) for start, stop in order) == 6
    assert extents == Extents([(0, 6)])


def test_nothing_else_is_equal_to_extents() -> None:
    extents = Extents([(0, 5)])
    others: list[object] = [[(0, 5)], ((0, 5),), {(0, 5)}, None, 5, "Extents([(0, 5)])"]
    for other in others:
        assert extents != other
        assert not extents == other  # noqa: SIM201 - both operators are asked


def test_extents_that_change_are_in_no_set() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Extents())


def test_extents_are_shown_as_they_are_made() -> None:
    assert repr(Extents([(5, 9), (0, 3)])) == "Extents([(0, 3), (5, 9)])"


def test_a_number_of_ranges_is_not_a_number_of_bytes() -> None:
    extents = Extents([(0, 100), (200, 300)])
    assert len(extents) == 2
    assert extents.total == 200
    assert not Extents()


def test_gaps_may_be_asked_for_while_they_are_filled() -> None:
    """As streams do: one after the other, each from where the last one ended."""
    extents = Extents([(10, 20), (30, 40)])
    filled = []
    for start, stop in extents.gaps(0, 50):
        filled.append((start, stop))
        extents.add(start, stop)
    assert filled == [(0, 10), (20, 30), (40, 50)]
    assert list(extents) == [(0, 50)]


def test_every_set_is_the_same_after_packing() -> None:
    for numbers in SETS:
        extents = held(numbers)
        packed = extents.pack()
        assert len(packed) == 16 * len(extents)
        copy = Extents.unpack(packed)
        assert copy == extents
        assert is_sound(copy)
        assert copy.pack() == packed


def test_ranges_are_packed_as_pairs_of_little_endian_words() -> None:
    """Records of earlier versions are read with this: it may not change."""
    packed = Extents([(1, 2), (2**40, 2**63)]).pack()
    assert packed == struct.pack("<4Q", 1, 2, 2**40, 2**63)


def test_pairs_are_unpacked_if_they_are_in_order_and_do_not_touch() -> None:
    for numbers in itertools.product(range(5), repeat=4):
        packed = struct.pack("<4Q", *numbers)
        first, second, third, fourth = numbers
        if first < second < third < fourth:
            assert list(Extents.unpack(packed)) == [(first, second), (third, fourth)]
        else:
            with pytest.raises(ValueError, match="out of order"):
                Extents.unpack(packed)


@pytest.mark.parametrize("length", [*range(1, 16), 17, 31])
def test_anything_but_whole_pairs_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="a piece of a range"):
        Extents.unpack(struct.pack("<4Q", 1, 2, 5, 9)[:length])


FAR = 2**50
places = st.integers(0, 60).map(lambda place: place * 7) | st.integers(FAR, FAR + 60)


class Held(RuleBasedStateMachine):
    """Extents that live long, beside a set: near 0, and where numbers are large."""

    def __init__(self) -> None:
        super().__init__()
        self.extents = Extents()
        self.model: set[int] = set()

    @initialize(start=places, length=st.integers(0, 40))
    def begin(self, start: int, length: int) -> None:
        self.extents = Extents([(start, start + length)])
        self.model = set(range(start, start + length))

    @rule(start=places, length=st.integers(-3, 40))
    def add(self, start: int, length: int) -> None:
        new = set(range(start, start + length)) - self.model
        self.model |= new
        assert self.extents.add(start, start + length) == len(new)

    @rule(start=places, length=st.integers(-3, 40))
    def remove(self, start: int, length: int) -> None:
        gone = set(range(start, start + length)) & self.model
        self.model -= gone
        assert self.extents.remove(start, start + length) == len(gone)

    @rule(start=places, length=st.integers(0, 200))
    def fill(self, start: int, length: int) -> None:
        """What streams do with a file: bring every gap of a range."""
        stop = start + length
        brought = [number for gap in self.extents.gaps(start, stop) for number in range(*gap)]
        assert len(brought) == len(set(brought)), "no byte twice"
        for gap in list(self.extents.gaps(start, stop)):
            assert self.extents.add(*gap) == gap[1] - gap[0]
        self.model |= set(brought)
        assert self.extents.gap(start, stop) is None

    @rule()
    def take_out_everything_piece_by_piece(self) -> None:
        for start, stop in list(self.extents):
            middle = (start + stop) // 2
            assert self.extents.remove(middle, stop) == stop - middle
            assert self.extents.remove(start, stop) == middle - start
        assert self.extents == Extents()
        self.model.clear()

    @rule()
    def clear(self) -> None:
        self.extents.clear()
        self.model.clear()

    @rule()
    def write_down_and_read_again(self) -> None:
        self.extents = Extents.unpack(self.extents.pack())

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert is_sound(self.extents)
        assert numbers_of(self.extents) == self.model


Held.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestHeld = Held.TestCase
