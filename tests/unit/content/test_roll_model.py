"""Whose bytes a member is, by its table, once more and slowly; and each of its measures."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from icatfs.content.members import Expected, Roll

FRONT = "ids/D/"


@dataclass
class Table:
    """The table of the module, a list for everything."""

    expected: list[Expected]
    is_named: bool
    fronts: set[str] = field(default_factory=set)
    came: list[int] = field(default_factory=list)

    @property
    def after(self) -> int:
        return max(self.came, default=-1) + 1

    def named(self, name: str) -> list[tuple[str, int]]:
        """Who ends so: those of the longest name first, and in order; with what is in front."""
        ends = [
            (name[: len(name) - len(one.name)], place)
            for place, one in enumerate(self.expected)
            if ("/" + name).endswith("/" + one.name)
        ]
        return sorted(ends, key=lambda end: (len(end[0]), end[1]))

    def match(self, name: str, size: int, crc32: int) -> int | None:
        named = self.named(name)
        by_name = [place for _, place in named]
        by_order = list(range(len(self.expected)))[self.after :][:32]
        for place in by_name + by_order:
            one = self.expected[place]
            if one.size == size and one.crc32 == crc32 and place not in self.came:
                if size and len(named) == 1 and by_name == [place]:
                    self.fronts.add(named[0][0])
                self.came.append(place)
                return place
        if not self.is_named or len(self.fronts) != 1:
            return None
        behind_front = [place for front, place in named if {front} == self.fronts]
        if len(behind_front) == 1:
            place = behind_front[0]
            one = self.expected[place]
            if one.crc32 is None and one.size == size and place >= self.after:
                self.came.append(place)
                return place
        return None


NAMES = ["a", "b", "d/a", "/a", "c"]
FRONTS = ["", FRONT, "x/"]


@pytest.mark.parametrize("seed", range(4))
def test_whoever_comes_is_who_the_table_says(seed: int) -> None:
    dice = random.Random(seed)
    matched = missed = 0
    for _ in range(1500):
        expected = [
            Expected(dice.choice(NAMES), dice.choice([0, 5, 5, 9, None]), dice.choice([1, 2, None]))
            for _ in range(dice.randrange(1, 6))
        ]
        front = dice.choice([None, FRONT])
        is_named = dice.random() < 0.7
        table = Table(expected, is_named, set() if front is None else {front})
        roll = Roll(expected, is_named=is_named, front=front)
        usual = dice.choice(FRONTS)
        for _ in range(6):
            name = (usual if dice.random() < 0.8 else dice.choice(FRONTS)) + dice.choice(NAMES)
            size, crc32 = dice.choice([0, 5, 5, 9]), dice.choice([1, 2, 3])
            place = roll.match(name, size, crc32)
            assert place == table.match(name, size, crc32), (expected, name, size, crc32)
            assert roll.came == len(table.came)
            assert roll.place == table.after
            assert roll.front == (min(table.fronts) if len(table.fronts) == 1 else None)
            sizes = {expected[one].size for _, one in table.named(name)}
            assert roll.size(name) == (min(sizes, key=str) if len(sizes) == 1 else None)
            matched, missed = matched + (place is not None), missed + (place is None)
    assert min(matched, missed) > 1000


# Names.


@pytest.mark.parametrize(
    ("member", "is_his"),
    [
        ("b/c", True),
        ("a/b/c", True),
        ("/b/c", True),
        ("a//b/c", True),
        ("ab/c", False),
        ("c", False),
        ("b/c/", False),
        ("b/c/d", False),
        ("", False),
        ("/", False),
        ("B/c", False),
    ],
)
def test_a_member_has_the_name_of_a_datafile_if_it_ends_in_all_of_it(
    member: str, is_his: bool
) -> None:
    roll = Roll([Expected("b/c", 7, 1)])
    assert roll.size(member) == (7 if is_his else None)


def test_a_name_is_told_apart_from_the_end_of_another() -> None:
    roll = Roll([Expected("c", 1, 1), Expected("b/c", 2, 2), Expected("/c", 3, 3)])
    assert roll.size("c") == 1
    assert roll.size("x/c") == 1
    assert roll.size("b/c") is None, "it may be either"
    assert roll.size("x//c") is None
    assert roll.match("x/b/c", 1, 1) == 0
    assert roll.match("x/b/c", 2, 2) == 1


@pytest.mark.parametrize(
    ("sizes", "size"), [([5], 5), ([5, 5], 5), ([5, 6], None), ([5, None], None), ([None], None)]
)
def test_a_size_is_known_that_all_of_that_name_have(
    sizes: list[int | None], size: int | None
) -> None:
    roll = Roll([Expected("a", one, None) for one in sizes])
    assert roll.size("a") == size
    assert roll.size(FRONT + "a") == size


# The order.


@pytest.mark.parametrize(("place", "is_found"), [(0, True), (31, True), (32, False)])
@pytest.mark.parametrize("first", [0, 7])
def test_of_strange_name_one_of_the_next_thirty_two_is_found(
    first: int, place: int, is_found: bool
) -> None:
    roll = Roll([Expected(f"{number}", 1, number) for number in range(50)])
    if first:
        assert roll.match("6", 1, 6) == 6
    assert roll.match("strange", 1, first + place) == (first + place if is_found else None)


def test_of_its_own_name_anybody_is_found_who_has_not_come() -> None:
    roll = Roll([Expected(f"{number}", 1, number) for number in range(50)])
    for number in (49, 0, 33):
        assert roll.match(f"{number}", 1, number) == number
        assert roll.match(f"{number}", 1, number) is None, "he has come"
    assert roll.place == 50, "it does not go back"
    assert roll.came == 3


def test_of_strange_name_nobody_is_found_who_was_passed_over() -> None:
    roll = Roll([Expected(f"{number}", 1, number) for number in range(3)])
    assert roll.match("1", 1, 1) == 1
    assert roll.match("strange", 1, 0) is None
    assert roll.match("0", 1, 0) == 0


def test_of_equal_contents_the_name_decides_and_then_the_order() -> None:
    roll = Roll([Expected(name, 1, 1) for name in "abc"])
    assert roll.match(FRONT + "b", 1, 1) == 1
    assert roll.match(FRONT + "b", 1, 1) == 2, "equal bytes are as good"
    assert roll.match(FRONT + "a", 1, 1) == 0
    assert roll.match(FRONT + "a", 1, 1) is None


@pytest.mark.parametrize(("size", "crc32"), [(1, 2), (2, 1), (2, 2)])
def test_content_is_proved_by_size_and_crc32_and_not_by_one_of_them(size: int, crc32: int) -> None:
    roll = Roll([Expected("a", 1, 1)], is_named=True, front="")
    assert roll.match("a", size, crc32) is None
    assert roll.match("a", 1, 1) == 0


# Names that are believed.


def believing(*expected: Expected) -> Roll:
    return Roll(expected, is_named=True, front=FRONT)


@pytest.mark.parametrize(
    ("one", "member", "size", "place"),
    [
        (Expected("a", 5, None), FRONT + "a", 5, 0),
        (Expected("a", 5, None), FRONT + "a", 6, None),
        (Expected("a", None, None), FRONT + "a", 5, None),
        (Expected("a", 5, 1), FRONT + "a", 5, None),
        (Expected("a", 5, None), "a", 5, None),
        (Expected("a", 5, None), "x/" + FRONT + "a", 5, None),
        (Expected("a", 0, None), FRONT + "a", 0, 0),
        (Expected("x/a", 5, None), FRONT + "x/a", 5, 0),
        (Expected("x/a", 5, None), FRONT + "a", 5, None),
    ],
)
def test_a_name_behind_the_front_is_believed_where_no_crc32_is_known_and_the_size_is_right(
    one: Expected, member: str, size: int, place: int | None
) -> None:
    assert believing(one).match(member, size, 99) == place


def test_a_name_is_not_believed_that_two_have_behind_the_front() -> None:
    roll = believing(Expected("a", 5, None), Expected("a", 5, None))
    assert roll.match(FRONT + "a", 5, 99) is None


def test_a_name_is_not_believed_of_one_who_was_passed_over_or_has_come() -> None:
    roll = believing(Expected("a", 5, None), Expected("b", 5, None), Expected("c", 5, None))
    assert roll.match(FRONT + "b", 5, 99) == 1
    assert roll.match(FRONT + "a", 5, 99) is None
    assert roll.match(FRONT + "b", 5, 99) is None
    assert roll.match(FRONT + "c", 5, 99) == 2


def test_of_those_who_are_expected_later_it_is_known_as_of_the_others() -> None:
    roll = believing(Expected("a", 5, None))
    assert len(roll) == 1
    roll.expect(Expected("b", 6, 1))
    assert len(roll) == 2
    assert roll.size(FRONT + "b") == 6
    assert roll.match("strange", 6, 1) == 1


# The front.


def test_the_front_is_shown_by_what_is_proved_and_has_bytes_and_one_name() -> None:
    roll = Roll([Expected("a", 5, 1), Expected("b", 0, 2), Expected("d/c", 5, 3)])
    assert roll.match("strange", 5, 1) == 0
    assert roll.front is None, "that was no name of his"
    assert roll.match("y/b", 0, 2) == 1
    assert roll.front is None, "anybody could be empty"
    assert roll.match("y/d/c", 5, 3) == 2
    assert roll.front == "y/"


def test_the_front_is_not_shown_by_equal_bytes_of_another() -> None:
    roll = Roll([Expected("a", 5, 1), Expected("b", 5, 1)])
    assert roll.match("y/b", 5, 1) == 1
    assert roll.front == "y/"
    assert roll.match("z/b", 5, 1) is None
    roll = Roll([Expected("a", 5, 2), Expected("b", 5, 1)])
    assert roll.match("z/a", 5, 1) == 1, "by its bytes, in order"
    assert roll.front is None, "for that is not the name of who it is"


def test_two_fronts_are_none_also_where_one_was_known_before() -> None:
    roll = Roll([Expected("a", 5, 1), Expected("b", 5, 2)], is_named=True, front=FRONT)
    assert roll.front == FRONT
    assert roll.match(FRONT + "a", 5, 1) == 0
    assert roll.front == FRONT
    assert roll.match("other/b", 5, 2) == 1
    assert roll.front is None


def test_unless_it_is_said_that_they_were_named_no_name_is_believed() -> None:
    assert Roll([Expected("a", 5, None)], front=FRONT).match(FRONT + "a", 5, 1) is None


def test_nobody_is_expected_and_nobody_comes() -> None:
    roll = Roll()
    assert len(roll) == roll.place == roll.came == 0
    assert roll.front is None
    assert roll.size("a") is None
    assert roll.match("a", 5, 1) is None
