"""Rows 2 to 9 of the table, once more and slowly: every small state, and many larger ones."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import LIMITS, PRICES, all_prices
from support.sizes import GIB, MIB

from icatfs.content import plan
from icatfs.content.costs import Prices
from icatfs.content.plan import Decision, Join, Limits, Open, Replace, Stream, Wait

NOW = 100.0
RECENTLY, LONG_AGO = 99.95, 50.0
SMALL = Limits(streams=2, least_reach=1, most_reach=2, turn_s=10.0, grace_s=0.1)
CHEAP = Prices(base_s=0.001, skip_s=0.0, rate=0.25)
"""A second brings nothing much: a sweep's patience is 2 bytes, a stream's reach the least."""


def by_the_table(
    gap: int, streams: list[Stream], prices: Prices, limits: Limits, *, others: bool
) -> Decision:
    """Somebody waits for a byte of file a."""
    own = [number for number, one in enumerate(streams) if one.file == "a" and not one.ending]
    coming: list[tuple[int, int]] = []
    for number in own:
        one, ahead = streams[number], gap - streams[number].position
        half_s = (prices.base_s + gap * prices.skip_s) / 2
        reach = max(limits.least_reach, min(limits.most_reach, int(half_s * prices.rate)))
        is_near = ahead <= min(reach, one.most_reach)  # 2
        is_swept_soon = one.sweeps and ahead <= int(limits.turn_s * prices.rate)  # 3
        if ahead >= 0 and (is_near or is_swept_soon):
            coming.append((ahead, number))
    if coming:
        return Join(min(coming)[1])
    if len(streams) < limits.streams:
        return Open()  # 5
    ages = [(one.since_s, number) for number, one in enumerate(streams) if not one.ending]
    oldest = [streams[number] for _, number in sorted(ages)]
    ahead_for_nobody = [one for one in oldest if not one.wanted]
    for may_go in (
        [one for one in ahead_for_nobody if one.file == "a" and not one.sweeps and not others],  # 6
        [one for one in ahead_for_nobody if NOW - one.wanted_s >= limits.grace_s],  # 7
        [
            one for one in oldest if one.turn_s is not None and NOW - one.turn_s >= limits.turn_s
        ],  # 8
    ):
        for one in may_go:
            return Replace(next(number for number, other in enumerate(streams) if other is one))
    return Wait()  # 9


EVERY_STREAM = [
    Stream(
        file=file,
        position=position,
        wanted=wanted,
        since_s=1.0,
        wanted_s=wanted_s,
        turn_s=turn_s,
        ending=ending,
        sweeps=sweeps,
        most_reach=most_reach,
    )
    for file, position, wanted, wanted_s, turn_s, ending, sweeps, most_reach in itertools.product(
        "ab",
        range(4),
        [True, False],
        [RECENTLY, LONG_AGO],
        [None, RECENTLY, LONG_AGO],
        [True, False],
        [True, False],
        [1, plan.ENDLESS],
    )
]


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("gap", range(5))
def test_beside_one_stream_whoever_waits_is_served_as_the_table_says(
    gap: int, places: int, others: bool
) -> None:
    limits = Limits(streams=places, least_reach=1, most_reach=2)
    for one in EVERY_STREAM:
        decision = plan.serve("a", gap, [one], CHEAP, limits, NOW, others=others)
        assert decision == by_the_table(gap, [one], CHEAP, limits, others=others), one


@pytest.mark.parametrize("seed", range(4))
def test_beside_several_streams_whoever_waits_is_served_as_the_table_says(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(1500):
        streams = [
            Stream(
                file=one.file,
                position=one.position,
                wanted=one.wanted,
                since_s=float(dice.randrange(3)),
                wanted_s=one.wanted_s,
                turn_s=one.turn_s,
                ending=one.ending,
                sweeps=one.sweeps,
                most_reach=one.most_reach,
            )
            for one in dice.choices(EVERY_STREAM, k=dice.randrange(4))
        ]
        gap, others = dice.randrange(5), dice.random() < 0.5
        decision = plan.serve("a", gap, streams, CHEAP, SMALL, NOW, others=others)
        assert decision == by_the_table(gap, streams, CHEAP, SMALL, others=others), streams


@given(
    st.integers(0, 64 * MIB),
    st.integers(0, 64 * MIB),
    all_prices,
    st.booleans(),
    st.sampled_from([0, MIB, plan.ENDLESS]),
    st.sampled_from([LIMITS, Limits(), SMALL]),
)
def test_who_is_joined_to_one_stream_is_joined_as_the_table_says(
    gap: int, position: int, prices: Prices, sweeps: bool, most_reach: int, limits: Limits
) -> None:
    one = Stream("a", position, True, 99.0, sweeps=sweeps, most_reach=most_reach)
    is_joined = by_the_table(gap, [one], prices, limits, others=False) == Join(0)
    assert plan.reaches(one, gap, prices, limits) is is_joined
    assert (plan.nearest("a", gap, [one], prices, limits) == 0) is is_joined
    assert plan.nearest("b", gap, [one], prices, limits) is None


# Edges, in numbers.


@pytest.mark.parametrize(
    ("name", "ahead", "sweeps", "most_reach", "is_joined"),
    [
        ("at the gap", 0, False, plan.ENDLESS, True),
        ("behind it", -1, False, plan.ENDLESS, False),
        ("at the gap, with no reach of its own", 0, False, 0, True),
        ("next to it, with no reach of its own", 1, False, 0, False),
        ("as far as it may go", 3 * MIB, False, 3 * MIB, True),
        ("further than it may go", 3 * MIB + 1, False, 3 * MIB, False),
        ("within reach", 16 * MIB, False, plan.ENDLESS, True),
        ("out of reach", 16 * MIB + 1, False, plan.ENDLESS, False),
        ("a sweep within a turn", 1000 * MIB, True, plan.ENDLESS, True),
        ("a sweep within more than a turn", 1000 * MIB + 1, True, plan.ENDLESS, False),
        ("a sweep may read through anything", 1000 * MIB, True, 0, True),
        ("a sweep that has passed", -1, True, plan.ENDLESS, False),
    ],
)
def test_a_stream_reaches_a_gap(
    name: str, ahead: int, sweeps: bool, most_reach: int, is_joined: bool
) -> None:
    gap = 2000 * MIB
    one = Stream("a", gap - ahead, True, 99.0, sweeps=sweeps, most_reach=most_reach)
    assert plan.reaches(one, gap, PRICES, LIMITS) is is_joined, name
    ending = Stream("a", gap - ahead, True, 99.0, ending=True, sweeps=sweeps)
    assert not plan.reaches(ending, gap, PRICES, LIMITS), name


def test_a_sweep_is_awaited_for_longer_than_a_turn_where_opening_another_takes_that() -> None:
    slow = Prices(base_s=100.0, skip_s=0.0, rate=1.0)
    within = Limits(least_reach=0, most_reach=plan.ENDLESS)
    sweep = Stream("a", 0, True, 99.0, sweeps=True)
    assert within.patience(slow) == 10
    assert plan.reaches(sweep, 50, slow, within)
    assert not plan.reaches(sweep, 51, slow, within)


def test_of_streams_that_are_equally_near_the_first_is_joined() -> None:
    streams = [Stream("a", place, True, 99.0) for place in (0, MIB, MIB)]
    assert plan.nearest("a", 2 * MIB, streams, PRICES, LIMITS) == 1
    assert plan.nearest("a", MIB - 1, streams, PRICES, LIMITS) == 0
    assert plan.nearest("a", 0, [], PRICES, LIMITS) is None


def test_patience_is_what_arrives_within_a_turn() -> None:
    assert LIMITS.patience(PRICES) == 1000 * MIB
    assert Limits(turn_s=0.5).patience(Prices(1.0, 0.0, 7.0)) == 3
    assert isinstance(LIMITS.patience(PRICES), int)


@given(st.integers(0, 2**40), all_prices, st.integers(0, 2**20), st.integers(0, 2**30))
def test_the_reach_of_a_place_is_within_the_limits_and_grows_with_the_offset(
    offset: int, prices: Prices, least: int, more: int
) -> None:
    within = Limits(least_reach=least, most_reach=least + more)
    reach = within.reach(offset, prices)
    assert least <= reach <= least + more
    assert within.reach(offset // 2, prices) <= reach <= within.reach(2 * offset, prices)
    assert reach == prices.reach(offset, least, least + more)


@pytest.mark.parametrize(
    ("since", "chosen"),
    [((3.0, 1.0, 2.0), 1), ((1.0, 1.0, 2.0), 0), ((2.0, 1.0, 1.0), 1), ((3.0, 2.0, 1.0), 2)],
)
@pytest.mark.parametrize("row", [6, 7, 8])
def test_the_oldest_of_those_that_may_go_goes(
    row: int, since: tuple[float, ...], chosen: int
) -> None:
    """And of two that are equally old the first."""
    streams = [
        Stream(
            file="a" if row == 6 else "b",
            position=900 * MIB,
            wanted=row == 8,
            since_s=since_s,
            wanted_s=RECENTLY if row == 6 else LONG_AGO,
            turn_s=LONG_AGO if row == 8 else None,
        )
        for since_s in since
    ]
    assert plan.serve("a", 0, streams, PRICES, LIMITS, NOW) == Replace(chosen)


@pytest.mark.parametrize(("away_s", "may_go"), [(0.25, True), (0.2, False)])
def test_a_moment_is_over_when_it_is_over(away_s: float, may_go: bool) -> None:
    one = Stream("b", 0, False, 1.0, wanted_s=NOW - away_s)
    limits = Limits(streams=1, grace_s=0.25)
    expected = Replace(0) if may_go else Wait()
    assert plan.serve("a", 0, [one], PRICES, limits, NOW) == expected


@pytest.mark.parametrize(("ago_s", "may_go"), [(10.0, True), (9.9, False)])
def test_a_turn_is_over_when_it_is_over(ago_s: float, may_go: bool) -> None:
    one = Stream("b", 0, True, 1.0, turn_s=NOW - ago_s)
    expected = Replace(0) if may_go else Wait()
    assert plan.serve("a", 0, [one], PRICES, Limits(streams=1), NOW) == expected


def test_a_stream_is_to_be_joined_whatever_else_it_is() -> None:
    """Also where a place is free, and where it is one that might be replaced."""
    one = Stream("a", 5 * MIB, False, 1.0, wanted_s=0.0, turn_s=0.0)
    for places in (1, 2):
        limits = Limits(streams=places)
        assert plan.serve("a", 5 * MIB, [one], PRICES, limits, NOW) == Join(0)


def test_the_measures_are_those_of_the_essay() -> None:
    limits = Limits()
    assert limits.streams == 2, "a facility serves a mount two long transfers at a time"
    assert limits.window == 8 * MIB
    assert limits.glance == 2 * MIB
    assert limits.least_reach == MIB
    assert limits.most_reach == GIB
    assert limits.looks == 8, "after eight streams"
    assert limits.turn_s == 10.0
    assert limits.grace_s == 0.1, "a moment"
    assert plan.ENDLESS == 2**62, "no file is so long"


def test_a_stream_of_which_nothing_is_said_reads_ahead_without_bounds_and_has_had_no_turn() -> None:
    one = Stream("a", 0, False, 1.0)
    assert one.wanted_s == 0.0
    assert one.turn_s is None
    assert not one.ending
    assert not one.sweeps
    assert one.most_reach == plan.ENDLESS
