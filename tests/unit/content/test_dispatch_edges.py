"""The planner's state at its edges: what is counted, what is remembered, who is told when."""

from __future__ import annotations

import pytest
from support.desk import Desk
from support.simulator import SimulatedFile
from support.sizes import GIB, KIB, MIB

from icatfs.content import plan
from icatfs.content.flows import Fetch, Stream, StreamStatus
from icatfs.content.plan import Limits
from icatfs.content.stream import Suspicion
from icatfs.errors import Busy, ShuttingDown

SHORT = Limits(least_reach=MIB, most_reach=MIB)
ALONE = Limits(streams=1, least_reach=MIB, most_reach=MIB)
OPENED_S = 1000.0
"""When a desk's day begins: not at 0, where a time is as good as a duration."""


def a_desk(limits: Limits = SHORT, size: int = GIB) -> Desk:
    desk = Desk(limits, size=size)
    desk.now = OPENED_S
    return desk


def another(number: int = 2, size: int = GIB) -> SimulatedFile:
    return SimulatedFile(number, size, 2**40)


def stream_of(desk: Desk, start: int, count: int = 1, file: SimulatedFile | None = None) -> Stream:
    """The stream that is opened for somebody who waits there."""
    stream = desk.wait(start, count, file).stream
    assert stream is not None
    return stream


def has_brought(desk: Desk, start: int, count: int, file: SimulatedFile) -> None:
    """A stream has come and gone, and brought this for somebody."""
    waiter = desk.wait(start, 1, file)
    assert waiter.stream is not None
    desk.bring(waiter.stream, count)
    desk.dispatch.leave(waiter)
    desk.dispatch.ended(waiter.stream, None)


def is_read_ahead(desk: Desk, file: SimulatedFile) -> Stream:
    """A stream runs that nobody waits for any more."""
    waiter = desk.wait(0, 1, file)
    assert waiter.stream is not None
    desk.bring(waiter.stream, MIB)
    desk.dispatch.leave(waiter)
    return waiter.stream


class Endless(SimulatedFile):
    """A file of which only its end will tell how long it is."""

    def __init__(self) -> None:
        super().__init__(3, GIB, 2**40)
        self.size = None

    def missing(self, start: int, stop: int, /) -> tuple[int, int] | None:
        return self.extents.gap(start, stop)

    def arrived(self, start: int, stop: int) -> int:
        return self.extents.add(start, stop)


# What is counted.


def test_of_nothing_nothing_is_said() -> None:
    desk = Desk()
    status = desk.dispatch.status()
    assert status.streams == ()
    assert status.waiting == status.opened == status.resumed == 0
    assert status.bytes_received == status.mismatches == 0
    assert status.prices == desk.dispatch.costs.prices


def test_each_stream_is_shown_with_its_place_and_those_who_wait_for_it() -> None:
    desk = a_desk(Limits())
    other = another(5, 8 * MIB)
    head = stream_of(desk, 0)
    desk.wait(2 * MIB)
    sweep = stream_of(desk, MIB, file=other)
    desk.bring(head, 1000)
    assert desk.dispatch.status().streams == (
        StreamStatus(datafile=1, position=1000, waiting=1, sweeps=False),
        StreamStatus(datafile=5, position=0, waiting=1, sweeps=True),
    )
    assert sweep.sweeps
    desk.wait(500 * MIB)
    assert desk.dispatch.status().waiting == 4, "one is served and has not left, one is queued"


def test_what_streams_did_is_counted_when_they_are_over() -> None:
    desk = a_desk()
    for resumed, mismatches in ((2, 1), (3, 0)):
        stream = stream_of(desk, 0)
        desk.bring(stream, KIB)
        desk.carriers[stream].resumed = resumed
        desk.carriers[stream].mismatches = mismatches
        desk.dispatch.ended(stream, Busy("locked"))
        desk.file.extents.clear()
    status = desk.dispatch.status()
    assert (status.opened, status.resumed, status.mismatches) == (2, 5, 1)
    assert status.bytes_received == 2 * KIB


# Who waits.


def test_who_leaves_the_queue_is_forgotten_by_it() -> None:
    desk = a_desk(ALONE)
    stream_of(desk, 0, file=another())
    waiter = desk.wait(0)
    desk.dispatch.leave(waiter)
    assert not desk.dispatch.queue
    assert desk.dispatch.status().waiting == 1
    assert desk.file.pins == -1, "the file is let go, once"


def test_who_leaves_may_make_room_for_another_at_once() -> None:
    """While two wait in one file, a stream may be that of either; when one leaves it is clear."""
    desk = a_desk(ALONE)
    first = desk.wait(0)
    assert first.stream is not None
    desk.bring(first.stream, MIB)
    second = desk.wait(500 * MIB)
    assert second in desk.dispatch.queue
    assert [stream.ending for stream in desk.streams] == [False], "its reader has not left"
    desk.dispatch.leave(first)
    assert [stream.ending for stream in desk.streams] == [True]
    assert not first.stream.waiters


def test_who_waits_for_what_came_from_elsewhere_is_told() -> None:
    """A zip has brought it, or another process: whoever looks after the queue sees that."""
    desk = a_desk(ALONE)
    stream_of(desk, 0, file=another())
    first, second, third = desk.wait(0), desk.wait(300 * MIB), desk.wait(600 * MIB)
    for waiter in (first, third):
        desk.file.arrived(waiter.start, waiter.stop)
    desk.dispatch.arrange()
    assert first.served.is_set()
    assert third.served.is_set(), "also those behind one who still waits"
    assert not second.served.is_set()


def test_behind_one_who_is_promised_a_stream_others_are_planned_for_all_the_same() -> None:
    desk = a_desk()
    for number in (5, 6):
        is_read_ahead(desk, another(number))
    near, promised = desk.wait(100 * MIB), desk.wait(100 * MIB + 10)
    elsewhere = desk.wait(0, file=another(7))
    assert list(desk.dispatch.queue) == [near, promised, elsewhere]
    desk.now += 1.0
    desk.dispatch.arrange()
    assert all(stream.ending for stream in desk.streams), "one for the first, one for the last"


def test_two_who_wait_their_turn_have_two_streams_ended() -> None:
    desk = a_desk()
    for number in (5, 6):
        is_read_ahead(desk, another(number))
    desk.now += 0.05
    desk.wait(0)
    desk.wait(0, file=another(7))
    assert not any(stream.ending for stream in desk.streams)
    desk.now += 1.0
    desk.dispatch.arrange()
    assert all(stream.ending for stream in desk.streams)


def test_for_who_comes_while_a_stream_is_ending_for_another_the_next_one_ends() -> None:
    desk = a_desk()
    for number in (5, 6):
        is_read_ahead(desk, another(number))
    desk.now += 1.0
    desk.wait(0)
    desk.dispatch.arrange()
    assert [stream.ending for stream in desk.streams] == [True, False]
    desk.wait(0, file=another(7))
    assert [stream.ending for stream in desk.streams] == [True, True]


def test_who_can_only_wait_takes_nothing_from_who_comes_after_him() -> None:
    desk = a_desk()
    busy = stream_of(desk, 0, file=another(5))
    own = is_read_ahead(desk, desk.file)
    assert desk.wait(0, file=another(6)) in desk.dispatch.queue
    desk.wait(500 * MIB)
    assert own.ending, "row 6: his own file's"
    assert not busy.ending


def test_two_who_wait_for_two_streams_that_are_ending_have_no_third_one_ended() -> None:
    desk = a_desk(Limits(streams=3, least_reach=MIB, most_reach=MIB))
    streams = [is_read_ahead(desk, another(number)) for number in (5, 6, 7)]
    desk.wait(0, file=another(8))
    desk.wait(0, file=another(9))
    desk.now += 1.0
    for _ in range(3):
        desk.dispatch.arrange()
        assert [stream.ending for stream in streams] == [True, True, False]


def test_an_end_in_good_order_serves_who_has_his_bytes_and_plans_for_who_has_not() -> None:
    desk = a_desk()
    first, second = desk.wait(0, KIB), desk.wait(MIB, KIB)
    stream = first.stream
    assert stream is second.stream
    assert stream is not None
    desk.file.arrived(0, KIB)
    desk.dispatch.ended(stream, None)
    assert first.served.is_set()
    assert first.stream is None
    assert not second.served.is_set()
    assert second.stream in desk.streams
    assert second.stream is not stream


def test_an_error_does_not_concern_who_has_his_bytes() -> None:
    desk = a_desk()
    first, second = desk.wait(0, KIB), desk.wait(MIB, KIB)
    stream = first.stream
    assert stream is second.stream
    assert stream is not None
    desk.file.arrived(0, KIB)
    desk.dispatch.ended(stream, Busy("locked"))
    assert first.error is None
    assert first.served.is_set()
    assert isinstance(second.error, Busy)


def test_at_the_end_everybody_is_told_who_waits_for_a_stream_or_in_the_queue() -> None:
    desk = a_desk(ALONE)
    waiters = [desk.wait(0), desk.wait(500 * MIB), desk.wait(0, file=another())]
    assert [waiter.stream is None for waiter in waiters] == [False, True, True]
    end = ShuttingDown("the end")
    desk.dispatch.close(end)
    assert all(waiter.served.is_set() for waiter in waiters)
    assert all(waiter.error is end for waiter in waiters)
    for waiter in waiters:
        desk.dispatch.leave(waiter)
    (stream,) = desk.streams
    desk.dispatch.ended(stream, None)
    assert not desk.streams
    assert not desk.dispatch.fetches
    assert not desk.dispatch.queue


# Where a stream begins, and for whom it reads.


@pytest.mark.parametrize("there", [1000, KIB, MIB - 1])
def test_a_stream_begins_with_the_first_missing_byte_of_its_course(there: int) -> None:
    desk = a_desk()
    desk.file.arrived(0, there)
    stream = stream_of(desk, MIB - 1, 2)
    assert stream.start == there
    assert stream.carrier.position == there


def test_a_stream_begins_at_the_gap_where_all_that_precedes_it_is_there() -> None:
    desk = a_desk()
    desk.file.arrived(500 * MIB, 500 * MIB + 777)
    assert stream_of(desk, 500 * MIB, KIB).start == 500 * MIB + 777


def test_a_whole_begins_with_the_first_missing_byte_and_has_no_window() -> None:
    desk = a_desk()
    desk.fetch().suspicion.mismatches = 1
    desk.file.arrived(0, 100)
    stream = stream_of(desk, 50, KIB)
    assert stream.start == 100
    assert stream.origin == 0
    assert stream.window == plan.ENDLESS


def test_a_whole_goes_on_through_what_is_there_to_its_last_byte() -> None:
    """Only what one stream brought is compared anew."""
    desk = a_desk(size=100 * MIB)
    desk.fetch().suspicion.mismatches = 1
    stream = stream_of(desk, 0)
    desk.file.arrived(2 * MIB, 100 * MIB)
    assert desk.bring(stream, 2 * MIB) is True
    assert desk.bring(stream, 98 * MIB - 1) is True
    assert desk.bring(stream, 1) is False


def test_a_content_of_unknown_size_is_read_until_the_server_ends_it() -> None:
    desk = a_desk()
    file = Endless()
    stream = stream_of(desk, 5 * MIB, file=file)
    assert stream.start == 0
    for _ in range(5):
        assert desk.bring(stream, GIB) is True
    assert stream_of(desk, 7 * GIB, file=file) is stream


@pytest.mark.parametrize(
    ("ahead", "origin"),
    [(0, 0), (1, 0), (2 * MIB, 0), (2 * MIB + 1, 10 * MIB + KIB + 2 * MIB + 1)],
)
def test_who_comes_more_than_a_glance_ahead_of_all_who_came_begins_anew(
    ahead: int, origin: int
) -> None:
    limits = Limits(least_reach=100 * MIB, most_reach=100 * MIB)
    desk = a_desk(limits)
    stream = stream_of(desk, 0, 10 * MIB + KIB)
    assert desk.wait(10 * MIB + KIB + ahead, 5).stream is stream
    assert stream.origin == origin
    assert stream.furthest == 10 * MIB + KIB + ahead + 5


def test_who_wants_less_than_those_before_him_takes_nothing_from_them() -> None:
    desk = a_desk()
    stream = stream_of(desk, 0, 10 * MIB)
    assert desk.wait(0, KIB).stream is stream
    assert stream.furthest == 10 * MIB
    assert stream.origin == 0


def test_a_stream_that_somebody_waits_for_is_not_cut_nor_is_a_sweep() -> None:
    desk = a_desk(Limits(streams=4, least_reach=MIB, most_reach=MIB))
    waited_for = stream_of(desk, 0)
    desk.wait(500 * MIB)
    assert waited_for.window == 8 * MIB
    small = another(4, 8 * MIB)
    sweep = desk.wait(0, file=small)
    assert sweep.stream is not None
    desk.bring(sweep.stream, 7 * MIB)
    desk.dispatch.leave(sweep)
    small.extents.remove(0, MIB)
    desk.wait(0, file=small)
    assert len(desk.streams) == 4
    assert sweep.stream.window == 8 * MIB


def test_a_stream_whose_readers_wanted_more_than_its_window_is_not_cut() -> None:
    desk = a_desk()
    waiter = desk.wait(0, 8 * MIB + 1)
    assert waiter.stream is not None
    desk.bring(waiter.stream, 9 * MIB)
    desk.dispatch.leave(waiter)
    desk.wait(500 * MIB)
    assert waiter.stream.window == 8 * MIB


def test_a_stream_that_is_cut_reads_no_further_than_it_would_have() -> None:
    desk = a_desk(Limits(glance=100 * MIB, least_reach=MIB, most_reach=MIB))
    waiter = desk.wait(0)
    assert waiter.stream is not None
    desk.bring(waiter.stream, MIB)
    desk.dispatch.leave(waiter)
    desk.wait(500 * MIB)
    assert waiter.stream.window == 8 * MIB


@pytest.mark.parametrize(("away", "is_elsewhere"), [(MIB, False), (MIB + 1, True), (-MIB, False)])
def test_who_waits_within_reach_is_not_elsewhere(away: int, is_elsewhere: bool) -> None:
    """Row 6: a stream that reads ahead for nobody goes at once, but for others elsewhere."""
    desk = a_desk()
    looked = desk.wait(0)
    desk.wait(0, file=another())
    own, other = desk.streams
    desk.bring(own, MIB)
    for place in (500 * MIB, 500 * MIB + away):
        desk.wait(place)
    assert not own.ending, "its reader has not left"
    desk.dispatch.leave(looked)
    assert own.ending is not is_elsewhere
    assert not other.ending


# What a stream teaches.


def test_what_a_stream_waited_for_its_first_byte_is_what_its_carrier_says() -> None:
    """It may have waited for a place at the facility before it asked."""
    desk = a_desk()
    for _ in range(8):
        stream = stream_of(desk, 0)
        desk.carriers[stream].first_byte_s = 0.25
        desk.bring(stream, KIB, seconds=30.0)
        desk.dispatch.ended(stream, Busy("locked"))
        desk.file.extents.clear()
    assert desk.dispatch.costs.prices.base_s == pytest.approx(0.25)


def test_only_the_first_piece_tells_what_opening_costs_and_the_others_the_rate() -> None:
    desk = a_desk()
    stream = stream_of(desk, 500 * MIB, 500 * MIB)
    before = desk.dispatch.costs.prices
    desk.bring(stream, 100 * MIB, seconds=1.0)
    assert stream.begun_at == OPENED_S + 1.0
    assert stream.first_piece == 100 * MIB
    opened = desk.dispatch.costs.prices
    assert opened != before
    desk.bring(stream, 50 * MIB, seconds=2.0)
    assert desk.dispatch.costs.prices == opened
    desk.dispatch.ended(stream, None)
    assert desk.dispatch.costs.prices.rate == 25 * MIB


def test_a_stream_that_broke_tells_neither_what_opening_costs_nor_the_rate() -> None:
    desk = a_desk()
    before = desk.dispatch.costs.prices
    stream = stream_of(desk, 0, 900 * MIB)
    desk.carriers[stream].resumed = 1
    desk.bring(stream, 8 * MIB, seconds=60.0)
    desk.bring(stream, 8 * MIB, seconds=60.0)
    desk.dispatch.ended(stream, None)
    assert desk.dispatch.costs.prices == before


@pytest.mark.parametrize(
    ("there", "count", "again"),
    [
        ([], 8 * MIB, 0),
        ([(0, MIB)], 8 * MIB, 0),
        ([(2 * MIB, 4 * MIB)], 2 * MIB, 0),
        ([(2 * MIB, 4 * MIB)], 3 * MIB, MIB),
        ([(2 * MIB, 4 * MIB)], 4 * MIB, 2 * MIB),
        ([(2 * MIB, 4 * MIB)], 5 * MIB, 2 * MIB),
    ],
)
def test_bytes_that_come_though_they_are_there_are_counted(
    there: list[tuple[int, int]], count: int, again: int
) -> None:
    """Piece by piece: what lies between where a stream is and what it lacks next."""
    limits = Limits(least_reach=16 * MIB, most_reach=16 * MIB)
    desk = a_desk(limits)
    for start, stop in there:
        desk.file.arrived(start, stop)
    stream = stream_of(desk, 0 if not there or there[0][0] else MIB, 90 * MIB)
    for _ in range(count // (MIB // 2)):
        assert desk.bring(stream, MIB // 2)
    assert desk.dispatch._trail(desk.file.version).again == again


def test_accounts_begin_anew_when_nothing_is_missing_any_more_and_not_before() -> None:
    desk = a_desk(size=100 * MIB)
    for there, opened in ((1, 1), (0, 0)):
        stream = stream_of(desk, 0 if there == 0 else 50 * MIB)
        desk.file.arrived(there, 100 * MIB)
        desk.dispatch.ended(stream, None)
        trail = desk.dispatch._trail(desk.file.version)
        assert trail.opened == opened
        assert (trail.rent_s > 0) is bool(opened)
        assert trail.ends[0].start == stream.start, "where it was is remembered all the same"


# What is remembered.


def reads_on(desk: Desk, file: SimulatedFile, at: int) -> bool:
    """Whether it is known that a stream ended there: it is followed by a wider one."""
    waiter = desk.wait(at, 1, file)
    assert waiter.stream is not None
    desk.dispatch.leave(waiter)
    window = waiter.stream.window
    desk.dispatch.ended(waiter.stream, None)
    return window > SHORT.window


def test_where_the_last_eight_streams_ended_is_remembered() -> None:
    desk = a_desk()
    ends = []
    for number in range(9):
        start = (100 * number + 50) * MIB if number else 0
        has_brought(desk, start, 9 * MIB, desk.file)
        ends.append(start + 9 * MIB)
    first, second, *_, last = ends
    assert reads_on(desk, desk.file, last)
    desk = a_desk()
    for end in ends:
        has_brought(desk, end - 9 * MIB, 9 * MIB, desk.file)
    assert not reads_on(desk, desk.file, first), "that was the ninth"
    desk = a_desk()
    for end in ends:
        has_brought(desk, end - 9 * MIB, 9 * MIB, desk.file)
    assert reads_on(desk, desk.file, second)


def test_of_a_thousand_contents_it_is_remembered_what_streams_did() -> None:
    desk = a_desk()
    files = [another(10 + number, 20 * MIB) for number in range(1001)]
    for file in files[:1000]:
        has_brought(desk, 0, 9 * MIB, file)
    assert reads_on(desk, files[0], 9 * MIB), "and it is now the one that was learnt last"
    has_brought(desk, 0, 9 * MIB, files[1000])
    assert reads_on(desk, files[0], 9 * MIB)
    assert reads_on(desk, files[2], 9 * MIB)
    assert not reads_on(desk, files[1], 9 * MIB), "the oldest of a thousand and one"


# Reading ahead for nobody.


def test_a_stream_gives_way_by_itself_when_its_moment_is_over() -> None:
    """With its own pieces: nobody has to look after the queue."""
    desk = a_desk(ALONE)
    waiter = desk.wait(0, file=another())
    assert waiter.stream is not None
    assert desk.bring(waiter.stream, MIB, seconds=7.0)
    desk.dispatch.leave(waiter)
    desk.wait(0)
    assert desk.bring(waiter.stream, KIB, seconds=0.09) is True
    assert desk.bring(waiter.stream, KIB, seconds=0.02) is False
    assert waiter.stream.ending


def test_a_moment_is_over_after_exactly_so_long() -> None:
    desk = a_desk(Limits(streams=1, grace_s=0.25))
    waiter = desk.wait(0, file=another())
    assert waiter.stream is not None
    assert desk.bring(waiter.stream, MIB)
    desk.dispatch.leave(waiter)
    desk.wait(0)
    assert not desk.bring(waiter.stream, KIB, seconds=0.25)


def test_a_stream_gives_way_by_itself_after_its_turn_though_somebody_waits_for_it() -> None:
    desk = a_desk(ALONE)
    busy = stream_of(desk, 0, 900 * MIB, file=another())
    desk.wait(0)
    assert desk.bring(busy, MIB, seconds=100.0), "its turn begins with its first byte"
    assert desk.bring(busy, MIB, seconds=9.5)
    assert not desk.bring(busy, MIB, seconds=0.5)
    assert busy.ending


def test_the_moment_begins_with_what_served_the_last_reader() -> None:
    desk = a_desk(ALONE)
    waiter = desk.wait(0, 2 * MIB, file=another())
    stream = waiter.stream
    assert stream is not None
    assert desk.bring(stream, MIB, seconds=3.0)
    assert desk.bring(stream, MIB, seconds=3.0)
    assert stream.wanted_at == OPENED_S + 6.0
    desk.dispatch.leave(waiter)
    assert desk.bring(stream, MIB, seconds=3.0)
    assert stream.wanted_at == OPENED_S + 6.0, "nobody wanted that"


def test_who_is_found_waiting_when_a_stream_comes_near_wants_it_from_then_on() -> None:
    desk = a_desk(ALONE)
    looked = desk.wait(0)
    stream = looked.stream
    assert stream is not None
    assert desk.bring(stream, MIB)
    late, _ = desk.wait(5 * MIB), desk.wait(500 * MIB)
    desk.dispatch.leave(looked)
    assert late in desk.dispatch.queue
    assert desk.bring(stream, 3 * MIB, seconds=0.01)
    assert late.stream is stream
    assert stream.wanted_at == OPENED_S + 0.01


@pytest.mark.parametrize(("seconds", "goes_on"), [(5.0, True), (5.1, False)])
def test_for_a_file_that_is_closed_a_stream_reads_on_for_five_seconds(
    seconds: float, goes_on: bool
) -> None:
    desk = a_desk()
    waiter = desk.wait(0)
    assert waiter.stream is not None
    assert desk.bring(waiter.stream, KIB)
    desk.dispatch.leave(waiter)
    desk.file.shared = False
    assert desk.bring(waiter.stream, KIB, seconds=seconds) is goes_on


def test_a_stream_that_broke_once_reads_on_for_nobody_while_it_brings_something() -> None:
    desk = a_desk()
    waiter = desk.wait(0)
    assert waiter.stream is not None
    desk.carriers[waiter.stream].resumed = 1
    assert desk.bring(waiter.stream, KIB)
    desk.dispatch.leave(waiter)
    assert desk.bring(waiter.stream, KIB) is True


# Comparing.


def test_while_one_stream_compares_the_others_do_not_and_it_stays_the_one() -> None:
    desk = a_desk()
    first, second = stream_of(desk, 0, 900 * MIB), stream_of(desk, 500 * MIB, 100 * MIB)
    desk.file.unproved = True
    assert desk.bring(first, MIB) is False
    fetch = desk.fetch()
    assert fetch.prover is first
    assert not desk.dispatch.is_to_prove(second)
    desk.dispatch.ended(second, None)
    assert fetch.prover is first
    assert desk.wait(300 * MIB).stream is first
    desk.file.unproved = False
    desk.dispatch.ended(first, None)
    assert fetch.prover is None


def test_a_content_that_was_dropped_before_it_was_compared_is_not() -> None:
    desk = a_desk()
    stream = stream_of(desk, 0, 900 * MIB)
    desk.file.unproved = True
    assert desk.bring(stream, MIB) is False
    desk.file.unproved = False
    assert not desk.dispatch.is_to_prove(stream)


def test_who_waits_for_a_content_that_is_compared_waits_for_that_though_places_are_free() -> None:
    desk = a_desk(Limits(streams=3))
    other = stream_of(desk, 0, file=another())
    prover = stream_of(desk, 0)
    desk.file.unproved = True
    assert not desk.bring(prover, MIB)
    assert desk.wait(800 * MIB).stream is prover
    assert desk.streams == [other, prover]


def test_of_a_suspect_content_who_waits_joins_its_stream_wherever_that_is() -> None:
    desk = a_desk(Limits(streams=3))
    desk.wait(0, file=another())
    desk.fetch().suspicion.mismatches = 2
    whole = stream_of(desk, 0)
    assert desk.bring(whole, 600 * MIB)
    desk.file.extents.remove(0, MIB)
    assert desk.wait(0).stream is whole, "it is over soon, and then another one brings that"
    assert len(desk.streams) == 2


# Fetches.


def test_a_fetch_of_a_version_that_was_forgotten_and_asked_for_again_is_another_one() -> None:
    desk = a_desk()
    waiter = desk.wait(0)
    old = waiter.fetch
    assert waiter.stream is not None
    desk.dispatch.leave(waiter)
    desk.dispatch.ended(waiter.stream, None)
    assert desk.dispatch.fetches == {}
    new = desk.fetch()
    assert isinstance(new, Fetch)
    assert new is not old
    assert desk.wait(0).fetch is new


def test_streams_of_two_contents_are_in_nobodys_way() -> None:
    desk = a_desk(Limits())
    other = another()
    desk.dispatch.fetches[other.version] = Fetch(other, Suspicion())
    one, two = stream_of(desk, 0, 100 * MIB), stream_of(desk, 0, 100 * MIB, other)
    for stream in (one, two):
        assert desk.bring(stream, MIB)
    assert one.fetch.streams == [one]
    assert two.fetch.streams == [two]
