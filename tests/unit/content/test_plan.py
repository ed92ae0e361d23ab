"""The planner's table of decisions, row by row, and what holds in every state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icatfs.content import plan
from icatfs.content.plan import Decision, Join, Limits, Open, Replace, Stream, Wait

MIB = 2**20
LIMITS = Limits(streams=2, window=64 * MIB, reach=16 * MIB, turn_s=10.0)
NOW = 100.0


def stream(
    position: int,
    *,
    file: str = "a",
    wanted: bool = True,
    since: float = 99.0,
    wanted_at: float = 50.0,
    ending: bool = False,
) -> Stream:
    return Stream(file, position, wanted, since, wanted_at, ending)


@pytest.mark.parametrize(
    ("name", "gap", "streams", "decision"),
    [
        ("nothing runs", 0, [], Open()),
        ("a place is free", 0, [stream(0, file="b")], Open()),
        ("at the gap", 5 * MIB, [stream(5 * MIB)], Join(0)),
        ("within reach", 10 * MIB, [stream(0)], Join(0)),
        ("exactly within reach", 16 * MIB, [stream(0)], Join(0)),
        ("just out of reach", 16 * MIB + 1, [stream(0)], Open()),
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
    assert plan.serve("a", gap, streams, LIMITS, NOW) == decision, name


streams = st.lists(
    st.builds(
        Stream,
        file=st.sampled_from("ab"),
        position=st.integers(0, 40),
        wanted=st.booleans(),
        since_s=st.floats(0, 100),
        wanted_s=st.floats(0, 100),
        ending=st.booleans(),
    ),
    max_size=3,
)
limits = st.builds(
    Limits,
    streams=st.integers(1, 3),
    window=st.integers(1, 20),
    reach=st.integers(0, 20),
    turn_s=st.floats(0, 50),
)


@given(streams, limits, st.integers(0, 40))
def test_every_decision_can_be_carried_out(running: list[Stream], within: Limits, gap: int) -> None:
    match plan.serve("a", gap, running, within, NOW):
        case Join(number):
            assert running[number].file == "a"
            assert not running[number].ending
            assert 0 <= gap - running[number].position <= within.reach
        case Open():
            assert len(running) < within.streams
        case Replace(number):
            chosen = running[number]
            assert len(running) >= within.streams
            assert not chosen.ending
            assert not chosen.wanted or NOW - chosen.since_s >= within.turn_s
        case Wait():
            assert len(running) >= within.streams


@given(streams, limits, st.integers(0, 40))
def test_nobody_waits_while_a_stream_only_reads_ahead(
    running: list[Stream], within: Limits, gap: int
) -> None:
    decision = plan.serve("a", gap, running, within, NOW)
    if any(not one.wanted and not one.ending and one.wanted_s < NOW - 1 for one in running):
        assert not isinstance(decision, Wait)


@pytest.mark.parametrize(
    ("name", "furthest", "size", "stop"),
    [
        ("a window ahead", 10 * MIB, 1000 * MIB, 74 * MIB),
        ("a small file as a whole", 1, 64 * MIB, 64 * MIB),
        ("a little more than a window", 1, 64 * MIB + 1, 64 * MIB + 1),
        ("the end is near", 20 * MIB, 100 * MIB, 100 * MIB),
        ("the end is just not near", 20 * MIB, 100 * MIB + 1, 84 * MIB),
        ("beyond the end", 990 * MIB, 1000 * MIB, 1000 * MIB),
        ("an unknown size", 0, None, plan.ENDLESS),
    ],
)
def test_how_far_a_stream_reads(name: str, furthest: int, size: int | None, stop: int) -> None:
    assert plan.until(furthest, size, 64 * MIB, LIMITS) == stop, name


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000), limits)
def test_a_stream_reads_to_who_waits_and_not_beyond_the_file(
    furthest: int, size: int, window: int, within: Limits
) -> None:
    stop = plan.until(min(furthest, size), size, window, within)
    assert min(furthest, size) <= stop
    assert stop <= max(size, stop if size > window + within.reach else size)


@pytest.mark.parametrize(
    ("name", "position", "stop", "missing", "others", "goes_on"),
    [
        ("there is more", 5 * MIB, 64 * MIB, 5 * MIB, [], True),
        ("the window's end", 64 * MIB, 64 * MIB, None, [], False),
        ("all is there", 5 * MIB, 64 * MIB, None, [], False),
        ("some is there", 5 * MIB, 64 * MIB, 9 * MIB, [], True),
        ("what is there is cheap to skip", 0, 64 * MIB, 16 * MIB, [], True),
        ("too much is there", 0, 64 * MIB, 16 * MIB + 1, [], False),
        ("another stands in front", 5 * MIB, 64 * MIB, 9 * MIB, [9 * MIB], False),
        ("another stands between", 5 * MIB, 64 * MIB, 9 * MIB, [7 * MIB], False),
        ("another is further", 5 * MIB, 64 * MIB, 5 * MIB, [7 * MIB], True),
        ("another is behind", 5 * MIB, 64 * MIB, 5 * MIB, [MIB], True),
        ("another is just here", 5 * MIB, 64 * MIB, 5 * MIB, [5 * MIB], True),
    ],
)
def test_when_a_stream_reads_on(
    name: str, position: int, stop: int, missing: int | None, others: list[int], goes_on: bool
) -> None:
    assert plan.goes_on(position, stop, missing, others, LIMITS) is goes_on, name


@given(st.lists(st.integers(0, 50), min_size=2, max_size=2, unique=True), st.integers(0, 50))
def test_two_streams_never_both_go_on_for_one_byte(positions: list[int], missing: int) -> None:
    first, second = positions
    within = Limits(reach=50)
    both = all(
        position <= missing and plan.goes_on(position, 60, missing, [other], within)
        for position, other in ((first, second), (second, first))
    )
    assert not both


@pytest.mark.parametrize(
    ("name", "gap", "first_missing", "begin"),
    [
        ("all before it is there", 5 * MIB, 5 * MIB, 5 * MIB),
        ("its neighbours are missing too", 5 * MIB + 7, 5 * MIB, 5 * MIB),
        ("some of them are missing", 5 * MIB + 7, 5 * MIB + 3, 5 * MIB + 3),
    ],
)
def test_a_stream_begins_with_the_neighbours_of_the_gap(
    name: str, gap: int, first_missing: int, begin: int
) -> None:
    assert plan.begin(gap, first_missing) == begin, name


@given(st.integers(0, 10**12))
def test_neighbours_are_looked_for_within_one_mebibyte(gap: int) -> None:
    assert 0 <= gap - plan.aligned(gap) < MIB
    assert plan.aligned(gap) % MIB == 0


def test_a_window_doubles_up_to_the_room() -> None:
    assert plan.widened(64, room=1000) == 128
    assert plan.widened(600, room=1000) == 1000
    assert plan.widened(64, room=10) == 64
