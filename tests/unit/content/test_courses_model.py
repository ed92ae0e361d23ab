"""Rows 10 to 18 of the table, once more and slowly; and each of their measures at its edge."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sizes import GIB, MIB

from icatfs.content import courses, plan
from icatfs.content.costs import Prices
from icatfs.content.courses import Content, Course, End, Trail
from icatfs.content.plan import Limits

LIMITS = Limits(window=8 * MIB, glance=2 * MIB, least_reach=MIB, most_reach=16 * MIB, looks=3)
PRICES = Prices(base_s=1.0, skip_s=0.0, rate=16.0 * MIB)
"""The reach is 8 MiB everywhere; within a turn 160 MiB arrive."""
SIZE = 400 * MIB
ROOMY = Content(SIZE, room=SIZE, first_missing=0)
TIGHT = Content(SIZE, room=80 * MIB, first_missing=0)
NOTHING = Trail()


def course(
    gap: int,
    content: Content = TIGHT,
    trail: Trail = NOTHING,
    *,
    count: int = 1,
    limits: Limits = LIMITS,
    prices: Prices = PRICES,
) -> Course:
    return courses.course(gap, gap + count, content, trail, prices, limits)


def ended(*ends: tuple[int, int, int]) -> Trail:
    return Trail(tuple(End(*end) for end in ends))


def before(offset: int) -> int:
    """The MiB before."""
    return offset // MIB * MIB


def by_the_table(
    gap: int, stop: int, content: Content, trail: Trail, prices: Prices, limits: Limits
) -> tuple[int, Course]:
    """The row that applies, and its course."""
    size, room, ends = content.size, content.room, trail.ends
    fits = size <= room
    reach = limits.reach(gap, prices) if fits else min(limits.reach(gap, prices), room // 8)
    rent_s = trail.rent_s + prices.first_byte_s(gap)
    missing = content.first_missing
    price_s = prices.first_byte_s(missing) + prices.read_s(size - missing)
    in_a_turn = int(limits.turn_s * prices.rate)
    if fits and (size <= limits.window or (trail.opened >= limits.looks and rent_s >= price_s)):
        start = max(missing, gap - in_a_turn)
        return 10 if size <= limits.window else 11, Course(start, size, start, sweeps=True)
    for end in ends:
        if end.stop == gap:
            read = max(0, gap - end.origin)
            wide = 8 * read if read >= limits.window else 2 * read
            return 12, Course(gap, min(room, max(limits.glance, wide)), gap - read)
    if not fits and len(ends) > 1:
        jumps = gap - ends[0].stop, ends[0].start - ends[1].stop
        if all(0 < jump <= reach for jump in jumps):
            window = max(limits.glance, min(2 * jumps[0], reach))
            return 13, Course(before(gap), min(room, window), before(gap))
    if not fits and ends and gap < ends[0].start <= stop + limits.glance:
        back = min(reach, 2 * (ends[0].stop - ends[0].start))
        start = max(0, min(ends[0].start - back, before(gap)))
        return 14, Course(start, limits.glance, before(gap))
    tail = before(max(0, size - limits.window // 2))
    start = tail if gap >= tail else before(gap)
    window = limits.glance if start else limits.window
    row = 16 if gap >= tail else 17 if start else 15
    return row, Course(start, min(room, window), start)


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_begins_and_looks_ahead_as_the_table_says(seed: int) -> None:
    """Places are few, so that they are often near each other; all rows come, and often."""
    dice = random.Random(seed)
    rows = dict.fromkeys(range(10, 18), 0)
    for _ in range(2000):
        size = dice.choice([6 * MIB, 8 * MIB, 9 * MIB, 40 * MIB + 5, SIZE])
        places = [place for place in range(0, size, MIB // 2) if place % MIB or dice.random() < 0.5]
        places = places[:40] + places[-12:]
        gap = dice.choice(places) + dice.choice([0, 0, 1])
        content = Content(
            size, dice.choice([size, size - 1, 32 * MIB]), dice.choice([0, gap, gap // 2])
        )
        ends = []
        for _ in range(dice.randrange(4)):
            start, end = sorted(dice.choices([*places, gap, gap], k=2))
            ends.append(End(dice.choice([0, start, *places]), start, end))
        if dice.random() < 0.2:
            stop, jump = gap - dice.choice([0, 1, MIB, 9 * MIB]), dice.choice([0, 1, MIB, 9 * MIB])
            ends[:0] = End(0, stop - MIB, stop), End(0, 0, stop - MIB - jump)
        trail = Trail(tuple(ends), dice.randrange(6), dice.choice([0.0, 1.0, 30.0]))
        prices = dice.choice([PRICES, Prices(0.02, 1e-9, 1e8), Prices(5.0, 0.0, 1e6)])
        stop = gap + dice.choice([1, MIB, 4 * MIB])
        row, expected = by_the_table(gap, stop, content, trail, prices, LIMITS)
        rows[row] += 1
        got = courses.course(gap, stop, content, trail, prices, LIMITS)
        assert got == expected, (row, gap, stop, content, trail, prices)
    assert all(count >= 5 for count in rows.values()), rows


# 10 and 11: all that is missing.


@pytest.mark.parametrize(
    ("size", "room", "sweeps"),
    [
        (8 * MIB, 8 * MIB, True),
        (8 * MIB, 8 * MIB - 1, False),
        (8 * MIB + 1, GIB, False),
        (1, 1, True),
    ],
)
def test_what_fits_and_is_no_larger_than_a_first_window_comes_as_a_whole(
    size: int, room: int, sweeps: bool
) -> None:
    assert course(0, Content(size, room, 0)).sweeps is sweeps


@pytest.mark.parametrize(
    ("opened", "rent_s", "sweeps"),
    [(3, 25.0, True), (3, 24.9, False), (2, 25.0, False), (2, 1e9, False), (30, 24.9, False)],
)
def test_a_sweep_is_bought_when_the_rent_amounts_to_its_price(
    opened: int, rent_s: float, sweeps: bool
) -> None:
    """400 MiB take 25 s, and a second to open, as the look would that is not taken."""
    trail = Trail(opened=opened, rent_s=rent_s)
    assert course(300 * MIB, ROOMY, trail).sweeps is sweeps


def test_the_price_of_a_sweep_is_that_of_what_is_missing() -> None:
    trail = Trail(opened=3, rent_s=10.0)
    for first_missing, sweeps in ((240 * MIB, True), (239 * MIB, False)):
        content = Content(SIZE, SIZE, first_missing)
        assert course(300 * MIB, content, trail).sweeps is sweeps


def test_opening_far_back_is_part_of_the_rent_and_of_the_price() -> None:
    dear = Prices(base_s=1.0, skip_s=10.0 / SIZE, rate=16.0 * MIB)
    content = Content(SIZE, SIZE, SIZE // 2)
    price_s = 6.0 + 12.5
    for rent_s, sweeps in ((price_s - 8.5, True), (price_s - 8.6, False)):
        trail = Trail(opened=3, rent_s=rent_s)
        assert course(SIZE * 3 // 4, content, trail, prices=dear).sweeps is sweeps


@pytest.mark.parametrize(
    ("gap", "start"),
    [(0, 0), (160 * MIB, 0), (160 * MIB + 1, 1), (300 * MIB, 140 * MIB)],
)
def test_a_sweep_begins_where_it_is_at_the_gap_within_a_turn(gap: int, start: int) -> None:
    swept = course(gap, ROOMY, Trail(opened=3, rent_s=1e9))
    assert swept == Course(start, SIZE, start, sweeps=True)


# 12: reading on.


@pytest.mark.parametrize(
    ("read", "window"),
    [
        (0, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 2 * MIB + 2),
        (8 * MIB - 1, 16 * MIB - 2),
        (8 * MIB, 64 * MIB),
        (9 * MIB, 72 * MIB),
        (10 * MIB, 80 * MIB),
        (11 * MIB, 80 * MIB),
    ],
)
def test_who_reads_on_gets_a_multiple_of_what_he_read_within_the_room(
    read: int, window: int
) -> None:
    origin = 100 * MIB
    reading = course(origin + read, TIGHT, ended((origin, origin, origin + read)))
    assert reading == Course(origin + read, window, origin)


def test_who_reads_on_is_known_by_any_end_and_by_the_newest_of_several() -> None:
    gap = 50 * MIB
    ends = ((7 * MIB, 0, 60 * MIB), (40 * MIB, 0, gap), (30 * MIB, 0, gap))
    assert course(gap, TIGHT, ended(*ends)) == Course(gap, 80 * MIB, 40 * MIB)
    assert course(gap, TIGHT, ended(*ends[::2])) == Course(gap, 80 * MIB, 30 * MIB)
    assert course(gap + 1, TIGHT, ended(*ends)).start == gap


# 13: jumping ahead.


@pytest.mark.parametrize(
    ("jump", "first_jump", "follows"),
    [
        (1, 1, True),
        (8 * MIB, 8 * MIB, True),
        (8 * MIB + 1, 8 * MIB, False),
        (8 * MIB, 8 * MIB + 1, False),
        (MIB, 0, False),
        (MIB, -1, False),
    ],
)
def test_who_jumps_twice_within_reach_jumps_again(
    jump: int, first_jump: int, follows: bool
) -> None:
    start = 100 * MIB + 7
    stop = start + 5 * MIB
    earlier = (0, 90 * MIB, start - first_jump)
    gap = stop + jump
    jumped = course(gap, TIGHT, ended((start, start, stop), earlier))
    window = max(2 * MIB, min(2 * jump, 8 * MIB)) if follows else 2 * MIB
    assert jumped == Course(before(gap), window, before(gap))
    assert course(gap, TIGHT, ended((start, start, stop))).window == 2 * MIB, "once is no pattern"
    fitting = course(gap, ROOMY, ended((start, start, stop), earlier))
    assert fitting.window == 2 * MIB


@pytest.mark.parametrize(
    ("jump", "window"),
    [(MIB, 2 * MIB), (MIB + 1, 2 * MIB + 2), (3 * MIB, 6 * MIB), (4 * MIB, 8 * MIB),
     (6 * MIB, 8 * MIB)],
)  # fmt: skip
def test_the_window_of_a_jump_is_twice_as_wide_within_reach(jump: int, window: int) -> None:
    trail = ended((0, 104 * MIB, 110 * MIB), (0, 90 * MIB, 100 * MIB))
    assert course(110 * MIB + jump, TIGHT, trail).window == window


def test_of_a_small_room_the_reach_is_an_eighth() -> None:
    trail = ended((0, 104 * MIB, 110 * MIB), (0, 90 * MIB, 100 * MIB))
    for room, window in ((64 * MIB, 8 * MIB), (48 * MIB, 6 * MIB), (32 * MIB, 4 * MIB)):
        assert course(114 * MIB, Content(SIZE, room, 0), trail).window == window
    assert course(114 * MIB, Content(SIZE, 31 * MIB, 0), trail).window == 2 * MIB, "out of reach"
    assert course(111 * MIB, Content(SIZE, MIB, 0), trail).window == MIB


# 14: reading backwards.


@pytest.mark.parametrize(
    ("gap", "count", "follows"),
    [
        (100 * MIB - 1, 1, True),
        (100 * MIB, 1, False),
        (98 * MIB - 1, 1, True),
        (98 * MIB - 2, 1, False),
        (90 * MIB, 8 * MIB, True),
        (90 * MIB, 8 * MIB - 1, False),
    ],
)
def test_who_wants_what_is_a_glance_before_the_last_stream_reads_backwards(
    gap: int, count: int, follows: bool
) -> None:
    trail = ended((0, 100 * MIB, 101 * MIB))
    got = course(gap, TIGHT, trail, count=count)
    assert got.start == (min(before(gap), 98 * MIB) if follows else before(gap))
    assert got.origin == before(gap)
    assert got.window == 2 * MIB


@pytest.mark.parametrize(
    ("read", "start"),
    [(MIB, 98 * MIB), (2 * MIB, 96 * MIB), (4 * MIB, 92 * MIB), (5 * MIB, 92 * MIB)],
)
def test_the_stream_for_who_reads_backwards_begins_twice_as_far_back_within_reach(
    read: int, start: int
) -> None:
    trail = ended((0, 100 * MIB, 100 * MIB + read))
    assert course(99 * MIB, TIGHT, trail) == Course(start, 2 * MIB, 99 * MIB)


def test_nobody_reads_backwards_beyond_the_beginning_or_in_what_fits() -> None:
    trail = ended((0, 3 * MIB, 7 * MIB))
    assert course(2 * MIB, TIGHT, trail) == Course(0, 2 * MIB, 2 * MIB)
    assert course(2 * MIB, ROOMY, trail) == Course(2 * MIB, 2 * MIB, 2 * MIB)


# 15 to 17: looking.


@pytest.mark.parametrize(
    ("gap", "size", "start", "window"),
    [
        (0, SIZE, 0, 8 * MIB),
        (MIB - 1, SIZE, 0, 8 * MIB),
        (MIB, SIZE, MIB, 2 * MIB),
        (200 * MIB + 5, SIZE, 200 * MIB, 2 * MIB),
        (SIZE - 4 * MIB - 1, SIZE, SIZE - 5 * MIB, 2 * MIB),
        (SIZE - 4 * MIB, SIZE, SIZE - 4 * MIB, 2 * MIB),
        (SIZE - 1, SIZE, SIZE - 4 * MIB, 2 * MIB),
        (SIZE - 5, SIZE + 5, SIZE - 4 * MIB, 2 * MIB),
        (SIZE, SIZE + MIB - 1, SIZE - 4 * MIB, 2 * MIB),
        (9 * MIB, 9 * MIB + 1, 5 * MIB, 2 * MIB),
        (3 * MIB, 4 * MIB, 0, 8 * MIB),
        (2 * MIB, 3 * MIB, 0, 8 * MIB),
    ],
)
def test_who_has_not_been_near_gets_a_look(gap: int, size: int, start: int, window: int) -> None:
    room = size - 1  # it does not fit, else a small one came as a whole
    assert course(gap, Content(size, room, 0)) == Course(start, min(window, room), start)


# 18 and 20.


@pytest.mark.parametrize(
    ("furthest", "origin", "stop"),
    [
        (10, 10, 14),
        (10, 6, 14),
        (10, 5, 15),
        (10, 0, 20),
        (50, 0, 100),
        (33, 0, 66),
        (34, 0, 100),
        (92, 92, 100),
        (91, 91, 95),
        (99, 99, 100),
        (100, 0, 100),
    ],
)
def test_a_stream_reads_a_window_further_or_as_far_as_was_read_or_to_the_end(
    furthest: int, origin: int, stop: int
) -> None:
    """100 bytes, and a window of four."""
    assert courses.until(furthest, origin, 100, 4, 1000) == stop
    for room in (0, 1, 5, 40):
        assert courses.until(furthest, origin, 100, 4, room) == min(stop, furthest + room)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_end_of_what_has_no_known_size_is_never_reached(
    furthest: int, origin: int, window: int, room: int
) -> None:
    assert courses.until(furthest, origin, None, window, room) == plan.ENDLESS


@pytest.mark.parametrize(
    ("room", "fits", "most_reach"),
    [(99, False, 12), (100, True, plan.ENDLESS), (101, True, plan.ENDLESS), (7, False, 0)],
)
def test_what_fits_is_read_through_and_of_the_rest_an_eighth_of_the_room(
    room: int, fits: bool, most_reach: int
) -> None:
    content = Content(100, room, 0)
    assert content.fits is fits
    assert content.most_reach == most_reach


@given(st.integers(0, 200), st.integers(1, 3200), st.integers(1, 3200), st.integers(0, 300))
def test_what_comes_again_of_a_file_that_fits_is_never_more_than_a_sixteenth(
    reach: int, size: int, room: int, again: int
) -> None:
    passed = courses.may_pass_over(reach, Content(size, room, 0), again)
    assert 0 <= passed <= reach
    if size <= room:
        assert passed == 0 or passed + again <= size // 16
        assert passed == reach or passed == max(0, size // 16 - again)
    else:
        assert passed == min(reach, room // 8)


def test_of_a_content_nothing_was_done_at_first() -> None:
    assert Trail() == Trail(ends=(), opened=0, rent_s=0.0, again=0)
    assert not Course(0, 1, 0).sweeps
