"""Who is served how: the table of decisions row by row, and what holds in every state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import LIMITS, PRICES, all_limits, all_prices
from support.sizes import GIB, MIB

from icatfs.content import plan
from icatfs.content.plan import Decision, Join, Limits, Open, Replace, Stream, Wait

if TYPE_CHECKING:
    from icatfs.content.costs import Prices

NOW = 100.0


def stream(
    position: int,
    *,
    file: str = "a",
    wanted: bool = True,
    since: float = 99.0,
    wanted_at: float = 50.0,
    begun: bool = True,
    ending: bool = False,
    sweeps: bool = False,
    most_reach: int = plan.ENDLESS,
) -> Stream:
    turn = since if begun else None
    return Stream(file, position, wanted, since, wanted_at, turn, ending, sweeps, most_reach)


@pytest.mark.parametrize(
    ("name", "gap", "streams", "decision"),
    [
        ("nothing runs", 0, [], Open()),
        ("a place is free", 0, [stream(0, file="b")], Open()),
        ("at the gap", 5 * MIB, [stream(5 * MIB)], Join(0)),
        ("within reach", 10 * MIB, [stream(0)], Join(0)),
        ("exactly within reach", 16 * MIB, [stream(0)], Join(0)),
        ("just out of reach", 16 * MIB + 1, [stream(0)], Open()),
        ("within reach of what may not go there", 5 * MIB, [stream(0, most_reach=4 * MIB)], Open()),
        ("a sweep gets there within a turn", 1000 * MIB, [stream(0, sweeps=True)], Join(0)),
        ("a sweep gets there much later", 1001 * MIB, [stream(0, sweeps=True)], Open()),
        ("a sweep has passed", 0, [stream(1, sweeps=True)], Open()),
        (
            "a sweep is not replaced for its own file at once",
            5000 * MIB,
            [stream(0, file="b"), stream(0, sweeps=True, wanted=False, wanted_at=99.95)],
            Wait(),
        ),
        ("behind the stream", 0, [stream(1)], Open()),
        ("of another file", 0, [stream(0, file="b")], Open()),
        ("the nearest of two", 10 * MIB, [stream(0), stream(9 * MIB)], Join(1)),
        ("the other is past", 10 * MIB, [stream(11 * MIB), stream(MIB)], Join(1)),
        ("one that ends is not joined", 5 * MIB, [stream(5 * MIB, ending=True)], Open()),
        (
            "joining needs no place",
            5 * MIB,
            [stream(5 * MIB), stream(0, file="b")],
            Join(0),
        ),
        (
            "joining one that reads ahead only",
            5 * MIB,
            [stream(4 * MIB, wanted=False), stream(0, file="b")],
            Join(0),
        ),
        (
            "one that reads ahead only must go",
            0,
            [stream(0, file="b"), stream(0, file="c", wanted=False)],
            Replace(1),
        ),
        (
            "also of the same file",
            900 * MIB,
            [stream(0, file="b"), stream(0, wanted=False)],
            Replace(1),
        ),
        (
            "the oldest of those",
            0,
            [
                stream(0, file="b", wanted=False, since=98.0),
                stream(0, file="c", wanted=False, since=97.0),
            ],
            Replace(1),
        ),
        (
            "one that is ending is not ended twice",
            0,
            [stream(0, file="b"), stream(0, file="c", wanted=False, ending=True)],
            Wait(),
        ),
        (
            "the reader of another file may think for a moment",
            0,
            [stream(0, file="b"), stream(0, file="c", wanted=False, wanted_at=99.95)],
            Wait(),
        ),
        (
            "but not longer",
            0,
            [stream(0, file="b"), stream(0, file="c", wanted=False, wanted_at=99.8)],
            Replace(1),
        ),
        (
            "a seek in the same file need not wait",
            900 * MIB,
            [stream(0, file="b"), stream(0, wanted=False, wanted_at=99.95)],
            Replace(1),
        ),
        (
            "and prefers its own",
            900 * MIB,
            [stream(0, file="b", wanted=False, since=1.0), stream(0, wanted=False)],
            Replace(1),
        ),
        (
            "both are wanted and young",
            0,
            [stream(0, file="b"), stream(0, file="c")],
            Wait(),
        ),
        (
            "one has had its turn",
            0,
            [stream(0, file="b", since=90.0), stream(0, file="c", since=95.0)],
            Replace(0),
        ),
        (
            "the oldest has had its turn first",
            0,
            [stream(0, file="b", since=80.0), stream(0, file="c", since=70.0)],
            Replace(1),
        ),
        (
            "not quite its turn",
            0,
            [stream(0, file="b", since=90.1), stream(0, file="c", since=95.0)],
            Wait(),
        ),
        (
            "its turn begins with its first byte",
            0,
            [stream(0, file="b", since=10.0, begun=False), stream(0, file="c", since=95.0)],
            Wait(),
        ),
        (
            "one that has brought nothing may go if nobody waits for it",
            0,
            [stream(0, file="b", begun=False, wanted=False), stream(0, file="c", since=95.0)],
            Replace(0),
        ),
        (
            "the oldest of its own file's",
            900 * MIB,
            [stream(0, wanted=False, since=98.0), stream(MIB, wanted=False, since=97.0)],
            Replace(1),
        ),
        (
            "a sweep that is forgotten",
            5000 * MIB,
            [stream(0, file="b"), stream(0, sweeps=True, wanted=False, wanted_at=99.8)],
            Replace(1),
        ),
        (
            "the oldest of the forgotten, and not that of the patient",
            0,
            [
                stream(0, file="b", wanted=False, since=1.0, wanted_at=99.95),
                stream(0, file="c", wanted=False, since=2.0, wanted_at=99.0),
                stream(0, file="d", wanted=False, since=3.0, wanted_at=98.0),
            ],
            Replace(1),
        ),
        (
            "reading ahead goes before having had its turn",
            0,
            [stream(0, file="b", since=10.0), stream(0, file="c", wanted=False)],
            Replace(1),
        ),
    ],
)
def test_who_waits_is_served(
    name: str, gap: int, streams: list[Stream], decision: Decision
) -> None:
    assert plan.serve("a", gap, streams, PRICES, LIMITS, NOW) == decision, name


def test_of_several_readers_of_a_file_none_takes_the_stream_of_another_at_once() -> None:
    busy = [stream(0, file="b"), stream(0, wanted=False, wanted_at=99.95)]
    assert plan.serve("a", 900 * MIB, busy, PRICES, LIMITS, NOW) == Replace(1)
    assert plan.serve("a", 900 * MIB, busy, PRICES, LIMITS, NOW, others=True) == Wait()
    assert plan.serve("a", 900 * MIB, busy, PRICES, LIMITS, NOW + 1, others=True) == Replace(1)


streams = st.lists(
    st.builds(
        Stream,
        file=st.sampled_from("ab"),
        position=st.integers(0, 40),
        wanted=st.booleans(),
        since_s=st.floats(0, 100),
        wanted_s=st.floats(0, 100),
        came_s=st.floats(0, 100),
        turn_s=st.none() | st.floats(0, 100),
        ending=st.booleans(),
        sweeps=st.booleans(),
        most_reach=st.sampled_from([0, 3, plan.ENDLESS]),
    ),
    max_size=3,
)


def test_a_stream_that_somebody_came_for_since_is_not_that_of_who_waits() -> None:
    busy = [stream(0, file="b"), stream(0, wanted=False, wanted_at=99.95)]
    busy[1] = replace(busy[1], came_s=99.9)
    assert plan.serve("a", 900 * MIB, busy, PRICES, LIMITS, NOW, since_s=99.9) == Replace(1)
    assert plan.serve("a", 900 * MIB, busy, PRICES, LIMITS, NOW, since_s=99.8) == Wait()


@given(streams, all_limits, all_prices, st.integers(0, 40), st.booleans())
def test_every_decision_can_be_carried_out(
    running: list[Stream], within: Limits, prices: Prices, gap: int, others: bool
) -> None:
    match plan.serve("a", gap, running, prices, within, NOW, others=others):
        case Join(number):
            assert running[number].file == "a"
            assert not running[number].ending
            assert gap >= running[number].position
            assert plan.reaches(running[number], gap, prices, within)
        case Open():
            assert len(running) < within.streams
        case Replace(number):
            chosen = running[number]
            assert len(running) >= within.streams
            assert not chosen.ending
            if chosen.wanted:
                assert chosen.turn_s is not None
                assert NOW - chosen.turn_s >= within.turn_s
        case Wait():
            assert len(running) >= within.streams


@given(streams, all_limits, all_prices, st.integers(0, 40))
def test_nobody_waits_while_a_stream_only_reads_ahead(
    running: list[Stream], within: Limits, prices: Prices, gap: int
) -> None:
    decision = plan.serve("a", gap, running, prices, within, NOW)
    if any(not one.wanted and not one.ending and one.wanted_s < NOW - 1 for one in running):
        assert not isinstance(decision, Wait)


@given(st.integers(0, GIB), st.integers(0, 64 * MIB), all_prices)
def test_who_is_joined_is_there_in_half_the_time_of_another_stream(
    gap: int, ahead: int, prices: Prices
) -> None:
    within = Limits(least_reach=0, most_reach=plan.ENDLESS)
    one = stream(max(0, gap - ahead))
    joined = plan.reaches(one, gap, prices, within)
    assert joined == (gap - one.position <= int(prices.rate * prices.first_byte_s(gap) / 2))


@given(st.integers(0, GIB), all_prices)
def test_a_moment_is_the_price_of_a_stream_within_bounds(offset: int, prices: Prices) -> None:
    moment_s = LIMITS.moment_s(offset, prices)
    assert LIMITS.grace_s <= moment_s <= LIMITS.most_grace_s
    assert moment_s in (LIMITS.grace_s, LIMITS.most_grace_s, prices.first_byte_s(offset))
