"""What is kept track of: a waiter's gap, a fetch as the planner sees it, a stream and its turn."""

from __future__ import annotations

import pytest
from support.desk import Desk
from support.simulator import SimulatedCarrier, SimulatedFile
from support.sizes import MIB, PLENTY

from icatfs.content import plan
from icatfs.content.courses import Content, Course
from icatfs.content.flows import Fetch, Stream, Waiter
from icatfs.content.plan import Limits
from icatfs.content.stream import Suspicion

SIZE = 100 * MIB


def a_fetch(size: int | None = SIZE, room: int = PLENTY, mismatches: int = 0) -> Fetch:
    file = SimulatedFile(1, size or 0, room)
    file.size = size
    return Fetch(file, Suspicion(mismatches))


def a_stream(
    fetch: Fetch | None = None,
    position: int = 0,
    *,
    window: int = 8 * MIB,
    origin: int | None = None,
    sweeps: bool = False,
    now_s: float = 50.0,
) -> Stream:
    course = Course(position, window, position if origin is None else origin, sweeps)
    return Stream(fetch or a_fetch(), SimulatedCarrier(position), course, now_s)


def a_waiter(fetch: Fetch, start: int, stop: int) -> Waiter:
    """Somebody who waits where there are no places for streams."""
    return Desk(Limits(streams=0)).dispatch.wait(fetch, start, stop)


def has(fetch: Fetch, *ranges: tuple[int, int]) -> None:
    assert isinstance(fetch.file, SimulatedFile)
    for start, stop in ranges:
        fetch.file.extents.add(start, stop)


# A waiter.


@pytest.mark.parametrize(
    ("there", "gap"),
    [
        ([], 10),
        ([(0, 10)], 10),
        ([(0, 11)], 11),
        ([(10, 19)], 19),
        ([(11, 20)], 10),
        ([(10, 12), (14, 20)], 12),
        ([(10, 20)], None),
        ([(0, 100)], None),
        ([(20, 100)], 10),
    ],
)
def test_a_waiter_lacks_the_first_byte_of_his_that_is_missing(
    there: list[tuple[int, int]], gap: int | None
) -> None:
    fetch = a_fetch()
    has(fetch, *there)
    assert a_waiter(fetch, 10, 20).gap() == gap


def test_a_waiter_lacks_nothing_beyond_the_end_of_the_file() -> None:
    fetch = a_fetch(size=15)
    has(fetch, (10, 15))
    assert a_waiter(fetch, 10, 20).gap() is None


def test_a_waiter_is_not_served_and_has_no_stream_at_first() -> None:
    fetch = a_fetch()
    waiter = a_waiter(fetch, 10, 20)
    assert (waiter.fetch, waiter.start, waiter.stop) == (fetch, 10, 20)
    assert waiter.stream is None
    assert waiter.error is None
    assert not waiter.served.is_set()


# A fetch.


@pytest.mark.parametrize(
    ("size", "mismatches", "is_whole"),
    [(SIZE, 0, False), (SIZE, 1, True), (SIZE, 2, True), (None, 0, True), (None, 1, True)],
)
def test_a_content_comes_as_a_whole_if_its_size_is_unknown_or_it_was_wrong_before(
    size: int | None, mismatches: int, is_whole: bool
) -> None:
    assert a_fetch(size, mismatches=mismatches).is_whole is is_whole


def test_a_content_that_agreed_with_the_catalogue_again_comes_in_parts_again() -> None:
    fetch = a_fetch(mismatches=1)
    fetch.suspicion.mismatches = 0
    assert not fetch.is_whole


@pytest.mark.parametrize(
    ("there", "first_missing"),
    [
        ([], 0),
        ([(0, 5)], 5),
        ([(3, 5)], 0),
        ([(0, 5), (7, SIZE)], 5),
        ([(0, SIZE - 1)], SIZE - 1),
        ([(0, SIZE)], SIZE),
    ],
)
def test_the_planner_sees_where_a_content_begins_to_be_missing(
    there: list[tuple[int, int]], first_missing: int
) -> None:
    fetch = a_fetch(room=77)
    has(fetch, *there)
    assert fetch.content() == Content(SIZE, 77, first_missing)


def test_a_fetch_has_nobody_at_first() -> None:
    fetch = a_fetch()
    assert not fetch.waiters
    assert not fetch.streams
    assert fetch.prover is None


# A stream.


def test_a_stream_begins_where_its_carrier_is() -> None:
    """Which may be before its course: a server that ignores ranges begins at 0."""
    fetch = a_fetch()
    course = Course(10 * MIB, 2 * MIB, 9 * MIB, sweeps=True)
    stream = Stream(fetch, SimulatedCarrier(7 * MIB), course, 50.0)
    assert stream.start == stream.furthest == stream.next_missing == 7 * MIB
    assert stream.origin == 9 * MIB
    assert stream.window == 2 * MIB
    assert stream.sweeps
    assert stream.since == stream.wanted_at == 50.0
    assert stream.begun_at is None
    assert stream.first_piece == 0
    assert not stream.ending
    assert not stream.waiters


@pytest.mark.parametrize(
    ("size", "room", "mismatches", "most_reach"),
    [
        (SIZE, PLENTY, 0, plan.ENDLESS),
        (SIZE, SIZE, 0, plan.ENDLESS),
        (SIZE, SIZE - 1, 0, (SIZE - 1) // 8),
        (SIZE, 16 * MIB, 0, 2 * MIB),
        (SIZE, 16 * MIB, 1, plan.ENDLESS),
        (None, 16 * MIB, 0, plan.ENDLESS),
    ],
)
def test_a_stream_of_what_does_not_fit_reads_through_an_eighth_of_the_room(
    size: int | None, room: int, mismatches: int, most_reach: int
) -> None:
    assert a_stream(a_fetch(size, room, mismatches)).most_reach == most_reach


@pytest.mark.parametrize(
    ("begun_at", "resumed", "turn_s"),
    [(None, 0, None), (None, 1, 50.0), (None, 3, 50.0), (57.0, 0, 57.0), (57.0, 1, 57.0)],
)
def test_a_turn_begins_with_the_first_byte_or_when_the_stream_broke_before(
    begun_at: float | None, resumed: int, turn_s: float | None
) -> None:
    stream = a_stream(now_s=50.0)
    assert isinstance(stream.carrier, SimulatedCarrier)
    stream.carrier.resumed = resumed
    stream.begun_at = begun_at
    assert stream.turn_s == turn_s
    assert stream.seen().turn_s == turn_s


@pytest.mark.parametrize(
    ("furthest", "is_confirmed"),
    [
        (20 * MIB, False),
        (28 * MIB - 1, False),
        (28 * MIB, False),
        (28 * MIB + 1, True),
        (90 * MIB, True),
    ],
)
def test_a_stream_is_confirmed_by_readers_who_came_for_more_than_a_window(
    furthest: int, is_confirmed: bool
) -> None:
    stream = a_stream(position=10 * MIB, origin=20 * MIB, window=8 * MIB)
    stream.furthest = furthest
    assert stream.is_confirmed is is_confirmed


def test_a_stream_is_seen_as_it_is_now() -> None:
    fetch = a_fetch(room=16 * MIB)
    stream = a_stream(fetch, 10 * MIB, sweeps=True)
    assert stream.seen() == plan.Stream(
        file=fetch.file.version,
        position=10 * MIB,
        wanted=False,
        since_s=50.0,
        wanted_s=50.0,
        turn_s=None,
        ending=False,
        sweeps=True,
        most_reach=2 * MIB,
    )
    assert isinstance(stream.carrier, SimulatedCarrier)
    stream.carrier.position += MIB
    stream.waiters[a_waiter(fetch, 0, 1)] = None
    stream.wanted_at = 51.0
    stream.begun_at = 52.0
    stream.sweeps = False
    stream.end()
    assert stream.seen() == plan.Stream(
        file=fetch.file.version,
        position=11 * MIB,
        wanted=True,
        since_s=50.0,
        wanted_s=51.0,
        turn_s=52.0,
        ending=True,
        sweeps=False,
        most_reach=2 * MIB,
    )


async def test_a_stream_that_is_to_end_is_cancelled_and_known_to_be_ending() -> None:
    stream, other = a_stream(), a_stream()
    stream.end()
    stream.end()  # once is enough, and twice does no harm
    assert stream.ending
    assert stream.scope.cancel_called
    assert not other.ending
    assert not other.scope.cancel_called
