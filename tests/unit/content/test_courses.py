"""Where streams begin and end: the table of courses row by row, and what holds in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import LIMITS, PRICES, all_limits, all_prices
from support.sizes import GIB, MIB

from icatfs.content import courses, plan
from icatfs.content.courses import Aim, Content, Course, End, Trail
from icatfs.content.plan import Limits

if TYPE_CHECKING:
    from icatfs.content.costs import Prices

LARGE = 1000 * MIB
NOTHING = Trail()
ROOMY = Content(LARGE, room=10 * GIB, first_missing=0)
TIGHT = Content(LARGE, room=160 * MIB, first_missing=0)
SMALL = Content(8 * MIB, room=GIB, first_missing=2 * MIB)
NARROW = Content(8 * MIB, room=2 * MIB, first_missing=0)


def trail(*ends: tuple[int, int, int], opened: int = 0, rent_s: float = 0.0) -> Trail:
    return Trail(tuple(End(*end) for end in ends), opened, rent_s)


@pytest.mark.parametrize(
    ("name", "gap", "content", "before", "course"),
    [
        (
            "a small file as a whole",
            5 * MIB,
            SMALL,
            NOTHING,
            Course(2 * MIB, 8 * MIB, 2 * MIB, True),
        ),
        ("a small file that does not fit", 2 * MIB, NARROW, NOTHING, Course(2 * MIB, MIB, 2 * MIB)),
        ("its beginning", 0, NARROW, NOTHING, Course(0, 2 * MIB, 0)),
        ("its tail", 7 * MIB, NARROW, NOTHING, Course(4 * MIB, MIB, 4 * MIB)),
        ("the beginning", 0, ROOMY, NOTHING, Course(0, 8 * MIB, 0)),
        ("near the beginning", MIB - 1, ROOMY, NOTHING, Course(0, 8 * MIB, 0)),
        ("anywhere else", 500 * MIB + 7, ROOMY, NOTHING, Course(500 * MIB, MIB, 500 * MIB)),
        ("near the end", 999 * MIB, ROOMY, NOTHING, Course(996 * MIB, MIB, 996 * MIB)),
        ("just near the end", 996 * MIB, ROOMY, NOTHING, Course(996 * MIB, MIB, 996 * MIB)),
        ("not quite", 996 * MIB - 1, ROOMY, NOTHING, Course(995 * MIB, MIB, 995 * MIB)),
        (
            "where another ended",
            9 * MIB + 5,
            ROOMY,
            trail((0, 0, 9 * MIB + 5)),
            Course(9 * MIB + 5, 8 * (9 * MIB + 5), 0),
        ),
        (
            "where another ended that had begun in the middle",
            501 * MIB,
            ROOMY,
            trail((500 * MIB, 500 * MIB, 501 * MIB)),
            Course(501 * MIB, 2 * MIB, 500 * MIB),
        ),
        (
            "where a first window ended",
            8 * MIB,
            ROOMY,
            trail((0, 0, 8 * MIB)),
            Course(8 * MIB, 64 * MIB, 0),
        ),
        (
            "where another ended on its way to readers further ahead",
            10 * MIB,
            ROOMY,
            trail((300 * MIB, 0, 10 * MIB)),
            Course(10 * MIB, MIB, 10 * MIB),
        ),
        (
            "where one before the last ended",
            81 * MIB,
            ROOMY,
            trail((700 * MIB, 700 * MIB, 701 * MIB), (0, 9 * MIB, 81 * MIB)),
            Course(81 * MIB, 648 * MIB, 0),
        ),
        (
            "no further than there is room",
            81 * MIB,
            TIGHT,
            trail((0, 9 * MIB, 81 * MIB)),
            Course(81 * MIB, 160 * MIB, 0),
        ),
        (
            "ahead of the last that was ahead of one before",
            120 * MIB,
            TIGHT,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (100 * MIB, 100 * MIB, 101 * MIB)),
            Course(120 * MIB, 16 * MIB, 120 * MIB),
        ),
        (
            "ahead, a little",
            113 * MIB,
            TIGHT,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (100 * MIB, 100 * MIB, 101 * MIB)),
            Course(113 * MIB, 4 * MIB, 113 * MIB),
        ),
        (
            "ahead for the first time",
            120 * MIB,
            TIGHT,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (700 * MIB, 700 * MIB, 701 * MIB)),
            Course(120 * MIB, MIB, 120 * MIB),
        ),
        (
            "ahead out of reach",
            128 * MIB,
            TIGHT,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (100 * MIB, 100 * MIB, 101 * MIB)),
            Course(128 * MIB, MIB, 128 * MIB),
        ),
        (
            "ahead in a file that fits",
            120 * MIB,
            ROOMY,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (100 * MIB, 100 * MIB, 101 * MIB)),
            Course(120 * MIB, MIB, 120 * MIB),
        ),
        (
            "backwards",
            499 * MIB,
            TIGHT,
            trail((500 * MIB, 500 * MIB, 503 * MIB)),
            Course(494 * MIB, MIB, 499 * MIB),
        ),
        (
            "backwards, as far as a glance reaches",
            498 * MIB,
            TIGHT,
            trail((500 * MIB, 500 * MIB, 503 * MIB)),
            Course(494 * MIB, MIB, 498 * MIB),
        ),
        (
            "before the last, and just not near",
            498 * MIB - 1,
            TIGHT,
            trail((500 * MIB, 500 * MIB, 503 * MIB)),
            Course(497 * MIB, MIB, 497 * MIB),
        ),
        (
            "where another ended comes before a jump ahead",
            111 * MIB,
            TIGHT,
            trail((110 * MIB, 110 * MIB, 111 * MIB), (100 * MIB, 100 * MIB, 101 * MIB)),
            Course(111 * MIB, 2 * MIB, 110 * MIB),
        ),
        (
            "a sweep comes before reading on",
            9 * MIB,
            ROOMY,
            Trail((End(0, 0, 9 * MIB),), opened=8, rent_s=1000.0),
            Course(0, LARGE, 0, True),
        ),
        (
            "backwards, at most within reach",
            499 * MIB,
            TIGHT,
            trail((500 * MIB, 500 * MIB, 600 * MIB)),
            Course(484 * MIB, MIB, 499 * MIB),
        ),
        (
            "backwards to the beginning",
            MIB,
            TIGHT,
            trail((2 * MIB, 2 * MIB, 10 * MIB)),
            Course(0, MIB, MIB),
        ),
        (
            "backwards in a file that fits",
            499 * MIB,
            ROOMY,
            trail((500 * MIB, 500 * MIB, 503 * MIB)),
            Course(499 * MIB, MIB, 499 * MIB),
        ),
        (
            "far before the last",
            400 * MIB,
            TIGHT,
            trail((500 * MIB, 500 * MIB, 503 * MIB)),
            Course(400 * MIB, MIB, 400 * MIB),
        ),
        (
            "the rent amounts to the price",
            700 * MIB,
            ROOMY,
            trail(opened=8, rent_s=9.7),
            Course(0, LARGE, 0, True),
        ),
        (
            "the rent does not quite amount to the price",
            700 * MIB,
            ROOMY,
            trail(opened=8, rent_s=9.6),
            Course(700 * MIB, MIB, 700 * MIB),
        ),
        (
            "the price of what is missing only",
            700 * MIB,
            Content(LARGE, GIB, first_missing=600 * MIB),
            trail(opened=8, rent_s=4.0),
            Course(600 * MIB, LARGE, 600 * MIB, True),
        ),
        (
            "too few looks to be reading at random",
            700 * MIB,
            ROOMY,
            trail(opened=7, rent_s=100.0),
            Course(700 * MIB, MIB, 700 * MIB),
        ),
        (
            "what does not fit is not swept",
            700 * MIB,
            TIGHT,
            trail(opened=100, rent_s=100.0),
            Course(700 * MIB, MIB, 700 * MIB),
        ),
        (
            "nobody waits for a sweep longer than a turn",
            5000 * MIB,
            Content(9000 * MIB, 10 * GIB, 0),
            trail(opened=8, rent_s=1000.0),
            Course(4000 * MIB, 9000 * MIB, 4000 * MIB, True),
        ),
    ],
)
def test_where_a_stream_begins_and_how_far_it_looks(
    name: str, gap: int, content: Content, before: Trail, course: Course
) -> None:
    assert courses.course(gap, gap + MIB, content, before, PRICES, LIMITS) == course, name


places = st.integers(0, 50)
ends = st.builds(
    lambda origin, skip, length: End(origin, origin + skip, origin + skip + length),
    places,
    places,
    places,
)
trails = st.builds(
    Trail,
    ends=st.lists(ends, max_size=4).map(tuple),
    opened=st.integers(0, 5),
    rent_s=st.floats(0, 100),
    again=st.integers(0, 10),
)


@given(st.integers(1, 50), st.data(), trails, all_prices, all_limits)
def test_a_course_begins_at_or_before_the_gap_and_stays_in_the_room(
    size: int, data: st.DataObject, before: Trail, prices: Prices, within: Limits
) -> None:
    gap = data.draw(st.integers(0, size - 1))
    first_missing = data.draw(st.integers(0, gap))
    content = Content(size, data.draw(st.integers(1, 100)), first_missing)
    course = courses.course(gap, size, content, before, prices, within)
    assert 0 <= course.start <= gap
    assert course.window <= content.room or course.window == within.glance
    if course.sweeps:
        assert content.fits
        assert course.start >= first_missing
        assert (gap - course.start) / prices.rate <= max(within.turn_s, 1 / prices.rate)


@given(st.integers(0, 10**12))
def test_a_glance_begins_with_the_neighbours_of_the_gap_within_one_mebibyte(gap: int) -> None:
    content = Content(2 * 10**12, 10**15, 0)
    course = courses.course(gap, gap + 1, content, NOTHING, PRICES, LIMITS)
    assert 0 <= gap - course.start < MIB
    assert course.start % MIB == 0


@given(st.integers(0, 4 * MIB - 1), st.integers(0, MIB - 1))
def test_who_comes_near_the_end_gets_all_of_it(before_end: int, part: int) -> None:
    size, within = 1000 * MIB + part, Limits()
    gap = size - 1 - before_end
    course = courses.course(gap, gap + 1, Content(size, GIB, 0), NOTHING, PRICES, within)
    assert course.start <= gap
    assert courses.until(gap + 1, course.origin, size, course.window, GIB) == size


@pytest.mark.parametrize(
    ("name", "furthest", "origin", "size", "stop"),
    [
        ("a window ahead", 10 * MIB, 10 * MIB, 1000 * MIB, 74 * MIB),
        ("no further than there is room", 300 * MIB, 0, 1000 * MIB, 500 * MIB),
        ("not even to the end", 900 * MIB, 0, 1200 * MIB, 1100 * MIB),
        ("as much ahead as was read", 100 * MIB, 10 * MIB, 1000 * MIB, 190 * MIB),
        ("a small file as a whole", 1, 0, 64 * MIB, 64 * MIB),
        ("not more than another window", 1, 0, 128 * MIB + 1, 128 * MIB + 1),
        ("the end is near", 20 * MIB, 0, 148 * MIB, 148 * MIB),
        ("the end is just not near", 20 * MIB, 0, 148 * MIB + 1, 84 * MIB),
        ("beyond the end", 990 * MIB, 990 * MIB, 1000 * MIB, 1000 * MIB),
        ("an unknown size", 0, 0, None, plan.ENDLESS),
    ],
)
def test_how_far_a_stream_reads(
    name: str, furthest: int, origin: int, size: int | None, stop: int
) -> None:
    assert courses.until(furthest, origin, size, 64 * MIB, 200 * MIB) == stop, name


@given(places, places, places, st.integers(1, 50), st.integers(1, 100))
def test_a_stream_reads_to_who_waits_and_not_beyond_the_file_nor_the_room(
    furthest: int, origin: int, size: int, window: int, room: int
) -> None:
    furthest = min(furthest, size)
    stop = courses.until(furthest, min(origin, furthest), size, window, room)
    assert furthest <= stop <= min(size, furthest + room)


@pytest.mark.parametrize(
    ("name", "position", "stop", "missing", "goes_on"),
    [
        ("there is more", 5 * MIB, 64 * MIB, 5 * MIB, True),
        ("the window's end", 64 * MIB, 64 * MIB, None, False),
        ("all is there", 5 * MIB, 64 * MIB, None, False),
        ("some is there", 5 * MIB, 64 * MIB, 9 * MIB, True),
        ("what is there is cheap to skip", 0, 64 * MIB, 16 * MIB, True),
        ("too much is there", 0, 64 * MIB, 16 * MIB + 1, False),
    ],
)
def test_when_a_stream_reads_on(
    name: str, position: int, stop: int, missing: int | None, goes_on: bool
) -> None:
    assert courses.goes_on(position, stop, missing, 16 * MIB) is goes_on, name


@pytest.mark.parametrize(
    ("name", "missing", "others", "in_front"),
    [
        ("none", 9, [], None),
        ("where it could go on", 9, [9], 0),
        ("on the way there", 9, [7], 0),
        ("the nearest to that", 9, [7, 9, 8], 1),
        ("further", 9, [10], None),
        ("behind", 9, [4], None),
        ("at its place", 9, [5], None),
    ],
)
def test_which_stream_is_in_front(
    name: str, missing: int, others: list[int], in_front: int | None
) -> None:
    assert courses.in_front(5, missing, others) == in_front, name


@given(st.lists(places, min_size=2, max_size=4, unique=True), places)
def test_of_streams_that_could_bring_the_same_byte_one_has_none_in_front(
    positions: list[int], ahead: int
) -> None:
    missing = max(positions) + ahead
    free = [
        courses.in_front(one, missing, [other for other in positions if other != one]) is None
        for one in positions
    ]
    assert free.count(True) == 1


aims = st.builds(
    lambda origin, run, window, sweeps: Aim(origin, origin + run, window, sweeps),
    places,
    places,
    st.integers(1, 50),
    st.booleans(),
)


@given(aims, aims, st.integers(0, 100), st.integers(1, 100), st.integers(0, 10))
def test_what_goes_on_for_two_reads_as_far_as_either_would_and_no_further(
    one: Aim, other: Aim, left: int, room: int, glance: int
) -> None:
    size = max(one.furthest, other.furthest) + left
    both = courses.both(one, other, size, room, glance)
    assert both == courses.both(other, one, size, room, glance)
    assert both.sweeps == (one.sweeps or other.sweeps)
    assert both.furthest == max(one.furthest, other.furthest)
    assert both.until(size, room) >= max(one.until(size, room), other.until(size, room))
    assert both.until(size, room) <= both.furthest + room


@pytest.mark.parametrize(
    ("name", "one", "other", "origin"),
    [
        ("the same", Aim(0, 50, 5, False), Aim(20, 40, 5, False), 0),
        ("next to each other", Aim(0, 50, 5, False), Aim(50, 60, 5, False), 0),
        ("a glance apart", Aim(0, 50, 5, False), Aim(52, 60, 5, False), 0),
        ("nobody came for what is between", Aim(0, 50, 5, False), Aim(53, 60, 5, False), 53),
    ],
)
def test_readers_of_two_streams_have_read_what_both_of_them_read_in_order(
    name: str, one: Aim, other: Aim, origin: int
) -> None:
    assert courses.both(one, other, 1000, 1000, 2).origin == origin, name


@pytest.mark.parametrize(
    ("name", "reach", "content", "again", "bytes_"),
    [
        ("what is cheap", 10 * MIB, ROOMY, 0, 10 * MIB),
        ("a sixteenth of the file", 100 * MIB, ROOMY, 0, LARGE // 16),
        ("less what was", 100 * MIB, ROOMY, 10 * MIB, LARGE // 16 - 10 * MIB),
        ("nothing when that is used up", 100 * MIB, ROOMY, 70 * MIB, 0),
        ("what does not stay comes again anyway", 10 * MIB, TIGHT, 900 * MIB, 10 * MIB),
        ("but not more than an eighth of the room", 100 * MIB, TIGHT, 0, 20 * MIB),
    ],
)
def test_what_may_be_read_through_to_come_to_missing_bytes(
    name: str, reach: int, content: Content, again: int, bytes_: int
) -> None:
    assert courses.may_pass_over(reach, content, again) == bytes_, name
